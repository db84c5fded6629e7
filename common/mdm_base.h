/*
 * mdm_base.h - what every file of the core may use: attributes, the counted
 * string, limits that hold everywhere.  No functions, no state.
 */
#ifndef MDM_BASE_H
#define MDM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MDM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MDM_USE_RESULT __attribute__((warn_unused_result))
#define MDM_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Bytes that somebody else owns; text or binary.  Never assume a NUL behind
 * them.  {NULL, 0} means "absent", {"", 0} means "present and empty". */
typedef struct mdm_str {
    const char *s;
    size_t n;
} mdm_str_t;

#define MDM_STR(literal) ((mdm_str_t){"" literal, sizeof(literal) - 1})
#define MDM_STR_NONE ((mdm_str_t){NULL, 0})
/* For printf("%.*s"): the bytes are untrusted, so never for device data
 * without mdm_str_printable(). */
#define MDM_STR_ARG(str) (int)(str).n, (str).s ? (str).s : ""

/* Longest enrolment id: a device part and a user part of 255 bytes each and
 * the colon between them (spec: UDIDs are opaque, bounded by us). */
#define MDM_ID_PART_MAX 255
#define MDM_ID_MAX (2 * MDM_ID_PART_MAX + 1)
#define MDM_COMMAND_UUID_MAX 255
#define MDM_REQUEST_TYPE_MAX 127
#define MDM_TOPIC_MAX 255
#define MDM_TOKEN_MAX 512
#define MDM_MAGIC_MAX 512
#define MDM_UNLOCK_TOKEN_MAX (64 * 1024)
#define MDM_BOOTSTRAP_TOKEN_MAX (64 * 1024)
#define MDM_ENDPOINT_MAX 1024
#define MDM_TOKEN_SERVICE_MAX 255
#define MDM_DIGEST_RESPONSE_MAX 4096
/* Names of devices and users, numbers, versions. */
#define MDM_TEXT_MAX 1024
/* Canonical text form of a UUID, without and with the final NUL. */
#define MDM_UUID_LEN 36
#define MDM_UUID_SIZE 37
#define MDM_SHA256_LEN 32

#define MDM_SEC INT64_C(1000000) /* microseconds in a second */

#endif

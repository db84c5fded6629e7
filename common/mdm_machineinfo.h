/*
 * mdm_machineinfo.h - how a device introduces itself before it is enrolled:
 * a signed property list, by POST or in the header x-apple-aspen-deviceinfo.
 *
 * The signature is checked here, so what was read is what the signer wrote.
 * Who the signer is, is not: mdm_trust_verify_origin() or mdm_trust_verify()
 * say that of `signer`.  Until then serial number and UDID are claims.
 * Source: docs/protocol.md, enrolment.  Any thread; no state.
 */
#ifndef MDM_MACHINEINFO_H
#define MDM_MACHINEINFO_H

#include "mdm_base.h"
#include "mdm_err.h"
#include "mdm_mem.h"
#include "mdm_x509.h"

/* Longest message that is read, as bytes of CMS. */
#define MDM_MACHINEINFO_MAX (64 * 1024)

/* What a device says of itself; absent where it does not.  Identifiers are
 * printable ASCII without blanks, texts have no control characters. */
typedef struct mdm_machineinfo {
    mdm_shown_t signer;
    mdm_str_t udid;   /* absent in User Enrollment, as the serial number */
    mdm_str_t serial;
    mdm_str_t product; /* "iPhone17,2" */
    mdm_str_t build;   /* VERSION: "23B85" */
    mdm_str_t os_version;
    mdm_str_t supplemental_build;
    mdm_str_t supplemental_extra;
    mdm_str_t imei;
    mdm_str_t meid;
    mdm_str_t language;
    mdm_str_t software_update_id;
    mdm_str_t device_name;  /* over-the-air enrolment only, as the next */
    mdm_str_t challenge;
    mdm_str_t pairing_token; /* bytes; of a watch */
    bool can_update;      /* it knows the answer "update first" */
    bool can_psso;
    bool update_mandatory;
} mdm_machineinfo_t;

/* Reads one message (CMS in DER or BER with the list inside) and checks its
 * signature.  Strings live as long as `arena`.
 * MDM_EINVAL: no such message, signed by several or by none, changed on the
 * way, or no property list of a device.  MDM_EDENIED: the certificate's key
 * may not sign.  MDM_ETOOBIG, MDM_ENOMEM. */
mdm_rc mdm_machineinfo_read(mdm_str_t message, mdm_arena_t *arena,
                            mdm_machineinfo_t *info_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* The same for the header's value: base64. */
mdm_rc mdm_machineinfo_read_header(mdm_str_t value, mdm_arena_t *arena,
                                   mdm_machineinfo_t *info_r,
                                   mdm_err_t *err) MDM_USE_RESULT;

/* The family of a product as Apple's service discovery names them: "iPhone",
 * "iPad", "iPod", "Mac", "AppleTV", "Watch", "RealityDevice"; NULL: another.
 * Static text. */
const char *mdm_machine_family(mdm_str_t product);
/* The same for a family's own name in any case; NULL: there is none. */
const char *mdm_machine_family_named(mdm_str_t name);

/* "17", "17.6.1", "17.6.1 (a)": up to four numbers; what follows a blank is
 * not looked at. */
bool mdm_os_version_is(mdm_str_t text);
/* Is a version lower than another?  False when one of them is none. */
bool mdm_os_version_below(mdm_str_t version, mdm_str_t minimum);

#endif

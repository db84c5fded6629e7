/*
 * mdm_plist.h - property lists: our own strict gate, and the only door to
 * libplist.
 *
 * mdm_plist_scan() reads XML in one streaming pass without building a tree:
 * it decides whether the bytes are a property list that we accept and hands
 * out the values asked for.  libplist sees only bytes that passed, and only
 * where a tree is needed (mdm_plist_to_json).  Binary plists are refused.
 *
 * Any thread; no state.
 */
#ifndef MDM_PLIST_H
#define MDM_PLIST_H

#include "mdm_base.h"
#include "mdm_buf.h"
#include "mdm_err.h"
#include "mdm_mem.h"

/* What a sender may make us read. */
typedef struct mdm_plist_limits {
    size_t size;    /* bytes of the whole document */
    unsigned depth; /* nested containers, at most MDM_PLIST_DEPTH_MAX */
    size_t items;   /* elements in all */
} mdm_plist_limits_t;

#define MDM_PLIST_DEPTH_MAX 128

typedef enum mdm_plist_type {
    MDM_PLIST_ABSENT,
    MDM_PLIST_DICT,
    MDM_PLIST_ARRAY,
    MDM_PLIST_STRING,
    MDM_PLIST_DATA,
    MDM_PLIST_INTEGER,
    MDM_PLIST_REAL,
    MDM_PLIST_BOOL,
    MDM_PLIST_DATE
} mdm_plist_type_t;

/* One value to pick from the document.  `path` names a key of the root
 * dictionary ("UDID") or one level below ("Command.RequestType"); each part
 * under 64 bytes. */
typedef struct mdm_plist_want {
    const char *path;
    /* Filled by the scan: */
    mdm_plist_type_t type; /* MDM_PLIST_ABSENT: no such key */
    mdm_str_t value; /* string: text with references resolved; data: decoded
                        bytes; integer, real, date: the text; else absent.
                        Points into the document or the arena. */
    bool flag;       /* value of a BOOL */
} mdm_plist_want_t;

typedef enum mdm_plist_mode {
    /* Any fault ends the scan with MDM_EINVAL. */
    MDM_PLIST_STRICT,
    /* For device reports: a fault in a value that nobody asked for (a
     * forbidden character, a bad number, date or base64, a duplicate of a
     * key that is not wanted) is counted and passed over.  Faults of
     * structure, of limits and of wanted values end the scan all the same. */
    MDM_PLIST_LENIENT
} mdm_plist_mode_t;

/* Outcome of a scan beside the wanted values. */
typedef struct mdm_plist_scan {
    mdm_plist_type_t root;
    size_t items;
    size_t damaged;     /* faults passed over (lenient mode) */
    unsigned first_line; /* where the first of them stands */
    char first_fault[96]; /* and what it is */
} mdm_plist_scan_t;

/* Reads the document; at most 64 wanted values.  The values' bytes live as
 * long as `xml` and `arena`.  The root may be of any type (scan_r->root);
 * wanted values are only found when it is a dictionary.
 * MDM_EINVAL: not an acceptable property list (text has line and column).
 * MDM_ETOOBIG: over limits->size.  MDM_ENOMEM. */
mdm_rc mdm_plist_scan(mdm_str_t xml, const mdm_plist_limits_t *limits,
                      mdm_plist_mode_t mode, mdm_arena_t *arena,
                      mdm_plist_want_t *want, size_t nwant,
                      mdm_plist_scan_t *scan_r, mdm_err_t *err) MDM_USE_RESULT;

/* Appends the document as JSON: data as base64 strings, dates as RFC 3339,
 * integers as JSON integers (64-bit unsigned beyond JSON's signed range and
 * reals beyond a double as strings).  Scans first (strict), then lets
 * libplist build the tree; refuses what libplist cannot read in bounded time
 * (2000 keys in a dictionary) or not at all (<key/>, an instruction inside a
 * text).  After a failure the buffer holds part of the text or none.
 * MDM_EINVAL, MDM_ETOOBIG, MDM_ENOMEM. */
mdm_rc mdm_plist_to_json(mdm_str_t xml, const mdm_plist_limits_t *limits,
                         mdm_buf_t *json, mdm_err_t *err) MDM_USE_RESULT;

/* One value to be written, and its key where it stands in a dictionary. */
typedef struct mdm_plist_put {
    const char *key;       /* UTF-8; not used in an array */
    mdm_plist_type_t type; /* ABSENT: left out */
    mdm_str_t value; /* STRING: UTF-8 of characters that XML can carry; DATA:
                        bytes; INTEGER, REAL, DATE: text in the form of a
                        property list, written as it is */
    bool flag;       /* BOOL */
    int64_t number;  /* INTEGER without a value */
    const struct mdm_plist_put *items; /* DICT, ARRAY */
    size_t n;
} mdm_plist_put_t;

#define MDM_PLIST_PUT_DEPTH_MAX 32

/* Appends a property list with this dictionary as its root.  Only the buffer
 * holds the values afterwards, so with mdm_buf_init_secret() they are wiped.
 * MDM_ENOMEM, MDM_ETOOBIG (the buffer's maximum); MDM_EINVAL: another
 * character in a key or string, nested too deep. */
mdm_rc mdm_plist_write(const mdm_plist_put_t *items, size_t n, mdm_buf_t *xml,
                       mdm_err_t *err) MDM_USE_RESULT;

#endif

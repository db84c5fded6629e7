/*
 * mdm_plist_int.h - what the files of the property-list reader share; nobody
 * else includes it.
 *
 *   mdm_plist_text.c    characters, references, comments, text of an element
 *   mdm_plist_value.c   grammar of numbers, dates and base64
 *   mdm_plist_keys.c    no key twice in one dictionary
 *   mdm_plist_markup.c  what stands before the root, tags and attributes
 *   mdm_plist.c         which element may stand where; wanted values
 *   mdm_plist_json.c    the tree (libplist) and its JSON form (jansson)
 *
 * A reader is made on the stack for one document and one thread.  It never
 * writes to the document, whose bytes have no NUL behind them.
 */
#ifndef MDM_PLIST_INT_H
#define MDM_PLIST_INT_H

#include "mdm_plist.h"

/* References in one text.  The reader itself is linear in them; a real
 * device sends a handful, and the libplist tree is not linear. */
#define MDM_PLIST_REFS_MAX 4096
/* Keys of one dictionary. */
#define MDM_PLIST_KEYS_MAX 65536
/* Longest text of a number. */
#define MDM_PLIST_NUMBER_MAX 64

typedef struct mdm_plist_reader {
    const unsigned char *start; /* first byte of the document */
    const unsigned char *p;     /* the next byte to read */
    const unsigned char *end;
    bool lenient;
    bool ascii; /* the document says that it is US-ASCII */
    bool soft;  /* a fault in the value at hand is passed over */
    mdm_plist_scan_t *scan;
    mdm_err_t *err;
} mdm_plist_reader_t;

/* The characters of one element. */
typedef struct mdm_plist_text {
    const unsigned char *s;
    size_t n;
    bool plain; /* the bytes are the value: no reference, comment, CDATA,
                   instruction or carriage return among them */
    size_t refs;
} mdm_plist_text_t;

/* Walks over the value of a text that is not plain. */
typedef struct mdm_plist_pieces {
    const unsigned char *p;
    const unsigned char *end;
    const unsigned char *cdata_end; /* NULL outside a CDATA section */
    char utf8[4];
} mdm_plist_pieces_t;

typedef enum mdm_plist_tag {
    MDM_PLIST_TAG_KEY,
    MDM_PLIST_TAG_STRING,
    MDM_PLIST_TAG_INTEGER,
    MDM_PLIST_TAG_TRUE,
    MDM_PLIST_TAG_FALSE,
    MDM_PLIST_TAG_DICT,
    MDM_PLIST_TAG_ARRAY,
    MDM_PLIST_TAG_DATA,
    MDM_PLIST_TAG_DATE,
    MDM_PLIST_TAG_REAL,
    MDM_PLIST_TAG_PLIST
} mdm_plist_tag_t;

/* A start tag.  `odd`: an attribute holds a '>', which other readers take
 * for the end of the tag. */
typedef struct mdm_plist_start {
    const unsigned char *at;
    mdm_plist_tag_t tag;
    bool empty; /* written <tag/> */
    bool odd;
} mdm_plist_start_t;

/* A number, real, date or data of the document in its order, for the JSON
 * form: libplist 2.2 loses or misreads some of them. */
typedef struct mdm_plist_leaf {
    mdm_plist_type_t type;
    mdm_str_t text;
} mdm_plist_leaf_t;

/* A key, known by a 64-bit hash. */
typedef struct mdm_plist_key {
    uint64_t hash;
    const unsigned char *at;
} mdm_plist_key_t;

#define MDM_PLIST_KEYS_INLINE 192

/* The keys of the open dictionaries, innermost last. */
typedef struct mdm_plist_keys {
    mdm_plist_key_t *keys; /* `first`, or owned */
    size_t n;
    size_t cap;
    mdm_plist_key_t first[MDM_PLIST_KEYS_INLINE];
} mdm_plist_keys_t;

/* What a scan keeps so that libplist can build the tree. */
typedef struct mdm_plist_tree {
    mdm_str_t body; /* from <plist> to </plist> */
    mdm_plist_leaf_t *leaves;
    size_t nleaves;
    size_t cap;
    uint64_t key_work; /* sum of the squares of the dictionaries' sizes */
} mdm_plist_tree_t;

/* ---- faults ---------------------------------------------------------- */

/* Ends the scan: MDM_EINVAL with line and column of `at`. */
mdm_rc mdm_plist_fail(mdm_plist_reader_t *r, const unsigned char *at,
                      const char *fmt, ...) MDM_PRINTF(3, 4);
/* A fault of content: ends the scan too, or is counted when soft. */
mdm_rc mdm_plist_fault(mdm_plist_reader_t *r, const unsigned char *at,
                       const char *what);

/* ---- text ------------------------------------------------------------ */

bool mdm_plist_is_blank(unsigned char c);
/* The document goes on with these ASCII bytes. */
bool mdm_plist_at(const mdm_plist_reader_t *r, const char *text);
void mdm_plist_skip_blanks(mdm_plist_reader_t *r);
/* Blanks, comments and instructions between elements. */
mdm_rc mdm_plist_skip_misc(mdm_plist_reader_t *r);
/* Checks bytes that are not markup: UTF-8 and XML's characters. */
mdm_rc mdm_plist_check_chars(mdm_plist_reader_t *r,
                             const unsigned char *from,
                             const unsigned char *to);
/* A reference at `p`: its length and character, or what is wrong with it
 * (else NULL). */
const char *mdm_plist_reference(const unsigned char *p,
                                const unsigned char *end, size_t *len_r,
                                uint32_t *code_r);
/* From behind a start tag up to its end tag, which is left at r->p. */
mdm_rc mdm_plist_read_text(mdm_plist_reader_t *r, const char *tag,
                           mdm_plist_text_t *text_r);
void mdm_plist_pieces_init(mdm_plist_pieces_t *it,
                           const mdm_plist_text_t *text);
/* The next bytes of the value; false at its end.  A piece may live in the
 * iterator. */
bool mdm_plist_pieces_next(mdm_plist_pieces_t *it, mdm_str_t *piece_r);
/* The value as one string: the document's own bytes, or joined in dst.
 * False when it is longer than cap. */
bool mdm_plist_join(const mdm_plist_text_t *text, char *dst, size_t cap,
                    mdm_str_t *value_r);

/* ---- markup ---------------------------------------------------------- */

/* Byte order mark, XML declaration, document type, up to <plist>. */
mdm_rc mdm_plist_read_prolog(mdm_plist_reader_t *r);
mdm_rc mdm_plist_read_start(mdm_plist_reader_t *r,
                            mdm_plist_start_t *start_r);
/* The end tag of this name, at "</". */
mdm_rc mdm_plist_read_end(mdm_plist_reader_t *r, mdm_plist_tag_t tag);
const char *mdm_plist_tag_name(mdm_plist_tag_t tag);

/* ---- values ---------------------------------------------------------- */

/* NULL or what is wrong; the text has no blanks around it. */
const char *mdm_plist_check_integer(mdm_str_t text);
const char *mdm_plist_check_real(mdm_str_t text);
const char *mdm_plist_check_date(mdm_str_t text);
const char *mdm_plist_check_data(const mdm_plist_text_t *text);

/* ---- keys ------------------------------------------------------------ */

void mdm_plist_keys_init(mdm_plist_keys_t *keys);
void mdm_plist_keys_clear(mdm_plist_keys_t *keys);
/* One more key of the dictionary whose keys begin at `first`. */
mdm_rc mdm_plist_keys_add(mdm_plist_keys_t *keys, size_t first,
                          mdm_plist_reader_t *r, const unsigned char *at,
                          const mdm_plist_text_t *text);
/* The dictionary ends: its keys are forgotten. */
mdm_rc mdm_plist_keys_end(mdm_plist_keys_t *keys, size_t first,
                          mdm_plist_reader_t *r);

/* ---- whole documents ------------------------------------------------- */

/* A strict scan that also gathers what the tree needs and refuses what
 * libplist could not read in bounded time.  Leaves live in the arena. */
mdm_rc mdm_plist_scan_tree(mdm_str_t xml, const mdm_plist_limits_t *limits,
                           mdm_arena_t *arena, mdm_plist_tree_t *tree_r,
                           mdm_err_t *err) MDM_USE_RESULT;

#endif

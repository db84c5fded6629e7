/*
 * testcms.h - what the tests of identities share: signatures made while a
 * test runs, with OpenSSL's own calls, and the files of tests/cases.  For
 * t_cms.c, t_x509.c and t_auth.c.  Texts are freed by the caller.
 */
#ifndef TESTCMS_H
#define TESTCMS_H

#include "testcert.h"

#include <openssl/cms.h>
#include <openssl/err.h>

#include <jansson.h>

#include "mdm_buf.h"
#include "mdm_str.h"
#include "plist_cases.h"

#define CMS_MANIFEST "manifest.pki.json"
#define CMS_BODY_FILE "mdm/C19-3-tokenupdate-no-unlock.plist"

/* Signs; `more` flags such as CMS_NOATTR, `extra` certificates to add. */
static inline CMS_ContentInfo *testcms_make(const testcert_t *signer,
                                            mdm_str_t body, const char *md,
                                            unsigned more,
                                            STACK_OF(X509) *extra)
{
    unsigned flags = CMS_BINARY | CMS_DETACHED | CMS_PARTIAL | more;
    CMS_ContentInfo *cms = CMS_sign(NULL, NULL, extra, NULL, flags);
    BIO *bio = BIO_new_mem_buf(body.n > 0 ? body.s : "", (int)body.n);

    assert_non_null(cms);
    assert_non_null(bio);
    assert_non_null(CMS_add1_signer(cms, signer->cert, signer->key,
                                    EVP_get_digestbyname(md), flags));
    assert_int_equal(CMS_final(cms, bio, NULL, flags & ~(unsigned)CMS_PARTIAL),
                     1);
    BIO_free(bio);
    return cms;
}

/* To DER, a block of exactly its size; frees the message. */
static inline mdm_str_t testcms_der(CMS_ContentInfo *cms)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    mdm_str_t der;

    assert_int_equal(i2d_CMS_bio(bio, cms), 1);
    der.n = (size_t)BIO_get_mem_data(bio, &data);
    der.s = malloc(der.n);
    assert_non_null(der.s);
    memcpy((char *)(uintptr_t)der.s, data, der.n);
    BIO_free(bio);
    CMS_ContentInfo_free(cms);
    return der;
}

static inline mdm_str_t testcms_sign(const testcert_t *signer, mdm_str_t body,
                                     const char *md)
{
    return testcms_der(testcms_make(signer, body, md, 0, NULL));
}

static inline void testcms_free(mdm_str_t text)
{
    free((void *)(uintptr_t)text.s);
}

/* Base64 as in a header; frees what is given. */
static inline mdm_str_t testcms_header(mdm_str_t der)
{
    char *text = malloc(MDM_BASE64_SIZE(der.n));

    assert_non_null(text);
    mdm_base64_encode(der.s, der.n, text);
    testcms_free(der);
    return mdm_str_from(text);
}

/* ---- DER by hand --------------------------------------------------------- */

/* The element at *rest: its tag, its content, all of it; cut off *rest, which
 * may be the content. */
static inline unsigned testcms_next(mdm_str_t *rest, mdm_str_t *content,
                                    mdm_str_t *whole)
{
    const unsigned char *p = (const unsigned char *)rest->s;
    const char *start = rest->s;
    size_t n = p[1];
    size_t head = 2;
    size_t i;

    if ((n & 0x80) != 0) {
        head += n & 0x7f;
        n = 0;
        for (i = 2; i < head; i++) {
            n = n << 8 | p[i];
        }
    }
    assert_true(head + n <= rest->n);
    *whole = (mdm_str_t){start, head + n};
    rest->s += head + n;
    rest->n -= head + n;
    *content = (mdm_str_t){start + head, n};
    return p[0];
}

/* The same message in BER of indefinite length, with `copies` of each
 * digest it names. */
static inline mdm_str_t testcms_ber(mdm_str_t der, unsigned copies)
{
    mdm_str_t rest = der;
    mdm_str_t whole;
    mdm_str_t type;
    mdm_str_t version;
    mdm_str_t digests;
    mdm_buf_t buf;
    size_t n;
    char *out;

    mdm_buf_init(&buf, 1 << 20);
    assert_int_equal(testcms_next(&rest, &rest, &whole), 0x30);
    assert_int_equal(testcms_next(&rest, &digests, &type), 0x06);
    assert_int_equal(testcms_next(&rest, &rest, &whole), 0xa0);
    assert_int_equal(testcms_next(&rest, &rest, &whole), 0x30);
    assert_int_equal(testcms_next(&rest, &digests, &version), 0x02);
    assert_int_equal(testcms_next(&rest, &digests, &whole), 0x31);
    (void)mdm_buf_append(&buf, "\x30\x80", 2);
    (void)mdm_buf_append(&buf, type.s, type.n);
    (void)mdm_buf_append(&buf, "\xa0\x80\x30\x80", 4);
    (void)mdm_buf_append(&buf, version.s, version.n);
    (void)mdm_buf_append(&buf, "\x31\x80", 2);
    for (; copies > 0; copies--) {
        (void)mdm_buf_append(&buf, digests.s, digests.n);
    }
    (void)mdm_buf_append(&buf, "\0\0", 2);
    (void)mdm_buf_append(&buf, rest.s, rest.n);
    (void)mdm_buf_append(&buf, "\0\0\0\0\0\0", 6);
    assert_int_equal(mdm_buf_rc(&buf), MDM_OK);
    n = buf.len;
    out = malloc(n);
    assert_non_null(out);
    memcpy(out, buf.data, n);
    mdm_buf_clear(&buf);
    return (mdm_str_t){out, n};
}

/* ---- the cases ----------------------------------------------------------- */

/* Calls check() with every file of the manifest that begins with `prefix`
 * and its verdict; returns how many there were. */
static inline size_t testcms_cases(const char *prefix,
                                   void (*check)(void *ctx, const char *file,
                                                 const char *expect),
                                   void *ctx)
{
    char path[1024];
    json_error_t fault;
    const char *file;
    json_t *entry;
    json_t *list;
    size_t n = 0;
    size_t i;

    (void)snprintf(path, sizeof(path), "%s/" CMS_MANIFEST, cases_dir());
    list = json_load_file(path, 0, &fault);
    if (list == NULL) {
        fail_msg("%s: %s", path, fault.text);
    }
    json_array_foreach(list, i, entry) {
        file = json_string_value(json_object_get(entry, "file"));
        if (strncmp(file, prefix, strlen(prefix)) == 0) {
            check(ctx, file,
                  json_string_value(json_object_get(entry, "expect")));
            n++;
        }
    }
    json_decref(list);
    return n;
}

/* What the manifest's words for identities mean here. */
static inline bool testcms_is_yes(const char *expect)
{
    return strcmp(expect, "accept") == 0 ||
           strcmp(expect, "accept-or-document") == 0 ||
           strcmp(expect, "rebind") == 0 || strcmp(expect, "200") == 0 ||
           strcmp(expect, "fixture") == 0;
}

#endif

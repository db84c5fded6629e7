/*
 * t_auth.c - who a device is: which proofs count at a location, what happens
 * when there are several, trusted proxies, and the headers and requests of
 * tests/cases.
 */
#include "testcms.h"

#include "mdm_auth.h"
#include "mdm_time.h"

#define HEADER "header=Client-Cert"

typedef struct world {
    mdm_config_t *server;
    mdm_config_t *location;
    mdm_arena_t *arena;
    testcert_t ca;
    testcert_t device;
    testcert_t other;    /* of the same CA */
    testcert_t stranger; /* of nobody */
    mdm_str_t cert;
    mdm_str_t other_cert;
    mdm_str_t strange_cert;
    mdm_request_t r;
    mdm_speaker_t speaker;
    mdm_err_t err;
} world_t;

static const mdm_str_t body = {"<plist/>\r\n\0end", 14};

static mdm_str_t der_of(const testcert_t *c)
{
    mdm_str_t der;

    der.s = (char *)testcert_der(c, &der.n);
    return der;
}

static void drop(mdm_str_t der)
{
    OPENSSL_free((void *)(uintptr_t)der.s);
}

/* What the location takes, separated by blanks, and from which proxies. */
static void accept_only(world_t *w, const char *methods, const char *proxies)
{
    const char *argv[8];
    char text[256];
    char *save = text;
    char *word;
    int argc = 0;

    mdm_config_free(&w->location);
    w->location = mdm_config_new(MDM_SCOPE_LOCATION, "/mdm", "/");
    assert_non_null(w->location);
    if (methods != NULL) {
        (void)snprintf(text, sizeof(text), "%s", methods);
        while ((word = strsep(&save, " ")) != NULL) {
            argv[argc++] = word;
        }
        assert_int_equal(mdm_config_set(w->location,
                                        MDM_DIRECTIVE_DEVICE_IDENTITY, argc,
                                        argv, &w->err), MDM_OK);
    }
    if (proxies != NULL) {
        assert_int_equal(mdm_config_set(w->location,
                                        MDM_DIRECTIVE_TRUSTED_PROXY, 1,
                                        &proxies, &w->err), MDM_OK);
    }
    w->r = (mdm_request_t){.server = w->server,
                           .location = w->location,
                           .neighbor = MDM_STR("127.0.0.1"),
                           .peer = MDM_STR("198.51.100.9"),
                           .body_fd = -1};
}

static void trust(world_t *w, char *owned)
{
    mdm_config_free(&w->server);
    w->server = mdm_config_new(MDM_SCOPE_SERVER, NULL, "/");
    assert_non_null(w->server);
    assert_int_equal(mdm_trust_new(mdm_str_from(owned),
                                   &w->server->owned_trust, &w->err), MDM_OK);
    w->server->device_trust = w->server->owned_trust;
    free(owned);
}

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->arena = mdm_arena_new(false);
    assert_non_null(w->arena);
    w->ca = testcert_ca("device ca");
    w->device = testcert_device("device", &w->ca);
    w->other = testcert_device("other", &w->ca);
    w->stranger = testcert_device("device", NULL);
    w->cert = der_of(&w->device);
    w->other_cert = der_of(&w->other);
    w->strange_cert = der_of(&w->stranger);
    trust(w, testcert_pem(&w->ca));
    accept_only(w, NULL, NULL);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_t *w = *state;

    mdm_config_free(&w->server);
    mdm_config_free(&w->location);
    drop(w->cert);
    drop(w->other_cert);
    drop(w->strange_cert);
    testcert_free(&w->ca);
    testcert_free(&w->device);
    testcert_free(&w->other);
    testcert_free(&w->stranger);
    mdm_arena_free(&w->arena);
    free(w);
    return 0;
}

static mdm_rc ask(world_t *w)
{
    mdm_rc rc;

    mdm_err_clear(&w->err);
    rc = mdm_auth_device(&(mdm_proof_t){&w->r, body, NULL},
                         &w->speaker, w->arena, &w->err);
    assert_int_equal(w->err.rc, rc);
    assert_int_equal(rc == MDM_OK, w->err.text[0] == '\0');
    assert_int_equal(rc == MDM_OK, w->speaker.cert.n > 0);
    assert_int_equal(ERR_peek_error(), 0);
    return rc;
}

static void is(world_t *w, mdm_str_t cert)
{
    unsigned char digest[MDM_SHA256_LEN];

    if (ask(w) != MDM_OK) {
        fail_msg("%s", w->err.text);
    }
    assert_true(mdm_str_eq(w->speaker.cert, cert));
    assert_int_equal(mdm_sha256(cert, digest, NULL), MDM_OK);
    assert_memory_equal(digest, w->speaker.identity.fingerprint,
                        sizeof(digest));
    assert_true(w->speaker.identity.not_after_us > mdm_wall_us(NULL));
}

static void is_not(world_t *w, mdm_rc rc, const char *why)
{
    mdm_rc got = ask(w);

    if (got != rc || strstr(w->err.text, why) == NULL) {
        fail_msg("rc %d, \"%s\" has no \"%s\"", got, w->err.text, why);
    }
}

/* The header's value; in the arena. */
static mdm_str_t sign(world_t *w, const testcert_t *c, mdm_str_t content)
{
    mdm_str_t text = testcms_header(testcms_sign(c, content, "SHA256"));
    mdm_str_t kept;

    assert_true(mdm_arena_str(w->arena, text, &kept));
    testcms_free(text);
    return kept;
}

static mdm_str_t keep(world_t *w, const char *fmt, const char *text)
{
    char *out = malloc(strlen(fmt) + strlen(text) + 1);
    const char *at = strchr(fmt, '*');
    mdm_str_t kept;

    assert_non_null(out);
    assert_non_null(at);
    (void)sprintf(out, "%.*s%s%s", (int)(at - fmt), fmt, text, at + 1);
    assert_true(mdm_arena_str(w->arena, mdm_str_from(out), &kept));
    free(out);
    return kept;
}

/* ":base64:" */
static mdm_str_t sequence(world_t *w, mdm_str_t der)
{
    char *text = malloc(MDM_BASE64_SIZE(der.n));
    mdm_str_t out;

    assert_non_null(text);
    mdm_base64_encode(der.s, der.n, text);
    out = keep(w, ":*:", text);
    free(text);
    return out;
}

/* ---- which proofs count -------------------------------------------------- */

static void test_certificate(void **state)
{
    world_t *w = *state;

    is_not(w, MDM_EIDENTITY, "no client certificate and no Mdm-Signature");
    w->r.client_cert = w->cert;
    is(w, w->cert);
    is(w, w->cert); /* remembered */
    w->r.client_cert = w->strange_cert;
    is_not(w, MDM_EDENIED, "not trusted");
    w->r.client_cert = MDM_STR("garbage");
    is_not(w, MDM_EIDENTITY, "unreadable");
    accept_only(w, "certificate", NULL);
    is_not(w, MDM_EIDENTITY, "no client certificate was sent");
    /* A header that does not count here does not matter, good or bad. */
    w->r.client_cert = w->cert;
    w->r.signature = MDM_STR("garbage");
    w->r.identity_header = MDM_STR("garbage");
    is(w, w->cert);
    w->r.client_cert = MDM_STR_NONE;
    w->r.signature = sign(w, &w->device, body);
    is_not(w, MDM_EIDENTITY, "no client certificate was sent");
    mdm_config_free(&w->server);
    w->server = mdm_config_new(MDM_SCOPE_SERVER, NULL, "/");
    w->r.server = w->server;
    is_not(w, MDM_EINTERNAL, "no device certificate authority");
}

static void test_signature(void **state)
{
    world_t *w = *state;

    w->r.signature = sign(w, &w->device, body);
    is(w, w->cert);
    accept_only(w, "signature", NULL);
    is_not(w, MDM_EIDENTITY, "no Mdm-Signature was sent");
    w->r.signature = sign(w, &w->device, body);
    is(w, w->cert);
    /* The certificate of TLS is not asked, whosever it is. */
    w->r.client_cert = w->strange_cert;
    is(w, w->cert);
    w->r.signature = MDM_STR_NONE;
    w->r.client_cert = w->cert;
    is_not(w, MDM_EIDENTITY, "no Mdm-Signature was sent");
    w->r.client_cert = MDM_STR_NONE;
    w->r.signature = sign(w, &w->device, MDM_STR("<plist/>\n"));
    is_not(w, MDM_EIDENTITY, "Mdm-Signature: does not fit the body");
    w->r.signature = sign(w, &w->device, MDM_STR("<plist/>\r\n"));
    is_not(w, MDM_EIDENTITY, "does not fit the body");
    w->r.signature = sign(w, &w->stranger, body);
    is_not(w, MDM_EDENIED, "not trusted");
}

static void test_signature_key_usage(void **state)
{
    world_t *w = *state;
    testcert_t c = testcert_make((testcert_want_t){
        .name = "agree", .issuer = &w->ca, .key_usage = "keyAgreement",
        .from_day = -1, .to_day = 9});
    mdm_str_t der = der_of(&c);

    /* Good enough for TLS, which is another use. */
    w->r.client_cert = der;
    is(w, der);
    w->r.signature = sign(w, &c, body);
    is_not(w, MDM_EDENIED, "does not allow signatures");
    testcert_free(&c);
    drop(der);
}

/* The signature's form as a header. */
static void test_signature_header(void **state)
{
    static const struct {
        const char *form;
        const char *why; /* NULL: accepted */
    } cases[] = {{"*", NULL},
                 {" *  ", NULL},
                 {"\t*\t", NULL},
                 {"*,*", "more than once"},
                 {"*, *", "more than once"},
                 {", *", "more than once"},
                 {"*\r\n", "folded"},
                 {"* *", "blank"},
                 {"*=", "not base64"},
                 {"*A", "not base64"},
                 {":*:", "not base64"},
                 {"\"*\"", "not base64"},
                 {"*AAAA", "bytes behind it"},
                 {"AAAA*", "no CMS message"}};
    world_t *w = *state;
    mdm_str_t good = sign(w, &w->device, body);
    char *text = malloc(good.n + 80);
    char *big = malloc(65538);
    size_t i;

    assert_non_null(text);
    assert_non_null(big);
    while (good.s[good.n - 1] == '=') { /* so that more may follow */
        good = sign(w, &w->device, body);
    }
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        memcpy(text, good.s, good.n);
        text[good.n] = '\0';
        w->r.signature = keep(w, cases[i].form, text);
        if (cases[i].why == NULL) {
            is(w, w->cert);
        } else {
            is_not(w, MDM_EIDENTITY, cases[i].why);
        }
    }
    /* A blank or fold in the middle, the other alphabet. */
    for (i = 0; i < 4; i++) {
        memcpy(text, good.s, good.n);
        text[64] = " \t\n-"[i];
        w->r.signature = (mdm_str_t){text, good.n};
        is_not(w, MDM_EIDENTITY, i < 3 ? "blank" : "not base64");
    }
    w->r.signature = MDM_STR("");
    is_not(w, MDM_EIDENTITY, "Mdm-Signature is empty");
    w->r.signature = MDM_STR("  ");
    is_not(w, MDM_EIDENTITY, "Mdm-Signature is empty");
    /* 64 kB and one more byte. */
    memset(big, 'A', 65538);
    w->r.signature = (mdm_str_t){big, 65536};
    is_not(w, MDM_EIDENTITY, "no CMS message");
    w->r.signature = (mdm_str_t){big, 65537};
    is_not(w, MDM_EIDENTITY, "longer than 64 kB");
    free(text);
    free(big);
}

static void test_both(void **state)
{
    world_t *w = *state;

    w->r.client_cert = w->cert;
    w->r.signature = sign(w, &w->device, body);
    is(w, w->cert);
    /* Each must be good by itself ... */
    w->r.signature = MDM_STR("garbage");
    is_not(w, MDM_EIDENTITY, "Mdm-Signature");
    w->r.signature = MDM_STR("");
    is_not(w, MDM_EIDENTITY, "Mdm-Signature is empty");
    w->r.signature = sign(w, &w->device, MDM_STR("other"));
    is_not(w, MDM_EIDENTITY, "does not fit the body");
    w->r.signature = sign(w, &w->device, body);
    w->r.client_cert = MDM_STR("garbage");
    is_not(w, MDM_EIDENTITY, "not the same");
    /* ... and both must name one certificate. */
    w->r.client_cert = w->other_cert;
    is_not(w, MDM_EIDENTITY, "not the same");
    w->r.client_cert = w->strange_cert;
    is_not(w, MDM_EIDENTITY, "not the same");
    w->r.client_cert = w->cert;
    w->r.signature = sign(w, &w->other, body);
    is_not(w, MDM_EIDENTITY, "not the same");
    w->r.client_cert = w->strange_cert;
    w->r.signature = sign(w, &w->stranger, body);
    is_not(w, MDM_EDENIED, "not trusted");
}

/* ---- proxies ------------------------------------------------------------- */

static void test_proxy(void **state)
{
    world_t *w = *state;

    accept_only(w, HEADER, "127.0.0.0/8");
    assert_false(mdm_auth_header_ignored(&w->r));
    is_not(w, MDM_EIDENTITY, "no certificate of a trusted proxy was sent");
    w->r.identity_header = sequence(w, w->cert);
    is(w, w->cert);
    assert_false(mdm_auth_header_ignored(&w->r));
    w->r.neighbor = MDM_STR("::ffff:127.0.0.1");
    is(w, w->cert);
    w->r.identity_header = sequence(w, w->strange_cert);
    is_not(w, MDM_EDENIED, "not trusted");
    w->r.identity_header = MDM_STR("");
    is_not(w, MDM_EIDENTITY, "is empty");
    /* From anybody else it is as if it were not there. */
    w->r.identity_header = sequence(w, w->cert);
    w->r.neighbor = MDM_STR("192.0.2.1");
    w->r.peer = MDM_STR("127.0.0.1"); /* says who it is not */
    assert_true(mdm_auth_header_ignored(&w->r));
    is_not(w, MDM_EIDENTITY, "no certificate of a trusted proxy was sent");
    w->r.neighbor = MDM_STR_NONE;
    assert_true(mdm_auth_header_ignored(&w->r));
    is_not(w, MDM_EIDENTITY, "no certificate of a trusted proxy");
    w->r.neighbor = MDM_STR("unix:");
    assert_true(mdm_auth_header_ignored(&w->r));
    /* No proxies: nobody is trusted. */
    accept_only(w, HEADER, NULL);
    w->r.identity_header = sequence(w, w->cert);
    assert_true(mdm_auth_header_ignored(&w->r));
    is_not(w, MDM_EIDENTITY, "no certificate of a trusted proxy");
    /* No header= at all. */
    accept_only(w, "certificate", "127.0.0.0/8");
    w->r.identity_header = sequence(w, w->cert);
    assert_false(mdm_auth_header_ignored(&w->r));
    is_not(w, MDM_EIDENTITY, "no client certificate was sent");
}

static void test_proxy_and_others(void **state)
{
    world_t *w = *state;

    accept_only(w, "certificate signature " HEADER, "127.0.0.1");
    is_not(w, MDM_EIDENTITY,
           "no client certificate and no Mdm-Signature and no certificate of "
           "a trusted proxy was sent");
    /* Beside a TLS certificate, never; not even beside the same one. */
    w->r.identity_header = sequence(w, w->cert);
    w->r.client_cert = w->cert;
    is_not(w, MDM_EIDENTITY, "cannot be told");
    /* A device that sends the header itself gains and loses nothing. */
    w->r.neighbor = MDM_STR("192.0.2.1");
    is(w, w->cert);
    w->r.identity_header = sequence(w, w->other_cert);
    is(w, w->cert);
    w->r.client_cert = MDM_STR_NONE;
    is_not(w, MDM_EIDENTITY, "the device proved nothing");
    /* With a signature, both count. */
    w->r.neighbor = MDM_STR("127.0.0.1");
    w->r.signature = sign(w, &w->device, body);
    is_not(w, MDM_EIDENTITY, "not the same");
    w->r.identity_header = sequence(w, w->cert);
    is(w, w->cert);
    w->r.signature = sign(w, &w->device, MDM_STR("x"));
    is_not(w, MDM_EIDENTITY, "does not fit the body");
    w->r.signature = sign(w, &w->device, body);
    w->r.identity_header = MDM_STR("garbage");
    is_not(w, MDM_EIDENTITY, "neither a value between colons");
    w->r.identity_header = MDM_STR("");
    is_not(w, MDM_EIDENTITY, "is empty");
    w->r.identity_header = MDM_STR_NONE;
    is(w, w->cert);
    /* TLS certificates do not count here, and still contradict. */
    accept_only(w, HEADER, "127.0.0.1");
    w->r.client_cert = w->cert;
    is_not(w, MDM_EIDENTITY, "no certificate of a trusted proxy");
    w->r.identity_header = sequence(w, w->cert);
    is_not(w, MDM_EIDENTITY, "cannot be told");
}

/* ---- forms of the proxy's header ----------------------------------------- */

static mdm_rc read_form(world_t *w, mdm_str_t value, mdm_shown_t *shown)
{
    mdm_rc rc;

    mdm_err_clear(&w->err);
    rc = mdm_x509_read_header(value, w->arena, shown, &w->err);
    assert_int_equal(rc == MDM_OK, w->err.text[0] == '\0');
    return rc;
}

/* PEM with every newline replaced, and bytes percent-escaped. */
static mdm_str_t pem_form(world_t *w, const testcert_t *c,
                          const char *newline, bool escape)
{
    char *pem = testcert_pem(c);
    char *out = malloc(4 * strlen(pem) + 1);
    size_t n = 0;
    const char *p;
    mdm_str_t kept;

    assert_non_null(out);
    for (p = pem; *p != '\0'; p++) {
        if (*p == '\n') {
            n += (size_t)sprintf(out + n, "%s", newline);
        } else if (escape && strchr("+/= ", *p) != NULL) {
            n += (size_t)sprintf(out + n, "%%%02x", (unsigned)*p);
        } else {
            out[n++] = *p;
        }
    }
    assert_true(mdm_arena_str(w->arena, (mdm_str_t){out, n}, &kept));
    free(out);
    free(pem);
    return kept;
}

static void form_is(world_t *w, mdm_str_t value, size_t helpers)
{
    mdm_shown_t shown;

    if (read_form(w, value, &shown) != MDM_OK) {
        fail_msg("%.*s: %s", (int)value.n, value.s, w->err.text);
    }
    assert_true(mdm_str_eq(shown.cert, w->cert));
    assert_int_equal(shown.nhelpers, helpers);
}

static void form_is_not(world_t *w, mdm_str_t value, const char *why)
{
    mdm_shown_t shown;

    if (read_form(w, value, &shown) != MDM_EIDENTITY ||
        strstr(w->err.text, why) == NULL) {
        fail_msg("%.*s: \"%s\" has no \"%s\"", (int)value.n, value.s,
                 w->err.text, why);
    }
}

static void test_forms(void **state)
{
    world_t *w = *state;
    mdm_str_t pem = pem_form(w, &w->device, "%0A", true);
    mdm_str_t blanks = pem_form(w, &w->device, " ", false);

    form_is(w, sequence(w, w->cert), 0);
    form_is(w, keep(w, "  *  ", sequence(w, w->cert).s), 0);
    form_is(w, pem, 0);
    form_is(w, keep(w, " *%0A%0d%0A%20", pem.s), 0);
    form_is(w, pem_form(w, &w->device, "%0a", false), 0);
    form_is(w, pem_form(w, &w->device, "%0D%0A", true), 0);
    form_is(w, pem_form(w, &w->device, "%20", true), 0);
    form_is(w, blanks, 0);
    form_is(w, keep(w, "  * ", blanks.s), 0);
    form_is(w, pem_form(w, &w->device, "", false), 0);
}

static mdm_str_t joined(world_t *w, mdm_str_t a, mdm_str_t b)
{
    char *both = mdm_arena_printf(w->arena, "%s%s", a.s, b.s);

    assert_non_null(both);
    return mdm_str_from(both);
}

static void test_chain_forms(void **state)
{
    world_t *w = *state;
    mdm_str_t pem = pem_form(w, &w->device, "%0A", true);
    mdm_str_t ca = pem_form(w, &w->ca, "%0A", true);
    mdm_str_t other = pem_form(w, &w->other, "%0A", true);
    mdm_str_t all = pem;
    mdm_shown_t shown;
    size_t i;

    form_is(w, joined(w, pem, ca), 1);
    form_is(w, joined(w, pem, other), 1);
    form_is(w, joined(w, joined(w, pem, ca), other), 2);
    form_is(w, joined(w, pem_form(w, &w->device, " ", false),
                      pem_form(w, &w->ca, " ", false)), 1);
    assert_int_equal(read_form(w, joined(w, other, pem), &shown), MDM_OK);
    assert_true(mdm_str_eq(shown.cert, w->other_cert));
    for (i = 1; i <= MDM_X509_HELPERS_MAX; i++) {
        all = joined(w, all, ca);
        form_is(w, all, i);
    }
    form_is_not(w, joined(w, all, ca), "too many certificates");
    form_is_not(w, joined(w, pem, MDM_STR("x")), "neither a value");
    /* Behind an intermediate, which only the chain in the header shows. */
    testcert_t sub = testcert_make((testcert_want_t){.name = "sub",
                                                     .issuer = &w->ca,
                                                     .ca = 1,
                                                     .from_day = -1,
                                                     .to_day = 9});
    testcert_t leaf = testcert_device("leaf", &sub);
    mdm_str_t der = der_of(&leaf);

    accept_only(w, "signature " HEADER, "127.0.0.1");
    w->r.identity_header = pem_form(w, &leaf, "%0A", true);
    is_not(w, MDM_EDENIED, "not trusted");
    w->r.signature = sign(w, &leaf, body);
    is_not(w, MDM_EDENIED, "not trusted");
    w->r.identity_header = joined(w, w->r.identity_header,
                                  pem_form(w, &sub, "%0A", true));
    is(w, der);
    drop(der);
    testcert_free(&leaf);
    testcert_free(&sub);
}

static void test_bad_forms(void **state)
{
    world_t *w = *state;
    mdm_str_t pem = pem_form(w, &w->device, "%0A", true);
    mdm_str_t seq = sequence(w, w->cert);
    char *big = malloc(65537);
    mdm_shown_t shown;
    char *text;
    size_t i;

    assert_non_null(big);
    form_is_not(w, MDM_STR(""), "is empty");
    form_is_not(w, MDM_STR("   "), "is empty");
    form_is_not(w, MDM_STR("::"), "no base64");
    form_is_not(w, MDM_STR(":"), "colon");
    form_is_not(w, MDM_STR("(null)"), "neither a value");
    form_is_not(w, (mdm_str_t){seq.s + 1, seq.n - 2}, "neither a value");
    form_is_not(w, (mdm_str_t){seq.s, seq.n - 1}, "colon");
    form_is_not(w, (mdm_str_t){seq.s + 1, seq.n - 1}, "neither a value");
    form_is_not(w, joined(w, seq, MDM_STR(";a=b")), "colon");
    form_is_not(w, joined(w, joined(w, seq, MDM_STR(", ")), seq),
                "more than once");
    form_is_not(w, joined(w, joined(w, pem, MDM_STR(",")), pem),
                "more than once");
    form_is_not(w, MDM_STR(", "), "more than once");
    form_is_not(w, joined(w, pem, MDM_STR("%")), "percent escape");
    form_is_not(w, joined(w, pem, MDM_STR("%2")), "percent escape");
    form_is_not(w, joined(w, pem, MDM_STR("%zz")), "percent escape");
    form_is_not(w, joined(w, pem, MDM_STR("%00")), "neither a value");
    form_is_not(w, joined(w, MDM_STR("subject=x%0A"), pem),
                "neither a value");
    form_is_not(w, MDM_STR("-----BEGIN TRUSTED CERTIFICATE-----"),
                "neither a value");
    form_is_not(w, MDM_STR("-----BEGIN CERTIFICATE-----"), "cut short");
    form_is_not(w, MDM_STR("-----BEGIN CERTIFICATE----------END "
                           "CERTIFICATE-----"), "no base64");
    form_is_not(w, pem_form(w, &w->device, "\t", false), "a tab");
    form_is_not(w, pem_form(w, &w->device, "\r\n ", false), "a tab");
    form_is_not(w, pem_form(w, &w->device, "\n", false), "a tab");
    form_is_not(w, pem_form(w, &w->device, "%09", false), "neither a value");
    form_is_not(w, pem_form(w, &w->device, "%0A%20", true), "\"+\"");
    form_is_not(w, pem_form(w, &w->device, "%250A", true), "no base64");
    form_is_not(w, MDM_STR(":AA\xc3\xa9:"), "no text");
    /* A "+" that became a blank, wherever it was. */
    for (i = 40; i + 40 < seq.n; i += 7) {
        text = mdm_arena_dup(w->arena, seq.s, seq.n);
        text[i] = ' ';
        form_is_not(w, (mdm_str_t){text, seq.n}, "blank");
    }
    /* Cut anywhere, it is not taken, or holds no certificate. */
    for (i = 0; i < pem.n - 3; i++) {
        assert_int_equal(read_form(w, (mdm_str_t){pem.s, i}, &shown),
                         MDM_EIDENTITY);
    }
    memset(big, 'A', 65537);
    form_is_not(w, (mdm_str_t){big, 65537}, "longer than 64 kB");
    form_is_not(w, (mdm_str_t){big, 65536}, "neither a value");
    big[0] = big[65535] = ':';
    assert_int_equal(read_form(w, (mdm_str_t){big, 65536}, &shown),
                     MDM_EIDENTITY);
    free(big);
}

/* In the form with blanks for newlines, a lost "+" shows in the lines. */
static void test_plus_among_blanks(void **state)
{
    world_t *w = *state;
    mdm_str_t good = pem_form(w, &w->device, " ", false);
    char *text;
    size_t at;

    for (at = 30; at + 30 < good.n; at += 5) {
        if (good.s[at] == ' ') {
            continue;
        }
        text = mdm_arena_dup(w->arena, good.s, good.n);
        text[at] = ' ';
        form_is_not(w, (mdm_str_t){text, good.n}, "");
    }
}

/* ---- the cases ----------------------------------------------------------- */

/* The value behind "Name: " of a one-line file. */
static void check_header(void *ctx, const char *file, const char *expect)
{
    world_t *w = ctx;
    mdm_str_t text = read_case(file);
    mdm_str_t rest = text;
    bool yes = testcms_is_yes(expect);
    mdm_rc rc;

    (void)mdm_str_split(&rest, ':');
    assert_true(rest.n >= 2);
    rest.n -= 2; /* CR LF */
    w->r.identity_header = rest;
    rc = ask(w);
    if (rc != (yes ? MDM_OK : MDM_EIDENTITY)) {
        fail_msg("%s: rc %d, %s", file, rc, w->err.text);
    }
    if (strcmp(expect, "reject-clear-error") == 0) {
        assert_non_null(strstr(w->err.text, "took \"+\" for one"));
    }
    free_case(text);
}

/* A raw request: its Mdm-Signature as a front end hands it over. */
static void check_request(void *ctx, const char *file, const char *expect)
{
    world_t *w = ctx;
    mdm_str_t text = read_case(file);
    const char *end = memmem(text.s, text.n, "\r\n\r\n", 4);
    mdm_str_t head = {text.s, (size_t)(end - text.s)};
    mdm_str_t content = {end + 4, text.n - head.n - 4};
    mdm_str_t line = MDM_STR_NONE;
    mdm_buf_t value;
    mdm_rc rc;

    mdm_buf_init(&value, 65536);
    (void)mdm_str_split(&head, '\n');
    while (head.s != NULL) {
        line = mdm_str_split(&head, '\n');
        if (mdm_str_starts(line, "Mdm-Signature: ")) {
            line.s += 15;
            line.n -= 15;
            (void)mdm_buf_puts(&value, value.len > 0 ? ", " : "");
        } else if (!mdm_str_starts(line, " ")) {
            continue;
        }
        (void)mdm_buf_append(&value, line.s, line.n > 0 ? line.n - 1 : 0);
    }
    w->r.signature = mdm_buf_str(&value);
    mdm_err_clear(&w->err);
    rc = mdm_auth_device(&(mdm_proof_t){&w->r, content, NULL},
                         &w->speaker, w->arena, &w->err);
    if (rc != (testcms_is_yes(expect) ? MDM_OK : MDM_EIDENTITY)) {
        fail_msg("%s: rc %d, %s", file, rc, w->err.text);
    }
    mdm_buf_clear(&value);
    free_case(text);
}

static void check_signature(void *ctx, const char *file, const char *expect)
{
    world_t *w = ctx;
    mdm_str_t text = read_case(file);
    mdm_str_t content = read_case(CMS_BODY_FILE);
    bool untrusted = strstr(file, "expired") != NULL ||
                     strstr(file, "self-signed") != NULL ||
                     strstr(file, "other-ca") != NULL;
    mdm_rc rc;

    w->r.signature = text;
    mdm_err_clear(&w->err);
    rc = mdm_auth_device(&(mdm_proof_t){&w->r, content, NULL},
                         &w->speaker, w->arena, &w->err);
    if (rc != (testcms_is_yes(expect) ? MDM_OK
               : untrusted            ? MDM_EDENIED
                                      : MDM_EIDENTITY)) {
        fail_msg("%s: rc %d, %s", file, rc, w->err.text);
    }
    free_case(content);
    free_case(text);
}

static void test_cases(void **state)
{
    world_t *w = *state;
    mdm_str_t pem = read_case("pki/device-ca.pem");
    char *text = calloc(1, pem.n + 1);

    assert_non_null(text);
    memcpy(text, pem.s, pem.n);
    trust(w, text);
    accept_only(w, HEADER, "127.0.0.1");
    assert_int_equal(testcms_cases("http/C44-", check_header, w), 11);
    accept_only(w, "signature", NULL);
    assert_int_equal(testcms_cases("http/C42-", check_request, w), 3);
    assert_int_equal(testcms_cases("pki/C42-", check_signature, w), 15);
    free_case(pem);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_certificate),
        EACH(test_signature),
        EACH(test_signature_key_usage),
        EACH(test_signature_header),
        EACH(test_both),
        EACH(test_proxy),
        EACH(test_proxy_and_others),
        EACH(test_forms),
        EACH(test_chain_forms),
        EACH(test_bad_forms),
        EACH(test_plus_among_blanks),
        EACH(test_cases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

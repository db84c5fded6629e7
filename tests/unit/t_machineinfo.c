/*
 * t_machineinfo.c - how devices introduce themselves: messages made with
 * OpenSSL while the test runs, damaged ones, chains as factories make them.
 */
#include "testcms.h"

#include "mdm_machineinfo.h"

#define PLIST(inner)                                                          \
    MDM_STR("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"                    \
            "<plist version=\"1.0\"><dict>" inner "</dict></plist>\n")

typedef struct world {
    testcert_t root;
    testcert_t middle; /* ended long ago */
    testcert_t device; /* of it, not valid yet */
    testcert_t other;  /* signs itself */
    mdm_arena_t *arena;
    mdm_err_t err;
    mdm_machineinfo_t info;
} world_t;

static const mdm_str_t full = PLIST(
    "<key>UDID</key><string>00008130-000A1B2C3D4E801E</string>"
    "<key>SERIAL</key><string>ZX0TESTQ7L</string>"
    "<key>PRODUCT</key><string>iPhone17,2</string>"
    "<key>VERSION</key><string>23B85</string>"
    "<key>OS_VERSION</key><string>26.1</string>"
    "<key>SUPPLEMENTAL_BUILD_VERSION</key><string>23B85a</string>"
    "<key>SUPPLEMENTAL_OS_VERSION_EXTRA</key><string>(a)</string>"
    "<key>IMEI</key><string>35 000000 000000 0</string>"
    "<key>MEID</key><string></string>"
    "<key>LANGUAGE</key><string>en-GB</string>"
    "<key>SOFTWARE_UPDATE_DEVICE_ID</key><string>iPhone17,2</string>"
    "<key>MDM_CAN_REQUEST_SOFTWARE_UPDATE</key><true/>"
    "<key>MDM_CAN_REQUEST_PSSO_CONFIG</key><false/>"
    "<key>MANDATORY_SOFTWARE_UPDATE_REQUIRED</key><true/>"
    "<key>PAIRING_TOKEN</key><data>AAEC</data>"
    "<key>CHALLENGE</key><string>c &amp; d</string>"
    "<key>DEVICE_NAME</key><string>Anna\xe2\x80\x99s iPhone</string>"
    "<key>SOMETHING_NEW</key><array><integer>1</integer></array>");

static testcert_t make(const char *name, const testcert_t *issuer, int ca,
                       long from_day, long to_day)
{
    return testcert_make((testcert_want_t){.name = name,
                                           .issuer = issuer,
                                           .ca = ca,
                                           .rsa = 1,
                                           .from_day = from_day,
                                           .to_day = to_day});
}

static void sign_with_sha1(testcert_t *cert, const testcert_t *issuer)
{
    assert_true(X509_sign(cert->cert, issuer->key, EVP_sha1()) > 0);
}

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->arena = mdm_arena_new(false);
    assert_non_null(w->arena);
    w->root = make("Root", NULL, 1, -8000, 4000);
    w->middle = make("Device CA", &w->root, 1, -7000, -500);
    w->device = make("device", &w->middle, 0, 2, 900);
    w->other = make("self", NULL, 0, -1, 300);
    sign_with_sha1(&w->middle, &w->root);
    sign_with_sha1(&w->device, &w->middle);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_t *w = *state;

    testcert_free(&w->root);
    testcert_free(&w->middle);
    testcert_free(&w->device);
    testcert_free(&w->other);
    mdm_arena_free(&w->arena);
    free(w);
    return 0;
}

/* A message with its content inside, and the intermediate. */
#define SIGN_TWICE 0x10000000U /* a flag of ours */

static mdm_str_t whole(world_t *w, const testcert_t *signer, mdm_str_t body,
                       const char *md, unsigned more)
{
    unsigned flags = CMS_BINARY | CMS_PARTIAL | (more & ~SIGN_TWICE);
    STACK_OF(X509) *extra = sk_X509_new_null();
    ASN1_OCTET_STRING *content;
    CMS_ContentInfo *cms;
    BIO *bio = BIO_new_mem_buf(body.s, (int)body.n);

    assert_true(sk_X509_push(extra, w->middle.cert) > 0);
    cms = CMS_sign(NULL, NULL, extra, NULL, flags);
    assert_non_null(cms);
    if (signer != NULL) {
        assert_non_null(CMS_add1_signer(cms, signer->cert, signer->key,
                                        EVP_get_digestbyname(md), flags));
    }
    if ((more & SIGN_TWICE) != 0) {
        assert_non_null(CMS_add1_signer(cms, w->other.cert, w->other.key,
                                        EVP_sha256(),
                                        CMS_BINARY | CMS_PARTIAL));
    }
    if (signer != NULL) {
        assert_int_equal(CMS_final(cms, bio, NULL, CMS_BINARY), 1);
    } else { /* OpenSSL does not make such ones */
        content = ASN1_OCTET_STRING_new();
        assert_int_equal(ASN1_OCTET_STRING_set(
                             content, (const unsigned char *)body.s,
                             (int)body.n),
                         1);
        ASN1_OCTET_STRING_free(*CMS_get0_content(cms));
        *CMS_get0_content(cms) = content;
    }
    BIO_free(bio);
    sk_X509_free(extra);
    return testcms_der(cms);
}

static mdm_rc read_message(world_t *w, mdm_str_t message)
{
    mdm_rc rc = mdm_machineinfo_read(message, w->arena, &w->info, &w->err);

    assert_int_equal(ERR_peek_error(), 0);
    return rc;
}

/* Reads and frees it. */
static mdm_rc take(world_t *w, mdm_str_t message)
{
    mdm_rc rc = read_message(w, message);

    testcms_free(message);
    return rc;
}

static void check_str(mdm_str_t text, const char *want)
{
    assert_int_equal(text.n, strlen(want));
    assert_memory_equal(text.s, want, text.n);
}

static void test_everything(void **state)
{
    world_t *w = *state;

    assert_int_equal(take(w, whole(w, &w->device, full, "sha256", 0)),
                     MDM_OK);
    check_str(w->info.udid, "00008130-000A1B2C3D4E801E");
    check_str(w->info.serial, "ZX0TESTQ7L");
    check_str(w->info.product, "iPhone17,2");
    check_str(w->info.build, "23B85");
    check_str(w->info.os_version, "26.1");
    check_str(w->info.supplemental_build, "23B85a");
    check_str(w->info.supplemental_extra, "(a)");
    check_str(w->info.imei, "35 000000 000000 0");
    assert_null(w->info.meid.s);
    check_str(w->info.language, "en-GB");
    check_str(w->info.software_update_id, "iPhone17,2");
    check_str(w->info.device_name, "Anna\xe2\x80\x99s iPhone");
    check_str(w->info.challenge, "c & d");
    assert_int_equal(w->info.pairing_token.n, 3);
    assert_true(w->info.can_update);
    assert_false(w->info.can_psso);
    assert_true(w->info.update_mandatory);
    assert_int_equal(w->info.signer.nhelpers, 1);
}

/* As devices write: SHA-1, BER, without attributes. */
static void test_forms(void **state)
{
    world_t *w = *state;
    mdm_str_t der;
    char *text;

    assert_int_equal(take(w, whole(w, &w->device, full, "sha1", 0)), MDM_OK);
    assert_int_equal(take(w, whole(w, &w->device, full, "sha1", CMS_NOATTR)),
                     MDM_OK);
    der = whole(w, &w->other, full, "sha256", 0);
    assert_int_equal(take(w, testcms_ber(der, 1)), MDM_OK);
    check_str(w->info.serial, "ZX0TESTQ7L");
    text = (char *)(uintptr_t)testcms_header(der).s;
    assert_int_equal(mdm_machineinfo_read_header(mdm_str_from(text), w->arena,
                                                 &w->info, &w->err),
                     MDM_OK);
    check_str(w->info.serial, "ZX0TESTQ7L");
    text[9] = '*';
    assert_int_equal(mdm_machineinfo_read_header(mdm_str_from(text), w->arena,
                                                 &w->info, &w->err),
                     MDM_EINVAL);
    free(text);
}

static void test_changed(void **state)
{
    world_t *w = *state;
    mdm_str_t der = whole(w, &w->device, full, "sha256", 0);
    char *serial = memmem(der.s, der.n, "ZX0TESTQ7L", 10);

    assert_non_null(serial);
    serial[0] = 'Y';
    assert_int_equal(read_message(w, der), MDM_EINVAL);
    assert_non_null(strstr(w->err.text, "signed message"));
    serial[0] = 'Z';
    assert_int_equal(read_message(w, der), MDM_OK);
    /* every cut */
    for (size_t n = 0; n < der.n; n += 7) {
        mdm_str_t part = {der.s, n};

        assert_int_equal(read_message(w, part), MDM_EINVAL);
    }
    testcms_free(der);
}

static void test_signers(void **state)
{
    world_t *w = *state;
    mdm_str_t detached =
        testcms_sign(&w->device, full, "sha256");

    assert_int_equal(take(w, whole(w, NULL, full, "sha256", 0)), MDM_EINVAL);
    assert_int_equal(
        take(w, whole(w, &w->device, full, "sha256", SIGN_TWICE)),
        MDM_EINVAL);
    assert_int_equal(take(w, whole(w, &w->device, full, "sha256",
                                   CMS_NOCERTS)),
                     MDM_EINVAL);
    assert_int_equal(take(w, whole(w, &w->device, full, "md5", 0)),
                     MDM_EINVAL);
    assert_int_equal(take(w, detached), MDM_EINVAL);
    assert_int_equal(read_message(w, full), MDM_EINVAL);
    assert_int_equal(read_message(w, MDM_STR("")), MDM_EINVAL);
}

/* Nested without end: as containers, and as strings in pieces. */
static void test_bombs(void **state)
{
    world_t *w = *state;
    char *bomb = malloc(MDM_MACHINEINFO_MAX + 1);
    size_t i;

    for (i = 0; i + 1 < MDM_MACHINEINFO_MAX; i += 2) {
        memcpy(bomb + i, "\x30\x80", 2);
    }
    assert_int_equal(
        read_message(w, (mdm_str_t){bomb, MDM_MACHINEINFO_MAX}), MDM_EINVAL);
    for (i = 0; i + 1 < MDM_MACHINEINFO_MAX; i += 2) {
        memcpy(bomb + i, "\x24\x80", 2);
    }
    memcpy(bomb, "\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
                 "\xa0\x80\x30\x80\x02\x01\x01\x31\x00\x30\x80\x06\x09"
                 "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x80",
           38);
    assert_int_equal(
        read_message(w, (mdm_str_t){bomb, MDM_MACHINEINFO_MAX}), MDM_EINVAL);
    assert_int_equal(
        read_message(w, (mdm_str_t){bomb, MDM_MACHINEINFO_MAX + 1}),
        MDM_ETOOBIG);
    memset(bomb, 'A', MDM_MACHINEINFO_MAX);
    assert_int_equal(mdm_machineinfo_read_header(
                         (mdm_str_t){bomb, 4 * MDM_MACHINEINFO_MAX}, w->arena,
                         &w->info, &w->err),
                     MDM_ETOOBIG);
    free(bomb);
}

static void test_lists(void **state)
{
    static const mdm_str_t bad[] = {
        PLIST("<key>SERIAL</key><integer>1</integer>"),
        PLIST("<key>SERIAL</key><string>a b</string>"),
        PLIST("<key>UDID</key><string>\xc3\xa4</string>"),
        PLIST("<key>PRODUCT</key><string>x&#10;y</string>"),
        PLIST("<key>LANGUAGE</key><string>x&#10;y</string>"),
        PLIST("<key>MDM_CAN_REQUEST_SOFTWARE_UPDATE</key><string>1</string>"),
        PLIST("<key>PAIRING_TOKEN</key><string>x</string>"),
        PLIST("<key>SERIAL</key><string>A</string>"
              "<key>SERIAL</key><string>B</string>"),
        MDM_STR("<plist version=\"1.0\"><array/></plist>"),
        MDM_STR("bplist00"),
    };
    world_t *w = *state;
    char deep[2000] = "<plist version=\"1.0\"><dict><key>a</key>";
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        assert_int_equal(
            take(w, whole(w, &w->device, bad[i], "sha256", 0)), MDM_EINVAL);
    }
    for (i = 0; i < 20; i++) {
        strcat(deep, "<array>");
    }
    for (i = 0; i < 20; i++) {
        strcat(deep, "</array>");
    }
    strcat(deep, "</dict></plist>");
    assert_int_equal(take(w, whole(w, &w->device, mdm_str_from(deep),
                                   "sha256", 0)),
                     MDM_EINVAL);
    assert_int_equal(take(w, whole(w, &w->device, PLIST(""), "sha256", 0)),
                     MDM_OK);
    assert_null(w->info.serial.s);
}

static mdm_rc origin(world_t *w, const testcert_t *anchor)
{
    mdm_trust_t *trust = NULL;
    char *pem = testcert_pem(anchor);
    mdm_rc rc;

    assert_int_equal(mdm_trust_new(mdm_str_from(pem), &trust, &w->err),
                     MDM_OK);
    rc = mdm_trust_verify_origin(trust, &w->info.signer, &w->err);
    assert_int_equal(ERR_peek_error(), 0);
    mdm_trust_free(&trust);
    free(pem);
    return rc;
}

/* The intermediate has ended, the device begins the day after tomorrow, all
 * signatures are SHA-1: it comes from the root all the same. */
static void test_origin(void **state)
{
    world_t *w = *state;
    testcert_t foreign = make("Root", NULL, 1, -8000, 4000);
    mdm_trust_t *trust = NULL;
    mdm_identity_t identity;
    char *pem;

    assert_int_equal(take(w, whole(w, &w->device, full, "sha1", 0)), MDM_OK);
    assert_int_equal(origin(w, &w->root), MDM_OK);
    assert_int_equal(origin(w, &w->middle), MDM_OK);
    assert_int_equal(origin(w, &foreign), MDM_EDENIED);
    pem = testcert_pem(&w->root);
    assert_int_equal(mdm_trust_new(mdm_str_from(pem), &trust, &w->err),
                     MDM_OK);
    /* which would not do for an identity */
    assert_int_equal(mdm_trust_verify(trust, &w->info.signer,
                                      (int64_t)time(NULL) * MDM_SEC,
                                      &identity, &w->err),
                     MDM_EDENIED);
    mdm_trust_free(&trust);
    free(pem);
    assert_int_equal(take(w, whole(w, &w->other, full, "sha256", 0)), MDM_OK);
    assert_int_equal(origin(w, &w->root), MDM_EDENIED);
    testcert_free(&foreign);
    w->info.signer.cert = MDM_STR("x");
    assert_int_equal(origin(w, &w->root), MDM_EIDENTITY);
}

static void test_families(void **state)
{
    static const char *const pairs[][2] = {
        {"iPhone17,2", "iPhone"}, {"iPad14,1", "iPad"},
        {"iPod9,1", "iPod"},      {"Mac14,7", "Mac"},
        {"MacBookPro18,1", "Mac"}, {"iMac21,1", "Mac"},
        {"VirtualMac2,1", "Mac"}, {"AppleTV14,1", "AppleTV"},
        {"Watch7,1", "Watch"},    {"RealityDevice14,1", "RealityDevice"},
        {"AudioAccessory5,1", NULL}, {"", NULL}};
    const char *family;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(pairs); i++) {
        family = mdm_machine_family(mdm_str_from(pairs[i][0]));
        if (pairs[i][1] == NULL) {
            assert_null(family);
        } else {
            assert_string_equal(family, pairs[i][1]);
        }
    }
    assert_null(mdm_machine_family(MDM_STR_NONE));
    assert_string_equal(mdm_machine_family_named(MDM_STR("ipad")), "iPad");
    assert_null(mdm_machine_family_named(MDM_STR("iPad1")));
}

static bool below(const char *a, const char *b)
{
    return mdm_os_version_below(mdm_str_from(a), mdm_str_from(b));
}

static void test_versions(void **state)
{
    (void)state;
    assert_true(below("17.6", "17.6.1"));
    assert_true(below("9.3", "17"));
    assert_true(below("17.6.1", "17.10"));
    assert_false(below("17.6", "17.6"));
    assert_false(below("17.6", "17.6 (a)"));
    assert_false(below("26.0", "18.7.2"));
    assert_false(below("", "17"));
    assert_false(below("beta", "17"));
    assert_false(below("1.2.3.4.5", "17"));
    assert_true(mdm_os_version_is(MDM_STR("26.1 (a)")));
    assert_false(mdm_os_version_is(MDM_STR("26.")));
    assert_false(mdm_os_version_is(MDM_STR_NONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forms, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bombs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(test_origin, setup, teardown),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_versions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

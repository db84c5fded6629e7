/*
 * t_net.c - networks as an administrator writes them, addresses as sockets
 * print them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "mdm_net.h"
#include "mdm_str.h"

static bool inside(const char *net, const char *address)
{
    mdm_net_t one;
    mdm_err_t err;

    if (mdm_net_parse(mdm_str_from(net), &one, &err) != MDM_OK) {
        fail_msg("%s: %s", net, err.text);
    }
    return mdm_net_has(&one, 1, mdm_str_from(address));
}

static void test_inside(void **state)
{
    (void)state;
    assert_true(inside("127.0.0.1", "127.0.0.1"));
    assert_true(inside("127.0.0.1/32", "127.0.0.1"));
    assert_true(inside("10.0.0.0/8", "10.255.255.255"));
    assert_true(inside("192.0.2.128/25", "192.0.2.128"));
    assert_true(inside("192.0.2.128/25", "192.0.2.255"));
    assert_true(inside("0.0.0.0/0", "203.0.113.9"));
    assert_true(inside("2001:db8::/32", "2001:db8:ffff::1"));
    assert_true(inside("2001:db8::/33", "2001:db8:7fff::1"));
    assert_true(inside("::1", "::1"));
    assert_true(inside("::/0", "2001:db8::1"));
    assert_true(inside("fe80::/10", "fe80::1%eth0"));
    /* One address in two spellings. */
    assert_true(inside("10.0.0.0/8", "::ffff:10.1.2.3"));
    assert_true(inside("10.0.0.0/8", "::FFFF:0a01:0203"));
    assert_true(inside("::ffff:10.0.0.0/104", "10.1.2.3"));
    assert_true(inside("::ffff:10.0.0.1", "10.0.0.1"));
    assert_true(inside("::ffff:0.0.0.0/96", "10.0.0.1"));
}

static void test_outside(void **state)
{
    (void)state;
    assert_false(inside("127.0.0.1", "127.0.0.2"));
    assert_false(inside("10.0.0.0/8", "11.0.0.0"));
    assert_false(inside("10.0.0.0/8", "9.255.255.255"));
    assert_false(inside("192.0.2.128/25", "192.0.2.127"));
    assert_false(inside("2001:db8::/33", "2001:db8:8000::1"));
    assert_false(inside("::1", "::2"));
    /* All of IPv6 is not all of IPv4, nor the other way round. */
    assert_false(inside("::/0", "10.0.0.1"));
    assert_false(inside("::/0", "::ffff:10.0.0.1"));
    assert_false(inside("0.0.0.0/0", "::1"));
    /* No addresses at all. */
    assert_false(inside("0.0.0.0/0", ""));
    assert_false(inside("0.0.0.0/0", NULL));
    assert_false(inside("0.0.0.0/0", "unix:"));
    assert_false(inside("0.0.0.0/0", "localhost"));
    assert_false(inside("0.0.0.0/0", "127.0.0.1:80"));
    assert_false(inside("0.0.0.0/0", "127.1"));
    assert_false(inside("0.0.0.0/0", " 127.0.0.1"));
    assert_false(inside("0.0.0.0/0", "127.0.0.1, 10.0.0.1"));
    assert_false(inside("::/0", "[::1]"));
    assert_false(inside("::/0",
                        "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"));
    assert_false(mdm_net_has(NULL, 0, MDM_STR("127.0.0.1")));
    /* A NUL ends no address. */
    assert_false(mdm_net_has(&(mdm_net_t){.ipv4 = true}, 1,
                             MDM_STR("127.0.0.1\0x")));
}

static void test_any_of_several(void **state)
{
    mdm_net_t nets[3];
    mdm_err_t err;

    (void)state;
    assert_int_equal(mdm_net_parse(MDM_STR("10.0.0.0/8"), &nets[0], &err),
                     MDM_OK);
    assert_int_equal(mdm_net_parse(MDM_STR("2001:db8::/32"), &nets[1], &err),
                     MDM_OK);
    assert_int_equal(mdm_net_parse(MDM_STR("192.0.2.1"), &nets[2], &err),
                     MDM_OK);
    assert_true(mdm_net_has(nets, 3, MDM_STR("192.0.2.1")));
    assert_true(mdm_net_has(nets, 3, MDM_STR("2001:db8::7")));
    assert_false(mdm_net_has(nets, 2, MDM_STR("192.0.2.1")));
    assert_false(mdm_net_has(nets, 3, MDM_STR("192.0.2.2")));
}

static void test_malformed(void **state)
{
    static const char *const wrong[] = {
        "", "/8", "x", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
        "10.0.0.0/8/8", "10.0.0/8", "10.0.0.0/255.0.0.0", "10.0.0.256",
        "::/129", "2001:db8::/x", "fe80::1%eth0", "localhost", "10.0.0.0 ",
        "::ffff:10.0.0.0/95", "10.0.0.0/99999999999999999999", "[::1]",
        "unix:"};
    mdm_net_t net;
    mdm_err_t err;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(wrong); i++) {
        if (mdm_net_parse(mdm_str_from(wrong[i]), &net, &err) != MDM_EINVAL) {
            fail_msg("\"%s\" was accepted", wrong[i]);
        }
        assert_true(err.text[0] != '\0');
    }
}

static void test_host_bits(void **state)
{
    static const struct {
        const char *given;
        const char *meant;
    } cases[] = {{"10.1.2.3/8", " 10.0.0.0/8"},
                 {"192.0.2.129/25", " 192.0.2.128/25"},
                 {"10.0.0.1/0", " 0.0.0.0/0"},
                 {"2001:db8::1/32", " 2001:db8::/32"},
                 {"2001:db8:8000::/32", " 2001:db8::/32"},
                 {"::ffff:10.1.0.0/104", " 10.0.0.0/8"}};
    mdm_net_t net;
    mdm_err_t err;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        assert_int_equal(
            mdm_net_parse(mdm_str_from(cases[i].given), &net, &err),
            MDM_EINVAL);
        if (strstr(err.text, cases[i].meant) == NULL) {
            fail_msg("%s: %s", cases[i].given, err.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inside),
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_any_of_several),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_host_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

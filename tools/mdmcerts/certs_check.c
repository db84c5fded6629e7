/*
 * certs_check.c - mdmcerts check: what a push certificate is, and whether it
 * can be used.
 *
 * The verdicts are those of the core (mdm_x509.h), the same as in the API and
 * in the servers' configuration tests; here they are only told.  Where the
 * certificate comes from is looked at with what lies there: a chain that is
 * not complete here says nothing against it, unless --root or --fetch asks for
 * the whole of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "certs_material.h"
#include "certs_pki.h"
#include "mdm_pushcert.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define PROBLEMS_MAX 8
#define DAY_US (INT64_C(86400) * MDM_SEC)

typedef struct report {
    char topic[MDM_TOPIC_MAX + 1];
    char serial[64];
    char fingerprint[2 * MDM_SHA256_LEN + 1];
    char issuer[200];
    int64_t not_before_us;
    int64_t not_after_us;
    const char *key;   /* "belongs", "foreign", "absent" */
    const char *chain; /* "verified", "unverified" */
    char chain_text[MDM_ERR_TEXT_MAX];
    bool read; /* what stands above is filled in */
    char problems[PROBLEMS_MAX][MDM_ERR_TEXT_MAX];
    int nproblems;
} report_t;

/* ---- looking ------------------------------------------------------------ */

static void add_problem(report_t *r, const char *text)
{
    if (r->nproblems < PROBLEMS_MAX) {
        (void)snprintf(r->problems[r->nproblems++], MDM_ERR_TEXT_MAX, "%s",
                       text);
    }
}

static void read_serial(const X509 *cert, report_t *r)
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *hex = number != NULL ? BN_bn2hex(number) : NULL;

    (void)snprintf(r->serial, sizeof(r->serial), "%s",
                   hex != NULL ? hex : "unreadable");
    OPENSSL_free(hex);
    BN_free(number);
}

static void describe(const X509 *cert, report_t *r)
{
    r->read = true;
    read_serial(cert, r);
    (void)certs_fingerprint(cert, r->fingerprint);
    (void)certs_name(X509_get_issuer_name(cert), r->issuer,
                     sizeof(r->issuer));
    r->not_before_us = mdm_x509_time_us(X509_get0_notBefore(cert));
    r->not_after_us = mdm_x509_time_us(X509_get0_notAfter(cert));
}

static void judge_certificate(X509 *cert, report_t *r)
{
    mdm_err_t err;

    describe(cert, r);
    if (mdm_x509_topic(cert, r->topic, &err) != MDM_OK) {
        add_problem(r, err.text);
    }
    if (mdm_x509_judge_key(X509_get0_pubkey(cert), "the certificate's key",
                        &err) != MDM_OK) {
        add_problem(r, err.text);
    }
    if (certs_judge_dates(cert, "the push certificate",
                          "renew it with the same Apple Account",
                          &err) != MDM_OK) {
        add_problem(r, err.text);
    }
}

static void judge_chain(const certs_args_t *args, X509 *cert, report_t *r)
{
    certs_args_t where = *args;
    certs_chain_t chain;
    mdm_err_t err;
    mdm_rc rc;

    /* Not the working directory, where anything may lie. */
    if (where.dir == NULL) {
        where.dir = where.fetch ? "." : MDM_PKGDATA_DIR;
    }
    rc = certs_chain_build(&where, cert, "the certificate", &chain, &err);
    certs_chain_clear(&chain);
    r->chain = rc == MDM_OK ? "verified" : "unverified";
    if (rc != MDM_OK) {
        (void)snprintf(r->chain_text, sizeof(r->chain_text), "%s", err.text);
        if (args->root != NULL || args->fetch) {
            add_problem(r, err.text);
        }
    }
}

/* Whose key is it?  A certificate may be looked at without one. */
static mdm_rc judge_pair(const certs_args_t *args, mdm_material_t *m,
                         report_t *r, mdm_err_t *err)
{
    bool is_pair = false;
    mdm_err_t fault;
    mdm_rc rc = mdm_material_order(m, &is_pair, err);

    r->key = m->key == NULL ? "absent" : is_pair ? "belongs" : "foreign";
    if (rc != MDM_OK || sk_X509_num(m->certs) <= 0 ||
        (m->key == NULL && !m->pkcs12 && args->operands[1] == NULL)) {
        return rc;
    }
    if (mdm_material_judge_pair(m, &fault) != MDM_OK) {
        add_problem(r, fault.text);
    }
    return MDM_OK;
}

static mdm_rc look(const certs_args_t *args, mdm_material_t *m,
                   report_t *r, mdm_err_t *err)
{
    const certs_question_t question = {.source = args->push_password,
                                       .option = "--push-password",
                                       .what = "Push private key password"};
    certs_secret_t secret;
    mdm_rc rc = MDM_OK;
    int i;

    memset(&secret, 0, sizeof(secret));
    for (i = 0; rc == MDM_OK && i < args->noperands; i++) {
        rc = certs_material_read(args->operands[i], &question, &secret, m,
                                 err);
    }
    certs_secret_wipe(&secret);
    if (rc == MDM_OK) {
        rc = judge_pair(args, m, r, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (sk_X509_num(m->certs) <= 0) {
        rc = mdm_material_judge_pair(m, err);
        (void)mdm_err_prefix(err, "%s", args->operands[0]);
        return rc;
    }
    judge_certificate(sk_X509_value(m->certs, 0), r);
    judge_chain(args, sk_X509_value(m->certs, 0), r);
    return MDM_OK;
}

/* ---- telling ------------------------------------------------------------ */

static long long days_left(const report_t *r)
{
    int64_t left = r->not_after_us - mdm_wall_us(NULL);

    /* Downwards: -1 is some hours ago. */
    return (long long)(left >= 0 ? left / DAY_US
                                 : (left - DAY_US + 1) / DAY_US);
}

static int judge(const certs_args_t *args, const report_t *r)
{
    if (r->nproblems > 0) {
        return CERTS_FAILED;
    }
    return days_left(r) < args->warn_days ? CERTS_EXPIRES : CERTS_DONE;
}

static const char *const status_names[] = {
    [CERTS_DONE] = "good", [CERTS_FAILED] = "bad",
    [CERTS_EXPIRES] = "expires-soon"};

static mdm_rc tell_json(const report_t *r, int status, mdm_err_t *err)
{
    char begin[MDM_RFC3339_SIZE];
    char end[MDM_RFC3339_SIZE];
    json_t *problems = json_array();
    json_t *all = json_pack("{ss so}", "status", status_names[status],
                            "problems", problems);
    int i;
    bool ok = all != NULL;

    for (i = 0; ok && i < r->nproblems; i++) {
        ok = json_array_append_new(problems,
                                   json_string(r->problems[i])) == 0;
    }
    if (ok && r->read) {
        mdm_time_format(r->not_before_us, begin);
        mdm_time_format(r->not_after_us, end);
        ok = json_object_update_new(
                 all,
                 json_pack("{ss* ss ss ss ss ss sI ss ss ss*}", "topic",
                           r->topic[0] != '\0' ? r->topic : NULL, "serial",
                           r->serial, "fingerprint", r->fingerprint,
                           "issuer", r->issuer, "not_before", begin,
                           "not_after", end, "days_left",
                           (json_int_t)days_left(r), "key", r->key, "chain",
                           r->chain, "chain_reason",
                           r->chain_text[0] != '\0' ? r->chain_text : NULL)) ==
             0;
    }
    ok = ok && json_dumpf(all, stdout, JSON_INDENT(1)) == 0 &&
         putchar('\n') != EOF;
    json_decref(all);
    return ok ? MDM_OK : mdm_err_nomem(err);
}

static const char *key_in_words(const report_t *r)
{
    return strcmp(r->key, "belongs") == 0   ? "belongs to the certificate"
           : strcmp(r->key, "foreign") == 0 ? "belongs to another certificate"
                                            : "not given";
}

static void tell_text(const report_t *r, int status)
{
    char begin[MDM_RFC3339_SIZE];
    char end[MDM_RFC3339_SIZE];
    char left[64];
    int i;

    mdm_time_format(r->not_before_us, begin);
    mdm_time_format(r->not_after_us, end);
    (void)printf("topic:       %s\nserial:      %s\nfingerprint: %s\n"
                 "issuer:      %s\nvalid:       %s to %s (%s)\n"
                 "key:         %s\nchain:       %s%s\n",
                 r->topic[0] != '\0' ? r->topic : "none", r->serial,
                 r->fingerprint, r->issuer, begin, end,
                 mdm_pushcert_describe_end(r->not_after_us,
                                           mdm_wall_us(NULL), left,
                                           sizeof(left)),
                 key_in_words(r),
                 r->chain_text[0] == '\0' ? "leads to the root"
                                          : "not verified: ",
                 r->chain_text);
    for (i = 0; i < r->nproblems; i++) {
        (void)printf("problem:     %s\n", r->problems[i]);
    }
    (void)printf("verdict:     %s\n",
                 status == CERTS_DONE ? "good"
                 : status == CERTS_EXPIRES
                     ? "good, but it expires soon: renew it with the same "
                       "Apple Account"
                     : "cannot be used");
}

mdm_rc certs_check(const certs_args_t *args, int *status_r, mdm_err_t *err)
{
    mdm_material_t m = {0};
    report_t report;
    mdm_rc rc;

    memset(&report, 0, sizeof(report));
    rc = look(args, &m, &report, err);
    mdm_material_clear(&m);
    if (rc != MDM_OK) {
        add_problem(&report, err->text);
        if (args->json && tell_json(&report, CERTS_FAILED, NULL) != MDM_OK) {
            return mdm_err_nomem(err);
        }
        return rc;
    }
    *status_r = judge(args, &report);
    if (args->json) {
        return tell_json(&report, *status_r, err);
    }
    tell_text(&report, *status_r);
    return MDM_OK;
}

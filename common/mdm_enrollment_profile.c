/*
 * mdm_enrollment_profile.c - what stands in the profile of one request: the
 * URLs of this site, the topic, a challenge for this device, and what the way
 * asks for.
 */
#include "mdm_enrollment_int.h"

#include <string.h>

#include "mdm_ca.h"
#include "mdm_challenge.h"
#include "mdm_profile.h"
#include "mdm_str.h"

/* How long a device may take from the profile to its identity. */
#define CHALLENGE_US (3600 * MDM_SEC)
#define TOPICS_MAX 2

/* ---- parts --------------------------------------------------------------- */

typedef struct job {
    mdm_arena_t *arena;
    mdm_pushcert_row_t rows[TOPICS_MAX];
    size_t n;
} job_t;

static mdm_rc read_topics(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;

    return mdm_store_pushcert_list(tx, job->arena, job->rows, TOPICS_MAX,
                                   &job->n, err);
}

/* The topic, when there is one only. */
static mdm_rc find_topic(const mdm_enrollment_call_t *call,
                         mdm_str_t *topic_r, mdm_err_t *err)
{
    const mdm_config_t *main = call->server->config;
    job_t job = {.arena = call->arena};
    mdm_rc rc;

    if (call->request->server->profile.topic.s != NULL) {
        *topic_r = call->request->server->profile.topic;
        return MDM_OK;
    }
    if (main->npush_certs == 1) {
        *topic_r = main->push_certs[0]->topic;
        return MDM_OK;
    }
    rc = mdm_store_read(call->server->store, read_topics, &job, err);
    if (rc == MDM_OK && job.n != 1) {
        rc = mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_PROFILE_INCOMPLETE,
                         "an enrolment profile needs a topic, but there %s",
                         job.n == 0 ? "is no push certificate"
                                    : "are push certificates of several; "
                                      "choose by MDMProfileTopic "
                                      "(mdm_profile_topic)");
    }
    *topic_r = rc == MDM_OK ? job.rows[0].topic : MDM_STR_NONE;
    return rc;
}

/* The URL of a location of this site; absent: there is none. */
static mdm_rc site_url(const mdm_enrollment_call_t *call, const char *path,
                       mdm_str_t *url_r, mdm_err_t *err)
{
    mdm_str_t site = call->request->server->profile.public_url;
    const char *url = path == NULL ? NULL
                      : site.s != NULL
                          ? mdm_arena_printf(call->arena, "%.*s%s",
                                             MDM_STR_ARG(site), path)
                          : mdm_http_url(call->request, path, call->arena);

    *url_r = mdm_str_from(url);
    return path == NULL || url != NULL ? MDM_OK : mdm_err_nomem(err);
}

/* Bound to what the device said of itself: if that was not true, its
 * enrolment fails. */
static mdm_rc give_challenge(mdm_enrollment_call_t *call,
                             mdm_profile_t *profile, mdm_err_t *err)
{
    const mdm_challenge_t what = {
        .purpose = MDM_CHALLENGE_ENROL,
        .device_id = call->info.udid,
        .serial_number = call->info.serial,
    };
    char text[MDM_CHALLENGE_SIZE];
    mdm_str_t outside = call->request->server->profile.scep_challenge;
    mdm_rc rc;

    if (outside.s != NULL) {
        profile->challenge = outside;
        return MDM_OK;
    }
    rc = mdm_challenge_give(call->server->store, &what, CHALLENGE_US, text,
                            err);

    if (rc == MDM_OK && !mdm_arena_str(call->arena, mdm_str_from(text),
                                       &profile->challenge)) {
        rc = mdm_err_nomem(err);
    }
    mdm_wipe(text, sizeof(text));
    return rc;
}

/* Names and the identity, which two of the profiles have. */
static mdm_rc begin(mdm_enrollment_call_t *call, mdm_profile_t *profile,
                    mdm_err_t *err)
{
    const mdm_profile_settings_t *s = &call->request->server->profile;
    const mdm_site_t *site = call->request->server->site;
    mdm_rc rc;

    memset(profile, 0, sizeof(*profile));
    profile->identifier =
        s->identifier.s != NULL
            ? s->identifier
            : mdm_str_from(mdm_arena_printf(
                  call->arena, "%.*s.mdm", MDM_STR_ARG(call->request->host)));
    profile->name = s->name.s != NULL ? s->name
                                      : MDM_STR("Device management");
    profile->organization = s->organization.s != NULL ? s->organization
                                                      : call->request->host;
    profile->common_name = call->info.udid.n > 0     ? call->info.udid
                           : call->info.serial.n > 0 ? call->info.serial
                                                     : MDM_STR("device");
    if (profile->identifier.s == NULL) {
        return mdm_err_nomem(err);
    }
    profile->scep_url = s->scep_url;
    rc = s->scep_url.s != NULL
             ? MDM_OK
             : site_url(call, site->scep, &profile->scep_url, err);
    if (rc == MDM_OK && profile->scep_url.s == NULL) {
        rc = mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_PROFILE_INCOMPLETE,
                         "an enrolment profile needs a scep endpoint at the "
                         "same site, or MDMProfileSCEPURL "
                         "(mdm_profile_scep_url)");
    }
    return rc;
}

/* Where it checks in and fetches commands. */
static mdm_rc add_urls(const mdm_enrollment_call_t *call,
                       mdm_profile_t *profile, mdm_err_t *err)
{
    const mdm_profile_settings_t *s = &call->request->server->profile;
    const mdm_site_t *site = call->request->server->site;
    bool split = site->mdm == NULL;
    mdm_rc rc = MDM_OK;

    profile->server_url = s->server_url;
    profile->checkin_url = s->checkin_url;
    if (s->server_url.s == NULL) {
        rc = site_url(call, split ? site->server : site->mdm,
                      &profile->server_url, err);
        if (rc == MDM_OK && split && s->checkin_url.s == NULL) {
            rc = site_url(call, site->checkin, &profile->checkin_url, err);
            split = profile->checkin_url.s == NULL;
        } else {
            split = false;
        }
    } else {
        split = false;
    }
    if (rc == MDM_OK && (profile->server_url.s == NULL || split)) {
        rc = mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_PROFILE_INCOMPLETE,
                         "an enrolment profile needs an mdm endpoint, or "
                         "server and checkin, at the same site, or "
                         "MDMProfileServerURL (mdm_profile_server_url)");
    }
    return rc;
}

static mdm_rc add_certs(mdm_enrollment_call_t *call, mdm_profile_t *profile,
                        mdm_err_t *err)
{
    const mdm_profile_settings_t *s = &call->request->server->profile;
    mdm_str_t *certs = mdm_arena_alloc(
        call->arena, (MDM_CA_MAX + MDM_PROFILE_CERTS_MAX) * sizeof(*certs));
    size_t n = 0;
    mdm_rc rc = certs != NULL ? MDM_OK : mdm_err_nomem(err);

    if (rc == MDM_OK && s->scep_url.s == NULL) {
        rc = mdm_ca_certificates(call->server->ca, call->arena, certs, &n,
                                 err);
    }
    if (rc == MDM_OK) {
        memcpy(certs + n, s->certs, s->ncerts * sizeof(*certs));
        profile->certs = certs;
        profile->ncerts = n + s->ncerts;
    }
    return rc;
}

static mdm_rc add_management(mdm_enrollment_call_t *call,
                             mdm_profile_t *profile, mdm_err_t *err)
{
    const mdm_profile_settings_t *s = &call->request->server->profile;
    mdm_rc rc = find_topic(call, &profile->topic, err);

    if (rc == MDM_OK) {
        rc = add_urls(call, profile, err);
    }
    if (rc == MDM_OK) {
        rc = add_certs(call, profile, err);
    }
    profile->access_rights = call->flow == MDM_FLOW_BYOD ? 0
                                                         : s->access_rights;
    profile->tokens = call->request->server->token_key != NULL;
    profile->sign_message = s->sign_message;
    profile->check_out = s->check_out;
    profile->user_channels = s->user_channels;
    if (call->flow == MDM_FLOW_BYOD || call->flow == MDM_FLOW_ADDE) {
        profile->mode = call->flow == MDM_FLOW_BYOD ? MDM_STR("BYOD")
                                                    : MDM_STR("ADDE");
        profile->account = call->account;
    }
    return rc;
}

/* ---- answers ------------------------------------------------------------- */

typedef mdm_rc write_fn(const mdm_profile_t *profile, mdm_buf_t *xml,
                        mdm_err_t *err);

static mdm_rc reply_bytes(mdm_enrollment_call_t *call, mdm_str_t bytes,
                          mdm_err_t *err)
{
    mdm_str_t body = MDM_STR_NONE;

    if (!mdm_arena_str(call->arena, bytes, &body)) {
        return mdm_err_nomem(err);
    }
    mdm_http_header(call->response, "Content-Disposition",
                    "attachment; filename=\"enroll.mobileconfig\"");
    mdm_http_header(call->response, "Cache-Control", "no-store");
    mdm_http_reply(call->response, 200, MDM_PROFILE_TYPE, body);
    return MDM_OK;
}

/* Signed, where somebody is to sign. */
static mdm_rc reply(mdm_enrollment_call_t *call, const mdm_buf_t *xml,
                    mdm_err_t *err)
{
    const mdm_signer_t *signer = call->request->server->profile.signer;
    mdm_buf_t der;
    mdm_rc rc;

    if (signer == NULL) {
        return reply_bytes(call, mdm_buf_str(xml), err);
    }
    mdm_buf_init_secret(&der, 2 * MDM_PROFILE_MAX);
    rc = mdm_signer_sign(signer, mdm_buf_str(xml), &der, err);
    if (rc == MDM_OK) {
        rc = reply_bytes(call, mdm_buf_str(&der), err);
    }
    mdm_buf_clear(&der);
    return rc;
}

static mdm_rc write_reply(mdm_enrollment_call_t *call,
                          const mdm_profile_t *profile, write_fn *write,
                          mdm_err_t *err)
{
    mdm_buf_t xml;
    mdm_rc rc;

    mdm_buf_init_secret(&xml, MDM_PROFILE_MAX);
    rc = write(profile, &xml, err);
    if (rc == MDM_OK) {
        rc = reply(call, &xml, err);
    }
    mdm_buf_clear(&xml);
    return rc;
}

mdm_rc mdm_enrollment_profile(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    mdm_profile_t profile;
    mdm_rc rc = begin(call, &profile, err);

    if (rc == MDM_OK) {
        rc = add_management(call, &profile, err);
    }
    if (rc == MDM_OK) {
        rc = give_challenge(call, &profile, err);
    }
    return rc == MDM_OK ? write_reply(call, &profile, mdm_profile_write, err)
                        : rc;
}

mdm_rc mdm_enrollment_identity_profile(mdm_enrollment_call_t *call,
                                       mdm_err_t *err)
{
    mdm_profile_t profile;
    mdm_rc rc = begin(call, &profile, err);

    if (rc == MDM_OK) {
        rc = give_challenge(call, &profile, err);
    }
    return rc == MDM_OK ? write_reply(call, &profile,
                                      mdm_profile_write_identity, err)
                        : rc;
}

mdm_rc mdm_enrollment_service_profile(mdm_enrollment_call_t *call,
                                      mdm_str_t challenge, mdm_err_t *err)
{
    mdm_str_t target = call->request->target;
    mdm_str_t path = mdm_str_split(&target, '?');
    const char *back = mdm_arena_printf(call->arena, "%.*s?ota",
                                        MDM_STR_ARG(path));
    mdm_profile_t profile;
    mdm_str_t url = MDM_STR_NONE;
    mdm_buf_t xml;
    mdm_rc rc = back != NULL ? begin(call, &profile, err)
                             : mdm_err_nomem(err);

    if (rc == MDM_OK) {
        rc = site_url(call, back, &url, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    profile.challenge = challenge;
    mdm_buf_init_secret(&xml, MDM_PROFILE_MAX);
    rc = mdm_profile_write_service(&profile, url, &xml, err);
    if (rc == MDM_OK) {
        rc = reply(call, &xml, err);
    }
    mdm_buf_clear(&xml);
    return rc;
}

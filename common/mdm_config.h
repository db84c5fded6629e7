/*
 * mdm_config.h - the settings behind mdm_config_t, for the edge floor.
 * Read-only after the parent parsed them.
 */
#ifndef MDM_CONFIG_H
#define MDM_CONFIG_H

#include "mdm.h"
#include "mdm_conn.h"
#include "mdm_cms.h"
#include "mdm_expiry.h"
#include "mdm_jwt.h"
#include "mdm_mem.h"
#include "mdm_net.h"
#include "mdm_plist.h"
#include "mdm_push.h"
#include "mdm_seal.h"
#include "mdm_x509.h"
#include "mdm_x509_ca.h"

/* What a URL does. */
typedef enum mdm_role {
    MDM_ROLE_OFF,
    MDM_ROLE_MDM,
    MDM_ROLE_SERVER,
    MDM_ROLE_CHECKIN,
    MDM_ROLE_API,
    MDM_ROLE_STATUS,
    MDM_ROLE_ENROLL,
    MDM_ROLE_WELLKNOWN,
    MDM_ROLE_SCEP
} mdm_role_t;

/* What the endpoints of a configuration need or bring. */
typedef enum mdm_seen {
    MDM_SEEN_SCEP = 1,
    MDM_SEEN_NO_DEVICE_CA = 2 /* an endpoint for devices without one */
} mdm_seen_t;

/* What a SCEP server is sent; a few certificates and a request. */
#define MDM_SCEP_BODY_MAX (64 * 1024)

#define MDM_PUSH_CERTS_MAX 16
#define MDM_API_TOKENS_MAX 256
#define MDM_TRUSTED_PROXIES_MAX 64

/* What a token may do; a line without scopes may do all. */
typedef enum mdm_may {
    MDM_MAY_READ = 1,    /* look at enrolments and commands */
    MDM_MAY_COMMAND = 2, /* queue commands and push */
    MDM_MAY_SECRETS = 4, /* read what devices answered or escrowed */
    MDM_MAY_ADMIN = 8,   /* push certificates; includes the others */
    MDM_MAY_ALL = 15
} mdm_may_t;

/* One credential: the token itself is not kept. */
typedef struct mdm_api_token {
    mdm_str_t name;
    unsigned scopes; /* of mdm_may_t */
    unsigned char sha256[MDM_SHA256_LEN];
} mdm_api_token_t;

typedef struct mdm_api_tokens {
    mdm_api_token_t *tokens;
    size_t n;
} mdm_api_tokens_t;

/* How a device may prove itself. */
typedef enum mdm_prove {
    MDM_PROVE_CERTIFICATE = 1, /* of the TLS connection */
    MDM_PROVE_SIGNATURE = 2,   /* Mdm-Signature */
    MDM_PROVE_HEADER = 4       /* certificate in a proxy's header */
} mdm_prove_t;

typedef struct mdm_nets {
    mdm_net_t *nets;
    size_t n;
} mdm_nets_t;

/* What a device is told that goes back into service. */
typedef struct mdm_return_to_service {
    mdm_str_t wifi_profile; /* absent: none */
    mdm_str_t mdm_profile;  /* absent: none */
    bool preserve_data_plan;
    bool retry_enrollment;
} mdm_return_to_service_t;

/* The ways into management that a location of the enroll role serves. */
typedef enum mdm_flow {
    MDM_FLOW_DOWNLOAD = 1, /* GET gives the profile */
    MDM_FLOW_DEVICE = 2,   /* a device introduces itself and gets it (ADE) */
    MDM_FLOW_OTA = 4,      /* the same in three steps (profile service) */
    MDM_FLOW_BYOD = 8,     /* with a user's log-in, for his own device */
    MDM_FLOW_ADDE = 16,    /* the same for one of the organisation */
    MDM_FLOW_LOGIN = 32    /* where the user logs in */
} mdm_flow_t;

/* Which system a family of devices has to have before it enrols. */
typedef struct mdm_minimum_os {
    const char *family; /* of mdm_machine_family() */
    mdm_str_t version;
    mdm_str_t build; /* absent: any */
} mdm_minimum_os_t;

/* Serial numbers in order. */
typedef struct mdm_serials {
    mdm_str_t *all;
    size_t n;
} mdm_serials_t;

#define MDM_FAMILIES_MAX 8

/* Where service discovery sends the families named, or all. */
typedef struct mdm_discovery {
    struct mdm_discovery *next;
    const char *version; /* "mdm-byod" or "mdm-adde" */
    const char *url;     /* or a path of this site */
    const char *families[MDM_FAMILIES_MAX]; /* the first NULL: all */
} mdm_discovery_t;

/* Where the devices of one site find what they need: the first location of
 * each role that has a fixed path; NULL: there is none. */
typedef struct mdm_site {
    const char *mdm;
    const char *server;
    const char *checkin;
    const char *scep;
} mdm_site_t;

/* A push certificate from files whose key is encrypted, while nobody gave a
 * pass phrase. */
typedef struct mdm_locked_cert {
    struct mdm_locked_cert *next;
    const char *file; /* as the directive names it */
    const char *key_file; /* the same one where it holds both */
    mdm_str_t parts[2]; /* what is in them */
    size_t nparts;
} mdm_locked_cert_t;

#define MDM_TRUSTS_MAX 64

/* What the check of all endpoints met. */
typedef struct mdm_found {
    bool endpoint;
    /* Device CAs of the virtual hosts that serve devices; of those with the
     * same ones, one. */
    const mdm_trust_t *trusts[MDM_TRUSTS_MAX];
    size_t ntrusts;
} mdm_found_t;

#define MDM_PROFILE_CERTS_MAX 16

/* What enrolment profiles of a virtual host say; absent: made up from the
 * request and the endpoints. */
typedef struct mdm_profile_settings {
    mdm_str_t public_url; /* without a slash at its end */
    mdm_str_t organization;
    mdm_str_t name;
    mdm_str_t identifier;
    int64_t access_rights;
    const mdm_signer_t *signer; /* NULL: profiles go out unsigned */
    mdm_str_t topic;
    mdm_str_t server_url;
    mdm_str_t checkin_url;
    mdm_str_t scep_url;
    mdm_str_t scep_challenge; /* of an outside SCEP server */
    bool sign_message;
    bool check_out;
    bool user_channels;
    mdm_str_t certs[MDM_PROFILE_CERTS_MAX]; /* DER */
    size_t ncerts;
} mdm_profile_settings_t;

struct mdm_config {
    mdm_scope_t scope;
    mdm_arena_t *arena; /* owns what the fields point to; NULL when merged */
    const char *path;
    const char *root;
    bool set[MDM_DIRECTIVE_COUNT]; /* given in this node or above */
    mdm_found_t *found; /* of the main node */
    mdm_found_t found_here;
    unsigned *seen; /* of the main node, of mdm_seen_t */
    unsigned seen_flags;

    /* location */
    mdm_role_t role;
    mdm_plist_limits_t plist_limits;
    const mdm_api_tokens_t *api_tokens;
    unsigned prove;              /* of mdm_prove_t */
    const char *identity_header; /* with MDM_PROVE_HEADER */
    bool user_challenge;         /* empty challenge instead of a refusal */
    bool retroactive_binding;
    bool migration;
    const mdm_nets_t *trusted_proxies; /* NULL: none */
    const mdm_return_to_service_t *return_to_service; /* NULL: off */
    unsigned flows;         /* of mdm_flow_t */
    bool accept_unverified; /* introductions that nobody vouches for */
    const mdm_minimum_os_t *minimum_os;
    size_t nminimum_os;
    const mdm_serials_t *serials;  /* NULL: any device */
    const char *login_url;         /* or a path of this site; NULL: none */
    char *user_variable;           /* NULL: the host's user */
    char *user_domain;             /* behind an account without one */
    int64_t token_first_us;        /* a token until a device enrols ... */
    int64_t token_life_us;         /* ... and from then on; 0: for ever */
    mdm_discovery_t *discovery;
    /* server */
    mdm_site_t *site; /* of this node; filled by the checks of endpoints */
    mdm_site_t site_own;
    mdm_profile_settings_t profile;
    mdm_signer_t *owned_signer; /* of this node, to be freed with it */
    const mdm_trust_t *device_trust;
    mdm_trust_t *owned_trust; /* of this node, to be freed with it */
    const mdm_trust_t *origin_trust; /* who makes devices; NULL: unknown */
    mdm_trust_t *owned_origin;       /* of this node, to be freed with it */
    const mdm_jwt_key_t *token_key; /* NULL: no tokens are given */
    mdm_jwt_key_t *owned_token_key; /* of this node, to be freed with it */
    const char *token_issuer;       /* "iss": the server's UUID */
    /* main */
    int64_t loaded_us; /* when it was read, wall time */
    const char *store;
    const char *state_dir;
    unsigned store_connections;
    int64_t store_timeout_us;
    const unsigned char *secret_key; /* MDM_SEAL_KEY_LEN bytes or NULL */
    const unsigned char *former_key; /* the same, with secret_key only */
    bool push;
    const char *push_host;
    uint16_t push_port;
    const mdm_conn_proxy_t *push_proxy; /* NULL: straight */
    const mdm_keypair_t *push_certs[MDM_PUSH_CERTS_MAX];
    size_t npush_certs;
    mdm_str_t push_phrase; /* absent: none was given */
    const char *push_phrase_from; /* "of the file /etc/..." */
    mdm_locked_cert_t *locked_certs; /* that wait for it; the newest first */
    const char *push_ca_file;
    int64_t push_expiration_us;
    int64_t push_timeout_us;
    int64_t push_ping_us;
    uint32_t push_concurrency;
    mdm_push_policy_t push_policy;
    uint32_t push_rate;     /* pushes a second of a topic; 0: no limit */
    int64_t push_silent_us; /* 0: silent devices are left alone */
    int64_t push_cert_warn_us; /* how long before its end it is warned of */
    bool push_topic_change;
    int64_t lease_life_us;
    int64_t command_life_us;     /* 0: for ever */
    int64_t result_retention_us; /* 0: for ever */
    const char *dm_url;    /* of declarative management; NULL: off */
    const char *unlock_url;     /* of Apple's escrow key unlock */
    const char *unlock_ca_file; /* NULL: the system's authorities */
    mdm_str_t dm_hmac_key; /* absent: nothing is signed */
    mdm_str_t scep_cert;   /* PEM, as the key */
    mdm_str_t scep_key;
    mdm_authority_t *scep_authority; /* of both; NULL: the store's one.  Of
                                      * this node, freed with it */
    const char *scep_file;     /* the last one of the two */
    const char *scep_weakness; /* static; NULL: none */
    int64_t scep_validity_us;
    mdm_str_t scep_challenge; /* absent: only one-time challenges */
    bool scep_legacy;         /* requests with single DES are taken */
};

/* The header that carries a certificate from a proxy at this (merged)
 * location; NULL: none.  Borrowed. */
const char *mdm_config_identity_header(const mdm_config_t *location);

/* "download", ...; NULL: there is no such flow.  Static text. */
const char *mdm_config_flow_name(mdm_flow_t flow);
bool mdm_config_has_serial(const mdm_serials_t *serials, mdm_str_t serial);

/* Which certificates' ends are watched: of a main node, all endpoints of which
 * were checked.  Borrowed from it; the store and the log are the caller's. */
mdm_expiry_config_t mdm_config_expiry(const mdm_config_t *main);
/* Applies one directive's arguments; mdm_config_set.c. */
mdm_rc mdm_config_apply(mdm_config_t *config, mdm_directive_id_t id, int argc,
                        const char *const *argv, mdm_err_t *err)
    MDM_USE_RESULT;

#endif

/*
 * certs_main.c - mdmcerts: the command line, help, exit status.
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "certs.h"
#include "certs_io.h"
#include "mdm_str.h"

enum {
    INIT = 1,
    REQ = 2,
    SIGN = 4,
    CHECK = 8,
    IMPORT = 16,
    FETCH = 32
};

typedef struct command {
    const char *name;
    unsigned bit;
    int operands_min;
    int operands_max;
    certs_command_fn *run;
    const char *help;
} command_t;

static const char general_help[] =
    "usage: mdmcerts [-d DIR] COMMAND ...\n"
    "\n"
    "Apple push certificates for MDM, offline:\n"
    "  init                 vendor key and its request\n"
    "  req COUNTRYCODE      push key and the request that Apple takes\n"
    "  sign_req CSR         signs somebody else's request\n"
    "  fetch COUNTRYCODE    has mdmcert.download sign instead of a vendor\n"
    "  check CERT [KEY]     is this push certificate good?\n"
    "  import               gives it to the server\n"
    "`mdmcerts COMMAND --help` tells more.  Exit status: 0 done, 1 failed,\n"
    "2 wrong usage, 3 (check) good, but expires soon.\n";

#define PASSWORDS \
    "Passwords are asked for on the terminal; or SOURCE is file:F (first\n" \
    "line of a file) or env:V (an environment variable).\n"
#define ANCHORS \
    "  --fetch              load Apple's certificates that are missing\n" \
    "  --fetch-from URL     from a mirror (https) of www.apple.com\n" \
    "  --ca FILE            whom https trusts (PEM); default: as the system\n" \
    "  --root FILE          for tests: instead of Apple's root\n"

static const command_t commands[] = {
    {"init", INIT, 0, 0, certs_init,
     "usage: mdmcerts [-d DIR] init [options]\n"
     "\n"
     "Makes vendor.key (RSA 2048, encrypted) and vendor.csr, which Apple's\n"
     "developer portal turns into vendor.crt.  Nothing is overwritten.\n"
     "  --vendor-password SOURCE\n"
     "  --force              a key that is there gets another name\n"
         PASSWORDS},
    {"req", REQ, 1, 1, certs_req,
     "usage: mdmcerts [-d DIR] req [-p PREFIX] COUNTRYCODE [options]\n"
     "\n"
     "Makes PREFIXpush.key (RSA 2048, encrypted), PREFIXpush.csr (DER) and\n"
     "PREFIXpush.b64, which is uploaded at identity.apple.com/pushcert.\n"
     "Needs vendor.key and vendor.crt (as Apple delivers it) in DIR, and\n"
     "Apple's intermediate and root certificate there or in\n"
     "  " MDM_PKGDATA_DIR "\n"
     "  --renew              keep the push key, make a new request for it\n"
     "  --new-key            make PREFIXpush-new.* with a new key instead\n"
     "  --force              a key that is there gets another name\n"
     "  --vendor-password SOURCE, --push-password SOURCE\n" ANCHORS PASSWORDS},
    {"sign_req", SIGN, 1, 1, certs_sign_req,
     "usage: mdmcerts [-d DIR] sign_req CSR [options]\n"
     "\n"
     "Signs the push CSR (DER or PEM) of somebody else as their vendor;\n"
     "writes CSR.b64, which they upload at identity.apple.com/pushcert.\n"
     "  --vendor-password SOURCE\n"
     "  --force              overwrite CSR.b64\n" ANCHORS PASSWORDS},
    {"check", CHECK, 1, 2, certs_check,
     "usage: mdmcerts check CERT [KEY] [options]\n"
     "\n"
     "Judges a push certificate and, if given, its key: PEM, DER or PKCS #12.\n"
     "Exit status 0 good, 1 not, 3 good but expires soon.\n"
     "  --warn DAYS          what is soon (30)\n"
     "  --json               for programs\n"
     "  --push-password SOURCE\n"
     "  -d DIR               where Apple's certificates lie, too\n" ANCHORS
         PASSWORDS},
    {"import", IMPORT, 0, 0, certs_import,
     "usage: mdmcerts import --store URL --cert FILE [--key FILE] [options]\n"
     "\n"
     "Stores a push certificate with its key for the server, which may run\n"
     "meanwhile and takes it at once.  URL is that of the server's\n"
     "configuration with an absolute path, sqlite:/var/lib/mdm/mdm.db.\n"
     "Run it as root, or as the user whom the database belongs to.\n"
     "  --key FILE           if the key is not in the file of --cert\n"
     "  --state-dir DIR      the server's; default: where the database lies\n"
     "  --secret-key-file F  as in the server's configuration, if there\n"
     "  --force              another topic, or older than what is in use\n"
     "  --push-password SOURCE\n" PASSWORDS},
    {"fetch", FETCH, 0, 1, certs_fetch,
     "usage: mdmcerts [-d DIR] fetch [-p PREFIX] COUNTRYCODE --email ADDRESS\n"
     "       mdmcerts [-d DIR] fetch [-p PREFIX] --decrypt FILE\n"
     "\n"
     "Has mdmcert.download sign the request, which needs no vendor\n"
     "certificate of your own: the first makes PREFIXpush.key,\n"
     "PREFIXpush.csr, PREFIXmdmcert.key and .crt and sends the request; the\n"
     "second opens the file that comes by mail and writes PREFIXpush.b64.\n"
     "  --email ADDRESS      registered there (or MDMCERTS_EMAIL)\n"
     "  --api-key SOURCE     given to you by them (or MDMCERTS_API_KEY)\n"
     "  --url URL            of another such service (or MDMCERTS_URL)\n"
     "  --ca FILE            whom https trusts (PEM); default: as the system\n"
     "  --renew, --new-key, --force, --push-password SOURCE\n"
     "                       as with req\n" PASSWORDS},
};

/* ---- options ------------------------------------------------------------ */

typedef enum kind { TEXT, FLAG, DAYS } kind_t;

typedef struct option_row {
    const char *name;
    kind_t kind;
    size_t at; /* in certs_args_t */
    unsigned commands;
} option_row_t;

#define AT(member) offsetof(certs_args_t, member)

static const option_row_t rows[] = {
    {"dir", TEXT, AT(dir), INIT | REQ | SIGN | CHECK | FETCH},
    {"prefix", TEXT, AT(prefix), REQ | FETCH},
    {"vendor-password", TEXT, AT(vendor_password), INIT | REQ | SIGN},
    {"push-password", TEXT, AT(push_password), REQ | CHECK | IMPORT | FETCH},
    {"renew", FLAG, AT(renew), REQ | FETCH},
    {"new-key", FLAG, AT(new_key), REQ | FETCH},
    {"root", TEXT, AT(root), REQ | SIGN | CHECK},
    {"fetch", FLAG, AT(fetch), REQ | SIGN | CHECK},
    {"fetch-from", TEXT, AT(fetch_from), REQ | SIGN | CHECK},
    {"ca", TEXT, AT(ca), REQ | SIGN | CHECK | FETCH},
    {"force", FLAG, AT(force), INIT | REQ | SIGN | IMPORT | FETCH},
    {"json", FLAG, AT(json), CHECK},
    {"warn", DAYS, AT(warn_days), CHECK},
    {"store", TEXT, AT(store), IMPORT},
    {"state-dir", TEXT, AT(state_dir), IMPORT},
    {"cert", TEXT, AT(cert), IMPORT},
    {"key", TEXT, AT(key), IMPORT},
    {"secret-key-file", TEXT, AT(secret_key_file), IMPORT},
    {"email", TEXT, AT(email), FETCH},
    {"api-key", TEXT, AT(api_key), FETCH},
    {"url", TEXT, AT(url), FETCH},
    {"decrypt", TEXT, AT(decrypt), FETCH},
};

#define NROWS MDM_ARRAY_LEN(rows)
#define FIRST_ROW 256 /* getopt's value of rows[0] */

typedef struct line {
    certs_args_t args;
    bool given[NROWS];
    bool help;
    bool version;
    const command_t *command;
} line_t;

void certs_say(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)fputs("mdmcerts: ", stderr);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
    va_end(ap);
}

static bool set_option(line_t *line, size_t row, const char *value)
{
    char *place = (char *)&line->args + rows[row].at;
    uint64_t days = 0;

    line->given[row] = true;
    switch (rows[row].kind) {
    case TEXT:
        memcpy(place, &value, sizeof(value));
        break;
    case FLAG:
        *(bool *)place = true;
        break;
    case DAYS:
        if (!mdm_parse_u64(mdm_str_from(value), 3650, &days)) {
            certs_say("--%s takes a number of days, up to 3650",
                      rows[row].name);
            return false;
        }
        *(int *)place = (int)days;
        break;
    }
    return true;
}

static bool parse_options(int argc, char **argv, line_t *line)
{
    struct option table[NROWS + 3];
    size_t i;
    int c;

    memset(table, 0, sizeof(table));
    for (i = 0; i < NROWS; i++) {
        table[i].name = rows[i].name;
        table[i].has_arg = rows[i].kind == FLAG ? no_argument
                                                : required_argument;
        table[i].val = FIRST_ROW + (int)i;
    }
    table[NROWS] = (struct option){"help", no_argument, NULL, 'h'};
    table[NROWS + 1] = (struct option){"version", no_argument, NULL, 'V'};
    while ((c = getopt_long(argc, argv, "d:p:hV", table, NULL)) != -1) {
        if (c == 'h') {
            line->help = true;
        } else if (c == 'V') {
            line->version = true;
        } else if (c == 'd' || c == 'p') {
            (void)set_option(line, c == 'd' ? 0 : 1, optarg);
        } else if (c == '?' ||
                   !set_option(line, (size_t)(c - FIRST_ROW), optarg)) {
            return false; /* said already */
        }
    }
    return true;
}

static bool take_operands(int argc, char **argv, line_t *line)
{
    const command_t *command;
    size_t i;
    int n = argc - optind - 1;

    for (i = 0; i < MDM_ARRAY_LEN(commands) && n >= 0; i++) {
        if (strcmp(argv[optind], commands[i].name) == 0) {
            line->command = &commands[i];
        }
    }
    command = line->command;
    if (line->help) {
        return true;
    }
    if (command == NULL) {
        certs_say(n < 0 ? "which command? See mdmcerts --help"
                        : "there is no such command; see mdmcerts --help");
        return false;
    }
    if (n < command->operands_min || n > command->operands_max) {
        certs_say("%s is to be used differently; see mdmcerts %s --help",
                  command->name, command->name);
        return false;
    }
    for (; line->args.noperands < n; line->args.noperands++) {
        line->args.operands[line->args.noperands] =
            argv[optind + 1 + line->args.noperands];
    }
    for (i = 0; i < NROWS; i++) {
        if (line->given[i] && (rows[i].commands & command->bit) == 0) {
            certs_say("%s has no option --%s; see mdmcerts %s --help",
                      command->name, rows[i].name, command->name);
            return false;
        }
    }
    return true;
}

/* ---- main --------------------------------------------------------------- */

/* Keys and passwords must not get into a file through a crash. */
static void forbid_core_files(void)
{
    const struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
}

static int run(line_t *line)
{
    mdm_err_t err;
    int status = CERTS_DONE;
    mdm_rc rc;

    mdm_err_clear(&err);
    certs_guard_start();
    if (line->args.dir == NULL && line->command->bit != CHECK) {
        line->args.dir = ".";
    }
    rc = line->command->run(&line->args, &status, &err);
    certs_secret_forget(line->args.vendor_password);
    certs_secret_forget(line->args.push_password);
    certs_secret_forget(line->args.api_key);
    if (rc != MDM_OK) {
        certs_say("%s.", err.text);
        status = rc == MDM_ECONFIG ? CERTS_USAGE : CERTS_FAILED;
    }
    if (fflush(stdout) != 0 && status == CERTS_DONE) {
        certs_say("cannot write to standard output");
        status = CERTS_FAILED;
    }
    return status;
}

int main(int argc, char **argv)
{
    line_t line = {.args = {.prefix = "", .warn_days = CERTS_WARN_DAYS}};

    forbid_core_files();
    if (!parse_options(argc, argv, &line) ||
        (!line.version && !take_operands(argc, argv, &line))) {
        return CERTS_USAGE;
    }
    if (line.version) {
        (void)printf("mdmcerts %s\n", MDM_VERSION);
        return CERTS_DONE;
    }
    if (line.help) {
        (void)fputs(line.command != NULL ? line.command->help : general_help,
                    stdout);
        return CERTS_DONE;
    }
    return run(&line);
}

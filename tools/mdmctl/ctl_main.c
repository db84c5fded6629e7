/*
 * ctl_main.c - mdmctl: the command line.
 *
 * Options may stand anywhere; those of the program itself and those of
 * subcommands are one list, and a subcommand says which it takes.
 */
#include <getopt.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

enum { OPT_URL = 1000, OPT_TOKEN, OPT_TOKEN_FILE, OPT_CA, OPT_JSON,
       OPT_HELP, OPT_FIRST };

/* Options of subcommands, in the order of ctl_option_t. */
static const struct {
    const char *name;
    int argument; /* of getopt */
    const char *help;
} suboptions[CTL_NOPTIONS] = {
    {"serial", required_argument, "S: of this serial number"},
    {"enabled", required_argument, "on|off: enrolled ones, or the others"},
    {"type", required_argument, "T: of this type, such as Device"},
    {"query", required_argument, "TEXT: part of id, serial number or name"},
    {"push", required_argument, "STATE: whose push is in this state"},
    {"state", required_argument, "STATE: commands in this state, or active"},
    {"limit", required_argument, "N: not more than these"},
    {"no-push", no_argument, "do not wake the devices"},
    {"wait", required_argument, "TIME: wait for Apple's answer (10s)"},
    {"priority", required_argument, "0..9: larger goes first"},
    {"not-before", required_argument, "TIME: not handed out before"},
    {"expires", required_argument, "TIME: not handed out after"},
    {"force", no_argument, "store it although it would do harm"},
    {"passphrase-file", required_argument, "F: opens the encrypted key"},
    {"xml", no_argument, "the report as the device sent it"},
};

const char *ctl_option_name(ctl_option_t option)
{
    return suboptions[option].name;
}

static int usage(FILE *to)
{
    (void)fputs("usage: mdmctl [options] COMMAND ...\n\n", to);
    for (const ctl_command_t *c = ctl_commands; c->name != NULL; c++) {
        (void)fprintf(to, "  %-12s %s\n", c->name, c->help);
    }
    (void)fputs("\nmdmctl COMMAND --help tells more.\n\n"
                "  --url URL          of the API's location\n"
                "  --token-file FILE  with the token, or name:token\n"
                "  --token TOKEN      others can see it: prefer a file\n"
                "  --ca FILE          authorities of the server's "
                "certificate\n"
                "  --json             answers as JSON\n\n"
                "MDMCTL_URL, MDMCTL_TOKEN, MDMCTL_CA, and ~/.config/mdmctl "
                "(url =, token_file =, ca =)\ngive what is missing.  Exit "
                "status: 0 done, 1 failed, 2 wrong usage.\n", to);
    return to == stdout ? CTL_DONE : CTL_USAGE;
}

static int command_usage(FILE *to, const ctl_command_t *command)
{
    (void)fprintf(to, "usage: mdmctl %s %s\n\n%s\n", command->name,
                  command->words, command->help);
    for (int i = 0; i < CTL_NOPTIONS; i++) {
        if ((command->takes & CTL_TAKES(i)) != 0) {
            (void)fprintf(to, "  --%s%s%s\n", suboptions[i].name,
                          suboptions[i].argument == required_argument ? " "
                                                                      : "  ",
                          suboptions[i].help);
        }
    }
    return to == stdout ? CTL_DONE : CTL_USAGE;
}

static void list_options(struct option *list)
{
    static const struct option own[] = {
        {"url", required_argument, NULL, OPT_URL},
        {"token", required_argument, NULL, OPT_TOKEN},
        {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
        {"ca", required_argument, NULL, OPT_CA},
        {"json", no_argument, NULL, OPT_JSON},
        {"help", no_argument, NULL, OPT_HELP},
    };
    size_t n = MDM_ARRAY_LEN(own);

    memcpy(list, own, sizeof(own));
    for (int i = 0; i < CTL_NOPTIONS; i++) {
        list[n++] = (struct option){suboptions[i].name,
                                    suboptions[i].argument, NULL,
                                    OPT_FIRST + i};
    }
    list[n] = (struct option){NULL, 0, NULL, 0};
}

typedef struct parsed {
    ctl_settings_t settings;
    const char *token_file;
    ctl_call_t call;
    bool help;
} parsed_t;

static bool set(char **field, const char *value)
{
    free(*field);
    *field = strdup(value);
    return *field != NULL;
}

static bool parse(int argc, char **argv, parsed_t *p)
{
    struct option list[CTL_NOPTIONS + 8];
    int c = 0;
    bool ok = true;

    list_options(list);
    while (ok && (c = getopt_long(argc, argv, "h", list, NULL)) != -1) {
        switch (c) {
        case OPT_URL:
            ok = set(&p->settings.url, optarg);
            break;
        case OPT_TOKEN:
            ok = set(&p->settings.token, optarg);
            memset(optarg, '*', strlen(optarg));
            break;
        case OPT_TOKEN_FILE:
            p->token_file = optarg;
            break;
        case OPT_CA:
            ok = set(&p->settings.ca, optarg);
            break;
        case OPT_JSON:
            p->settings.json = true;
            break;
        case OPT_HELP:
        case 'h':
            p->help = true;
            break;
        default:
            ok = c >= OPT_FIRST;
            if (ok) {
                p->call.options[c - OPT_FIRST] = optarg ? optarg : "1";
            }
        }
    }
    p->call.argc = argc - optind;
    p->call.argv = argv + optind;
    return ok;
}

static const ctl_command_t *find(const char *name)
{
    for (const ctl_command_t *c = ctl_commands; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

static mdm_rc run(parsed_t *p, const ctl_command_t *command, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;

    p->call.settings = &p->settings;
    if (!command->offline) {
        if (p->token_file != NULL && p->settings.token == NULL) {
            rc = ctl_settings_token_file(&p->settings, p->token_file, err);
        }
        if (rc == MDM_OK) {
            rc = ctl_settings_load(&p->settings, err);
        }
        if (rc == MDM_OK) {
            rc = ctl_client_new(&p->settings, &p->call.client, err);
        }
    }
    if (rc == MDM_OK) {
        rc = command->run(&p->call, err);
    }
    ctl_client_free(&p->call.client);
    return rc;
}

/* Are the words and options ones that this subcommand takes? */
static bool fits(const ctl_command_t *command, const ctl_call_t *call)
{
    for (int i = 0; i < CTL_NOPTIONS; i++) {
        if (call->options[i] != NULL &&
            (command->takes & CTL_TAKES(i)) == 0) {
            (void)fprintf(stderr, "mdmctl: %s does not take --%s\n\n",
                          command->name, suboptions[i].name);
            return false;
        }
    }
    return call->argc >= command->least &&
           (command->most < 0 || call->argc <= command->most);
}

static int act(parsed_t *p)
{
    mdm_err_t err = {0};

    if (p->call.argc == 0) {
        return usage(p->help ? stdout : stderr);
    }
    const ctl_command_t *command = find(p->call.argv[0]);
    if (command == NULL) {
        (void)fputs("mdmctl: there is no command ", stderr);
        ctl_print_text(stderr, p->call.argv[0]);
        (void)fputs("\n\n", stderr);
        return usage(stderr);
    }
    p->call.argc--;
    p->call.argv++;
    if (p->help) {
        return command_usage(stdout, command);
    }
    if (!fits(command, &p->call)) {
        return command_usage(stderr, command);
    }
    if (run(p, command, &err) != MDM_OK) {
        (void)fputs("mdmctl: ", stderr);
        ctl_print_text(stderr, err.text);
        (void)fputc('\n', stderr);
        return CTL_FAILED;
    }
    return fflush(stdout) != 0 ? CTL_FAILED : p->call.status;
}

int main(int argc, char **argv)
{
    parsed_t p = {0};

    if (setlocale(LC_ALL, "") == NULL || MB_CUR_MAX < 2) {
        (void)setlocale(LC_CTYPE, "C.UTF-8");
    }
    int status = parse(argc, argv, &p) ? act(&p) : usage(stderr);
    ctl_settings_clear(&p.settings);
    return status;
}

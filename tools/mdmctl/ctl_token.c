/*
 * ctl_token.c - mdmctl: a new token of the API, and completion for shells.
 * Neither calls a server.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "ctl.h"
#include "mdm_mem.h"

#define TOKEN_BYTES 32
#define NAME_MAX_LEN 64

static bool is_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz"
                            "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@");

    return n > 0 && n <= NAME_MAX_LEN && name[n] == '\0';
}

static bool are_scopes(const char *list)
{
    static const char *const known[] = {"read", "command", "secrets",
                                        "admin"};
    mdm_str_t rest = mdm_str_from(list);

    while (rest.s != NULL) {
        mdm_str_t one = mdm_str_split(&rest, ',');
        size_t i = 0;
        while (i < MDM_ARRAY_LEN(known) && !mdm_str_is(one, known[i])) {
            i++;
        }
        if (i == MDM_ARRAY_LEN(known)) {
            return false;
        }
    }
    return true;
}

static mdm_rc make(char token[2 * TOKEN_BYTES + 1],
                   char hash[2 * MDM_SHA256_LEN + 1], mdm_err_t *err)
{
    unsigned char bytes[TOKEN_BYTES];
    unsigned char digest[MDM_SHA256_LEN];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        return mdm_err_set(err, MDM_EINTERNAL, 0,
                           "the system gives no random bytes");
    }
    mdm_hex_encode(bytes, sizeof(bytes), token);
    mdm_wipe(bytes, sizeof(bytes));
    mdm_rc rc = mdm_sha256((mdm_str_t){token, 2 * TOKEN_BYTES}, digest, err);
    mdm_hex_encode(digest, sizeof(digest), hash);
    return rc;
}

mdm_rc ctl_token(ctl_call_t *call, mdm_err_t *err)
{
    char token[2 * TOKEN_BYTES + 1];
    char hash[2 * MDM_SHA256_LEN + 1];
    const char *scopes = call->argc > 2 ? call->argv[2] : "read";

    if (strcmp(call->argv[0], "new") != 0 || call->argc < 2) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "say token new NAME [SCOPE,SCOPE...]");
    }
    if (!is_name(call->argv[1])) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "a name has up to %d letters, digits and - _ . @",
                           NAME_MAX_LEN);
    }
    if (!are_scopes(scopes)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "scopes are read, command, secrets and admin, "
                           "with commas between them");
    }
    mdm_rc rc = make(token, hash, err);
    if (rc == MDM_OK && call->settings->json) {
        (void)printf("{\"token\": \"%s\", \"line\": \"%s:%s:sha256:%s\"}\n",
                     token, call->argv[1], scopes, hash);
    } else if (rc == MDM_OK) {
        (void)printf("%s:%s:sha256:%s\n", call->argv[1], scopes, hash);
        (void)fprintf(stderr,
                      "The line above belongs into the server's token file "
                      "(MDMAPITokenFile,\nmdm_api_token_file); reload the "
                      "server then.  The token itself is shown only\nnow; "
                      "keep it with mode 0600:\n\n%s\n", token);
    }
    mdm_wipe(token, sizeof(token));
    return rc;
}

/* ---- completion ---------------------------------------------------------- */

static void bash_words(void)
{
    for (const ctl_command_t *c = ctl_commands; c->name != NULL; c++) {
        (void)printf("%s%s", c == ctl_commands ? "" : " ", c->name);
    }
}

static void bash_completion(void)
{
    (void)fputs("_mdmctl() {\n"
                "    local word=${COMP_WORDS[COMP_CWORD]}\n"
                "    local i command=\n"
                "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                "        case ${COMP_WORDS[i]} in\n"
                "            --url | --token | --token-file | --ca) "
                "((i++)) ;;\n"
                "            -*) ;;\n"
                "            *) command=${COMP_WORDS[i]}; break ;;\n"
                "        esac\n"
                "    done\n"
                "    case ${COMP_WORDS[COMP_CWORD - 1]} in\n"
                "        --token-file | --ca | --passphrase-file)\n"
                "            COMPREPLY=($(compgen -f -- \"$word\")); return "
                ";;\n"
                "    esac\n"
                "    if [[ -z $command ]]; then\n"
                "        COMPREPLY=($(compgen -W \"", stdout);
    bash_words();
    (void)fputs(" --url --token-file --ca --json --help\" -- \"$word\"))\n"
                "        return\n"
                "    fi\n"
                "    case $command in\n", stdout);
    for (const ctl_command_t *c = ctl_commands; c->name != NULL; c++) {
        if (c->takes != 0) {
            (void)printf("        %s) COMPREPLY=($(compgen -W \"", c->name);
            for (int i = 0; i < CTL_NOPTIONS; i++) {
                if ((c->takes & CTL_TAKES(i)) != 0) {
                    (void)printf("--%s ", ctl_option_name(i));
                }
            }
            (void)fputs("--json --help\" -- \"$word\")) ;;\n", stdout);
        }
    }
    (void)fputs("    esac\n"
                "    [[ $word == -* ]] || COMPREPLY+=($(compgen -f -- "
                "\"$word\"))\n"
                "}\n"
                "complete -o filenames -F _mdmctl mdmctl\n", stdout);
}

static void zsh_completion(void)
{
    (void)fputs("#compdef mdmctl\n"
                "_mdmctl() {\n"
                "    local -a commands\n"
                "    commands=(\n", stdout);
    for (const ctl_command_t *c = ctl_commands; c->name != NULL; c++) {
        (void)printf("        '%s:%s'\n", c->name, c->help);
    }
    (void)fputs("    )\n"
                "    _arguments -C \\\n"
                "        '--url[of the location of the API]:URL:' \\\n"
                "        '--token-file[file of the token]:file:_files' \\\n"
                "        '--ca[authorities of the server]:file:_files' \\\n"
                "        '--json[answers as JSON]' \\\n"
                "        '1:command:->command' '*::word:->word'\n"
                "    case $state in\n"
                "        command) _describe command commands ;;\n"
                "        word)\n"
                "            case $words[1] in\n", stdout);
    for (const ctl_command_t *c = ctl_commands; c->name != NULL; c++) {
        if (c->takes != 0) {
            (void)printf("                %s) _arguments", c->name);
            for (int i = 0; i < CTL_NOPTIONS; i++) {
                if ((c->takes & CTL_TAKES(i)) != 0) {
                    (void)printf(" '--%s'", ctl_option_name(i));
                }
            }
            (void)fputs(" '*:file:_files' ;;\n", stdout);
        }
    }
    (void)fputs("                *) _files ;;\n"
                "            esac ;;\n"
                "    esac\n"
                "}\n"
                "_mdmctl \"$@\"\n", stdout);
}

mdm_rc ctl_completion(ctl_call_t *call, mdm_err_t *err)
{
    if (strcmp(call->argv[0], "bash") == 0) {
        bash_completion();
    } else if (strcmp(call->argv[0], "zsh") == 0) {
        zsh_completion();
    } else {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "there is completion for bash and for zsh");
    }
    return MDM_OK;
}

/*
 * bench_plist.c - how fast the property-list reader is.  Makes application
 * lists and check-ins in memory and prints MB/s of CPU time, best of nine.
 *
 * Build by hand: cc -O2 -Icommon tests/bench/bench_plist.c common/mdm_plist*.c
 * common/mdm_{checkin,mem,buf,str,err}.c and the libraries of the core.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mdm_checkin.h"
#include "mdm_plist.h"

static const char head[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
    "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
    "<plist version=\"1.0\">\n";

static double cpu_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void app_list(mdm_buf_t *out, int apps)
{
    int i;

    (void)mdm_buf_puts(out, head);
    (void)mdm_buf_puts(out, "<dict>\n\t<key>InstalledApplicationList</key>\n"
                            "\t<array>\n");
    for (i = 0; i < apps; i++) {
        (void)mdm_buf_printf(
            out,
            "\t\t<dict>\n\t\t\t<key>AdHocCodeSigned</key>\n\t\t\t<false/>\n"
            "\t\t\t<key>AppStoreVendable</key>\n\t\t\t<true/>\n"
            "\t\t\t<key>BetaApp</key>\n\t\t\t<false/>\n"
            "\t\t\t<key>BundleSize</key>\n\t\t\t<integer>%d</integer>\n"
            "\t\t\t<key>DynamicSize</key>\n\t\t\t<integer>%d</integer>\n"
            "\t\t\t<key>ExternalVersionIdentifier</key>\n"
            "\t\t\t<integer>85%d</integer>\n"
            "\t\t\t<key>HasUpdateAvailable</key>\n\t\t\t<false/>\n"
            "\t\t\t<key>Identifier</key>\n"
            "\t\t\t<string>com.example.app.number%d</string>\n"
            "\t\t\t<key>Installing</key>\n\t\t\t<false/>\n"
            "\t\t\t<key>Name</key>\n"
            "\t\t\t<string>Caf\xc3\xa9 &amp; Bar %d</string>\n"
            "\t\t\t<key>ShortVersion</key>\n\t\t\t<string>4.2.%d</string>\n"
            "\t\t\t<key>Version</key>\n\t\t\t<string>%d</string>\n"
            "\t\t</dict>\n",
            40000000 + i, 100000 + i, i, i, i, i % 10, i);
    }
    (void)mdm_buf_puts(out, "\t</array>\n\t<key>Status</key>\n"
                            "\t<string>Acknowledged</string>\n</dict>\n"
                            "</plist>\n");
}

static void profile(mdm_buf_t *out, int lines)
{
    int i;

    (void)mdm_buf_puts(out, head);
    (void)mdm_buf_puts(out, "<dict>\n<key>Payload</key>\n<data>\n");
    for (i = 0; i < lines; i++) {
        (void)mdm_buf_puts(out, "TG9yZW0gaXBzdW0gZG9sb3Igc2l0IGFtZXQsIGNvbn"
                                "NlY3RldHVyIGFkaXBpc2Np\n");
    }
    (void)mdm_buf_puts(out, "</data>\n</dict>\n</plist>\n");
}

static void token_update(mdm_buf_t *out)
{
    (void)mdm_buf_puts(out, head);
    (void)mdm_buf_puts(
        out,
        "<dict>\n\t<key>AwaitingConfiguration</key>\n\t<false/>\n"
        "\t<key>MessageType</key>\n\t<string>TokenUpdate</string>\n"
        "\t<key>PushMagic</key>\n"
        "\t<string>7C2F6B1D-0E4A-4B7B-9A55-2D1E0F3C4B5A</string>\n"
        "\t<key>Token</key>\n"
        "\t<data>\n\t3q2+78r+urAAESIzRFVmd4iZqrvM3e7/AQIDBAUGBwg=\n"
        "\t</data>\n\t<key>Topic</key>\n"
        "\t<string>com.apple.mgmt.External.0b9c3d52-7a41-4f0e</string>\n"
        "\t<key>UDID</key>\n\t<string>00008130-000A1B2C3D4E801E</string>\n"
        "\t<key>UnlockToken</key>\n\t<data>\n"
        "\tVEVTVC1VTkxPQ0stVE9LRU4=\n\t</data>\n</dict>\n</plist>\n");
}

static const mdm_plist_limits_t limits = {64 << 20, 64, 4000000};

static void run_scan(const char *name, const mdm_buf_t *doc)
{
    mdm_plist_want_t want[] = {{.path = "UDID"}, {.path = "Status"}};
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_plist_scan_t scan = {0};
    double best = 1e9;
    mdm_err_t err;
    double t;
    int i;

    for (i = 0; i < 9; i++) {
        t = cpu_now();
        if (mdm_plist_scan(mdm_buf_str(doc), &limits, MDM_PLIST_STRICT,
                           arena, want, MDM_ARRAY_LEN(want), &scan,
                           &err) != MDM_OK) {
            fprintf(stderr, "%s: %s\n", name, err.text);
            exit(1);
        }
        t = cpu_now() - t;
        best = t < best ? t : best;
    }
    printf("%-24s %9zu bytes %8zu items %8.3f ms %7.0f MB/s\n", name,
           doc->len, scan.items, best * 1e3, (double)doc->len / best / 1e6);
    mdm_arena_free(&arena);
}

static void run_checkin(const mdm_buf_t *doc)
{
    const int rounds = 20000;
    mdm_checkin_t msg;
    mdm_arena_t *arena;
    double best = 1e9;
    mdm_err_t err;
    double t;
    int i;
    int k;

    for (i = 0; i < 9; i++) {
        t = cpu_now();
        for (k = 0; k < rounds; k++) {
            arena = mdm_arena_new(true);
            if (mdm_checkin_parse(mdm_buf_str(doc), &limits, arena, &msg,
                                  &err) != MDM_OK) {
                fprintf(stderr, "check-in: %s\n", err.text);
                exit(1);
            }
            mdm_arena_free(&arena);
        }
        t = (cpu_now() - t) / rounds;
        best = t < best ? t : best;
    }
    printf("%-24s %9zu bytes %25.2f us\n", "check-in, whole", doc->len,
           best * 1e6);
}

static void run_json(const mdm_buf_t *doc)
{
    double best = 1e9;
    mdm_buf_t json;
    mdm_err_t err;
    double t;
    int i;

    for (i = 0; i < 3; i++) {
        mdm_buf_init(&json, 64 << 20);
        t = cpu_now();
        if (mdm_plist_to_json(mdm_buf_str(doc), &limits, &json, &err) !=
            MDM_OK) {
            fprintf(stderr, "JSON: %s\n", err.text);
            exit(1);
        }
        t = cpu_now() - t;
        best = t < best ? t : best;
        mdm_buf_clear(&json);
    }
    printf("%-24s %9zu bytes %26.1f ms\n", "JSON", doc->len, best * 1e3);
}

int main(void)
{
    mdm_buf_t doc;

    mdm_buf_init(&doc, 64 << 20);
    token_update(&doc);
    run_scan("TokenUpdate", &doc);
    run_checkin(&doc);
    mdm_buf_reset(&doc);
    app_list(&doc, 100);
    run_scan("100 applications", &doc);
    mdm_buf_reset(&doc);
    app_list(&doc, 7000);
    run_scan("7000 applications", &doc);
    run_json(&doc);
    mdm_buf_reset(&doc);
    profile(&doc, 70000);
    run_scan("base64 profile", &doc);
    mdm_buf_clear(&doc);
    return 0;
}

#include "app.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int app_fail(const lf_error *err)
{
    (void)fprintf(stderr, "lookfar: %s\n", err->text);
    return EXIT_FAIL;
}

/* ---- arguments ---- */

typedef struct arguments {
    char *name;  /* "lookfar run" */
    void *input; /* the command's */
} arguments;

static error_t parse_common_option(int key, char *arg, struct argp_state *state)
{
    const arguments *a = state->input;
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = a->input;
        state->err_stream = NULL; /* no "Try ..." after the line that says what is wrong */
        return 0;
    case 'h': argp_help(state->root_argp, stdout, ARGP_HELP_STD_HELP, a->name); exit(0);
    default: return ARGP_ERR_UNKNOWN;
    }
}

void app_parse_args(const struct argp *argp, int argc, char **argv, void *input)
{
    static const struct argp_option options[] = {{"help", 'h', NULL, 0, "this list", -1}, {0}};
    const struct argp_child children[] = {{argp, 0, NULL, 0}, {0}};
    const struct argp common = {options, parse_common_option, NULL, NULL, children, NULL, NULL};
    arguments a = {.name = argv[0], .input = input};
    /* What getopt puts before its messages; they follow the form of all others. */
    char where[64];
    (void)snprintf(where, sizeof where, "lookfar: %s", argv[0] + strlen("lookfar "));
    argv[0] = where;
    if (argp_parse(&common, argc, argv, ARGP_NO_HELP, NULL, &a) != 0) exit(EXIT_USAGE);
    argv[0] = a.name;
}

void app_usage_error(const struct argp_state *state, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)fprintf(stderr, "%s: ", state->name);
    (void)vfprintf(stderr, fmt, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(EXIT_USAGE);
}

int app_run_kind(int argc, char **argv, const app_kind *kinds, int n_kinds, const char *what)
{
    const bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    for (int i = 0; argc > 1 && i < n_kinds; i++) {
        if (strcmp(argv[1], kinds[i].name) != 0) continue;
        char name[64];
        (void)snprintf(name, sizeof name, "%s %s", argv[0], kinds[i].name);
        argv[1] = name;
        return kinds[i].run(argc - 1, argv + 1);
    }
    if (argc > 1 && !help) {
        (void)fprintf(stderr, "lookfar: %s: found \"%s\", expected one of", argv[0] + strlen("lookfar "),
                      argv[1]);
        for (int i = 0; i < n_kinds; i++) (void)fprintf(stderr, " %s", kinds[i].name);
        (void)fprintf(stderr, "\n");
        return EXIT_USAGE;
    }
    FILE *f = help ? stdout : stderr;
    (void)fprintf(f, "Usage: %s KIND [OPTION...]\n%s\n\n", argv[0], what);
    for (int i = 0; i < n_kinds; i++) (void)fprintf(f, "  %-10s %s\n", kinds[i].name, kinds[i].summary);
    (void)fprintf(f, "\n`%s KIND --help` lists the options of a kind.\n", argv[0]);
    return help ? 0 : EXIT_USAGE;
}

/* ---- option values ---- */

long long app_parse_int(struct argp_state *state, const char *option, const char *text, long long min,
                        long long max)
{
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min || value > max)
        app_usage_error(state, "%s: found \"%s\", expected a whole number from %lld to %lld", option, text,
                        min, max);
    return value;
}

double app_parse_float(struct argp_state *state, const char *option, const char *text, double min, double max)
{
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= min && value <= max))
        app_usage_error(state, "%s: found \"%s\", expected a number from %g to %g", option, text, min, max);
    return value;
}

lf_dtype app_parse_dtype(struct argp_state *state, const char *option, const char *text)
{
    lf_dtype dtype = LF_DTYPE_F32;
    if (!lf_dtype_parse(text, &dtype))
        app_usage_error(state,
                        "%s: found \"%s\", expected one of f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k",
                        option, text);
    return dtype;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

size_t app_unescape(char *text, size_t len)
{
    static const char codes[] = "n\nt\tr\r\\\\\"\"''";
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '\\' && i + 1 < len) {
            const char next = text[i + 1];
            const char *code = NULL;
            for (size_t k = 0; k + 1 < sizeof codes && !code; k += 2)
                if (codes[k] == next) code = &codes[k + 1];
            if (code) {
                c = *code;
                i++;
            } else if (next == 'x' && i + 3 < len && hex_digit(text[i + 2]) >= 0 &&
                       hex_digit(text[i + 3]) >= 0) {
                c = (char)(hex_digit(text[i + 2]) * 16 + hex_digit(text[i + 3]));
                i += 3;
            }
        }
        text[n++] = c;
    }
    return n;
}

unsigned app_parse_cpu_mask(struct argp_state *state, const char *option, const char *text)
{
    unsigned mask = 0;
    if (!lf_cpu_mask_parse(text, &mask))
        app_usage_error(state, "%s: found \"%s\", expected scalar, avx2, avx512 or native", option, text);
    return mask;
}

/* ---- progress ---- */

void app_progress_start(app_progress *p, const char *label, bool quiet)
{
    *p = (app_progress){.label = label, .enabled = !quiet && isatty(STDERR_FILENO), .percent = -1};
}

void app_progress_draw(app_progress *p, double share)
{
    const int percent = (int)floor(share * 100.0);
    if (!p->enabled || percent == p->percent) return;
    p->percent = percent;
    (void)fprintf(stderr, "\r%s %3d %%", p->label, percent);
}

void app_progress_clear(app_progress *p)
{
    if (p->percent >= 0) (void)fprintf(stderr, "\r\033[K");
    p->percent = -1;
}

/* ---- interrupts ---- */

volatile sig_atomic_t app_interrupted;

static void on_signal(int number)
{
    (void)number;
    app_interrupted = 1;
}

void app_catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_signal,
                               .sa_flags = (int)SA_RESETHAND}; /* a second signal kills */
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

/* ---- engine options ---- */

enum {
    OPT_KV = 0x100,
    OPT_WEIGHTS,
    OPT_CPU_MASK,
    OPT_PIN,
    OPT_PREFILL,
    OPT_PAGES,
    OPT_DRAFT_MODEL,
    OPT_DRAFT_WINDOW
};

static const struct argp_option engine_options[] = {
    {"model", 'm', "PATH", 0, "model: a .gguf file, or a Hugging Face folder", 0},
    {"ctx-size", 'c', "N", 0, "positions of the context (default: what the model was made for)", 0},
    {"threads", 't', "N", 0, "threads (default: one for each processor)", 0},
    {"batch-size", 'b', "N", 0, "rows of one pass: prompts are read in chunks of this (default: 512)", 0},
    {"prefill-rows", OPT_PREFILL, "N", 0,
     "rows of prompts in a pass that others decode in (default: a quarter of the batch size)", 0},
    {"cache-pages", OPT_PAGES, "N", 0,
     "pages of the KV cache, 128 positions each (default: the whole context of each request)", 0},
    {"cache-type", OPT_KV, "TYPE", 0, "type of the KV cache: f32, f16, bf16 (default) or q8_0", 0},
    {"weight-type", OPT_WEIGHTS, "TYPE", 0, "convert the weights to this type while loading", 0},
    {"cpu-mask", OPT_CPU_MASK, "LEVEL", 0,
     "use no instructions above scalar, avx2, avx512 or native (default)", 0},
    {"pin", OPT_PIN, NULL, 0, "bind each thread to a processor", 0},
    {"draft-model", OPT_DRAFT_MODEL, "PATH", 0,
     "a smaller model with the same vocabulary, for --proposer draft or auto", 0},
    {"draft-window", OPT_DRAFT_WINDOW, "N", 0,
     "how many of the last positions it sees; 0 (default): 512, or what it was made for", 0},
    {"quiet", 'q', NULL, 0, "no progress and no timings", 0},
    {0},
};

static error_t parse_engine_option(int key, char *arg, struct argp_state *state)
{
    app_engine_options *o = state->input;
    switch (key) {
    case 'm': o->params.model_path = arg; return 0;
    case 'c': o->params.n_ctx = (int)app_parse_int(state, "--ctx-size", arg, 0, 1 << 26); return 0;
    case 't': o->params.n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case 'b': o->params.batch_rows = (int)app_parse_int(state, "--batch-size", arg, 1, 1 << 16); return 0;
    case OPT_PREFILL:
        o->params.prefill_rows = (int)app_parse_int(state, "--prefill-rows", arg, 0, 1 << 16);
        return 0;
    case OPT_PAGES: o->params.n_pages = (int)app_parse_int(state, "--cache-pages", arg, 0, 1 << 24); return 0;
    case OPT_KV: o->params.kv_dtype = app_parse_dtype(state, "--cache-type", arg); return 0;
    case OPT_WEIGHTS: o->params.weight_dtype = (int)app_parse_dtype(state, "--weight-type", arg); return 0;
    case OPT_CPU_MASK: o->params.cpu_mask = app_parse_cpu_mask(state, "--cpu-mask", arg); return 0;
    case OPT_PIN: o->params.pin_threads = true; return 0;
    case OPT_DRAFT_MODEL: o->params.draft_path = arg; return 0;
    case OPT_DRAFT_WINDOW:
        o->params.draft_window = (int)app_parse_int(state, "--draft-window", arg, 0, 1 << 26);
        return 0;
    case 'q': o->quiet = true; return 0;
    case ARGP_KEY_END:
        if (!o->params.model_path && !o->needs_no_model)
            app_usage_error(state, "-m PATH: the model is missing");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp app_engine_argp = {.options = engine_options, .parser = parse_engine_option};

static bool on_load(void *cookie, size_t done, size_t total)
{
    app_progress_draw(cookie, total ? (double)done / (double)total : 1.0);
    return !app_interrupted;
}

lf_status app_open_engine(lf_engine **out, app_engine_options *options, lf_error *err)
{
    app_progress progress;
    app_progress_start(&progress, "loading", options->quiet);
    options->params.progress = on_load;
    options->params.progress_cookie = &progress;
    const lf_status status = lf_engine_open(out, &options->params, err);
    app_progress_clear(&progress);
    return status;
}

/* ---- JSON lines ---- */

static int fail_json(const char *path)
{
    (void)fprintf(stderr, "lookfar: %s: cannot write: %s\n", path, strerror(errno));
    return EXIT_FAIL;
}

FILE *app_open_json(const char *path)
{
    if (strcmp(path, "-") == 0) return stdout;
    FILE *f = fopen(path, "w");
    if (!f) (void)fail_json(path);
    return f;
}

FILE *app_append_json(const char *path)
{
    FILE *f = fopen(path, "a");
    if (!f) (void)fail_json(path);
    return f;
}

int app_write_json(FILE *f, const char *path, json_t *object)
{
    errno = ENOMEM; /* why there is no object, or why it cannot be dumped */
    const bool ok = object && json_dumpf(object, f, JSON_COMPACT) == 0 && fputc('\n', f) != EOF &&
                    fflush(f) == 0;
    json_decref(object);
    if (ok) return 0;
    return f == stdout && ferror(f) ? EXIT_FAIL : fail_json(path); /* a broken stdout is reported at exit */
}

int app_close_json(FILE *f, const char *path, int code)
{
    if (!f || f == stdout) return code;
    const bool failed = ferror(f) != 0; /* earlier: nobody knows any more why */
    if (fclose(f) == 0 && !failed) return code;
    if (failed) errno = EIO;
    return code != 0 ? code : fail_json(path);
}

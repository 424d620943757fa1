/* lookfar run: text from a prompt. The text goes to standard output, everything for people around it to standard error. */
#include "app.h"

#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPT_TEMP = 0x200,
    OPT_IGNORE_EOS,
    OPT_SPECIAL,
    OPT_NO_PROMPT,
    OPT_NO_ESCAPE,
    OPT_NO_BOS,
    OPT_JSON,
    OPT_DUMP
};

typedef struct run_options {
    app_engine_options engine;
    lf_generate_params generate;
    const char *prompt, *prompt_file, *json_path, *dump_path;
    bool interactive, hide_prompt, no_escape, no_bos;
} run_options;

static const struct argp_option options[] = {
    {"prompt", 'p', "TEXT", 0, "the prompt; \\n, \\t, \\\\, \\\", \\r and \\xHH are understood", 0},
    {"file", 'f', "FILE", 0, "read the prompt from a file; - or nothing at all: from standard input", 0},
    {"interactive", 'i', NULL, 0, "read more lines from standard input and go on after each", 0},
    {"predict", 'n', "N", 0, "tokens to generate at most (default: until the context is full)", 0},
    {"temp", OPT_TEMP, "T", 0, "temperature; 0 (default) always takes the likeliest token", 0},
    {"seed", 's', "N", 0,
     "seed of the noise at a temperature above 0 (default: 0); the same seed gives the same text", 0},
    {"ignore-eos", OPT_IGNORE_EOS, NULL, 0, "do not stop at an end-of-sequence token", 0},
    {"special", OPT_SPECIAL, NULL, 0,
     "special tokens: read their names in the prompt, show them in the output", 0},
    {"no-display-prompt", OPT_NO_PROMPT, NULL, 0, "print only what is generated", 0},
    {"no-escape", OPT_NO_ESCAPE, NULL, 0, "take backslashes of -p as they are", 0},
    {"no-bos", OPT_NO_BOS, NULL, 0, "do not begin with the model's beginning-of-sequence token", 0},
    {"json", OPT_JSON, "FILE", 0, "write the result as a JSON object to FILE (-: standard output)", 0},
    {"dump-logits", OPT_DUMP, "FILE", 0,
     "write the logits after every prompt token, float32 (n_prompt, n_vocab), and stop", 0},
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    run_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &o->engine; return 0;
    case 'p': o->prompt = arg; return 0;
    case 'f': o->prompt_file = arg; return 0;
    case 'i': o->interactive = true; return 0;
    case 'n': o->generate.n_predict = (int)app_parse_int(state, "--predict", arg, -1, 1 << 30); return 0;
    case OPT_TEMP: o->generate.temperature = (float)app_parse_float(state, "--temp", arg, 0.0, 1e6); return 0;
    case 's': o->generate.seed = (uint64_t)app_parse_int(state, "--seed", arg, 0, INT64_MAX); return 0;
    case OPT_IGNORE_EOS: o->generate.ignore_eos = true; return 0;
    case OPT_SPECIAL: o->generate.special = true; return 0;
    case OPT_NO_PROMPT: o->hide_prompt = true; return 0;
    case OPT_NO_ESCAPE: o->no_escape = true; return 0;
    case OPT_NO_BOS: o->no_bos = true; return 0;
    case OPT_JSON: o->json_path = arg; return 0;
    case OPT_DUMP: o->dump_path = arg; return 0;
    case ARGP_KEY_ARG:
        app_usage_error(state, "found argument \"%s\", expected options only (a prompt goes after -p)", arg);
        return 0;
    case ARGP_KEY_END:
        if (o->prompt && o->prompt_file) app_usage_error(state, "-p and -f: found both, expected one");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the prompt ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Replaces backslash escapes in place; one that is not known stays as it is. */
static void unescape(lf_bytes *text)
{
    static const char codes[] = "n\nt\tr\r\\\\\"\"''";
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++) {
        char c = text->data[i];
        if (c == '\\' && i + 1 < text->len) {
            const char next = text->data[i + 1];
            const char *code = NULL;
            for (size_t k = 0; k + 1 < sizeof codes && !code; k += 2)
                if (codes[k] == next) code = &codes[k + 1];
            if (code) {
                c = *code;
                i++;
            } else if (next == 'x' && i + 3 < text->len && hex_digit(text->data[i + 2]) >= 0 &&
                       hex_digit(text->data[i + 3]) >= 0) {
                c = (char)(hex_digit(text->data[i + 2]) * 16 + hex_digit(text->data[i + 3]));
                i += 3;
            }
        }
        text->data[n++] = c;
    }
    text->len = n;
}

static lf_status read_stream(lf_bytes *out, FILE *f, const char *name, lf_error *err)
{
    char chunk[1 << 14];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0) {
        if (lf_bytes_append(out, chunk, n)) continue;
        return lf_fail(err, LF_ENOMEM, "%s: out of memory after %zu bytes", name, out->len);
    }
    if (!ferror(f)) return LF_OK;
    return lf_fail(err, LF_EIO, "%s: cannot read: %s", name, strerror(errno));
}

static lf_status read_prompt(lf_bytes *out, const run_options *o, lf_error *err)
{
    if (o->prompt) {
        if (!lf_bytes_append(out, o->prompt, strlen(o->prompt))) {
            return lf_fail(err, LF_ENOMEM, "out of memory for the prompt");
        }
        if (!o->no_escape) unescape(out);
        return LF_OK;
    }
    if (!o->prompt_file && o->interactive) return LF_OK; /* the first line is the prompt */
    if (!o->prompt_file || strcmp(o->prompt_file, "-") == 0)
        return read_stream(out, stdin, "standard input", err);
    FILE *f = fopen(o->prompt_file, "rb");
    if (!f) {
        return lf_fail(err, LF_EIO, "%s: cannot open the prompt: %s", o->prompt_file, strerror(errno));
    }
    const lf_status status = read_stream(out, f, o->prompt_file, err);
    (void)fclose(f);
    return status;
}

/* ---- generating ---- */

typedef struct session {
    const run_options *options;
    lf_engine *engine;
    lf_bytes transcript; /* prompt, output, further lines: what the next prompt is made of */
    size_t output_begin; /* where in it the last output began */
    lf_ids output;
    FILE *text; /* where text goes: standard output, or standard error when JSON has that */
    bool shows_prompt;
    app_progress prefill;
    bool out_of_memory; /* why on_token ended the generation, if it did */
    lf_generate_result result;
} session;

static bool on_prefill(void *cookie, int done, int total)
{
    session *s = cookie;
    app_progress_draw(&s->prefill, (double)done / total);
    if (done == total) {
        app_progress_clear(&s->prefill);
        /* now that it has turned out to be one that the model takes */
        if (s->shows_prompt) (void)fwrite(s->transcript.data, 1, s->transcript.len, s->text);
    }
    return !app_interrupted;
}

static bool on_token(void *cookie, int32_t id, const char *text, size_t len)
{
    session *s = cookie;
    if ((id >= 0 && !lf_ids_push(&s->output, id)) || !lf_bytes_append(&s->transcript, text, len)) {
        s->out_of_memory = true;
        return false;
    }
    if (fwrite(text, 1, len, s->text) != len || fflush(s->text) != 0) return false;
    return !app_interrupted;
}

static lf_status generate(session *s, lf_error *err)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    const run_options *o = s->options;
    lf_status status = lf_tokenize(s->engine, s->transcript.data ? s->transcript.data : "", s->transcript.len,
                                   !o->no_bos, o->generate.special, &ids, &n_ids, err);
    if (status == LF_OK) {
        lf_generate_params params = o->generate;
        params.ids = ids;
        params.n_ids = n_ids;
        params.on_token = on_token;
        params.on_prefill = on_prefill;
        params.cookie = s;
        s->output_begin = s->transcript.len;
        s->output.len = 0;
        app_progress_start(&s->prefill, "reading the prompt", o->engine.quiet);
        status = lf_generate(s->engine, &params, &s->result, err);
        app_progress_clear(&s->prefill);
        if (s->out_of_memory) status = lf_fail_memory(err, "the output", s->transcript.len);
    }
    free(ids);
    return status;
}

static double per_second(int n, double seconds)
{
    return seconds > 0 ? n / seconds : 0.0;
}

static void print_timings(const session *s)
{
    const lf_generate_result *r = &s->result;
    lf_engine_info info = {.size = sizeof info};
    lf_engine_get_info(s->engine, &info);
    const int n_prompt = r->prompt_tokens - r->cached_tokens;
    (void)fprintf(stderr, "\nload   %8.2f s   %s, %s kernels, %d threads\n", info.load_seconds, info.arch,
                  info.kernels, info.n_threads);
    (void)fprintf(stderr, "prompt %8.2f s   %d tokens, %d from the cache, %.1f tokens/s\n",
                  r->prefill_seconds, r->prompt_tokens, r->cached_tokens,
                  per_second(n_prompt, r->prefill_seconds));
    (void)fprintf(stderr, "output %8.2f s   %d tokens, %.1f tokens/s, finish: %s\n", r->decode_seconds,
                  r->output_tokens, per_second(r->output_tokens, r->decode_seconds),
                  lf_finish_name(r->finish));
}

static json_t *result_json(const session *s)
{
    const lf_generate_result *r = &s->result;
    json_t *tokens = json_array();
    for (size_t i = 0; i < s->output.len; i++)
        (void)json_array_append_new(tokens, json_integer(s->output.data[i]));
    const char *text = s->transcript.data ? s->transcript.data + s->output_begin : "";
    return json_pack(
        "{s:s%, s:o, s:i, s:s, s:i, s:i, s:i, s:f, s:f, s:f, s:s}", "text", text,
        s->transcript.len - s->output_begin, "tokens", tokens, "prompt_tokens", r->prompt_tokens, "proposer",
        "none", "passes", r->passes, "proposed", r->proposed, "accepted", r->accepted, "tokens_per_pass",
        r->passes > 0 ? (double)r->output_tokens / r->passes : 0.0, "prefill_s", r->prefill_seconds,
        "decode_s", r->decode_seconds, "finish_reason", lf_finish_name(r->finish));
}

/* Reads a line into the transcript; false at the end of the input. */
static bool read_line(session *s)
{
    char *line = NULL;
    size_t cap = 0;
    if (isatty(STDIN_FILENO)) (void)fprintf(stderr, "\n> ");
    const ssize_t n = getline(&line, &cap, stdin);
    const bool ok = n > 0 && lf_bytes_append(&s->transcript, line, (size_t)n);
    free(line);
    return ok;
}

static int run_session(session *s, FILE *json, lf_error *err)
{
    const run_options *o = s->options;
    int code = 0;
    if (o->interactive && s->transcript.len == 0 && !read_line(s)) return 0;
    s->shows_prompt = !o->hide_prompt && !o->interactive && s->transcript.len > 0;
    do {
        if (generate(s, err) != LF_OK) return app_fail(err);
        if (ferror(s->text)) return EXIT_FAIL; /* main says why */
        if (json) code = app_write_json(json, o->json_path, result_json(s));
    } while (code == 0 && o->interactive && !app_interrupted && read_line(s));
    (void)fputc('\n', s->text);
    (void)fflush(s->text); /* before the timings, where both go to one place */
    if (!o->engine.quiet) print_timings(s);
    return code;
}

/* ---- logits ---- */

static lf_status dump_logits(session *s, lf_error *err)
{
    const run_options *o = s->options;
    lf_engine_info info = {.size = sizeof info};
    int32_t *ids = NULL;
    float *logits = NULL;
    FILE *f = NULL;
    size_t n_ids = 0;
    lf_engine_get_info(s->engine, &info);
    lf_status status = lf_tokenize(s->engine, s->transcript.data ? s->transcript.data : "", s->transcript.len,
                                   !o->no_bos, o->generate.special, &ids, &n_ids, err);
    if (status != LF_OK) goto done;
    const size_t n = n_ids * (size_t)info.n_vocab;
    logits = calloc(n ? n : 1, sizeof *logits);
    if (!logits) {
        status = lf_fail(err, LF_ENOMEM, "out of memory: %zu logits", n);
        goto done;
    }
    status = lf_score(s->engine, ids, n_ids, logits, err);
    if (status != LF_OK) goto done;
    f = fopen(o->dump_path, "wb");
    if (!f || fwrite(logits, sizeof *logits, n, f) != n || fflush(f) != 0) {
        status = lf_fail(err, LF_EIO, "%s: cannot write: %s", o->dump_path, strerror(errno));
    }
done:
    if (f) (void)fclose(f);
    free(logits);
    free(ids);
    return status;
}

int app_run(int argc, char **argv)
{
    static const struct argp_child children[] = {{&app_engine_argp, 0, "Model and machine:", 1}, {0}};
    static const struct argp argp = {options,  parse_option, NULL, "Generates text from a prompt.",
                                     children, NULL,         NULL};
    run_options o = {0};
    lf_error err = {0};
    session s = {.options = &o, .text = stdout};
    FILE *json = NULL;
    int code;
    lf_engine_params_init(&o.engine.params);
    lf_generate_params_init(&o.generate);
    app_parse_args(&argp, argc, argv, &o);
    app_catch_interrupt();
    if (o.json_path) {
        json = app_open_json(o.json_path);
        if (!json) return EXIT_FAIL;
        if (json == stdout) s.text = stderr;
    }
    if (read_prompt(&s.transcript, &o, &err) != LF_OK || app_open_engine(&s.engine, &o.engine, &err) != LF_OK)
        code = app_fail(&err);
    else if (o.dump_path)
        code = dump_logits(&s, &err) == LF_OK ? 0 : app_fail(&err);
    else
        code = run_session(&s, json, &err);
    lf_engine_close(s.engine);
    lf_bytes_free(&s.transcript);
    lf_ids_free(&s.output);
    return app_close_json(json, o.json_path, code);
}

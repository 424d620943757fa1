/* lookfar run: text from a prompt. The text goes to standard output, everything for people around it to standard error. */
#include "app.h"

#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPT_SPECIAL = 0x200,
    OPT_NO_PROMPT,
    OPT_NO_ESCAPE,
    OPT_NO_BOS,
    OPT_JSON,
    OPT_DUMP,
    OPT_PROMPTS,
    OPT_PREDICTION,
    OPT_PARALLEL,
    OPT_TRACE,
    OPT_COLOR,
    OPT_COMPARE,
    OPT_WRITE,
    OPT_TARGET,
    OPT_CHAT,
    OPT_MESSAGES,
    OPT_TEMPLATE,
};

enum { PARALLEL_DEFAULT = 8 }; /* requests decoded together with --prompts */

typedef struct run_options {
    app_engine_options engine;
    app_request_options request;
    const char *prompt, *prompt_file, *prompts_path, *prediction_path, *json_path, *dump_path, *trace_path;
    const char *messages_path, *template_path, *target_path;
    bool interactive, hide_prompt, no_escape, no_bos, color, chat, compare;
    int n_write;
} run_options;

static const struct argp_option options[] = {
    {"prompt", 'p', "TEXT", 0, "the prompt; \\n, \\t, \\\\, \\\", \\r and \\xHH are understood", 0},
    {"file", 'f', "FILE", 0, "read the prompt from a file; - or nothing at all: from standard input", 0},
    {"interactive", 'i', NULL, 0, "read more lines from standard input and go on after each", 0},
    {"prompts", OPT_PROMPTS, "FILE", 0,
     "many requests: JSON lines with \"prompt\" and what differs from the options here; results are JSON lines, on standard output or where --json says",
     0},
    {"parallel", OPT_PARALLEL, "N", 0, "with --prompts or --compare: requests decoded together (default: 8)",
     0},
    {"prediction", OPT_PREDICTION, "FILE", 0,
     "a text that the output is expected to be like, for --proposer ngram", 0},
    {"chat", OPT_CHAT, NULL, 0, "the prompt is a user's message, put to the model by its chat template", 0},
    {"messages", OPT_MESSAGES, "FILE", 0,
     "a conversation instead of a prompt: JSON, a list of messages or a request of the OpenAI API", 0},
    {"chat-template", OPT_TEMPLATE, "FILE", 0,
     "a Jinja template instead of the model's own, or \"chatml\"; as --chat", 0},
    {"special", OPT_SPECIAL, NULL, 0,
     "special tokens: read their names in the prompt, show them in the output", 0},
    {"no-display-prompt", OPT_NO_PROMPT, NULL, 0, "print only what is generated", 0},
    {"no-escape", OPT_NO_ESCAPE, NULL, 0, "take backslashes of -p as they are", 0},
    {"no-bos", OPT_NO_BOS, NULL, 0, "do not begin with the model's beginning-of-sequence token", 0},
    {"json", OPT_JSON, "FILE", 0, "write the result as a JSON object to FILE (-: standard output)", 0},
    {"dump-logits", OPT_DUMP, "FILE", 0,
     "write the logits after every prompt token, float32 (n_prompt, n_vocab), and stop", 0},
    {"trace", OPT_TRACE, "FILE", 0, "write a JSON line for every pass: its requests, rows, candidates, times",
     0},
    {"compare", OPT_COMPARE, NULL, 0,
     "continue the prompt by --parallel requests, plainly and with the proposer, and tell how fast each was; with --prompts: each of them, one after the other",
     0},
    {"target", OPT_TARGET, "PATH", 0,
     "with --compare and --prompts: another model, whose plain output is shown beside", 0},
    {"write", OPT_WRITE, "N", 0, "with --compare: let the model first write N tokens after the prompt", 0},
    {"color", OPT_COLOR, NULL, 0, "show accepted guesses in green", 0},
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    run_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->engine;
        state->child_inputs[1] = &o->request;
        return 0;
    case 'p': o->prompt = arg; return 0;
    case 'f': o->prompt_file = arg; return 0;
    case 'i': o->interactive = true; return 0;
    case OPT_PROMPTS: o->prompts_path = arg; return 0;
    case OPT_PARALLEL:
        o->engine.params.n_seqs = (int)app_parse_int(state, "--parallel", arg, 1, 512);
        return 0;
    case OPT_PREDICTION: o->prediction_path = arg; return 0;
    case OPT_TRACE: o->trace_path = arg; return 0;
    case OPT_COLOR: o->color = true; return 0;
    case OPT_COMPARE: o->compare = true; return 0;
    case OPT_WRITE: o->n_write = (int)app_parse_int(state, "--write", arg, 0, 1 << 30); return 0;
    case OPT_TARGET: o->target_path = arg; return 0;
    case OPT_CHAT: o->chat = true; return 0;
    case OPT_MESSAGES:
        o->messages_path = arg;
        o->chat = true;
        return 0;
    case OPT_TEMPLATE:
        o->template_path = arg;
        o->chat = true;
        return 0;
    case OPT_SPECIAL: o->request.params.special = true; return 0;
    case OPT_NO_PROMPT: o->hide_prompt = true; return 0;
    case OPT_NO_ESCAPE: o->no_escape = true; return 0;
    case OPT_NO_BOS: o->no_bos = true; return 0;
    case OPT_JSON: o->json_path = arg; return 0;
    case OPT_DUMP: o->dump_path = arg; return 0;
    case ARGP_KEY_ARG:
        app_usage_error(state, "found argument \"%s\", expected options only (a prompt goes after -p)", arg);
        return 0;
    case ARGP_KEY_END:
        if (!!o->prompt + !!o->prompt_file + !!o->prompts_path > 1)
            app_usage_error(state, "-p, -f and --prompts: found more than one, expected one");
        if (o->messages_path && (o->prompt || o->prompt_file))
            app_usage_error(state, "--messages: found with -p or -f, expected without");
        if (o->chat && (o->prompts_path || o->interactive))
            app_usage_error(state, "--chat: found with -i or --prompts, expected without");
        if (o->prompts_path && (o->interactive || o->dump_path || o->prediction_path))
            app_usage_error(state,
                            "--prompts: found with -i, --dump-logits or --prediction, expected without");
        if (o->compare && (o->interactive || o->dump_path || o->prediction_path))
            app_usage_error(state,
                            "--compare: found with -i, --dump-logits or --prediction, expected without");
        if (o->n_write > 0 && o->prompts_path)
            app_usage_error(state, "--write: found with --prompts, expected without");
        if (o->target_path && !(o->compare && o->prompts_path))
            app_usage_error(state, "--target: found without --compare and --prompts, expected with them");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the prompt ---- */

static lf_status read_prompt(lf_bytes *out, const run_options *o, lf_error *err)
{
    if (!o->prompt) {
        if (!o->prompt_file && o->interactive) return LF_OK; /* the first line is the prompt */
        return app_read_text(out, o->prompt_file ? o->prompt_file : "-", err);
    }
    if (!lf_bytes_append(out, o->prompt, strlen(o->prompt)))
        return lf_fail_memory(err, "the prompt", strlen(o->prompt));
    if (!o->no_escape) out->len = app_unescape(out->data, out->len);
    return LF_OK;
}

/* ---- generating ---- */

typedef struct session {
    const run_options *options;
    lf_engine *engine;
    lf_bytes transcript; /* prompt, output, further lines: what the next prompt is made of */
    lf_request *request; /* the last one */
    app_token_log log;
    FILE *text; /* where text goes: standard output, or standard error when JSON has that */
    FILE *trace;
    bool shows_prompt;
    app_progress prefill;
    bool out_of_memory; /* why on_token ended the generation, if it did */
} session;

/* Not before it has turned out to be one that the model takes. */
static void show_prompt(session *s)
{
    if (s->shows_prompt) (void)fwrite(s->transcript.data, 1, s->transcript.len, s->text);
    s->shows_prompt = false;
}

static bool on_prefill(void *cookie, int done, int total)
{
    session *s = cookie;
    app_progress_draw(&s->prefill, (double)done / total);
    if (done == total) {
        app_progress_clear(&s->prefill);
        show_prompt(s);
    }
    return !app_interrupted;
}

static bool write_text(const session *s, const lf_token *token)
{
    const bool green = s->options->color && token->proposed && token->len > 0;
    if (green) (void)fputs("\033[32m", s->text);
    (void)fwrite(token->text, 1, token->len, s->text);
    if (green) (void)fputs("\033[0m", s->text);
    return fflush(s->text) == 0 && !ferror(s->text);
}

static bool on_token(void *cookie, const lf_token *token)
{
    session *s = cookie;
    if (!lf_bytes_append(&s->transcript, token->text, token->len) ||
        (s->options->request.params.logprobs && !app_log_token(&s->log, token))) {
        s->out_of_memory = true;
        return false;
    }
    return write_text(s, token) && !app_interrupted;
}

static lf_status run_passes(session *s, lf_error *err)
{
    bool busy = true;
    for (int i = 0; busy && !lf_request_is_finished(s->request); i++) {
        lf_step_info info = {.size = sizeof info};
        const lf_status status = lf_engine_step(s->engine, &busy, &info, err);
        if (status != LF_OK) return status;
        if (s->trace) app_write_trace(s->trace, i, &info);
    }
    if (s->out_of_memory) return lf_fail_memory(err, "the output", s->transcript.len);
    return lf_request_wait(s->request, err); /* finished: this has the error, if it ended with one */
}

static lf_status tokenize(const session *s, const lf_bytes *text, bool is_prompt, int32_t **ids,
                          size_t *n_ids, lf_error *err)
{
    const run_options *o = s->options;
    if (is_prompt && o->chat)
        return lf_chat_tokenize(s->engine, text->data ? text->data : "", text->len, ids, n_ids, err);
    return lf_tokenize(s->engine, text->data ? text->data : "", text->len, is_prompt && !o->no_bos,
                       is_prompt && o->request.params.special, ids, n_ids, err);
}

static lf_status generate(session *s, lf_error *err)
{
    lf_status status = LF_OK;
    int32_t *ids = NULL, *prediction = NULL;
    lf_bytes predicted = {0};
    const run_options *o = s->options;
    lf_request_params params = o->request.params;
    app_progress_start(&s->prefill, "reading the prompt", o->engine.quiet);
    lf_request_free(s->request);
    s->request = NULL;
    s->log.n = 0;
    LF_TRY(tokenize(s, &s->transcript, true, &ids, &params.n_ids, err));
    if (o->prediction_path) {
        LF_TRY(app_read_text(&predicted, o->prediction_path, err));
        LF_TRY(tokenize(s, &predicted, false, &prediction, &params.n_prediction, err));
    }
    params.ids = ids;
    params.prediction = prediction;
    params.on_token = on_token;
    params.on_prefill = on_prefill;
    params.cookie = s;
    LF_TRY(lf_request_submit(&s->request, s->engine, &params, err));
    LF_TRY(run_passes(s, err));
done:
    app_progress_clear(&s->prefill);
    lf_bytes_free(&predicted);
    free(prediction);
    free(ids);
    return status;
}

static double per_second(int n, double seconds)
{
    return seconds > 0 ? n / seconds : 0.0;
}

static void print_timings(const session *s)
{
    lf_request_result r = {.size = sizeof r};
    lf_engine_info info = {.size = sizeof info};
    lf_request_get_result(s->request, &r);
    lf_engine_get_info(s->engine, &info);
    (void)fprintf(stderr, "\nload   %8.2f s   %s, %s kernels, %d threads\n", info.load_seconds, info.arch,
                  info.kernels, info.n_threads);
    if (info.draft_window > 0)
        (void)fprintf(stderr, "draft  %8.1f MiB a smaller model that sees %d positions, with its cache\n",
                      (double)info.draft_bytes / 0x1p20, info.draft_window);
    (void)fprintf(stderr, "prompt %8.2f s   %d tokens, %d from the cache, %.1f tokens/s\n", r.prefill_seconds,
                  r.prompt_tokens, r.cached_tokens,
                  per_second(r.prompt_tokens - r.cached_tokens, r.prefill_seconds));
    (void)fprintf(stderr, "output %8.2f s   %d tokens, %.1f tokens/s, finish: %s\n", r.decode_seconds,
                  r.output_tokens, per_second(r.output_tokens, r.decode_seconds), lf_finish_name(r.finish));
    if (r.proposed > 0)
        (void)fprintf(stderr, "passes %8d     %.2f tokens per pass; %d of %d guesses accepted (%s)\n",
                      r.passes, (double)r.output_tokens / r.passes, r.accepted, r.proposed,
                      s->options->request.params.proposer);
    if (r.draft_passes > 0) (void)fprintf(stderr, "drafts %8d     passes\n", r.draft_passes);
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
    s->shows_prompt = !o->hide_prompt && !o->interactive && !o->chat && s->transcript.len > 0;
    do {
        if (generate(s, err) != LF_OK) return app_fail(err);
        show_prompt(s);                        /* with nothing to generate it was not read */
        if (ferror(s->text)) return EXIT_FAIL; /* main says why */
        if (json)
            code = app_write_json(json, o->json_path,
                                  app_result_json(s->request, &o->request.params, &s->log));
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
    lf_status status = tokenize(s, &s->transcript, true, &ids, &n_ids, err);
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

/* The prompt by the chat template. */
static lf_status render_chat(lf_bytes *prompt, const run_options *o, const lf_engine *engine, lf_error *err)
{
    lf_bytes text = {0};
    const lf_status status = o->messages_path ? app_chat_file(&text, engine, o->messages_path, err)
                                              : app_chat_message(&text, engine, prompt, err);
    lf_bytes_free(prompt);
    *prompt = text;
    return status;
}

static int run_single(const run_options *o, lf_engine *engine, lf_bytes *prompt, FILE *trace, lf_error *err)
{
    session s = {.options = o, .engine = engine, .transcript = *prompt, .text = stdout, .trace = trace};
    FILE *json = NULL;
    int code;
    *prompt = (lf_bytes){0};
    if (o->json_path) {
        json = app_open_json(o->json_path);
        if (json == stdout) s.text = stderr;
    }
    if (o->json_path && !json)
        code = EXIT_FAIL;
    else if (o->dump_path)
        code = dump_logits(&s, err) == LF_OK ? 0 : app_fail(err);
    else
        code = run_session(&s, json, err);
    lf_request_free(s.request);
    app_free_token_log(&s.log);
    lf_bytes_free(&s.transcript);
    return app_close_json(json, o->json_path, code);
}

static int run_comparison(const run_options *o, lf_engine *engine, const lf_bytes *prompt, FILE *trace)
{
    FILE *json = o->json_path ? app_open_json(o->json_path) : NULL;
    const app_compare compare = {.engine = engine,
                                 .params = &o->request.params,
                                 .prompt = prompt->data ? prompt->data : "",
                                 .prompt_len = prompt->len,
                                 .n_write = o->n_write,
                                 .n_requests = o->engine.params.n_seqs,
                                 .no_bos = o->no_bos,
                                 .quiet = o->engine.quiet,
                                 .text = json == stdout ? stderr : stdout,
                                 .trace = trace,
                                 .json = json,
                                 .json_path = o->json_path};
    if (o->json_path && !json) return EXIT_FAIL;
    return app_close_json(json, o->json_path, app_run_compare(&compare));
}

/* Each prompt by this model and the target. */
static int run_model_comparison(run_options *o, lf_engine *engine)
{
    lf_engine *target = NULL;
    lf_error err = {0};
    app_engine_options other = o->engine;
    FILE *json = o->json_path ? app_open_json(o->json_path) : NULL;
    int code = EXIT_FAIL;
    other.params.model_path = o->target_path;
    if (o->json_path && !json) return EXIT_FAIL;
    if (o->target_path && app_open_engine(&target, &other, &err) != LF_OK)
        (void)app_fail(&err);
    else
        code = app_run_compare_models(&(app_compare_models){.engine = engine,
                                                            .target = target,
                                                            .model_path = o->engine.params.model_path,
                                                            .target_path = o->target_path,
                                                            .params = &o->request.params,
                                                            .prompts_path = o->prompts_path,
                                                            .no_bos = o->no_bos,
                                                            .text = json == stdout ? stderr : stdout,
                                                            .json = json,
                                                            .json_path = o->json_path});
    lf_engine_close(target);
    return app_close_json(json, o->json_path, code);
}

static int run_many(const run_options *o, lf_engine *engine, FILE *trace)
{
    const app_batch batch = {.engine = engine,
                             .defaults = &o->request.params,
                             .input_path = o->prompts_path,
                             .output_path = o->json_path ? o->json_path : "-",
                             .no_bos = o->no_bos,
                             .quiet = o->engine.quiet,
                             .trace = trace};
    return app_run_batch(&batch);
}

static lf_status prepare_proposer(const run_options *o, lf_engine *engine, lf_error *err)
{
    const lf_request_params *p = &o->request.params;
    const bool chooses = strcmp(p->proposer, "auto") == 0 ||
                         (strcmp(p->proposer, "jacobi") == 0 && p->draft_max < 0);
    return chooses && !o->dump_path ? app_prepare_profile(engine, o->engine.quiet, err) : LF_OK;
}

int app_run(int argc, char **argv)
{
    static const struct argp_child children[] = {
        {&app_engine_argp, 0, "Model and machine:", 1}, {&app_request_argp, 0, "Generation:", 2}, {0}};
    static const struct argp argp = {options,  parse_option, NULL, "Generates text from a prompt.",
                                     children, NULL,         NULL};
    run_options o = {0};
    lf_error err = {0};
    lf_engine *engine = NULL;
    lf_bytes prompt = {0}, template = {0};
    FILE *trace = NULL;
    int code;
    lf_engine_params_init(&o.engine.params);
    lf_request_params_init(&o.request.params);
    o.request.params.proposer = "auto";
    o.engine.params.n_seqs = 0;
    app_parse_args(&argp, argc, argv, &o);
    if (o.engine.params.n_seqs == 0)
        o.engine.params.n_seqs = !!o.prompts_path != o.compare ? PARALLEL_DEFAULT : 1;
    app_catch_interrupt();
    if (o.trace_path) trace = app_open_json(o.trace_path);
    if (o.trace_path && !trace) return EXIT_FAIL;
    lf_status status = LF_OK;
    if (!o.prompts_path && !o.messages_path) status = read_prompt(&prompt, &o, &err);
    if (status == LF_OK && o.template_path) status = app_read_template(&template, o.template_path, &err);
    o.engine.params.chat_template = template.data;
    if (status == LF_OK) status = app_open_engine(&engine, &o.engine, &err);
    if (status == LF_OK && o.chat) status = render_chat(&prompt, &o, engine, &err);
    if (status == LF_OK)
        status = app_compile_grammar(&o.request.params.grammar, engine, &o.request.grammar, &err);
    if (status == LF_OK) status = prepare_proposer(&o, engine, &err);
    if (status != LF_OK)
        code = app_fail(&err);
    else if (o.compare && o.prompts_path)
        code = run_model_comparison(&o, engine);
    else if (o.compare)
        code = run_comparison(&o, engine, &prompt, trace);
    else
        code = o.prompts_path ? run_many(&o, engine, trace) : run_single(&o, engine, &prompt, trace, &err);
    lf_grammar_free(o.request.params.grammar);
    lf_engine_close(engine);
    lf_bytes_free(&prompt);
    lf_bytes_free(&template);
    return app_close_json(trace, o.trace_path, code);
}

/* lookfar run --compare --prompts: each prompt answered three ways, by another model plainly (--target), by the model plainly, and by the
 * model with the proposer; what they said, in how many passes and how fast, and whether the last two are the same. One prompt after
 * the other, so that everything is measured alone, and no way first every time. */
#include "app.h"

#include "base/mem.h"
#include "base/status.h"
#include "plot.h"

#include <stdlib.h>
#include <string.h>

enum { TARGET, PLAIN, GUESSING, N_WAYS };

/* One way to answer, and what came of all prompts. */
typedef struct way {
    lf_engine *engine; /* NULL: there is no target */
    const char *model, *proposer;
    lf_request *answer; /* to the prompt at hand */
    double seconds;
    long n_tokens, n_passes;
} way;

typedef struct contest {
    const app_compare_models *options;
    way ways[N_WAYS];
    long n_prompts, n_as_target;
    bool identical; /* PLAIN and GUESSING, so far */
    lf_status status;
    lf_error *err;
    int code; /* what writing came to */
} contest;

static bool same_output(const lf_request *a, const lf_request *b)
{
    size_t n_a, n_b;
    const int32_t *ids_a = lf_request_ids(a, &n_a), *ids_b = lf_request_ids(b, &n_b);
    return n_a == n_b && memcmp(ids_a, ids_b, n_a * sizeof *ids_a) == 0;
}

/* With the end, which takes a pass as any other. */
static int count_tokens(const lf_request_result *r)
{
    return r->output_tokens + (r->finish == LF_FINISH_STOP);
}

/* ---- answering ---- */

static lf_status answer(const contest *c, way *w, const char *prompt, lf_error *err)
{
    lf_status status = LF_OK;
    int32_t *ids = NULL;
    lf_request_params params = *c->options->params;
    lf_request_result r = {.size = sizeof r};
    LF_TRY(lf_tokenize(w->engine, prompt, strlen(prompt), !c->options->no_bos, params.special, &ids,
                       &params.n_ids, err));
    params.ids = ids;
    params.proposer = w->proposer;
    params.no_prefix_cache = true; /* every way reads its prompt */
    LF_TRY(lf_request_submit(&w->answer, w->engine, &params, err));
    LF_TRY(lf_request_wait(w->answer, err));
    lf_request_get_result(w->answer, &r);
    w->seconds += r.prefill_seconds + r.decode_seconds;
    w->n_tokens += count_tokens(&r);
    w->n_passes += r.passes;
done:
    free(ids);
    return status;
}

static void free_answers(contest *c)
{
    for (int i = 0; i < N_WAYS; i++) {
        lf_request_free(c->ways[i].answer);
        c->ways[i].answer = NULL;
    }
}

/* Whatever is done for the first time is done before anything is measured. */
static lf_status warm_up(contest *c, lf_error *err)
{
    lf_status status = LF_OK;
    for (int i = 0; i < N_WAYS && status == LF_OK; i++) {
        way once = c->ways[i];
        if (once.engine) status = answer(c, &once, "a", err);
        lf_request_free(once.answer);
    }
    return status;
}

/* ---- showing ---- */

static void show_answer(FILE *f, const char *name, const way *w)
{
    lf_request_result r = {.size = sizeof r};
    size_t len;
    const char *text = lf_request_text(w->answer, &len);
    lf_request_get_result(w->answer, &r);
    (void)fprintf(f, "  %-7s %.*s\n", name, (int)len, text);
    (void)fprintf(f, "  %-7s %d tokens in %d passes\n", "", count_tokens(&r), r.passes);
}

static void show_answers(const contest *c, const char *question)
{
    FILE *f = c->options->text;
    (void)fprintf(f, "%ld. %s\n", c->n_prompts, question);
    if (c->ways[TARGET].engine) show_answer(f, "target", &c->ways[TARGET]);
    show_answer(f, c->ways[TARGET].engine ? "model" : "", &c->ways[GUESSING]);
    (void)fputc('\n', f);
    (void)fflush(f);
}

static int write_answers(const contest *c, const json_t *line)
{
    const app_compare_models *o = c->options;
    static const char *const names[N_WAYS] = {"target", "plain", "guessing"};
    json_t *object = json_pack("{s:I, s:b}", "index", (json_int_t)c->n_prompts - 1, "identical",
                               (int)same_output(c->ways[PLAIN].answer, c->ways[GUESSING].answer));
    json_t *id = json_object_get(line, "id");
    if (object && id) (void)json_object_set(object, "id", id);
    for (int i = 0; object && i < N_WAYS; i++) {
        lf_request_params params = *o->params;
        params.proposer = c->ways[i].proposer;
        params.logprobs = false;
        if (c->ways[i].engine)
            (void)json_object_set_new(object, names[i],
                                      app_result_json(c->ways[i].answer, &params, &(app_token_log){0}));
    }
    return app_write_json(o->json, o->json_path, object);
}

/* A line of the prompts; false ends the reading. */
static bool take_line(void *cookie, const json_t *line)
{
    contest *c = cookie;
    const char *prompt = json_string_value(json_object_get(line, "prompt")),
               *question = json_string_value(json_object_get(line, "question"));
    if (!prompt) {
        c->status = lf_fail(c->err, LF_EFORMAT, "%s: prompt %ld: expected a string", c->options->prompts_path,
                            c->n_prompts + 1);
        return false;
    }
    for (int i = 0; i < N_WAYS && c->status == LF_OK; i++) {
        way *w = &c->ways[(i + c->n_prompts) % N_WAYS];
        if (w->engine) c->status = answer(c, w, prompt, c->err);
    }
    if (c->status == LF_OK && app_interrupted) c->status = lf_fail(c->err, LF_ECANCELED, "interrupted");
    if (c->status == LF_OK) {
        c->n_prompts++;
        c->identical = c->identical && same_output(c->ways[PLAIN].answer, c->ways[GUESSING].answer);
        c->n_as_target += c->ways[TARGET].engine &&
                          same_output(c->ways[TARGET].answer, c->ways[PLAIN].answer);
        show_answers(c, question ? question : prompt);
        if (c->options->json) c->code = write_answers(c, line);
    }
    free_answers(c);
    return c->status == LF_OK && c->code == 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void show_outcome(const contest *c)
{
    for (const way *w = c->ways; w < c->ways + N_WAYS; w++)
        if (w->engine)
            (void)fprintf(stderr,
                          "%-24s %-8s %6ld tokens %6ld passes  %5.2f tokens per pass  %8.1f tokens/s\n",
                          base_name(w->model), w->proposer, w->n_tokens, w->n_passes,
                          (double)w->n_tokens / (double)w->n_passes, (double)w->n_tokens / w->seconds);
    const way *target = &c->ways[TARGET], *plain = &c->ways[PLAIN], *guessing = &c->ways[GUESSING];
    (void)fprintf(stderr, "speed-up %.2f over its own plain decoding", plain->seconds / guessing->seconds);
    if (target->engine)
        (void)fprintf(stderr, ", %.2f over the target; %ld of %ld outputs are the target's",
                      (double)guessing->n_tokens / guessing->seconds * target->seconds /
                          (double)target->n_tokens,
                      c->n_as_target, c->n_prompts);
    (void)fprintf(stderr, "\nidentical to its own plain output: %s\n", c->identical ? "yes" : "NO");
}

int app_run_compare_models(const app_compare_models *o)
{
    lf_error err = {0};
    contest c = {.options = o,
                 .identical = true,
                 .err = &err,
                 .ways = {[TARGET] = {.engine = o->target, .model = o->target_path, .proposer = "none"},
                          [PLAIN] = {.engine = o->engine, .model = o->model_path, .proposer = "none"},
                          [GUESSING] = {
                              .engine = o->engine, .model = o->model_path, .proposer = o->params->proposer}}};
    c.status = warm_up(&c, &err);
    if (c.status == LF_OK && plot_read_lines(o->prompts_path, take_line, &c) < 0 && c.status == LF_OK &&
        c.code == 0)
        c.code = EXIT_FAIL; /* told */
    if (c.status == LF_OK && c.code == 0 && c.n_prompts == 0)
        c.status = lf_fail(&err, LF_EFORMAT, "%s: found no prompt", o->prompts_path);
    if (c.status != LF_OK) return app_fail(&err);
    if (c.code == 0) show_outcome(&c);
    return c.code != 0 ? c.code : c.identical ? 0 : EXIT_FAIL;
}

#include "jacobi_law.h"

#include "testing.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_REQUESTS = 16, N_PROMPT = 84, N_PREDICT = 40, N_TOP = 2 };

typedef struct output {
    lf_bytes tokens; /* of each its id, log probability and those of the likeliest, as bytes */
    char *text;
    lf_finish finish;
    lf_request_result result;
} output;

/* A way to decode. */
typedef struct way {
    const char *proposer, *drafting;
    int draft_max;
} way;

static bool keep_token(void *cookie, const lf_token *token)
{
    output *o = cookie;
    return token->id < 0 ||
           (lf_bytes_append(&o->tokens, &token->id, sizeof token->id) &&
            lf_bytes_append(&o->tokens, &token->logprob, sizeof token->logprob) &&
            lf_bytes_append(&o->tokens, token->top, (size_t)token->n_top * sizeof *token->top));
}

/* The i-th request: a prompt of few different tokens, so that it is longer than the sparse budget and n-grams find something. */
static lf_request_params request_of(int i, int32_t *ids, int n_vocab, lf_grammar *grammar)
{
    static const char *const stops[] = {"t a", "e"};
    static const lf_bias bias[] = {{5, 1.5f}, {9, -INFINITY}};
    lf_request_params p;
    uint64_t rng = 40 + (uint64_t)i;
    lf_request_params_init(&p);
    for (int k = 0; k < N_PROMPT; k++) ids[k] = 3 + (int32_t)(rng_next(&rng) % (uint64_t)(n_vocab - 3));
    for (int k = N_PROMPT / 2; k < N_PROMPT; k++) ids[k] = ids[k - 7 - i];
    p.ids = ids;
    p.n_ids = N_PROMPT - (size_t)i;
    p.n_predict = N_PREDICT - i % 5;
    p.seed = 7 + (uint64_t)i;
    p.temperature = i % 2 ? 0.4f * (float)(i % 4) : 0.0f;
    p.ignore_eos = i % 3 == 0;
    p.logprobs = i % 4 < 2;
    p.n_top = i % 4 == 1 ? N_TOP : 0;
    p.sparse_budget = 64;
    if (i % 5 == 1) p.repetition_penalty = 1.3f, p.frequency_penalty = 0.2f, p.presence_penalty = 0.1f;
    if (i % 7 == 2) p.top_k = 8, p.top_p = 0.9f, p.min_p = 0.02f;
    if (i % 7 == 3) p.bias = bias, p.n_bias = 2;
    if (i % 8 == 4) p.stop = stops, p.n_stop = 2;
    if (i % 8 == 5) p.grammar = grammar;
    if (p.grammar) p.ignore_eos = false;
    return p;
}

/* Rows that cost next to nothing, so that there are guesses wherever one may be right; and passes that cost far more than any
 * machine takes, so that all corrections are the largest possible and `auto` chooses alike under every load and sanitizer. */
static void set_costs(lf_engine *engine)
{
    lf_engine_info info = {.size = sizeof info};
    lf_bytes text = {0};
    lf_engine_get_info(engine, &info);
    assert_true(lf_bytes_printf(&text, "%s\npass 100 100.1 100.2\nattend 1e-7\n", info.profile_key));
    assert_true(lf_engine_set_profile(engine, text.data));
    lf_bytes_free(&text);
}

static lf_engine *open_engine(const char *path, int n_seqs)
{
    lf_engine_params p;
    lf_engine *engine;
    lf_error err;
    lf_engine_params_init(&p);
    p.model_path = path;
    p.n_threads = 1;
    p.n_seqs = n_seqs;
    p.n_candidates = 16;
    assert_ok(lf_engine_open(&engine, &p, &err), &err);
    set_costs(engine);
    return engine;
}

static void run_all(output outs[N_REQUESTS], lf_engine *engine, const way *w)
{
    static const char pattern[] = "( [a-z]{1,7}){3,6}\\.";
    lf_engine_info info = {.size = sizeof info};
    lf_request *requests[N_REQUESTS];
    lf_grammar *grammar;
    lf_error err;
    lf_engine_get_info(engine, &info);
    assert_ok(lf_grammar_compile(&grammar, engine, LF_GRAMMAR_REGEX, pattern, strlen(pattern), &err), &err);
    for (int i = 0; i < N_REQUESTS; i++) {
        int32_t ids[N_PROMPT];
        lf_request_params p = request_of(i, ids, info.n_vocab, grammar);
        outs[i] = (output){.result.size = sizeof outs[i].result};
        p.proposer = w->proposer;
        p.drafting = w->drafting;
        p.draft_max = w->draft_max;
        p.on_token = keep_token;
        p.cookie = &outs[i];
        assert_ok(lf_request_submit(&requests[i], engine, &p, &err), &err);
    }
    for (int i = 0; i < N_REQUESTS; i++) {
        size_t len;
        assert_ok(lf_request_wait(requests[i], &err), &err);
        lf_request_get_result(requests[i], &outs[i].result);
        const char *text = lf_request_text(requests[i], &len);
        outs[i].text = lf_strndup(text, len);
        lf_request_free(requests[i]);
    }
    lf_grammar_free(grammar);
}

static void free_outputs(output outs[N_REQUESTS])
{
    for (int i = 0; i < N_REQUESTS; i++) {
        lf_bytes_free(&outs[i].tokens);
        free(outs[i].text);
    }
}

static void compare(const output *found, const output *expected, const way *w, int n_seqs, int i)
{
    if (found->tokens.len != expected->tokens.len ||
        (expected->tokens.len > 0 &&
         memcmp(found->tokens.data, expected->tokens.data, expected->tokens.len) != 0) ||
        strcmp(found->text, expected->text) != 0 || found->result.finish != expected->result.finish)
        fail_msg("%s, drafting %s, %d guesses, %d together, request %d: found \"%s\", expected \"%s\"",
                 w->proposer, w->drafting, w->draft_max, n_seqs, i, found->text, expected->text);
}

static void count(law_counts *counts, const output *o, const way *w)
{
    counts->n_outputs++;
    if (strcmp(w->proposer, "jacobi") == 0 && w->draft_max < 0) counts->jacobi += o->result.accepted;
    if (strcmp(w->proposer, "sparse") == 0) counts->drafted += o->result.accepted;
}

static void count_chosen(law_counts *counts, const lf_engine_stats *stats, const lf_engine_stats *before)
{
    for (int p = 0; p < stats->n_proposers; p++) {
        if (strcmp(stats->proposers[p].name, "jacobi") != 0) continue;
        counts->chosen_by_auto += (long)(stats->proposers[p].accepted - before->proposers[p].accepted);
        counts->tried_by_auto += (long)(stats->proposers[p].proposed - before->proposers[p].proposed);
    }
}

law_counts expect_jacobi_law(const char *model_path)
{
    static const way plain = {"none", "single", -1},
                     ways[] = {{"jacobi", "single", 1},  {"jacobi", "single", 4}, {"jacobi", "single", 15},
                               {"jacobi", "single", -1}, {"auto", "single", -1},  {"auto", "single", 3},
                               {"sparse", "jacobi", 6},  {"ngram", "single", -1}};
    static const int batches[] = {1, 3, 16};
    law_counts counts = {0};
    output expected[N_REQUESTS], found[N_REQUESTS];
    lf_engine *engine = open_engine(model_path, 1);
    run_all(expected, engine, &plain);
    lf_engine_close(engine);
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        lf_engine_stats stats = {.size = sizeof stats};
        engine = open_engine(model_path, batches[b]);
        for (size_t k = 0; k < sizeof ways / sizeof *ways; k++) {
            lf_engine_stats before = {.size = sizeof before};
            lf_engine_get_stats(engine, &before);
            run_all(found, engine, &ways[k]);
            lf_engine_get_stats(engine, &stats);
            for (int i = 0; i < N_REQUESTS; i++) {
                compare(&found[i], &expected[i], &ways[k], batches[b], i);
                count(&counts, &found[i], &ways[k]);
            }
            if (strcmp(ways[k].proposer, "auto") == 0) count_chosen(&counts, &stats, &before);
            free_outputs(found);
        }
        lf_engine_close(engine);
    }
    free_outputs(expected);
    return counts;
}

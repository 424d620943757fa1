/* Collecting trajectories: what is recorded against the algorithm in words (every state scored as a whole
 * text), batches against one by one, interruptions against an unbroken collection, filters, augmentation,
 * and what is refused. */
#include "testing.h"

#include "file_tools.h"
#include "oom.h"
#include "base/clock.h"
#include "sample/pick.h"
#include "train/trajectory_count.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_PROMPTS = 23, N_CTX = 96, BLOCK = 6, MAX_TOKENS = 30, IDS_MAX = 128 };

static char *folder;
static char model_path[512], prompts_path[512];

/* ---- a model that has learnt something, and that ends its texts ---- */

/* Three kinds: words in any order, one sentence over and over, one letter over and over. */
static void write_texts(const char *path)
{
    static const char *const words[] = {"the ", "cat ", "sat ", "on ", "a ", "mat ", "and ", "ran ", "far. "};
    uint64_t rng = 1;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 400; i++) {
        const int kind = (int)(rng_next(&rng) % 4);
        for (int n = (kind < 2 ? 5 : 2) + (int)(rng_next(&rng) % 6); n > 0; n--)
            (void)fputs(kind == 0 ? "no. " : kind == 1 ? "q" : words[rng_next(&rng) % 9], f);
        (void)fputs("<|endoftext|>", f);
    }
    assert_int_equal(fclose(f), 0);
}

static void write_prompts(const char *path)
{
    uint64_t rng = 2;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < N_PROMPTS; i++) {
        static const char *const starts[] = {"the cat", "no.", "a mat and", "qq"};
        (void)fprintf(f, "{\"q\": \"%s\", \"n\": \"", starts[i % 4]);
        /* prompt 7 leaves no room for a block, prompt 13 for one only */
        const int n_words = i == 7 ? 60 : i == 13 ? 22 : i % 4 % 2 ? 0 : (int)(rng_next(&rng) % 5);
        for (int k = 0; k < n_words; k++) (void)fputs(rng_next(&rng) % 2 ? " ran" : " sat", f);
        (void)fputs("\"}\n\n", f);
    }
    assert_int_equal(fclose(f), 0);
}

static int make_model(void **state)
{
    (void)state;
    char texts[600], run[600];
    lf_train_params p;
    lf_error err;
    folder = make_temp_dir();
    (void)snprintf(texts, sizeof texts, "%s/texts.txt", folder);
    (void)snprintf(run, sizeof run, "%s/run", folder);
    (void)snprintf(model_path, sizeof model_path, "%.400s/run/model.gguf", folder);
    (void)snprintf(prompts_path, sizeof prompts_path, "%.400s/prompts.jsonl", folder);
    write_texts(texts);
    write_prompts(prompts_path);
    const lf_train_input input = {texts, 1.0};
    lf_train_params_init(&p);
    p.out_dir = run;
    p.shape = (lf_train_shape){.dim = 32, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .ffn_dim = 64};
    p.tokenizer_path = golden_path("token/plain.model");
    p.dtype = LF_DTYPE_F32;
    p.data = &input;
    p.n_data = 1;
    p.context = N_CTX;
    p.batch_tokens = 384;
    p.n_steps = 60;
    p.warmup_steps = 4;
    p.lr = 1e-2;
    p.valid_every = 0;
    p.n_threads = 1;
    assert_ok(lf_train(&p, &err), &err);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    remove_tree(folder);
    free(folder);
    return 0;
}

/* ---- collecting ---- */

static lf_distill_collect_params plan(const char *name)
{
    static char paths[16][512];
    static unsigned next;
    char *path = paths[next++ % 16];
    lf_distill_collect_params p;
    (void)snprintf(path, sizeof paths[0], "%s", in_temp(name));
    lf_distill_collect_params_init(&p);
    p.engine.model_path = model_path;
    p.engine.n_ctx = N_CTX;
    p.engine.n_threads = 1;
    p.prompts_path = prompts_path;
    p.prompt_template = "{q}{n}";
    p.out_path = path;
    p.block = BLOCK;
    p.max_tokens = MAX_TOKENS - 3; /* five blocks all the same */
    p.augment = 0;
    p.repeat_tokens = p.repeat_sentences = 0;
    p.seed = 5;
    return p;
}

static void collect(const lf_distill_collect_params *p)
{
    lf_error err;
    assert_ok(lf_distill_collect(p, &err), &err);
}

/* ---- the algorithm in words ---- */

typedef struct oracle {
    lf_engine *engine;
    lf_picker *picker;
    lf_pick_params pick;
    int n_vocab;
    float *logits; /* (N_CTX, n_vocab) */
} oracle;

static void open_oracle(oracle *o, const lf_distill_collect_params *p)
{
    lf_error err;
    lf_engine_info info = {.size = sizeof info};
    lf_engine_params engine = p->engine;
    *o = (oracle){0};
    assert_ok(lf_engine_open(&o->engine, &engine, &err), &err);
    lf_engine_get_info(o->engine, &info);
    o->n_vocab = info.n_vocab;
    o->logits = malloc((size_t)N_CTX * (size_t)o->n_vocab * sizeof *o->logits);
    assert_non_null(o->logits);
    assert_ok(lf_picker_create(&o->picker, o->n_vocab, &err), &err);
    lf_pick_params_init(&o->pick);
    o->pick.temperature = p->temperature;
    o->pick.top_k = p->top_k;
    o->pick.top_p = p->top_p;
    o->pick.min_p = p->min_p;
}

static void close_oracle(oracle *o)
{
    lf_engine_close(o->engine);
    lf_picker_free(o->picker);
    free(o->logits);
}

/* next (n) = the picks after prefix (n_prefix) and each token of state. */
static void iterate(oracle *o, int32_t *next, const int32_t *prefix, int n_prefix, const int32_t *state,
                    int n)
{
    int32_t ids[IDS_MAX];
    lf_error err;
    memcpy(ids, prefix, (size_t)n_prefix * sizeof *ids);
    memcpy(ids + n_prefix, state, (size_t)n * sizeof *ids);
    assert_ok(lf_score(o->engine, ids, (size_t)(n_prefix + n - 1), o->logits, &err), &err);
    for (int i = 0; i < n; i++) {
        const size_t row = (size_t)(n_prefix + i - 1);
        next[i] = lf_pick(o->picker, o->logits + row * (size_t)o->n_vocab, ids, n_prefix + i, &o->pick);
    }
}

/* The tokens of a state that count: all, or those up to the end of the output, behind which all must be
 * that end. */
static void check_state(const int32_t *found, const int32_t *expected, int n_count, int32_t end)
{
    for (int i = 0; i < BLOCK; i++) assert_int_equal(found[i], i < n_count ? expected[i] : end);
}

/* Every state is what a pass over the one before it says, the last is its own fixed point, and the first
 * is made of tokens of the text before it. Returns the number of states. */
static int check_trajectory(oracle *o, const lf_trajectory *t)
{
    int32_t text[IDS_MAX], state[BLOCK], next[BLOCK];
    const int32_t *found = t->states;
    int n_text = t->n_prompt, n_states = 0;
    memcpy(text, t->prompt, (size_t)t->n_prompt * sizeof *text);
    for (int b = 0; b < t->n_blocks; b++) {
        const int left = t->n_output - b * BLOCK, n_count = left < BLOCK ? left : BLOCK;
        const int32_t *last = found + (t->n_states[b] - 1) * BLOCK;
        for (int i = 0; i < n_count; i++) {
            int k = 0;
            while (k < n_text && text[k] != found[i]) k++;
            assert_true(k < n_text);
        }
        memcpy(state, found, sizeof state);
        for (int j = 1; j < t->n_states[b]; j++) {
            iterate(o, next, text, n_text, state, BLOCK);
            check_state(found + j * BLOCK, next, n_count, last[n_count - 1]);
            assert_memory_not_equal(found + j * BLOCK, found + (j - 1) * BLOCK, sizeof state);
            memcpy(state, next, sizeof state);
        }
        iterate(o, next, text, n_text, last, BLOCK);
        check_state(last, next, n_count, last[n_count - 1]);
        memcpy(text + n_text, last, sizeof state);
        n_text += BLOCK;
        n_states += t->n_states[b];
        found = last + BLOCK;
    }
    return n_states;
}

/* The output is what a request with this prompt and seed says. */
static bool check_output(oracle *o, const lf_trajectory *t, uint64_t seed)
{
    lf_request_params p;
    lf_request *r;
    lf_error err;
    size_t n;
    lf_request_params_init(&p);
    p.ids = t->prompt;
    p.n_ids = (size_t)t->n_prompt;
    p.n_predict = t->n_blocks * t->n;
    p.temperature = o->pick.temperature;
    p.top_k = o->pick.top_k;
    p.top_p = o->pick.top_p;
    p.min_p = o->pick.min_p;
    p.seed = seed;
    assert_ok(lf_request_submit(&r, o->engine, &p, &err), &err);
    assert_ok(lf_request_wait(r, &err), &err);
    const int32_t *ids = lf_request_ids(r, &n), *state = t->states;
    lf_request_result result = {.size = sizeof result};
    lf_request_get_result(r, &result);
    const bool stopped = result.finish == LF_FINISH_STOP;
    assert_int_equal(n + stopped, t->n_output);
    for (int b = 0; b < t->n_blocks; b++) {
        state += (t->n_states[b] - 1) * t->n;
        for (int i = 0; i < t->n && b * t->n + i < (int)n; i++) assert_int_equal(state[i], ids[b * t->n + i]);
        state += t->n;
    }
    lf_request_free(r);
    return stopped;
}

static void check_file(const lf_distill_collect_params *p, int n_stopped_min)
{
    oracle o;
    lf_trajectory_file f;
    lf_error err;
    int n_stopped = 0, n_blocks = 0, n_states = 0, n_passes = 0;
    open_oracle(&o, p);
    assert_ok(lf_trajectory_file_open(&f, p->out_path, &err), &err);
    assert_int_equal(f.n_records, N_PROMPTS);
    assert_int_equal(f.n + f.n_dropped[LF_TRAJECTORY_TOO_LONG] + f.n_dropped[LF_TRAJECTORY_EMPTY], N_PROMPTS);
    assert_int_equal(f.n_dropped[LF_TRAJECTORY_TOO_LONG], 1);
    for (int64_t i = 0; i < f.n; i++) {
        const lf_trajectory t = lf_trajectory_file_get(&f, i);
        const lf_trajectory_note note = lf_trajectory_file_note(&f, i);
        o.pick.seed = p->seed + (uint64_t)note.i_prompt;
        const int n = check_trajectory(&o, &t);
        n_states += n;
        n_blocks += t.n_blocks;
        n_stopped += check_output(&o, &t, o.pick.seed);
        assert_in_range(note.passes, n - t.n_blocks, n);
        assert_int_equal(note.stationary, lf_count_trajectory(&t).stationary);
        n_passes += note.passes;
        assert_true(note.i_prompt != 7);
        if (note.i_prompt == 13) assert_in_range(t.n_blocks, 1, 3);
    }
    /* texts that end and texts that do not, blocks that took a confirming pass and blocks that did not */
    assert_in_range(n_stopped, n_stopped_min, N_PROMPTS - 1);
    assert_true(n_passes > n_states - n_blocks && n_passes < n_states);
    lf_trajectory_file_close(&f);
    close_oracle(&o);
}

static void test_greedy_states(void **state)
{
    (void)state;
    const lf_distill_collect_params p = plan("greedy");
    collect(&p);
    check_file(&p, 0);
}

static void test_sampled_states(void **state)
{
    (void)state;
    lf_distill_collect_params p = plan("sampled");
    p.temperature = 0.9f;
    p.top_k = 20;
    p.top_p = 0.95f;
    p.min_p = 0.01f;
    collect(&p);
    check_file(&p, 4);
}

static void test_ngram_states(void **state)
{
    (void)state;
    lf_distill_collect_params p = plan("ngram");
    p.temperature = 0.7f;
    p.fill = "ngram";
    collect(&p);
    check_file(&p, 4);
}

/* Outputs use the context to its last position: the last token of all needs none. */
static void test_end_of_context(void **state)
{
    (void)state;
    enum { EOS = 2 };
    int n_full = 0;
    for (int n_ctx = N_CTX - BLOCK; n_ctx <= N_CTX; n_ctx++) {
        lf_trajectory_file f;
        lf_error err;
        lf_distill_collect_params p = plan("context");
        p.engine.n_ctx = n_ctx;
        p.max_tokens = N_CTX;
        collect(&p);
        assert_ok(lf_trajectory_file_open(&f, p.out_path, &err), &err);
        for (int64_t i = 0; i < f.n; i++) {
            const lf_trajectory t = lf_trajectory_file_get(&f, i);
            const int32_t *last = t.states - BLOCK;
            for (int b = 0; b < t.n_blocks; b++) last += t.n_states[b] * BLOCK;
            const bool full = t.n_output == (n_ctx + 1 - t.n_prompt) / BLOCK * BLOCK;
            n_full += full;
            assert_true(full || last[(t.n_output - 1) % BLOCK] == EOS);
        }
        lf_trajectory_file_close(&f);
        assert_int_equal(unlink(p.out_path), 0);
    }
    assert_true(n_full > BLOCK);
}

/* ---- batches, interruptions ---- */

static void test_batches_change_nothing(void **state)
{
    (void)state;
    lf_distill_collect_params p = plan("one");
    p.block = 13; /* more candidates than an engine has room for by itself */
    p.temperature = 0.8f;
    p.augment = 0.5f;
    p.repeat_tokens = 4;
    p.n_parallel = 1;
    collect(&p);
    const char *one = p.out_path;
    for (int n = 2; n <= 32; n *= 2) {
        p.out_path = plan("many").out_path;
        p.n_parallel = n;
        p.engine.n_threads = n < 8 ? 1 : 2;
        p.engine.batch_rows = n == 4 ? 7 : 512;
        collect(&p);
        expect_same_file(one, p.out_path);
        assert_int_equal(unlink(p.out_path), 0);
    }
}

typedef struct stopper {
    int64_t stop_at; /* prompts done */
    lf_distill_progress last;
} stopper;

static bool stop_there(void *cookie, const lf_distill_progress *progress)
{
    stopper *s = cookie;
    assert_int_equal(progress->size, sizeof *progress);
    assert_true(progress->n_done >= s->last.n_done && progress->n_done <= progress->n_prompts);
    s->last = *progress;
    return progress->n_done < s->stop_at;
}

static void test_stopped_collections(void **state)
{
    (void)state;
    lf_error err;
    uint64_t rng = 3;
    int n_stops = 0;
    stopper s = {.stop_at = INT64_MAX};
    lf_distill_collect_params p = plan("whole");
    p.augment = 0.5f;
    p.on_progress = stop_there;
    p.cookie = &s;
    collect(&p);
    assert_int_equal(s.last.n_done, N_PROMPTS);
    assert_int_equal(s.last.n_resumed, 0);
    const char *whole = p.out_path;
    p.out_path = plan("pieces").out_path;
    s = (stopper){.stop_at = 1};
    for (;; n_stops++) {
        p.n_parallel = 1 + (int)(rng_next(&rng) % 5);
        const lf_status status = lf_distill_collect(&p, &err);
        if (status == LF_OK) break;
        assert_error(status, LF_ECANCELED, &err, "stopped after");
        /* what a crash might leave of the next record */
        FILE *f = fopen(p.out_path, "a");
        assert_non_null(f);
        (void)fwrite("TRAJ and some more", 1, 1 + rng_next(&rng) % 17, f);
        assert_int_equal(fclose(f), 0);
        s.stop_at = s.last.n_done + 1 + (int64_t)(rng_next(&rng) % 6);
    }
    assert_true(n_stops >= 3);
    assert_true(s.last.n_resumed > 0);
    expect_same_file(whole, p.out_path);
    /* a finished one is left alone */
    collect(&p);
    expect_same_file(whole, p.out_path);
}

/* Killed at random moments, without a chance to close anything, until it is done. */
static void test_killed_collections(void **state)
{
    (void)state;
    uint64_t rng = 4;
    int n_killed = 0;
    lf_distill_collect_params p = plan("unbroken");
    p.augment = 0.5f;
    p.n_parallel = 1;
    const int64_t start = lf_clock_ns();
    collect(&p);
    const uint64_t microseconds = (uint64_t)(lf_clock_ns() - start) / 1000;
    const char *whole = p.out_path;
    p.out_path = plan("killed").out_path;
    for (int i = 0, code; i < 100 && n_killed < 5; i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) _exit(lf_distill_collect(&p, NULL) == LF_OK ? 0 : 1);
        (void)usleep((useconds_t)(rng_next(&rng) % (microseconds + 1)));
        (void)kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &code, 0), child);
        assert_true(code == 0 || (WIFSIGNALED(code) && WTERMSIG(code) == SIGKILL));
        n_killed += code != 0;
        if (code != 0) continue;
        expect_same_file(whole, p.out_path);
        assert_int_equal(unlink(p.out_path), 0);
    }
    assert_int_equal(n_killed, 5);
    collect(&p);
    expect_same_file(whole, p.out_path);
}

/* ---- filters and augmentation ---- */

/* The text of the output up to its end. */
static char *output_text(lf_engine *engine, int32_t *ids, const lf_trajectory *t)
{
    const int32_t *state = t->states;
    char *text;
    size_t len;
    lf_error err;
    for (int b = 0; b < t->n_blocks; b++) {
        state += (t->n_states[b] - 1) * t->n;
        memcpy(ids + b * t->n, state, (size_t)t->n * sizeof *ids);
        state += t->n;
    }
    assert_ok(lf_detokenize(engine, ids, (size_t)t->n_output, false, &text, &len, &err), &err);
    return text;
}

static void test_filters_and_augmentation(void **state)
{
    (void)state;
    enum { TOKENS = 3, SENTENCES = 2 };
    oracle o;
    lf_trajectory_file raw, f;
    lf_error err;
    int64_t n = 0;
    int n_token = 0, n_sentence = 0, n_set = 0;
    lf_distill_collect_params p = plan("raw");
    p.temperature = 0.8f;
    collect(&p);
    assert_ok(lf_trajectory_file_open(&raw, p.out_path, &err), &err);
    p.out_path = plan("filtered").out_path;
    p.repeat_tokens = TOKENS;
    p.repeat_sentences = SENTENCES;
    p.augment = 0.5f;
    collect(&p);
    assert_ok(lf_trajectory_file_open(&f, p.out_path, &err), &err);
    open_oracle(&o, &p);
    for (int64_t i = 0; i < raw.n; i++) {
        int32_t ids[IDS_MAX];
        const lf_trajectory t = lf_trajectory_file_get(&raw, i);
        const lf_trajectory_note note = lf_trajectory_file_note(&raw, i);
        char *text = output_text(o.engine, ids, &t);
        const bool token = lf_repeats_token(ids, t.n_output, TOKENS),
                   sentence = lf_repeats_sentence(text, strlen(text), SENTENCES);
        free(text);
        n_token += token;
        n_sentence += !token && sentence;
        if (token || sentence) continue;
        const lf_trajectory kept = lf_trajectory_file_get(&f, n);
        const lf_trajectory_note kept_note = lf_trajectory_file_note(&f, n++);
        assert_memory_equal(&kept_note, &note, sizeof note); /* counted before */
        int n_states = 0;
        for (int b = 0; b < t.n_blocks; b++) n_states += t.n_states[b];
        int32_t *expected = malloc((size_t)(n_states * BLOCK) * sizeof *expected);
        assert_non_null(expected);
        memcpy(expected, t.states, (size_t)(n_states * BLOCK) * sizeof *expected);
        lf_trajectory_augment(expected, &t, 0.5f, p.seed + (uint64_t)note.i_prompt);
        for (int k = 0; k < n_states * BLOCK; k++) n_set += expected[k] != t.states[k];
        assert_memory_equal(kept.states, expected, (size_t)(n_states * BLOCK) * sizeof *expected);
        free(expected);
    }
    assert_int_equal(f.n, n);
    assert_int_equal(f.n_dropped[LF_TRAJECTORY_REPEATS_TOKEN], n_token);
    assert_int_equal(f.n_dropped[LF_TRAJECTORY_REPEATS_SENTENCE], n_sentence);
    assert_true(n_token > 0 && n_sentence > 0 && n > 0 && n_set > 0);
    lf_trajectory_file_close(&raw);
    lf_trajectory_file_close(&f);
    close_oracle(&o);
}

/* ---- what is said of a file ---- */

static json_t *inspect(const char *path, int64_t i_record)
{
    char *text;
    lf_error err;
    assert_ok(lf_distill_inspect(path, i_record, &text, &err), &err);
    json_t *object = json_loads(text, 0, NULL);
    assert_non_null(object);
    free(text);
    return object;
}

static json_int_t int_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static double real_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_real(value));
    return json_real_value(value);
}

static void expect_close(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-8 * fabs(expected)))
        fail_msg("found %g, expected %g", found, expected);
}

static void test_inspection(void **state)
{
    (void)state;
    lf_trajectory_file f;
    lf_error err;
    int64_t n_blocks = 0, n_states = 0, n_output = 0, n_passes = 0;
    double fast_forwarded = 0;
    char *text;
    lf_distill_collect_params p = plan("file");
    p.n_prompts = 9;
    collect(&p);
    assert_ok(lf_trajectory_file_open(&f, p.out_path, &err), &err);
    for (int64_t i = 0; i < f.n; i++) {
        const lf_trajectory t = lf_trajectory_file_get(&f, i);
        json_t *record = inspect(p.out_path, i), *blocks = json_object_get(record, "blocks");
        const int32_t *id = t.states;
        assert_int_equal(json_array_size(json_object_get(record, "prompt")), t.n_prompt);
        assert_int_equal(json_array_size(blocks), t.n_blocks);
        for (int b = 0; b < t.n_blocks; b++) {
            const json_t *states = json_array_get(blocks, (size_t)b);
            assert_int_equal(json_array_size(states), t.n_states[b]);
            for (int k = 0; k < t.n_states[b] * BLOCK; k++)
                assert_int_equal(json_integer_value(json_array_get(
                                     json_array_get(states, (size_t)(k / BLOCK)), (size_t)(k % BLOCK))),
                                 *id++);
            n_states += t.n_states[b];
        }
        n_blocks += t.n_blocks;
        n_output += t.n_output;
        n_passes += lf_trajectory_file_note(&f, i).passes;
        fast_forwarded += lf_trajectory_file_note(&f, i).fast_forwarded;
        json_decref(record);
    }
    json_t *all = inspect(p.out_path, -1);
    assert_int_equal(int_of(all, "prompts"), 9);
    assert_true(json_is_true(json_object_get(all, "complete")));
    assert_int_equal(int_of(json_object_get(all, "dropped"), "too_long"), 1);
    assert_int_equal(int_of(all, "trajectories"), f.n);
    assert_int_equal(int_of(all, "blocks"), n_blocks);
    assert_int_equal(int_of(all, "states"), n_states);
    assert_int_equal(int_of(all, "output_tokens"), n_output);
    assert_int_equal(int_of(all, "passes"), n_passes);
    expect_close(real_of(all, "tokens_per_pass"), (double)n_output / (double)n_passes);
    expect_close(real_of(all, "fast_forwarded"), fast_forwarded / (double)f.n);
    json_decref(all);
    assert_error(lf_distill_inspect(p.out_path, f.n, &text, &err), LF_EINVAL, &err, "counted from 0");
    assert_error(lf_distill_inspect(prompts_path, -1, &text, &err), LF_EFORMAT, &err, "magic");
    lf_trajectory_file_close(&f);
}

/* ---- no memory ---- */

static lf_status collect_again(void *params, lf_error *err)
{
    return lf_distill_collect(params, err);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    bool some_failed = true;
    oom_require();
    lf_distill_collect_params p = plan("oom");
    p.n_prompts = 3;
    p.fill = "ngram";
    p.augment = 0.5f;
    p.repeat_sentences = 9;
    collect(&p); /* so that the file is there, and what is allocated once */
    for (long n = 1; some_failed; n += 1 + n / 40) {
        lf_status status;
        size_t size;
        assert_int_equal(truncate(p.out_path, LF_TRAJECTORY_HEADER), 0);
        some_failed = oom_attempt(&status, n, collect_again, &p);
        free(read_file(p.out_path, &size));
        assert_int_equal(size % 8, 0); /* nothing torn */
    }
}

/* ---- what is refused ---- */

#define EXPECT_REFUSED(change, expected, fragment)                                                           \
    do {                                                                                                     \
        lf_distill_collect_params p = plan("refused");                                                       \
        lf_error err = {0};                                                                                  \
        change;                                                                                              \
        assert_error(lf_distill_collect(&p, &err), expected, &err, fragment);                                \
    } while (0)

static void test_refused(void **state)
{
    (void)state;
    EXPECT_REFUSED(p.size--, LF_EINVAL, "found size");
    EXPECT_REFUSED(p.out_path = NULL, LF_EINVAL, "missing");
    EXPECT_REFUSED(p.block = 1, LF_EINVAL, "found 1, expected 2 to 64");
    EXPECT_REFUSED(p.block = 65, LF_EINVAL, "found 65");
    EXPECT_REFUSED(p.max_tokens = 0, LF_EINVAL, "max_tokens");
    EXPECT_REFUSED(p.n_parallel = 0, LF_EINVAL, "parallel");
    EXPECT_REFUSED(p.fill = "zeros", LF_EINVAL, "found \"zeros\", expected prompt or ngram");
    EXPECT_REFUSED(p.augment = NAN, LF_EINVAL, "augment");
    EXPECT_REFUSED(p.repeat_tokens = -1, LF_EINVAL, "repeat_tokens");
    EXPECT_REFUSED(p.temperature = -1, LF_EINVAL, "temperature");
    EXPECT_REFUSED(p.engine.model_path = "/nowhere.gguf", LF_EIO, "nowhere");
    EXPECT_REFUSED(p.prompts_path = "/nowhere.jsonl", LF_EIO, "nowhere");
    EXPECT_REFUSED(p.prompt_template = "{other}", LF_EFORMAT, "line 1");
    EXPECT_REFUSED(p.out_path = prompts_path, LF_EFORMAT, "magic");
    write_file(in_temp("empty.jsonl"), "\n", 1);
    EXPECT_REFUSED(p.prompts_path = in_temp("empty.jsonl"), LF_EFORMAT, "found no prompt");
    assert_int_equal(count_temp_files(), 1);
    const lf_distill_collect_params first = plan("first");
    collect(&first);
    EXPECT_REFUSED((p.out_path = first.out_path, p.temperature = 0.5f), LF_EINVAL, "temperature");
    EXPECT_REFUSED((p.out_path = first.out_path, p.engine.kv_dtype = LF_DTYPE_F32), LF_EINVAL,
                   "another model");
    EXPECT_REFUSED((p.out_path = first.out_path, p.prompt_template = "{n}{q}"), LF_EINVAL, "another prompts");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_greedy_states, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_sampled_states, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_ngram_states, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_end_of_context, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_batches_change_nothing, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_stopped_collections, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_killed_collections, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_filters_and_augmentation, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_inspection, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_out_of_memory, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_refused, enter_temp, leave_temp),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}

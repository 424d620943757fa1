/* Distillation: a small model, trained here on text with rules, is distilled on its own trajectories and
 * then needs fewer passes for the same prompts; stopped runs end in the bits of unbroken ones; what is
 * worse than before is not kept; what is wrong is said. */
#include "train_run_fixture.h"

#include "jacobi_law.h"

#include "base/mem.h"
#include "train/checkpoint.h"
#include "train/data_hash.h"
#include "train/distill.h"
#include "train/distill_data.h"
#include "train/distill_measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 8, N_PROMPTS = 24 };

static char *shared; /* a folder with what all tests read: the model, a smaller one, trajectories of both */

static const char *in_shared(const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, sizeof paths[0], "%s/%s", shared, name);
    return path;
}

/* ---- what all tests read ---- */

static void write_text(lf_bytes *text, int n_words, uint64_t *seed)
{
    static const char *const words[] = {"the", "cat", "sat", "on", "a", "mat", "and", "ate", "one", "hat"};
    unsigned word = (unsigned)(rng_next(seed) % 10);
    for (int i = 0; i < n_words; i++) {
        assert_true(lf_bytes_printf(text, "%s%c", words[word], i % 9 == 8 ? '.' : ' '));
        word = (3 * word + (rng_next(seed) % 8 == 0)) % 10;
    }
}

static void write_data(void)
{
    lf_bytes text = {0}, prompts = {0};
    uint64_t seed = 1;
    for (int d = 0; d < 60; d++) {
        write_text(&text, 40, &seed);
        assert_true(lf_bytes_printf(&text, "<|endoftext|>"));
    }
    for (int i = 0; i < N_PROMPTS; i++) {
        lf_bytes prompt = {0};
        write_text(&prompt, 3 + i % 5, &seed);
        assert_true(lf_bytes_printf(&prompts, "{\"prompt\": \"%s\"}\n", prompt.data));
        lf_bytes_free(&prompt);
    }
    write_file(in_shared("text.txt"), text.data, text.len);
    write_file(in_shared("prompts.jsonl"), prompts.data, prompts.len);
    lf_bytes_free(&text);
    lf_bytes_free(&prompts);
}

/* shared/NAME/model.gguf, and shared/NAME.traj: its trajectories. */
static void make_model(const char *name, const char *tokenizer, int dim, int n_layers, int64_t n_steps)
{
    lf_error err;
    const lf_train_input data = {in_shared("text.txt"), 1.0};
    char model[64], trajectories[64];
    lf_train_params p;
    lf_distill_collect_params c;
    lf_train_params_init(&p);
    p.out_dir = in_shared(name);
    p.shape = (lf_train_shape){
        .dim = dim, .n_layers = n_layers, .n_heads = 2, .n_kv_heads = 1, .ffn_dim = 2 * dim};
    p.tokenizer_path = golden_path(tokenizer);
    p.dtype = LF_DTYPE_F32;
    p.data = &data;
    p.n_data = 1;
    p.context = 128;
    p.batch_tokens = p.micro_rows = 512;
    p.n_steps = n_steps;
    p.warmup_steps = 4;
    p.lr = 1e-2;
    p.n_threads = 1;
    assert_ok(lf_train(&p, &err), &err);
    (void)snprintf(model, sizeof model, "%s/model.gguf", name);
    (void)snprintf(trajectories, sizeof trajectories, "%s.traj", name);
    lf_distill_collect_params_init(&c);
    c.engine.model_path = in_shared(model);
    c.engine.n_threads = 1;
    c.prompts_path = in_shared("prompts.jsonl");
    c.out_path = in_shared(trajectories);
    c.block = BLOCK;
    c.max_tokens = 40;
    c.repeat_tokens = 0;
    c.repeat_sentences = 0;
    assert_ok(lf_distill_collect(&c, &err), &err);
}

static int open_shared(void **state)
{
    (void)state;
    shared = make_temp_dir();
    write_data();
    make_model("target", "token/plain.model", 64, 2, 150);
    make_model("draft", "token/plain.model", 32, 1, 20);
    make_model("stranger", "token/user.model", 32, 1, 1);
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    remove_tree(shared);
    free(shared);
    return 0;
}

/* ---- runs ---- */

/* A run on the target's trajectories in temp/`folder`, judged on the same ones. */
typedef struct run {
    lf_distill_train_params p;
    lf_distill_train_result result;
    char out_dir[256], model[512], file[512];
    const char *files[1];
    int64_t stop_at; /* the step whose event stops it; -1: none */
    int n_exports;
    lf_train_event first_judged, judged, step; /* the first and the last */
} run;

static bool on_event(void *cookie, const lf_train_event *e)
{
    run *r = cookie;
    if (e->kind == LF_TRAIN_VALIDATION && r->first_judged.size == 0) r->first_judged = *e;
    if (e->kind == LF_TRAIN_VALIDATION) r->judged = *e;
    if (e->kind == LF_TRAIN_STEP) {
        r->step = *e;
        const double ar = r->p.recipe == LF_DISTILL_RKL ? 0.0 : r->p.weight_ar * e->ar_loss;
        assert_true(fabs(e->loss - e->consistency_loss - ar) < 1e-4); /* means over all of the step */
    }
    if (e->kind == LF_TRAIN_EXPORT) r->n_exports++;
    return e->kind != LF_TRAIN_STEP || e->step != r->stop_at;
}

static void plan_run(run *r, const char *folder, lf_distill_recipe recipe)
{
    *r = (run){.stop_at = -1, .result.size = sizeof r->result};
    (void)snprintf(r->out_dir, sizeof r->out_dir, "%s", in_temp(folder));
    (void)snprintf(r->model, sizeof r->model, "%s", in_shared("target/model.gguf"));
    (void)snprintf(r->file, sizeof r->file, "%s", in_shared("target.traj"));
    r->files[0] = r->file;
    lf_distill_train_params_init(&r->p);
    r->p.recipe = recipe;
    r->p.trajectories = r->p.valid = r->files;
    r->p.n_trajectories = r->p.n_valid = 1;
    r->p.window = 4;
    r->p.train.out_dir = r->out_dir;
    r->p.train.model_path = r->model;
    r->p.train.dtype = LF_DTYPE_F32;
    r->p.train.context = 128;
    r->p.train.batch_tokens = 2048;
    r->p.train.micro_rows = 1024;
    r->p.train.n_steps = 120;
    r->p.train.warmup_steps = 4;
    r->p.train.lr = 3e-3;
    r->p.train.valid_every = 30;
    r->p.train.n_threads = 1;
    r->p.train.on_event = on_event;
    r->p.train.cookie = r;
    r->p.measure_prompts = 8;
    r->p.result = &r->result;
}

static void expect_run(run *r)
{
    lf_error err = {0};
    assert_ok(lf_distill_train(&r->p, &err), &err);
    assert_int_equal(r->result.step, r->p.train.n_steps);
}

static void expect_failure(run *r, lf_status expected, const char *fragment)
{
    lf_error err = {0};
    const lf_status found = lf_distill_train(&r->p, &err);
    if (found == expected && strstr(err.text, fragment)) return;
    fail_msg("found %s: \"%s\", expected %s: \"%s\"", lf_status_name(found), err.text,
             lf_status_name(expected), fragment);
}

/* ---- fewer passes ---- */

typedef struct decoded {
    int64_t n_tokens, n_passes;
    lf_ids ids; /* of all outputs */
} decoded;

/* What the engine makes of the prompts. */
static void decode(decoded *out, const char *model, const char *proposer)
{
    lf_error err;
    lf_engine *engine;
    lf_engine_params params;
    lf_trajectory_file f;
    *out = (decoded){0};
    assert_ok(lf_trajectory_file_open(&f, in_shared("target.traj"), &err), &err);
    lf_engine_params_init(&params);
    params.model_path = model;
    params.n_threads = 1;
    assert_ok(lf_engine_open(&engine, &params, &err), &err);
    for (int64_t i = 0; i < f.n; i++) {
        const lf_trajectory t = lf_trajectory_file_get(&f, i);
        lf_request *request;
        lf_request_params rp;
        lf_request_result result = {.size = sizeof result};
        size_t n;
        lf_request_params_init(&rp);
        rp.ids = t.prompt;
        rp.n_ids = (size_t)t.n_prompt;
        rp.n_predict = t.n_blocks * t.n + t.n; /* as a run measures */
        rp.proposer = proposer;
        rp.draft_max = BLOCK - 1;
        rp.no_prefix_cache = true;
        assert_ok(lf_request_submit(&request, engine, &rp, &err), &err);
        assert_ok(lf_request_wait(request, &err), &err);
        lf_request_get_result(request, &result);
        const int32_t *ids = lf_request_ids(request, &n);
        for (size_t k = 0; k < n; k++) assert_true(lf_ids_push(&out->ids, ids[k]));
        out->n_tokens += result.output_tokens;
        out->n_passes += result.passes;
        lf_request_free(request);
    }
    lf_engine_close(engine);
    lf_trajectory_file_close(&f);
}

/* Tokens per pass of a model; and its output is its own plain output. */
static double expect_speed(const char *model)
{
    decoded plain, jacobi;
    decode(&plain, model, "none");
    decode(&jacobi, model, "jacobi");
    assert_int_equal(plain.ids.len, jacobi.ids.len);
    assert_memory_equal(plain.ids.data, jacobi.ids.data, plain.ids.len * sizeof *plain.ids.data);
    const double speed = (double)jacobi.n_tokens / (double)jacobi.n_passes;
    lf_ids_free(&plain.ids);
    lf_ids_free(&jacobi.ids);
    return speed;
}

static void test_fewer_passes(void **state)
{
    (void)state;
    static const struct {
        lf_distill_recipe recipe;
        bool local;
        double synthetic, gain;
    } recipes[] = {{LF_DISTILL_CLLM, false, 0.0, 1.3},
                   {LF_DISTILL_CLLM, true, 0.0, 1.1},
                   {LF_DISTILL_PROGRESSIVE, false, 0.5, 1.3}};
    const double before = expect_speed(in_shared("target/model.gguf"));
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        run r;
        char folder[16], path[512];
        (void)snprintf(folder, sizeof folder, "run%zu", i);
        plan_run(&r, folder, recipes[i].recipe);
        r.p.local = recipes[i].local;
        r.p.synthetic = recipes[i].synthetic;
        r.p.measure_prompts = N_PROMPTS;
        expect_run(&r);
        (void)snprintf(path, sizeof path, "%s/model.gguf", r.out_dir);
        const double after = expect_speed(path);
        if (i == 0) {
            const law_counts law = expect_jacobi_law(path);
            assert_true(law.n_outputs == 384 && law.jacobi > 500 && law.chosen_by_auto > 200 &&
                        law.drafted > 500);
        }
        assert_true(fabs(r.result.start_tokens_per_pass - before) < 1e-5);
        assert_true(fabs(r.result.tokens_per_pass - after) < 1e-5);
        if (!(after > recipes[i].gain * before))
            fail_msg("recipe %zu: found %.2f tokens per pass, before %.2f", i, after, before);
        assert_true(r.judged.consistency_loss < 0.7 * r.first_judged.consistency_loss);
    }
}

/* ---- resuming ---- */

static void expect_same_run(const run *a, const run *b, const char *a_folder, const char *b_folder)
{
    char a_path[512], b_path[512];
    (void)snprintf(a_path, sizeof a_path, "%s/model.gguf", a->out_dir);
    (void)snprintf(b_path, sizeof b_path, "%s/model.gguf", b->out_dir);
    expect_same_file(a_path, b_path);
    expect_same_train_log(a_folder, b_folder);
    assert_memory_equal(&a->result, &b->result, sizeof a->result);
}

/* Stopped at every third step, those with a judgement among them, and at the end the same: weights, log,
 * judgements. */
static void test_stopped_runs(void **state)
{
    (void)state;
    static const lf_distill_recipe recipes[] = {LF_DISTILL_CLLM, LF_DISTILL_PROGRESSIVE, LF_DISTILL_RKL};
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        run whole, pieces;
        char a[32], b[32];
        lf_error err;
        lf_status status;
        (void)snprintf(a, sizeof a, "a%zu/run", i);
        (void)snprintf(b, sizeof b, "b%zu/run", i);
        run *const both[] = {&whole, &pieces};
        for (int k = 0; k < 2; k++) {
            plan_run(both[k], k == 0 ? a : b, recipes[i]);
            both[k]->p.train.n_steps = 13;
            both[k]->p.train.valid_every = 3;
            both[k]->p.collapse_factor = 1e6;
            both[k]->p.train.lora_rank = recipes[i] == LF_DISTILL_PROGRESSIVE ? 4 : 0;
            if (recipes[i] != LF_DISTILL_RKL) continue;
            both[k]->p.teacher_path = in_shared("target/model.gguf");
            (void)snprintf(both[k]->model, sizeof both[k]->model, "%s", in_shared("draft/model.gguf"));
        }
        expect_run(&whole);
        for (pieces.stop_at = 3;; pieces.stop_at += 3) {
            status = lf_distill_train(&pieces.p, &err);
            if (status != LF_ECANCELED) break;
            assert_int_equal(pieces.result.step, pieces.stop_at);
            pieces.p.train.resume = true;
        }
        assert_ok(status, &err);
        assert_int_equal(pieces.stop_at, 15);
        expect_same_run(&whole, &pieces, a, b);
    }
}

/* A rate beyond all measure: the run ends with the step named, and from its checkpoint it goes on as if
 * nothing had been. */
static void test_not_a_number(void **state)
{
    (void)state;
    run whole, broken;
    run *const both[] = {&whole, &broken};
    for (int i = 0; i < 2; i++) {
        plan_run(both[i], i == 0 ? "a/run" : "b/run", LF_DISTILL_CLLM);
        both[i]->p.train.n_steps = 4;
    }
    expect_run(&whole);
    broken.p.train.lr = 1e30;
    broken.p.train.checkpoint_minutes = 0;
    expect_failure(&broken, LF_EDIVERGED, "step 2: found a");
    broken.p.train.lr = whole.p.train.lr;
    broken.p.train.resume = true;
    expect_run(&broken);
    expect_same_run(&whole, &broken, "a/run", "b/run");
}

/* ---- what is kept ---- */

/* The weights that are kept are those of the best judgement, whatever came after it. */
static void test_best_is_kept(void **state)
{
    (void)state;
    run r, again;
    plan_run(&r, "a/run", LF_DISTILL_CLLM);
    r.p.train.n_steps = 12;
    r.p.train.valid_every = 2;
    r.p.train.lr = 0.03; /* too much: it breaks what it has learnt */
    r.p.collapse_factor = 1e6;
    r.p.repeat_bound = 1.0;
    expect_run(&r);
    assert_true(r.judged.ar_loss > r.first_judged.ar_loss + 0.1);
    assert_true(r.result.best_step < 12 && r.result.ar_loss <= r.result.start_ar_loss + 0.1);
    plan_run(&again, "b/run", LF_DISTILL_CLLM); /* the same steps, and none after the best */
    again.p.train.n_steps = r.result.best_step;
    again.p.train.lr = 0.03;
    again.p.train.schedule = LF_TRAIN_CONSTANT;
    if (again.p.train.n_steps == 0) return;
    again.p.train.n_steps = 12;
    again.p.train.valid_every = 2;
    again.stop_at = r.result.best_step;
    again.p.train.schedule = r.p.train.schedule;
    again.p.collapse_factor = 1e6;
    again.p.repeat_bound = 1.0;
    lf_error err;
    assert_int_equal(lf_distill_train(&again.p, &err), LF_ECANCELED);
    again.p.train.resume = again.p.train.export_only = true;
    assert_ok(lf_distill_train(&again.p, &err), &err);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
}

/* The noise of a measurement is the standard error of its ratio, by what each of its prompts says. */
static void test_noise_of_a_measurement(void **state)
{
    (void)state;
    enum { N = 5 };
    lf_error err;
    lf_trajectory_file f;
    lf_trajectory list[N];
    lf_distill_measured all, one[N];
    lf_distill_measure m = {
        .model_path = in_shared("target/model.gguf"), .list = list, .n = N, .n_ctx = 128, .n_threads = 1};
    assert_ok(lf_trajectory_file_open(&f, in_shared("target.traj"), &err), &err);
    for (int i = 0; i < N; i++) list[i] = lf_trajectory_file_get(&f, i);
    assert_ok(lf_distill_measure_run(&all, &m, &err), &err);
    const double ratio = (double)all.n_tokens / (double)all.n_passes;
    double squares = 0.0;
    m.n = 1;
    for (int i = 0; i < N; i++, m.list++) {
        assert_ok(lf_distill_measure_run(&one[i], &m, &err), &err);
        assert_true(one[i].noise == 0.0);
        squares += pow((double)one[i].n_tokens - ratio * (double)one[i].n_passes, 2.0);
    }
    assert_true(all.noise > 0.0);
    assert_true(fabs(all.noise - sqrt(squares * N / (N - 1)) / (double)all.n_passes) < 1e-9);
    lf_trajectory_file_close(&f);
}

/* What is kept of judgements that some prompts made, tokens per pass with their noise, and losses: the numbers of a real run. */
static void test_noise_does_not_choose(void **state)
{
    (void)state;
    static const struct {
        float speed, noise, loss;
        bool keeps;
    } judged[] = {
        {2.56f, 0.15f, 0.943f, true},  {2.24f, 0.15f, 1.237f, false}, {2.58f, 0.15f, 1.124f, false},
        {2.77f, 0.17f, 0.951f, true},  {2.91f, 0.17f, 0.905f, true},  {2.75f, 0.17f, 0.881f, true},
        {2.74f, 0.17f, 0.871f, true},  {2.73f, 0.17f, 0.860f, false}, /* a step down from the most, not from the last */
        {2.80f, 0.17f, 0.900f, false}, {2.95f, 0.17f, 0.950f, true}};
    float memory[LF_JUDGED_N] = {[LF_JUDGED_STEP] = -1.0f};
    for (size_t i = 0; i < sizeof judged / sizeof *judged; i++) {
        assert_int_equal(lf_distill_keeps(memory, judged[i].speed, judged[i].noise, judged[i].loss),
                         judged[i].keeps);
        memory[LF_JUDGED_STEP] = (float)i;
    }
    assert_true(memory[LF_JUDGED_TOP_SCORE] == 2.95f && memory[LF_JUDGED_BEST_LOSS] == 0.95f);
}

/* A run that ruins the model ends early, leaves the model as it was, and is over when it is resumed. */
static void test_collapse(void **state)
{
    (void)state;
    lf_error err;
    run r;
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.weight_ar = 0.0;
    r.p.train.lr = 0.1;
    r.p.train.valid_every = 5;
    assert_ok(lf_distill_train(&r.p, &err), &err);
    assert_true(r.result.collapsed && r.result.step < r.p.train.n_steps);
    assert_int_equal(r.result.best_step, 0);
    assert_true(expect_speed(in_temp("run/model.gguf")) == expect_speed(in_shared("target/model.gguf")));
    const int64_t step = r.result.step;
    r.p.train.resume = true;
    assert_ok(lf_distill_train(&r.p, &err), &err);
    assert_true(r.result.collapsed && r.result.step == step);
}

/* Without anything held out there is no judgement, and the last weights are kept. */
static void test_unjudged(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.n_valid = 0;
    r.p.train.n_steps = 3;
    expect_run(&r);
    assert_int_equal(r.judged.size, 0);
    assert_int_equal(r.n_exports, 1);
    assert_true(r.result.tokens_per_pass == 0.0 && access(in_temp("run/model.gguf"), F_OK) == 0);
}

/* A draft comes nearer to its teacher on the draft's own outputs. */
static void test_reverse_kl(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "run", LF_DISTILL_RKL);
    (void)snprintf(r.model, sizeof r.model, "%s", in_shared("draft/model.gguf"));
    (void)snprintf(r.file, sizeof r.file, "%s", in_shared("draft.traj"));
    r.p.teacher_path = in_shared("target/model.gguf");
    expect_run(&r);
    assert_true(r.judged.loss < 0.5 * r.first_judged.loss);
    assert_true(r.judged.loss == r.judged.consistency_loss);
}

/* Held out by prompt: one share trains, the other validates, and every run has the same. */
static void test_hold_out(void **state)
{
    (void)state;
    run r, other;
    for (int i = 0; i < 2; i++) {
        run *at = i ? &other : &r;
        plan_run(at, i ? "b/run" : "a/run", LF_DISTILL_AR);
        at->p.n_valid = 0;
        at->p.train.hold_out = 0.4;
        at->p.train.seed = (uint64_t)i;
        at->p.train.n_steps = 10;
        expect_run(at);
    }
    assert_true(r.first_judged.loss == other.first_judged.loss && r.judged.loss != other.judged.loss);
    assert_true(r.first_judged.consistency_loss == 0.0 && r.first_judged.loss == r.first_judged.ar_loss);
    r.p.train.resume = true;
    r.p.train.hold_out = 0.3;
    expect_failure(&r, LF_EINVAL, "held-out share");
    r.p.train.hold_out = 0.4;
    (void)snprintf(r.file, sizeof r.file, "%s", in_shared("draft.traj"));
    expect_failure(&r, LF_EINVAL, "trajectories");
}

/* All trajectories of a prompt are on one side. */
static void test_hold_out_by_prompt(void **state)
{
    (void)state;
    lf_error err;
    lf_pack pack;
    lf_distill_data d;
    lf_tokenizer *tokenizer;
    const lf_pack_options options = {.recipe = LF_DISTILL_CLLM, .context = 128};
    char files[2][512];
    const char *const paths[] = {files[0], files[1]};
    lf_distill_train_params p;
    (void)snprintf(files[0], sizeof files[0], "%s", in_shared("target.traj"));
    (void)snprintf(files[1], sizeof files[1], "%s", in_shared("draft.traj"));
    lf_distill_train_params_init(&p);
    p.trajectories = paths;
    p.n_trajectories = 2;
    p.train.hold_out = 0.4;
    assert_ok(lf_pack_create(&pack, 1024, &options, &err), &err);
    assert_ok(lf_tokenizer_from_file(&tokenizer, golden_path("token/plain.model"), &err), &err);
    assert_ok(lf_distill_data_open(&d, &p, tokenizer, &pack, &err), &err);
    assert_true(d.train.n > N_PROMPTS / 2 && d.held_out.n > N_PROMPTS / 2);
    for (int64_t i = 0; i < d.train.n; i++) {
        const lf_trajectory a = lf_distill_data_get(&d, d.train.items[i]);
        for (int64_t k = 0; k < d.held_out.n; k++) {
            const lf_trajectory b = lf_distill_data_get(&d, d.held_out.items[k]);
            assert_false(a.n_prompt == b.n_prompt &&
                         memcmp(a.prompt, b.prompt, (size_t)a.n_prompt * sizeof *a.prompt) == 0);
        }
    }
    lf_distill_data_close(&d);
    lf_tokenizer_free(tokenizer);
    lf_pack_free(&pack);
}

/* With ground truth the autoregressive loss is that of the texts: a model that was hardly trained learns
 * them, and not its own outputs. Resumed, it reads on where it was. */
static void test_labels(void **state)
{
    (void)state;
    lf_error err;
    char path[512];
    (void)snprintf(path, sizeof path, "%s", in_shared("text.txt"));
    const lf_train_input text = {path, 1.0};
    run whole, pieces;
    run *const both[] = {&whole, &pieces};
    for (int i = 0; i < 2; i++) {
        plan_run(both[i], i ? "b/run" : "a/run", LF_DISTILL_CLLM);
        (void)snprintf(both[i]->model, sizeof both[i]->model, "%s", in_shared("draft/model.gguf"));
        (void)snprintf(both[i]->file, sizeof both[i]->file, "%s", in_shared("draft.traj"));
        both[i]->p.train.data = &text;
        both[i]->p.train.n_data = 1;
        both[i]->p.train.n_steps = 40;
        both[i]->p.collapse_factor = 1e6;
    }
    expect_run(&whole);
    assert_true(whole.step.ar_loss < 1.4 && whole.judged.ar_loss > whole.first_judged.ar_loss);
    pieces.stop_at = 17;
    assert_int_equal(lf_distill_train(&pieces.p, &err), LF_ECANCELED);
    pieces.p.train.resume = true;
    expect_run(&pieces);
    expect_same_run(&whole, &pieces, "a/run", "b/run");
    plan_run(&pieces, "c/run", LF_DISTILL_RKL);
    pieces.p.teacher_path = in_shared("target/model.gguf");
    pieces.p.train.data = &text;
    pieces.p.train.n_data = 1;
    expect_failure(&pieces, LF_EINVAL, "no labels");
}

/* ---- what is wrong ---- */

static void test_refusals(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.size--;
    expect_failure(&r, LF_EINVAL, "size");
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.result.size--;
    expect_failure(&r, LF_EINVAL, "result");
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.n_trajectories = 0;
    expect_failure(&r, LF_EINVAL, "no trajectories");
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.train.hold_out = 0.1;
    expect_failure(&r, LF_EINVAL, "hold_out");
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.train.model_path = NULL;
    expect_failure(&r, LF_EINVAL, "model_path");
    plan_run(&r, "run", LF_DISTILL_RKL);
    expect_failure(&r, LF_EINVAL, "teacher");
    plan_run(&r, "run", LF_DISTILL_PROGRESSIVE);
    r.p.local = true;
    expect_failure(&r, LF_EINVAL, "local");
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.window = 1;
    expect_failure(&r, LF_EINVAL, "window: found 1, expected 2 to 1024");
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.synthetic = -0.1;
    expect_failure(&r, LF_EINVAL, "synthetic");
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.train.lr = -1.0;
    expect_failure(&r, LF_EINVAL, "lr");
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.train.context = BLOCK;
    expect_failure(&r, LF_EINVAL, "too long for context 8");
    plan_run(&r, "run", LF_DISTILL_CLLM);
    (void)snprintf(r.file, sizeof r.file, "%s", in_shared("text.txt"));
    expect_failure(&r, LF_EFORMAT, "text.txt");
}

/* Trajectories of another tokenizer, and a teacher with one. */
static void test_other_tokenizer(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "run", LF_DISTILL_CLLM);
    (void)snprintf(r.model, sizeof r.model, "%s", in_shared("stranger/model.gguf"));
    expect_failure(&r, LF_EINVAL, "another tokenizer");
    plan_run(&r, "run", LF_DISTILL_RKL);
    r.p.teacher_path = in_shared("stranger/model.gguf");
    expect_failure(&r, LF_EINVAL, "another tokenizer");
}

/* A run goes on with the recipe that it began with. */
static void test_identity(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.train.n_steps = 2;
    expect_run(&r);
    expect_failure(&r, LF_EINVAL, "resume it");
    r.p.train.resume = true;
    r.p.recipe = LF_DISTILL_PROGRESSIVE;
    expect_failure(&r, LF_EINVAL, "recipe");
    r.p.recipe = LF_DISTILL_CLLM;
    r.p.weight_ar = 3.0;
    expect_failure(&r, LF_EINVAL, "weight");
    r.p.weight_ar = 1.0;
    r.p.train.n_steps = 4;
    expect_run(&r);
}

/* Judgements that no run can have are refused, though the checksums of their checkpoint hold. */
static void test_hostile_memory(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "run", LF_DISTILL_CLLM);
    r.p.train.n_steps = 2;
    expect_run(&r);
    r.p.train.resume = true;
    size_t size;
    char *data = read_file(in_temp("run/checkpoint"), &size);
    const float bad[] = {1e30f, -5.0f, (float)0x7fffffff};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        lf_data_hash body = {0}, head = {0};
        memcpy(data + size - 48, &bad[i], sizeof bad[i]); /* 11 floats and 4 bytes of padding are the last */
        lf_data_hash_add(&body, data + LF_CHECKPOINT_HEADER, size - LF_CHECKPOINT_HEADER);
        const uint64_t body_hash = lf_data_hash_value(&body);
        memcpy(data + 24, &body_hash, sizeof body_hash);
        lf_data_hash_add(&head, data, LF_CHECKPOINT_HEADER - 8);
        const uint64_t head_hash = lf_data_hash_value(&head);
        memcpy(data + LF_CHECKPOINT_HEADER - 8, &head_hash, sizeof head_hash);
        write_file(in_temp("run/checkpoint"), data, size);
        expect_failure(&r, LF_EFORMAT, "judgements");
    }
    free(data);
}

static void test_repeated(void **state)
{
    (void)state;
    const int32_t same[] = {5, 5, 5, 5, 5, 5, 5}, cycle[] = {1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2};
    const int32_t fresh[] = {1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 4};
    assert_int_equal(lf_distill_count_repeated(same, 7), 3);
    assert_int_equal(lf_distill_count_repeated(same, 4), 0);
    assert_int_equal(lf_distill_count_repeated(cycle, 12), 4);
    assert_int_equal(lf_distill_count_repeated(fresh, 11), 0);
    assert_int_equal(lf_distill_count_repeated(fresh, 0), 0);
}

/* ---- the command ---- */

/* Runs the program with these arguments; its exit status. What it says on standard error is in temp/err. */
static int run_command(const char *args)
{
    char line[4096];
    (void)snprintf(line, sizeof line, "'%s' %s > /dev/null 2> '%s'", require_program(), args, in_temp("err"));
    const int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_command(int code, const char *fragment, const char *args)
{
    const int found = run_command(args);
    char *said = read_file(in_temp("err"), NULL);
    if (found != code || !strstr(said, fragment))
        fail_msg("%s: found exit status %d: %s, expected %d: %s", args, found, said, code, fragment);
    free(said);
}

static void test_usage(void **state)
{
    (void)state;
    (void)require_program();
    expect_command(2, "-o DIR", "distill train");
    expect_command(2, "--trajectories FILE", "distill train -o x");
    expect_command(2, "-m PATH", "distill train -o x --trajectories y");
    expect_command(2, "expected cllm, progressive, ar or rkl", "distill train -o x --recipe best");
    expect_command(2, "--window: found \"1\"", "distill train -o x --window 1");
    expect_command(2, "--synthetic", "distill train -o x --synthetic 1.5");
    expect_command(2, "found argument \"more\"", "distill train more");
    expect_command(1, "options.json", "distill train -o /dev/null/x --resume");
    expect_command(2, "-m PATH", "distill run -o x --prompts y");
    expect_command(2, "--prompts FILE", "distill run -o x -m y");
    expect_command(2, "-o DIR", "distill run -m x --prompts y");
    expect_command(2, "--resume", "distill run -m x --prompts y -o z --resume");
    expect_command(2, "--blocks: found \"65\"", "distill run -m x --prompts y -o z --blocks 16,65");
    expect_command(1, "cannot make this folder", "distill run -m x --prompts y -o /dev/null/z");
}

/* A run by command, whose folder keeps the options, and which says what came of it. */
static void test_train_command(void **state)
{
    (void)state;
    char args[2048];
    (void)require_program();
    (void)snprintf(args, sizeof args,
                   "distill train -m '%s' --trajectories '%s' -o '%s' --hold-out 0.3 --steps 3 --batch 512 "
                   "--micro 512 --context 128 -t 1",
                   in_shared("target/model.gguf"), in_shared("target.traj"), in_temp("run"));
    expect_command(0, "tokens per pass", args);
    (void)snprintf(args, sizeof args, "distill train -o '%s' --resume --steps 5", in_temp("run"));
    expect_command(0, "of 5", args);
    char *log = read_file(in_temp("run/log.jsonl"), NULL);
    assert_non_null(strstr(log, "{\"step\":5,"));
    free(log);
}

/* Two rounds, the second with longer blocks on what the first made; the same command once more does nothing. */
static void test_rounds(void **state)
{
    (void)state;
    char args[2048];
    (void)require_program();
    (void)snprintf(args, sizeof args,
                   "distill run -m '%s' --prompts '%s' -o '%s' --blocks 4,8 --max-tokens 24 --hold-out 0.3 "
                   "--steps 4 --batch 512 --micro 512 --context 128 -t 1",
                   in_shared("target/model.gguf"), in_shared("prompts.jsonl"), in_temp("run"));
    expect_command(0, "round 2 of 2, blocks of 8", args);
    size_t size, log_size, again_size;
    char *model = read_file(in_temp("run/model.gguf"), &size);
    char *log = read_file(in_temp("run/round-2/log.jsonl"), &log_size);
    expect_same_file(in_temp("run/model.gguf"), in_temp("run/round-2/model.gguf"));
    expect_command(0, "round 2 of 2", args);
    char *again = read_file(in_temp("run/round-2/log.jsonl"), &again_size);
    assert_true(again_size == log_size && memcmp(log, again, log_size) == 0);
    write_file(in_temp("first.gguf"), model, size);
    expect_same_file(in_temp("run/model.gguf"), in_temp("first.gguf"));
    free(again);
    free(log);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fewer_passes, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_stopped_runs, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_not_a_number, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_best_is_kept, enter_temp, leave_temp),
        cmocka_unit_test(test_noise_of_a_measurement),
        cmocka_unit_test(test_noise_does_not_choose),
        cmocka_unit_test_setup_teardown(test_collapse, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_unjudged, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_reverse_kl, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_hold_out, enter_temp, leave_temp),
        cmocka_unit_test(test_hold_out_by_prompt),
        cmocka_unit_test_setup_teardown(test_labels, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_refusals, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_other_tokenizer, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_identity, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_hostile_memory, enter_temp, leave_temp),
        cmocka_unit_test(test_repeated),
        cmocka_unit_test_setup_teardown(test_usage, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_train_command, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_rounds, enter_temp, leave_temp),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}

/* Training runs, by calls of lf_train: stopped, they end in the same weights as an unbroken run, bit for
 * bit; what goes wrong is said and nothing is lost; and what comes out is a model that the engine runs.
 * The same by the command: test_train_cli. */
#include "train_run_fixture.h"

#include "oom.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* ---- stopped and resumed ---- */

/* Stops at random steps and goes on, until the run is at its end. */
static void run_in_pieces(train_run *r, uint64_t seed)
{
    lf_error err;
    int n_stops = 0;
    for (;;) {
        const int64_t next = r->result.step + 1 + (int64_t)(rng_next(&seed) % 6);
        r->stop_at = next;
        const lf_status status = lf_train(&r->params, &err);
        if (status == LF_OK) break;
        if (status != LF_ECANCELED) fail_msg("%s", err.text);
        assert_int_equal(r->result.step, next);
        r->params.resume = true;
        n_stops++;
    }
    assert_true(n_stops >= 3);
}

static void test_stopped_runs(void **state)
{
    (void)state;
    for (int variant = 0; variant < 3; variant++) {
        train_run whole, pieces;
        char a[32], b[32], path_a[64], path_b[64];
        (void)snprintf(a, sizeof a, "a%d/run", variant);
        (void)snprintf(b, sizeof b, "b%d/run", variant);
        plan_train_run(&whole, a);
        plan_train_run(&pieces, b);
        whole.params.f32 = pieces.params.f32 = variant == 1;
        whole.params.lora_rank = pieces.params.lora_rank = variant == 2 ? 4 : 0;
        whole.params.valid_every = pieces.params.valid_every = 0; /* at a step that stops there is none */
        expect_train_run(&whole);
        run_in_pieces(&pieces, (uint64_t)variant);
        (void)snprintf(path_a, sizeof path_a, "%s/model.gguf", a);
        (void)snprintf(path_b, sizeof path_b, "%s/model.gguf", b);
        expect_same_file(in_temp(path_a), in_temp(path_b));
        expect_same_train_log(a, b);
        assert_true(whole.result.loss == pieces.result.loss &&
                    whole.result.valid_loss == pieces.result.valid_loss);
    }
}

/* The order and every weight do not depend on when checkpoints are written, nor on what is shown. */
static void test_shows_change_nothing(void **state)
{
    (void)state;
    train_run plain, busy;
    plan_train_run(&plain, "a/run");
    plan_train_run(&busy, "b/run");
    plain.params.valid_every = 0;
    busy.params.valid_every = 5;
    busy.params.sample_every = 10;
    busy.params.sample_prompt = "the ";
    busy.params.sample_tokens = 5;
    busy.params.checkpoint_minutes = 0;
    expect_train_run(&plain);
    expect_train_run(&busy);
    assert_int_equal(busy.n_samples, 4);
    assert_int_equal(busy.n_checkpoints, TRAIN_RUN_STEPS + 1);
    assert_int_equal(plain.n_checkpoints, 1);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
    assert_false(temp_has("b/run/sample.gguf"));
    plan_train_run(&busy, "c/run"); /* another seed is another model */
    busy.params.seed = 1;
    expect_train_run(&busy);
    assert_true(busy.result.loss != plain.result.loss);
}

/* ---- one folder, one run ---- */

static void test_folder_in_use(void **state)
{
    (void)state;
    train_run r;
    plan_train_run(&r, "run");
    r.stop_at = 3;
    expect_train_failure(&r, LF_ECANCELED, "step 3");
    const int lock = open(in_temp("run/lock"), O_RDWR);
    assert_true(lock >= 0);
    assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0); /* the run has let it go */
    assert_int_equal(flock(lock, LOCK_SH), 0);           /* a run shares it with nobody */
    r.params.resume = true;
    expect_train_failure(&r, LF_EIO, "another run is using this folder");
    assert_int_equal(close(lock), 0);
    r.params.resume = false;
    expect_train_failure(&r, LF_EINVAL, "found the checkpoint of a run here");
    r.params.resume = true;
    r.stop_at = -1;
    expect_train_run(&r);
}

/* ---- runs that go wrong ---- */

/* The first step is taken with a rate beyond all measure, the second loss is not a number: the checkpoint
 * of before is there, and from it the run goes on as if nothing had been. */
static void test_not_a_number(void **state)
{
    (void)state;
    train_run r;
    plan_train_run(&r, "a/run");
    expect_train_run(&r);
    plan_train_run(&r, "b/run");
    r.stop_at = 5;
    expect_train_failure(&r, LF_ECANCELED, "step 5");
    r.params.resume = true;
    r.stop_at = -1;
    r.params.lr = 1e30;
    r.params.checkpoint_minutes = 0;
    expect_train_failure(&r, LF_EDIVERGED, "step 7: found a");
    r.params.lr = 5e-3;
    expect_train_run(&r);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
    expect_same_train_log("a/run", "b/run"); /* without the step that was taken in vain */
    /* From the start there is a checkpoint of no steps. */
    plan_train_run(&r, "c/run");
    r.params.lr = 1e30;
    r.params.checkpoint_minutes = 0;
    expect_train_failure(&r, LF_EDIVERGED, "step 2: found a");
    r.params.lr = 5e-3;
    r.params.resume = true;
    expect_train_run(&r);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("c/run/model.gguf"));
}

/* A rate so high that the loss rises and stays: the run ends by itself, and no checkpoint is of that time. */
static void test_diverging(void **state)
{
    (void)state;
    train_run r;
    plan_train_run(&r, "run");
    r.params.n_steps = 20;
    expect_train_run(&r);
    r.params.resume = true;
    r.params.n_steps = 400;
    r.params.schedule = LF_TRAIN_CONSTANT;
    r.params.lr = 3.0;
    r.params.clip = 0.0;
    r.params.checkpoint_minutes = 0;
    expect_train_failure(&r, LF_EDIVERGED, "is the learning rate (3) too high");
    assert_in_range(r.result.step, 100, 300);
    r.params.export_only = true;
    lf_error err = {0};
    assert_ok(lf_train(&r.params, &err), &err);
    assert_in_range(r.result.step, 20, 40);
}

static void test_bad_parameters(void **state)
{
    (void)state;
    train_run r, other;
    char tokens[512], model[512], none_path[512];
    lf_train_input none = {none_path, 1.0};
#define EXPECT_REFUSED(change, fragment)                                                                     \
    do {                                                                                                     \
        plan_train_run(&r, "run");                                                                           \
        change;                                                                                              \
        expect_train_failure(&r, LF_EINVAL, fragment);                                                       \
    } while (0)
    EXPECT_REFUSED(r.params.size = 1, "found size 1");
    EXPECT_REFUSED(r.result.size = 1, "found size 1");
    EXPECT_REFUSED(r.params.out_dir = NULL, "out_dir");
    EXPECT_REFUSED(r.params.n_data = 0, "found no data");
    EXPECT_REFUSED(r.data.weight = 0.0, "weight 0");
    EXPECT_REFUSED(r.params.n_steps = 0, "n_steps");
    EXPECT_REFUSED(r.params.tokenizer_path = NULL, "neither a model nor a tokenizer");
    EXPECT_REFUSED(r.params.context = 1, "context");
    EXPECT_REFUSED(r.params.micro_rows = 10, "micro_rows 10");
    EXPECT_REFUSED(r.params.hold_out = 0.1, "both validation inputs and hold_out");
    EXPECT_REFUSED(r.params.lr = (double)NAN, "lr");
    EXPECT_REFUSED(r.params.dtype = LF_DTYPE_Q4_K, "output type");
    EXPECT_REFUSED(r.params.export_only = true, "export_only");
    EXPECT_REFUSED(r.params.shape.n_heads = 3, "dim 32 for 3 heads");
    EXPECT_REFUSED(r.params.shape.n_kv_heads = 4, "2 heads and 4 KV heads");
    EXPECT_REFUSED(r.params.shape.dim = 0, "found 0");
    plan_train_run(&r, "run");
    (void)snprintf(none_path, sizeof none_path, "%s", in_temp("none.txt"));
    r.params.data = &none;
    expect_train_failure(&r, LF_EIO, "none.txt");
    plan_train_run(&r, "run");
    r.params.resume = true;
    expect_train_failure(&r, LF_EIO, "run/checkpoint");
    plan_train_run(&r, "run");
    r.params.tokenizer_path = golden_path("token/byte-level.json");
    expect_train_failure(&r, LF_EUNSUPPORTED, "that GGUF has no name for");
    assert_false(temp_has("run/checkpoint"));

    /* A tokenizer with more tokens than the model; tokens of another tokenizer. */
    plan_train_run(&other, "small");
    other.params.prepare_only = true;
    lf_error err;
    assert_ok(lf_train(&other.params, &err), &err);
    (void)snprintf(tokens, sizeof tokens, "%s", in_temp("small/data/train-0-train.txt.tokens"));
    other.params.prepare_only = false;
    expect_train_run(&other);
    (void)snprintf(model, sizeof model, "%s", in_temp("small/model.gguf"));
    EXPECT_REFUSED((r.params.model_path = model, r.params.tokenizer_path = golden_path("token/user.model")),
                   "user.model: found another token");
    EXPECT_REFUSED((r.data.path = tokens, r.params.tokenizer_path = golden_path("token/user.model")),
                   "tokens of another tokenizer");
}

/* A model takes the tokenizer that it was made with, from whichever file. */
static void test_own_tokenizer(void **state)
{
    (void)state;
    static const char *const names[] = {"token/plain.model", "token/user.model"};
    char model[512];
    train_run r;
    (void)snprintf(model, sizeof model, "%s", in_temp("run/model.gguf"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int again = 0; again < 2; again++) {
            plan_train_run(&r, again ? "again" : "run");
            remove_tree(r.out_dir);
            r.params.tokenizer_path = golden_path(names[i]);
            r.params.model_path = again ? model : NULL;
            r.params.n_steps = 1;
            expect_train_run(&r);
        }
    }
}

/* ---- no memory ---- */

static lf_status train(void *params, lf_error *err)
{
    return lf_train(params, err);
}

/* Runs from the checkpoint, or (NULL) anew, with one allocation after the other failing: nothing half
 * written is left, and what is there is a run to go on from. */
static void expect_memory_failures(train_run *r, const char *checkpoint, size_t checkpoint_bytes)
{
    bool some_failed = true;
    for (long n = 1; some_failed; n += 1 + n / (TESTS_SHORT ? 8 : 40)) {
        lf_status status;
        if (checkpoint)
            write_file(in_temp("run/checkpoint"), checkpoint, checkpoint_bytes);
        else
            remove_tree(r->out_dir);
        some_failed = oom_attempt(&status, n, train, &r->params);
        if (status == LF_OK) expect_same_train_log("whole/run", "run");
        assert_false(temp_has("run/checkpoint.tmp") || temp_has("run/sample.gguf") ||
                     temp_has("run/model.gguf.tmp"));
    }
    expect_same_file(in_temp("whole/run/model.gguf"), in_temp("run/model.gguf"));
}

static void test_memory_failures(void **state)
{
    (void)state;
    oom_require();
    for (int has_adapters = 0; has_adapters < 2; has_adapters++) {
        train_run whole, r;
        plan_train_run(&whole, "whole/run");
        plan_train_run(&r, "run");
        train_run *const both[] = {&whole, &r};
        for (int i = 0; i < 2; i++) {
            lf_train_params *p = &both[i]->params;
            p->n_steps = 2;
            p->sample_every = 2;
            p->sample_prompt = "the ";
            p->sample_tokens = 3;
            p->checkpoint_minutes = 0;
            p->lora_rank = has_adapters ? 2 : 0;
        }
        remove_tree(whole.out_dir);
        expect_train_run(&whole); /* with what is allocated once */
        size_t size = 0;
        char *checkpoint = NULL;
        if (has_adapters) {
            remove_tree(r.out_dir);
            r.stop_at = 1;
            expect_train_failure(&r, LF_ECANCELED, "step 1");
            r.stop_at = -1;
            r.params.resume = true;
            checkpoint = read_file(in_temp("run/checkpoint"), &size);
        }
        expect_memory_failures(&r, checkpoint, size);
        free(checkpoint);
    }
}

/* ---- what comes out ---- */

/* The mean of -log p of the document's tokens by the engine. */
static double score_by_engine(const char *model_path, const char *text)
{
    lf_engine *engine;
    lf_engine_params params;
    lf_error err;
    int32_t *ids;
    size_t n;
    double sum = 0.0;
    lf_engine_params_init(&params);
    params.model_path = model_path;
    params.kv_dtype = LF_DTYPE_F32;
    params.n_threads = 1;
    assert_ok(lf_engine_open(&engine, &params, &err), &err);
    lf_engine_info info = {.size = sizeof info};
    lf_engine_get_info(engine, &info);
    assert_ok(lf_tokenize(engine, text, strlen(text), true, false, &ids, &n, &err), &err);
    ids = realloc(ids, (n + 1) * sizeof *ids);
    ids[n] = 2; /* the end of the text is a target, too */
    float *logits = malloc(n * (size_t)info.n_vocab * sizeof *logits);
    assert_ok(lf_score(engine, ids, n, logits, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const float *row = logits + i * (size_t)info.n_vocab;
        double total = 0.0;
        for (int j = 0; j < info.n_vocab; j++) total += exp((double)row[j]);
        sum += log(total) - (double)row[ids[i + 1]];
    }
    free(logits);
    free(ids);
    lf_engine_close(engine);
    return sum / (double)n;
}

/* The validation loss is the one that the engine finds for the same text, position by position from bos to
 * eos; and the sums over buckets are the sum over all. */
static void test_validation_is_the_engines(void **state)
{
    (void)state;
    static const char text[] = "the cat sat on a mat and ate one hat the cat";
    train_run r;
    double sum = 0.0;
    int64_t n = 0;
    write_file(in_temp("valid.txt"), text, strlen(text));
    plan_train_run(&r, "run");
    r.params.f32 = true;
    expect_train_run(&r);
    const double expected = score_by_engine(in_temp("run/model.gguf"), text);
    if (fabs(r.result.valid_loss - expected) > 1e-4)
        fail_msg("found a validation loss of %.6f, expected %.6f", r.result.valid_loss, expected);
    for (int i = 0; i < r.validation.n_buckets; i++) {
        if (r.validation.bucket_targets[i] > 0)
            sum += r.validation.bucket_loss[i] * (double)r.validation.bucket_targets[i];
        n += r.validation.bucket_targets[i];
    }
    assert_int_equal(r.validation.bucket_targets[0], 2); /* positions 0 and 1 */
    assert_int_equal(r.validation.bucket_targets[2], 4); /* 4 to 7 */
    assert_true(fabs(sum / (double)n - r.result.valid_loss) < 1e-9);
}

/* A run learns, in every form of output, and from its output another run goes on. */
static void test_goes_on_from_model(void **state)
{
    (void)state;
    static const lf_dtype dtypes[] = {LF_DTYPE_F32, LF_DTYPE_BF16, LF_DTYPE_F16, LF_DTYPE_Q8_0};
    train_run r;
    char model[512];
    double first = 0.0;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        char folder[32];
        (void)snprintf(folder, sizeof folder, "from%zu", i);
        plan_train_run(&r, folder);
        r.params.dtype = dtypes[i];
        r.params.shape.tied = i % 2 == 1;
        expect_train_run(&r);
        if (i == 0) first = r.result.valid_loss;
        (void)snprintf(model, sizeof model, "%s/model.gguf", r.out_dir);
        assert_true(score_by_engine(model, "the cat sat on a mat") < 6.0);
    }
    (void)snprintf(model, sizeof model, "%s", in_temp("from0/model.gguf"));
    plan_train_run(&r, "on");
    r.params.model_path = model;
    r.params.tokenizer_path = NULL;
    r.params.rope_base = 40000.0;
    r.params.context = 100;
    expect_train_run(&r);
    assert_true(r.result.valid_loss < first - 0.1);
    char *json;
    lf_error err;
    assert_ok(lf_inspect(in_temp("on/model.gguf"), 0, 1, LF_DTYPE_BF16, &json, &err), &err);
    assert_non_null(strstr(json, "40000"));
    free(json);
}

/* Documents that nobody can guess: those that are trained on are learnt by heart, those that are held out
 * stay as they were. */
static void test_held_out_share(void **state)
{
    (void)state;
    enum { N_DOCS = 12, N_LETTERS = 30 };
    char text[N_DOCS * (N_LETTERS + 16)], *to = text;
    uint64_t seed = 3;
    train_run r;
    for (int d = 0; d < N_DOCS; d++) {
        for (int i = 0; i < N_LETTERS; i++) *to++ = (char)('a' + rng_next(&seed) % 26);
        to = stpcpy(to, "<|endoftext|>");
    }
    write_file(in_temp("train.txt"), text, (size_t)(to - text));
    plan_train_run(&r, "run");
    r.params.n_valid = 0;
    r.params.hold_out = 0.4;
    r.params.lr = 2e-2;
    r.params.n_steps = 120;
    expect_train_run(&r);
    if (!(r.result.loss < 1.0 && r.result.valid_loss > 3.0))
        fail_msg("found a loss of %.2f, held out %.2f", r.result.loss, r.result.valid_loss);
    plan_train_run(&r, "none");
    r.params.n_valid = 0;
    expect_train_run(&r);
    assert_true(isnan(r.result.valid_loss));
}

/* A step's loss is the mean over its targets, not over rows nor over micro-batches: that of one document,
 * however often it is in. */
static void test_loss_is_a_mean_over_targets(void **state)
{
    (void)state;
    static const char line[] = "{\"prompt\": \"the cat sat on a mat and ate one\", \"response\": \"hat\"}\n";
    train_run r;
    plan_train_run(&r, "run");
    (void)snprintf(r.data_path, sizeof r.data_path, "%s", in_temp("one.jsonl"));
    write_file(r.data_path, line, strlen(line));
    r.valid.path = r.data.path;
    r.params.f32 = true;
    r.params.lr = 0.0;
    r.params.n_steps = 1;
    expect_train_run(&r);
    if (!(fabs(r.result.loss - r.result.valid_loss) < 1e-5))
        fail_msg("found a loss of %.6f, expected the validation's %.6f", r.result.loss, r.result.valid_loss);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_train_temp, leave_temp)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_stopped_runs),
        IN_FOLDER(test_shows_change_nothing),
        IN_FOLDER(test_folder_in_use),
        IN_FOLDER(test_not_a_number),
        IN_FOLDER(test_diverging),
        IN_FOLDER(test_bad_parameters),
        IN_FOLDER(test_own_tokenizer),
        IN_FOLDER(test_memory_failures),
        IN_FOLDER(test_validation_is_the_engines),
        IN_FOLDER(test_goes_on_from_model),
        IN_FOLDER(test_held_out_share),
        IN_FOLDER(test_loss_is_a_mean_over_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

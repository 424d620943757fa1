/* Training runs: stopped, killed and starved of disk space they end in the same weights as an unbroken run, bit for bit; what is
 * wrong is said and nothing is lost; and what comes out is a model that the engine runs. Runs that are to be killed are the
 * command as a child process; the others are calls of lf_train. */
#include "testing.h"

#include "base/mem.h"
#include "train/checkpoint.h"
#include "train/data_hash.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 48, N_STEPS = 24 };

static char binary[1024]; /* the command; empty: not built */

static bool exists(const char *name)
{
    return access(in_temp(name), F_OK) == 0;
}

/* Words that follow each other by a rule, so that there is something to learn, in documents of a few lines. */
static void write_text(const char *name, int n_docs, uint64_t seed)
{
    static const char *const words[] = {"the", "cat", "sat", "on", "a", "mat", "and", "ate", "one", "hat"};
    lf_bytes text = {0};
    for (int d = 0; d < n_docs; d++) {
        unsigned word = (unsigned)(rng_next(&seed) % 10);
        const int n = 20 + (int)(rng_next(&seed) % 60);
        for (int i = 0; i < n; i++) {
            assert_true(lf_bytes_printf(&text, "%s%c", words[word], i % 9 == 8 ? '\n' : ' '));
            word = (3 * word + (unsigned)(rng_next(&seed) % 3)) % 10;
        }
        assert_true(lf_bytes_printf(&text, "<|endoftext|>\n"));
    }
    write_file(in_temp(name), text.data, text.len);
    lf_bytes_free(&text);
}

static int enter(void **state)
{
    (void)enter_temp(state);
    write_text("train.txt", 60, 1);
    write_text("valid.txt", 6, 2);
    return 0;
}

static void require_binary(void)
{
    if (binary[0] != '\0') return;
    print_message("skipped: the program is not built (LOOKFAR_BIN names it)\n");
    skip();
}

/* ---- runs by call ---- */

/* A run of a small model on the text, in temp/`folder`. Runs whose folders have the same last name write the same bytes. */
typedef struct run {
    lf_train_params params;
    lf_train_input data, valid;
    char out_dir[256], data_path[512], valid_path[512];
    int64_t stop_at; /* the step whose event stops it; -1: none */
    int n_samples, n_checkpoints;
    lf_train_event validation; /* the last */
    lf_train_result result;
} run;

static bool on_event(void *cookie, const lf_train_event *e)
{
    run *r = cookie;
    assert_int_equal(e->size, sizeof *e);
    if (e->kind == LF_TRAIN_VALIDATION) r->validation = *e;
    if (e->kind == LF_TRAIN_SAMPLE) r->n_samples += strncmp(e->text, "the ", 4) == 0;
    if (e->kind == LF_TRAIN_CHECKPOINT) r->n_checkpoints++;
    return e->kind != LF_TRAIN_STEP || e->step != r->stop_at;
}

static void plan_run(run *r, const char *folder)
{
    *r = (run){.stop_at = -1, .result.size = sizeof r->result};
    (void)snprintf(r->out_dir, sizeof r->out_dir, "%s", in_temp(folder));
    (void)snprintf(r->data_path, sizeof r->data_path, "%s", in_temp("train.txt"));
    (void)snprintf(r->valid_path, sizeof r->valid_path, "%s", in_temp("valid.txt"));
    r->data = (lf_train_input){r->data_path, 1.0};
    r->valid = (lf_train_input){r->valid_path, 1.0};
    lf_train_params_init(&r->params);
    r->params.out_dir = r->out_dir;
    r->params.shape = (lf_train_shape){
        .dim = 32, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .ffn_dim = 64};
    r->params.tokenizer_path = golden_path("token/plain.model");
    r->params.dtype = LF_DTYPE_F32;
    r->params.data = &r->data;
    r->params.n_data = 1;
    r->params.valid = &r->valid;
    r->params.n_valid = 1;
    r->params.context = 64;
    r->params.batch_tokens = 256;
    r->params.micro_rows = 128;
    r->params.n_steps = N_STEPS;
    r->params.warmup_steps = 4;
    r->params.lr = 5e-3;
    r->params.valid_every = 7;
    r->params.n_threads = 1;
    r->params.on_event = on_event;
    r->params.cookie = r;
    r->params.result = &r->result;
}

static void expect_run(run *r)
{
    lf_error err = {0};
    assert_ok(lf_train(&r->params, &err), &err);
    assert_int_equal(r->result.step, r->params.n_steps);
}

static void expect_failure(run *r, lf_status expected, const char *fragment)
{
    lf_error err = {0};
    const lf_status found = lf_train(&r->params, &err);
    if (found == expected && strstr(err.text, fragment)) return;
    fail_msg("found %s: \"%s\", expected %s: \"%s\"", lf_status_name(found), err.text,
             lf_status_name(expected), fragment);
}

/* The log without what depends on time. */
static char *read_log(const char *folder)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/log.jsonl", folder);
    char *text = read_file(in_temp(path), NULL), *to = text;
    for (const char *from = text; *from;) {
        if (strncmp(from, ",\"tokens_per_s\":", 16) == 0) from += 16 + strcspn(from + 16, "}");
        *to++ = *from++;
    }
    *to = '\0';
    return text;
}

static void expect_same_log(const char *a, const char *b)
{
    char *a_text = read_log(a), *b_text = read_log(b);
    assert_string_equal(a_text, b_text);
    free(a_text);
    free(b_text);
}

/* Stops at random steps and goes on, until the run is at its end. */
static void run_in_pieces(run *r, uint64_t seed)
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
        run whole, pieces;
        char a[32], b[32], path_a[64], path_b[64];
        (void)snprintf(a, sizeof a, "a%d/run", variant);
        (void)snprintf(b, sizeof b, "b%d/run", variant);
        plan_run(&whole, a);
        plan_run(&pieces, b);
        whole.params.f32 = pieces.params.f32 = variant == 1;
        whole.params.lora_rank = pieces.params.lora_rank = variant == 2 ? 4 : 0;
        whole.params.valid_every = pieces.params.valid_every = 0; /* at a step that stops there is none */
        expect_run(&whole);
        run_in_pieces(&pieces, (uint64_t)variant);
        (void)snprintf(path_a, sizeof path_a, "%s/model.gguf", a);
        (void)snprintf(path_b, sizeof path_b, "%s/model.gguf", b);
        expect_same_file(in_temp(path_a), in_temp(path_b));
        expect_same_log(a, b);
        assert_true(whole.result.loss == pieces.result.loss &&
                    whole.result.valid_loss == pieces.result.valid_loss);
    }
}

/* The order and every weight do not depend on when checkpoints are written, nor on what is shown. */
static void test_shows_change_nothing(void **state)
{
    (void)state;
    run plain, busy;
    plan_run(&plain, "a/run");
    plan_run(&busy, "b/run");
    plain.params.valid_every = 0;
    busy.params.valid_every = 5;
    busy.params.sample_every = 10;
    busy.params.sample_prompt = "the ";
    busy.params.sample_tokens = 5;
    busy.params.checkpoint_minutes = 0;
    expect_run(&plain);
    expect_run(&busy);
    assert_int_equal(busy.n_samples, 4);
    assert_int_equal(busy.n_checkpoints, N_STEPS + 1);
    assert_int_equal(plain.n_checkpoints, 1);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
    assert_false(exists("b/run/sample.gguf"));
    plan_run(&busy, "c/run"); /* another seed is another model */
    busy.params.seed = 1;
    expect_run(&busy);
    assert_true(busy.result.loss != plain.result.loss);
}

/* ---- runs by command ---- */

typedef struct child {
    pid_t pid;
    rlim_t file_bytes; /* largest file it may write, RLIM_INFINITY: any */
} child;

static void start(child *c, const char *const *args)
{
    const char *argv[ARGS_MAX + 2] = {binary};
    for (int i = 0; args[i] && i < ARGS_MAX; i++) argv[i + 1] = args[i];
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid > 0) return;
    const int out = open(in_temp("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err = open(in_temp("err"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct rlimit limit = {c->file_bytes, c->file_bytes};
    if (out < 0 || err < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(99);
    (void)signal(SIGXFSZ, SIG_IGN);
    if (c->file_bytes != RLIM_INFINITY && setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(99);
    (void)alarm(100); /* outlives exec: a program that hangs is killed */
    (void)execv(binary, (char *const *)(uintptr_t)argv);
    _exit(99);
}

/* The exit status, or -1 when a signal ended it. */
static int finish(const child *c)
{
    int status;
    while (waitpid(c->pid, &status, 0) < 0) assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run_command(const char *const *args)
{
    child c = {.file_bytes = RLIM_INFINITY};
    start(&c, args);
    return finish(&c);
}

static void expect_said(const char *fragment)
{
    char *text = read_file(in_temp("err"), NULL);
    if (!strstr(text, fragment)) fail_msg("found \"%s\", expected \"%s\"", text, fragment);
    free(text);
}

#define TRAIN(folder, ...)                                                                                   \
    (const char *const[])                                                                                    \
    {                                                                                                        \
        "train", "-o", folder, "--init", "dim=32,layers=1,heads=2,kv=1,ffn=64,rope=20000", "--tokenizer",    \
            golden_path("token/plain.model"), "--data", in_temp("train.txt"), "--context", "64", "--batch",  \
            "256", "--micro", "128", "--steps", "150", "--warmup", "4", "--dtype", "f32", "-t", "1",         \
            __VA_ARGS__, NULL                                                                                \
    }

static void sleep_ms(int ms)
{
    (void)usleep((useconds_t)ms * 1000);
}

/* kill -9 at random moments, in the middle of a checkpoint as well. */
static void test_killed_runs(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)getpid();
    int n_kills = 0, code = -1;
    require_binary();
    assert_int_equal(run_command(TRAIN(in_temp("a/run"), "-q")), 0);
    for (int i = 0; code != 0; i++) {
        child c = {.file_bytes = RLIM_INFINITY};
        const bool resumes = exists("b/run/checkpoint");
        if (resumes)
            start(&c, (const char *const[]){"train", "-o", in_temp("b/run"), "--resume", NULL});
        else
            start(&c, TRAIN(in_temp("b/run"), "--checkpoint-every", "0"));
        /* the first is killed right after its first checkpoint, so that one is killed for sure */
        while (i == 0 && !exists("b/run/checkpoint")) sleep_ms(1);
        if (i > 0 && i < 12) sleep_ms(10 + (int)(rng_next(&seed) % (TESTS_SHORT ? 2000 : 120)));
        if (i < 12) (void)kill(c.pid, SIGKILL);
        code = finish(&c);
        n_kills += code == -1;
        if (code > 0) fail_msg("exit status %d: %s", code, read_file(in_temp("err"), NULL));
        assert_true(i < 13);
    }
    assert_true(n_kills > 0);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
    expect_same_log("a/run", "b/run");
}

/* SIGTERM: a checkpoint, a sentence about how to go on, and success. */
static void test_interrupted_run(void **state)
{
    (void)state;
    child c = {.file_bytes = RLIM_INFINITY};
    require_binary();
    assert_int_equal(run_command(TRAIN(in_temp("a/run"), "-q")), 0);
    start(&c, TRAIN(in_temp("b/run"), "--sample-every", "1", "--sample-tokens", "20"));
    for (int i = 0; i < 2000 && !exists("b/run/options.json"); i++) sleep_ms(5);
    sleep_ms(50);
    (void)kill(c.pid, SIGTERM);
    assert_int_equal(finish(&c), 0);
    assert_false(exists("b/run/model.gguf"));
    expect_said("--resume");
    /* --export writes the model of that moment; the run goes on from there all the same. */
    assert_int_equal(
        run_command((const char *const[]){"train", "-o", in_temp("b/run"), "--resume", "--export", NULL}), 0);
    assert_true(exists("b/run/model.gguf"));
    assert_int_equal(run_command((const char *const[]){"train", "-o", in_temp("b/run"), "--resume",
                                                       "--sample-every", "0", NULL}),
                     0);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
}

/* No room for a checkpoint: an error, the older checkpoint whole, and with room again the same weights. */
static void test_disk_full(void **state)
{
    (void)state;
    run r;
    struct stat st;
    child c;
    require_binary();
    plan_run(&r, "a/run");
    expect_run(&r);
    plan_run(&r, "b/run");
    r.stop_at = 9;
    expect_failure(&r, LF_ECANCELED, "after step 9 of 24; the checkpoint is written");
    assert_int_equal(stat(in_temp("b/run/checkpoint"), &st), 0);
    char *before = read_file(in_temp("b/run/checkpoint"), NULL);
    c.file_bytes = (rlim_t)st.st_size - 1;
    start(&c, (const char *const[]){"train",
                                    "-o",
                                    in_temp("b/run"),
                                    "--resume",
                                    "--init",
                                    "dim=32,layers=1,heads=2,kv=1,ffn=64",
                                    "--tokenizer",
                                    golden_path("token/plain.model"),
                                    "--data",
                                    r.data_path,
                                    "--valid",
                                    r.valid_path,
                                    "--context",
                                    "64",
                                    "--batch",
                                    "256",
                                    "--micro",
                                    "128",
                                    "--steps",
                                    "24",
                                    "--warmup",
                                    "4",
                                    "-t",
                                    "1",
                                    "--lr",
                                    "0.005",
                                    "--checkpoint-every",
                                    "0",
                                    NULL});
    assert_int_equal(finish(&c), 1);
    expect_said("checkpoint.tmp: cannot write: File too large");
    assert_false(exists("b/run/checkpoint.tmp"));
    size_t size;
    char *after = read_file(in_temp("b/run/checkpoint"), &size);
    assert_int_equal(size, st.st_size);
    assert_memory_equal(before, after, size);
    free(before);
    free(after);
    r.stop_at = -1;
    r.params.resume = true;
    expect_run(&r);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
}

/* ---- one folder, one run ---- */

static void test_folder_in_use(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "run");
    r.stop_at = 3;
    expect_failure(&r, LF_ECANCELED, "step 3");
    const int lock = open(in_temp("run/lock"), O_RDWR);
    assert_true(lock >= 0);
    assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0); /* the run has let it go */
    assert_int_equal(flock(lock, LOCK_SH), 0);           /* a run shares it with nobody */
    r.params.resume = true;
    expect_failure(&r, LF_EIO, "another run is using this folder");
    assert_int_equal(close(lock), 0);
    r.params.resume = false;
    expect_failure(&r, LF_EINVAL, "found the checkpoint of a run here");
    r.params.resume = true;
    r.stop_at = -1;
    expect_run(&r);
}

/* ---- runs that go wrong ---- */

/* The first step is taken with a rate beyond all measure, the second loss is not a number: the checkpoint of before is there,
 * and from it the run goes on as if nothing had been. */
static void test_not_a_number(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "a/run");
    expect_run(&r);
    plan_run(&r, "b/run");
    r.stop_at = 5;
    expect_failure(&r, LF_ECANCELED, "step 5");
    r.params.resume = true;
    r.stop_at = -1;
    r.params.lr = 1e30;
    r.params.checkpoint_minutes = 0;
    expect_failure(&r, LF_EDIVERGED, "step 7: found a");
    r.params.lr = 5e-3;
    expect_run(&r);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("b/run/model.gguf"));
    expect_same_log("a/run", "b/run"); /* without the step that was taken in vain */
    /* From the start there is a checkpoint of no steps. */
    plan_run(&r, "c/run");
    r.params.lr = 1e30;
    r.params.checkpoint_minutes = 0;
    expect_failure(&r, LF_EDIVERGED, "step 2: found a");
    r.params.lr = 5e-3;
    r.params.resume = true;
    expect_run(&r);
    expect_same_file(in_temp("a/run/model.gguf"), in_temp("c/run/model.gguf"));
}

/* A rate so high that the loss rises and stays: the run ends by itself, and no checkpoint is of that time. */
static void test_diverging(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "run");
    r.params.n_steps = 20;
    expect_run(&r);
    r.params.resume = true;
    r.params.n_steps = 400;
    r.params.schedule = LF_TRAIN_CONSTANT;
    r.params.lr = 3.0;
    r.params.clip = 0.0;
    r.params.checkpoint_minutes = 0;
    expect_failure(&r, LF_EDIVERGED, "is the learning rate (3) too high");
    assert_in_range(r.result.step, 100, 300);
    r.params.export_only = true;
    lf_error err = {0};
    assert_ok(lf_train(&r.params, &err), &err);
    assert_in_range(r.result.step, 20, 40);
}

static void test_bad_parameters(void **state)
{
    (void)state;
    run r, other;
    char tokens[512], model[512], none_path[512];
    lf_train_input none = {none_path, 1.0};
#define EXPECT_REFUSED(change, fragment)                                                                     \
    do {                                                                                                     \
        plan_run(&r, "run");                                                                                 \
        change;                                                                                              \
        expect_failure(&r, LF_EINVAL, fragment);                                                             \
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
    plan_run(&r, "run");
    (void)snprintf(none_path, sizeof none_path, "%s", in_temp("none.txt"));
    r.params.data = &none;
    expect_failure(&r, LF_EIO, "none.txt");
    plan_run(&r, "run");
    r.params.resume = true;
    expect_failure(&r, LF_EIO, "run/checkpoint");

    /* A tokenizer with more tokens than the model; tokens of another tokenizer. */
    plan_run(&other, "small");
    other.params.prepare_only = true;
    lf_error err;
    assert_ok(lf_train(&other.params, &err), &err);
    (void)snprintf(tokens, sizeof tokens, "%s", in_temp("small/data/train-0-train.txt.tokens"));
    other.params.prepare_only = false;
    expect_run(&other);
    (void)snprintf(model, sizeof model, "%s", in_temp("small/model.gguf"));
    EXPECT_REFUSED((r.params.model_path = model, r.params.tokenizer_path = golden_path("token/user.model")),
                   "tokenizer of 480 tokens, expected at most the 260");
    EXPECT_REFUSED((r.data.path = tokens, r.params.tokenizer_path = golden_path("token/user.model")),
                   "tokens of another tokenizer");
}

/* A checkpoint of another run, by each thing that may be different, and the fragment that names it. */
static void test_other_checkpoints(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "run");
    r.stop_at = 2;
    expect_failure(&r, LF_ECANCELED, "step 2");
#define EXPECT_OTHER(change, fragment)                                                                       \
    do {                                                                                                     \
        plan_run(&r, "run");                                                                                 \
        r.params.resume = true;                                                                              \
        change;                                                                                              \
        expect_failure(&r, LF_EINVAL, fragment);                                                             \
    } while (0)
    EXPECT_OTHER(r.params.shape.dim = 64, "shape: found \"llama: dim 32, 1 layers");
    EXPECT_OTHER(r.params.shape.tied = true, "shape");
    EXPECT_OTHER(r.params.context = 32, "context: found 64, expected 32");
    EXPECT_OTHER(r.params.micro_rows = 256, "micro-batch: found 128");
    EXPECT_OTHER(r.params.batch_tokens = 512, "tokens of a step: found 256, expected 512");
    EXPECT_OTHER(r.params.seed = 9, "weights at the start");
    EXPECT_OTHER(r.params.rope_base = 500.0, "rope base");
    EXPECT_OTHER(r.params.lora_rank = 2, "LoRA rank: found 0, expected 2");
    EXPECT_OTHER(r.params.f32 = true, "products: found \"bf16\", expected \"f32\"");
    EXPECT_OTHER(r.data.weight = 2.0, "data");
    EXPECT_OTHER(r.params.tokenizer_path = golden_path("token/user.model"), "checkpoint of another run");
    write_text("train.txt", 61, 1);
    EXPECT_OTHER((void)0, "data");
    write_text("train.txt", 60, 1);
    plan_run(&r, "run");
    r.params.resume = true;
    expect_run(&r);
}

/* Cut at every byte, and with every byte changed, a checkpoint is refused, and nothing is filled from it. */
static void test_damaged_checkpoints(void **state)
{
    (void)state;
    float data[24], moments[3], other[24];
    lf_checkpoint_buffer buffers[] = {{data, 24}, {moments, 3}};
    lf_checkpoint_state s = {.n_steps = 5, .n_tokens = 6, .cursor = {1, 2, 3}, .loss_best = 0.5}, found = {0};
    json_t *identity = json_pack("{s:i, s:s}", "context", 64, "shape", "round");
    size_t size;
    lf_error err;
    for (int i = 0; i < 24; i++) data[i] = (float)i;
    for (int i = 0; i < 3; i++) moments[i] = -1.0f;
    assert_ok(lf_checkpoint_write(in_temp("c"), &s, identity, buffers, 2, &err), &err);
    memset(data, 0, sizeof data);
    assert_ok(lf_checkpoint_read(&found, buffers, 2, identity, in_temp("c"), &err), &err);
    assert_memory_equal(&found, &s, sizeof s);
    for (int i = 0; i < 24; i++) assert_true(data[i] == (float)i);
    for (int i = 0; i < 24; i++) data[i] = other[i] = 77.0f;
    char *bytes = read_file(in_temp("c"), &size);
    for (size_t i = 0; i < size; i++) {
        write_file(in_temp("bad"), bytes, i);
        assert_true(lf_checkpoint_read(&found, buffers, 2, identity, in_temp("bad"), &err) != LF_OK);
        bytes[i] ^= 1;
        write_file(in_temp("bad"), bytes, size);
        bytes[i] ^= 1;
        assert_int_equal(lf_checkpoint_read(&found, buffers, 2, identity, in_temp("bad"), &err), LF_EFORMAT);
    }
    buffers[1].n = 2;
    assert_int_equal(lf_checkpoint_read(&found, buffers, 2, identity, in_temp("c"), &err), LF_EINVAL);
    assert_int_equal(lf_checkpoint_read(&found, buffers, 1, identity, in_temp("c"), &err), LF_EINVAL);
    assert_memory_equal(data, other, sizeof data);
    /* Sizes that lie though the checksums are right. */
    const uint64_t huge = UINT64_MAX - 6;
    lf_data_hash hash = {0};
    memcpy(bytes + 16, &huge, 8);
    lf_data_hash_add(&hash, bytes, 56);
    const uint64_t header_hash = lf_data_hash_value(&hash);
    memcpy(bytes + 56, &header_hash, 8);
    write_file(in_temp("bad"), bytes, size);
    assert_int_equal(lf_checkpoint_read(&found, buffers, 2, identity, in_temp("bad"), &err), LF_EFORMAT);
    free(bytes);
    json_decref(identity);
}

/* A checkpoint with right checksums whose place in the data is none. */
static void test_forged_checkpoint(void **state)
{
    (void)state;
    static const size_t members[] = {
        offsetof(lf_checkpoint_state, n_steps), offsetof(lf_checkpoint_state, cursor.epoch),
        offsetof(lf_checkpoint_state, cursor.i_draw), offsetof(lf_checkpoint_state, cursor.i_piece),
        offsetof(lf_checkpoint_state, log_bytes)};
    run r;
    size_t size;
    plan_run(&r, "run");
    r.stop_at = 2;
    expect_failure(&r, LF_ECANCELED, "step 2");
    char *bytes = read_file(in_temp("run/checkpoint"), &size);
    r.params.resume = true;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        lf_data_hash body = {0}, header = {0};
        int64_t *member = (int64_t *)(void *)(bytes + LF_CHECKPOINT_HEADER + members[i]);
        const int64_t value = *member;
        *member = INT64_MIN + 3;
        lf_data_hash_add(&body, bytes + LF_CHECKPOINT_HEADER, size - LF_CHECKPOINT_HEADER);
        const uint64_t body_hash = lf_data_hash_value(&body);
        memcpy(bytes + 24, &body_hash, 8);
        lf_data_hash_add(&header, bytes, 56);
        const uint64_t header_hash = lf_data_hash_value(&header);
        memcpy(bytes + 56, &header_hash, 8);
        write_file(in_temp("run/checkpoint"), bytes, size);
        *member = value;
        expect_failure(&r, LF_EFORMAT, "run/checkpoint: checkpoint: found step");
    }
    free(bytes);
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

/* The validation loss is the one that the engine finds for the same text, position by position from bos to eos; and the sums
 * over buckets are the sum over all. */
static void test_validation_is_the_engines(void **state)
{
    (void)state;
    static const char text[] = "the cat sat on a mat and ate one hat the cat";
    run r;
    double sum = 0.0;
    int64_t n = 0;
    write_file(in_temp("valid.txt"), text, strlen(text));
    plan_run(&r, "run");
    r.params.f32 = true;
    expect_run(&r);
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
    run r;
    char model[512];
    double first = 0.0;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        char folder[32];
        (void)snprintf(folder, sizeof folder, "from%zu", i);
        plan_run(&r, folder);
        r.params.dtype = dtypes[i];
        r.params.shape.tied = i % 2 == 1;
        expect_run(&r);
        if (i == 0) first = r.result.valid_loss;
        (void)snprintf(model, sizeof model, "%s/model.gguf", r.out_dir);
        assert_true(score_by_engine(model, "the cat sat on a mat") < 6.0);
    }
    (void)snprintf(model, sizeof model, "%s", in_temp("from0/model.gguf"));
    plan_run(&r, "on");
    r.params.model_path = model;
    r.params.tokenizer_path = NULL;
    r.params.rope_base = 40000.0;
    r.params.context = 100;
    expect_run(&r);
    assert_true(r.result.valid_loss < first - 0.1);
    char *json;
    lf_error err;
    assert_ok(lf_inspect(in_temp("on/model.gguf"), 0, 1, LF_DTYPE_BF16, &json, &err), &err);
    assert_non_null(strstr(json, "40000"));
    free(json);
}

/* A page learnt by heart: through the command, and said again by it. */
static void test_page_by_heart(void **state)
{
    (void)state;
    static const char page[] =
        "once a fat cat had a red hat and ten tan mats and the hat was on the cat and the cat was on "
        "a mat then one old dog came in and sat on the hat of the cat";
    require_binary();
    write_file(in_temp("page.txt"), page, strlen(page));
    const int code = run_command((const char *const[]){"train",
                                                       "-o",
                                                       in_temp("run"),
                                                       "--init",
                                                       "dim=64,layers=2,heads=2,ffn=128",
                                                       "--tokenizer",
                                                       golden_path("token/plain.model"),
                                                       "--data",
                                                       in_temp("page.txt"),
                                                       "--context",
                                                       "256",
                                                       "--batch",
                                                       "256",
                                                       "--steps",
                                                       "150",
                                                       "--warmup",
                                                       "10",
                                                       "--lr",
                                                       "0.01",
                                                       "-t",
                                                       "1",
                                                       "--valid",
                                                       in_temp("page.txt"),
                                                       NULL});
    if (code != 0) fail_msg("exit status %d: %s", code, read_file(in_temp("err"), NULL));
    char *log = read_log("run"), *loss = strstr(log, "\"valid_loss\":");
    for (char *next = loss; next; next = strstr(next + 1, "\"valid_loss\":")) loss = next;
    assert_non_null(loss);
    if (!(strtod(loss + 13, NULL) < 0.05)) fail_msg("found %.60s, expected a loss below 0.05", loss);
    free(log);
    assert_int_equal(run_command((const char *const[]){"run", "-m", in_temp("run/model.gguf"), "-p",
                                                       "once a fat", "-n", "200", "-t", "1", "-q", NULL}),
                     0);
    char *text = read_file(in_temp("out"), NULL);
    text[strlen(text) - 1] = '\0'; /* the command ends its output with a newline */
    assert_string_equal(text, page);
    free(text);
}

static void test_held_out_share(void **state)
{
    (void)state;
    run r;
    plan_run(&r, "run");
    r.params.n_valid = 0;
    r.params.hold_out = 0.2;
    expect_run(&r);
    assert_true(isfinite(r.result.valid_loss));
    plan_run(&r, "none");
    r.params.n_valid = 0;
    expect_run(&r);
    assert_true(isnan(r.result.valid_loss));
}

/* ---- the command's words ---- */

static void test_usage(void **state)
{
    (void)state;
    static const struct {
        const char *args[8];
        int code;
        const char *fragment;
    } cases[] = {
        {{"train"}, 2, "-o DIR"},
        {{"train", "-o", "x"}, 2, "--data FILE"},
        {{"train", "-o", "x", "--data", "y"}, 2, "-m PATH or --init SHAPE"},
        {{"train", "-o", "x", "--data", "y", "--init", "dim=64,size=2"}, 2, "found \"size\""},
        {{"train", "-o", "x", "--steps", "1.5"}, 2, "--steps: found \"1.5\""},
        {{"train", "-o", "x", "--steps", "2Mx"}, 2, "--steps: found \"2Mx\""},
        {{"train", "-o", "x", "--schedule", "linear"}, 2, "expected cosine, wsd or constant"},
        {{"train", "-o", "x", "--lora", "0"}, 2, "--lora"},
        {{"train", "-o", "x", "more"}, 2, "found argument \"more\""},
        {{"train", "-o", "/dev/null/x", "--resume"}, 1, "options.json"},
        {{"plot"}, 2, "LOG"},
        {{"plot", "x"}, 2, "-o FILE"},
        {{"plot", "x", "-o", "x.gif"}, 2, "ends in .png or .svg"},
        {{"plot", "/dev/null/x", "-o", "x.svg"}, 1, "cannot open"},
        {{"plot", "/dev/null", "-o", "x.svg"}, 1, "found no step"},
    };
    require_binary();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(run_command(cases[i].args), cases[i].code);
        expect_said(cases[i].fragment);
    }
}

static void test_plot(void **state)
{
    (void)state;
    run r;
    size_t size;
    require_binary();
    plan_run(&r, "it's");
    expect_run(&r);
    char *path = strdup(getenv("PATH"));
    const char *const args[] = {"plot", in_temp("it's/log.jsonl"), "-o", in_temp("curve.svg"), NULL};
    assert_int_equal(setenv("PATH", "/nonexistent", 1), 0);
    const int without = run_command(args);
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
    assert_int_equal(without, 1);
    expect_said("gnuplot: not found");
    if (system("command -v gnuplot >/dev/null") != 0) { /* NOLINT: the command is the test's own */
        print_message("skipped: gnuplot is not installed\n");
        skip();
    }
    assert_int_equal(run_command(args), 0);
    char *svg = read_file(in_temp("curve.svg"), &size);
    assert_non_null(strstr(svg, "<svg"));
    assert_non_null(strstr(svg, "validation"));
    assert_non_null(strstr(svg, "position in the context"));
    free(svg);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter, leave_temp)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_stopped_runs),
        IN_FOLDER(test_shows_change_nothing),
        IN_FOLDER(test_killed_runs),
        IN_FOLDER(test_interrupted_run),
        IN_FOLDER(test_disk_full),
        IN_FOLDER(test_folder_in_use),
        IN_FOLDER(test_not_a_number),
        IN_FOLDER(test_diverging),
        IN_FOLDER(test_bad_parameters),
        IN_FOLDER(test_other_checkpoints),
        IN_FOLDER(test_damaged_checkpoints),
        IN_FOLDER(test_forged_checkpoint),
        IN_FOLDER(test_validation_is_the_engines),
        IN_FOLDER(test_goes_on_from_model),
        IN_FOLDER(test_page_by_heart),
        IN_FOLDER(test_held_out_share),
        IN_FOLDER(test_usage),
        IN_FOLDER(test_plot),
    };
    find_program(binary, sizeof binary);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

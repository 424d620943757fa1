/* Distillation without memory: with one allocation after the other failing, a run says so, leaks nothing
 * and leaves nothing half written; what is there afterwards ends in the bits of an unbroken run. */
#include "oom.h"
#include "train_run_fixture.h"

#include <stdio.h>
#include <string.h>

/* temp/target/model.gguf, a smaller temp/draft/model.gguf, and temp/target.traj: what the target says. */
static int make_inputs(void **state)
{
    static const char prompts[] = "{\"prompt\": \"the cat\"}\n{\"prompt\": \"a mat and\"}\n";
    lf_error err;
    lf_distill_collect_params p;
    const char *const names[] = {"target", "draft"};
    (void)enter_train_temp(state);
    for (int i = 0; i < 2; i++) {
        train_run r;
        plan_train_run(&r, names[i]);
        r.params.n_steps = 1;
        r.params.n_valid = 0;
        r.params.dtype = LF_DTYPE_F32;
        r.params.shape.ffn_dim = i == 0 ? 64 : 32;
        expect_train_run(&r);
    }
    write_file(in_temp("prompts.jsonl"), prompts, strlen(prompts));
    lf_distill_collect_params_init(&p);
    p.engine.model_path = in_temp("target/model.gguf");
    p.engine.n_threads = 1;
    p.prompts_path = in_temp("prompts.jsonl");
    p.out_path = in_temp("target.traj");
    p.block = 4;
    p.max_tokens = 8;
    p.repeat_tokens = p.repeat_sentences = 0;
    assert_ok(lf_distill_collect(&p, &err), &err);
    return 0;
}

/* Two steps, judged before and after, that read ground truth besides (`labels`) or follow a teacher. */
typedef struct distilling {
    lf_distill_train_params p;
    lf_train_input labels;
    char out_dir[512], model[512], teacher[512], file[512], text[512];
    const char *files[1];
} distilling;

static void plan_distilling(distilling *d, const char *folder, bool follows)
{
    (void)snprintf(d->out_dir, sizeof d->out_dir, "%s", in_temp(folder));
    (void)snprintf(d->model, sizeof d->model, "%s",
                   in_temp(follows ? "draft/model.gguf" : "target/model.gguf"));
    (void)snprintf(d->teacher, sizeof d->teacher, "%s", in_temp("target/model.gguf"));
    (void)snprintf(d->file, sizeof d->file, "%s", in_temp("target.traj"));
    (void)snprintf(d->text, sizeof d->text, "%s", in_temp("train.txt"));
    d->files[0] = d->file;
    d->labels = (lf_train_input){d->text, 1.0};
    lf_distill_train_params_init(&d->p);
    d->p.recipe = follows ? LF_DISTILL_RKL : LF_DISTILL_PROGRESSIVE;
    d->p.trajectories = d->p.valid = d->files;
    d->p.n_trajectories = d->p.n_valid = 1;
    d->p.window = 2;
    d->p.measure_prompts = 1;
    d->p.train.out_dir = d->out_dir;
    d->p.train.model_path = d->model;
    d->p.train.dtype = LF_DTYPE_F32;
    d->p.train.context = 64;
    d->p.train.batch_tokens = d->p.train.micro_rows = 128;
    d->p.train.n_steps = 2;
    d->p.train.valid_every = 0;
    d->p.train.n_threads = 1;
    d->p.train.checkpoint_minutes = 0;
    if (follows)
        d->p.teacher_path = d->teacher;
    else
        d->p.train.data = &d->labels, d->p.train.n_data = 1;
}

static lf_status distill(void *params, lf_error *err)
{
    return lf_distill_train(params, err);
}

static void test_memory_failures(void **state)
{
    (void)state;
    oom_require();
    for (int follows = 0; follows < 2; follows++) {
        distilling whole, d;
        lf_error err;
        bool some_failed = true;
        plan_distilling(&whole, "whole/run", follows);
        plan_distilling(&d, "run", follows);
        remove_tree(whole.out_dir);
        assert_ok(lf_distill_train(&whole.p, &err), &err); /* with what is allocated once */
        for (long n = 1; some_failed; n += 1 + n / (TESTS_SHORT ? 8 : 40)) {
            lf_status status;
            remove_tree(d.out_dir);
            some_failed = oom_attempt(&status, n, distill, &d.p);
            if (status == LF_OK) expect_same_train_log("whole/run", "run");
            assert_false(temp_has("run/checkpoint.tmp") || temp_has("run/sample.gguf") ||
                         temp_has("run/model.gguf.tmp"));
        }
        expect_same_file(in_temp("whole/run/model.gguf"), in_temp("run/model.gguf"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory_failures, make_inputs, leave_temp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "train_run_fixture.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void write_train_text(const char *name, int n_docs, uint64_t seed)
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

int enter_train_temp(void **state)
{
    (void)enter_temp(state);
    write_train_text("train.txt", 60, 1);
    write_train_text("valid.txt", 6, 2);
    return 0;
}

bool temp_has(const char *name)
{
    return access(in_temp(name), F_OK) == 0;
}

static bool on_event(void *cookie, const lf_train_event *e)
{
    train_run *r = cookie;
    assert_int_equal(e->size, sizeof *e);
    if (e->kind == LF_TRAIN_VALIDATION) r->validation = *e;
    if (e->kind == LF_TRAIN_SAMPLE) r->n_samples += strncmp(e->text, "the ", 4) == 0;
    if (e->kind == LF_TRAIN_CHECKPOINT) r->n_checkpoints++;
    return e->kind != LF_TRAIN_STEP || e->step != r->stop_at;
}

void plan_train_run(train_run *r, const char *folder)
{
    *r = (train_run){.stop_at = -1, .result.size = sizeof r->result};
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
    r->params.n_steps = TRAIN_RUN_STEPS;
    r->params.warmup_steps = 4;
    r->params.lr = 5e-3;
    r->params.valid_every = 7;
    r->params.n_threads = 1;
    r->params.on_event = on_event;
    r->params.cookie = r;
    r->params.result = &r->result;
}

void expect_train_run(train_run *r)
{
    lf_error err = {0};
    assert_ok(lf_train(&r->params, &err), &err);
    assert_int_equal(r->result.step, r->params.n_steps);
}

void expect_train_failure(train_run *r, lf_status expected, const char *fragment)
{
    lf_error err = {0};
    const lf_status found = lf_train(&r->params, &err);
    if (found == expected && strstr(err.text, fragment)) return;
    fail_msg("found %s: \"%s\", expected %s: \"%s\"", lf_status_name(found), err.text,
             lf_status_name(expected), fragment);
}

char *read_train_log(const char *folder)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/log.jsonl", folder);
    char *text = read_file(in_temp(path), NULL), *to = text;
    for (const char *from = text; *from;) {
        if (strncmp(from, ",\"tokens_per_s\":", 16) == 0) from += 16 + strcspn(from + 16, ",}");
        *to++ = *from++;
    }
    *to = '\0';
    return text;
}

void expect_same_train_log(const char *a, const char *b)
{
    char *a_text = read_train_log(a), *b_text = read_train_log(b);
    assert_string_equal(a_text, b_text);
    free(a_text);
    free(b_text);
}

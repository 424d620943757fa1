/* Checkpoints: damaged, forged or of another run, they are refused, and nothing is filled from them. */
#include "train_run_fixture.h"

#include "train/checkpoint.h"
#include "train/data_hash.h"

#include <stdlib.h>
#include <string.h>

/* A checkpoint of another run, by each thing that may be different, and the fragment that names it. */
static void test_other_checkpoints(void **state)
{
    (void)state;
    train_run r;
    plan_train_run(&r, "run");
    r.stop_at = 2;
    expect_train_failure(&r, LF_ECANCELED, "step 2");
#define EXPECT_OTHER(change, fragment)                                                                       \
    do {                                                                                                     \
        plan_train_run(&r, "run");                                                                           \
        r.params.resume = true;                                                                              \
        change;                                                                                              \
        expect_train_failure(&r, LF_EINVAL, fragment);                                                       \
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
    write_train_text("train.txt", 61, 1);
    EXPECT_OTHER((void)0, "data");
    write_train_text("train.txt", 60, 1);
    plan_train_run(&r, "run");
    r.params.resume = true;
    expect_train_run(&r);
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
    train_run r;
    size_t size;
    plan_train_run(&r, "run");
    r.stop_at = 2;
    expect_train_failure(&r, LF_ECANCELED, "step 2");
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
        expect_train_failure(&r, LF_EFORMAT, "run/checkpoint: checkpoint: found step");
    }
    free(bytes);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_train_temp, leave_temp)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_other_checkpoints),
        IN_FOLDER(test_damaged_checkpoints),
        IN_FOLDER(test_forged_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

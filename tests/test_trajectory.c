/* Trajectory files: round trips, cuts at every byte, damage in every byte, forgeries, going on; and what
 * is counted, filtered and augmented in a trajectory. */
#include "testing.h"

#include "file_tools.h"
#include "oom.h"
#include "train/data_hash.h"
#include "train/trajectory_count.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { N_VOCAB = 50, N = 4, N_PROMPTS = 9, HEADER = LF_TRAJECTORY_HEADER, HEAD = LF_TRAJECTORY_HEAD };

static const lf_trajectory_info info = {.n_vocab = N_VOCAB,
                                        .vocab_hash = 7,
                                        .model_hash = 8,
                                        .prompts_hash = 9,
                                        .n_prompts = N_PROMPTS,
                                        .n = N,
                                        .seed = UINT64_C(1) << 60,
                                        .temperature = 0.5f,
                                        .top_p = 1.0f,
                                        .max_tokens = 12,
                                        .augment = 0.5f};

/* A trajectory of its own for each prompt; every third prompt is dropped. */
typedef struct sample {
    lf_trajectory t;
    lf_trajectory_note note;
    int32_t prompt[8], n_states[3], states[3 * 5 * N];
} sample;

static void make_sample(sample *s, int i)
{
    uint64_t rng = 100 + (uint64_t)i;
    *s = (sample){.note = {.i_prompt = i, .passes = 3 * i, .stationary = i, .fast_forwarded = 1.25 * i}};
    s->t = (lf_trajectory){.prompt = s->prompt,
                           .n_prompt = 1 + i % 8,
                           .n = N,
                           .n_blocks = 1 + i % 3,
                           .n_states = s->n_states,
                           .states = s->states};
    s->t.n_output = s->note.n_output = s->t.n_blocks * N - i % N;
    for (int b = 0; b < 3; b++) s->n_states[b] = 1 + (i + b) % 5;
    for (int k = 0; k < 8; k++) s->prompt[k] = (int32_t)(rng_next(&rng) % N_VOCAB);
    for (int k = 0; k < 3 * 5 * N; k++) s->states[k] = (int32_t)(rng_next(&rng) % N_VOCAB);
    if (i % 3 == 2) s->note.drop = (lf_trajectory_drop)(1 + i % 4);
}

static void add_samples(lf_trajectory_writer *w, int64_t first, int64_t end)
{
    sample s;
    lf_error err;
    for (int64_t i = first; i < end; i++) {
        make_sample(&s, (int)i);
        assert_ok(lf_trajectory_writer_add(w, s.note.drop ? NULL : &s.t, &s.note, &err), &err);
    }
}

static void write_samples(const char *path, int64_t n)
{
    lf_trajectory_writer *w;
    lf_error err;
    int64_t n_records;
    assert_ok(lf_trajectory_writer_open(&w, &n_records, path, &info, &err), &err);
    assert_int_equal(n_records, 0);
    add_samples(w, 0, n);
    lf_trajectory_writer_close(w);
}

static void expect_samples(const lf_trajectory_file *f, int64_t n_records)
{
    sample s;
    int64_t n = 0;
    assert_memory_equal(&f->info, &info, sizeof info);
    assert_int_equal(f->n_records, n_records);
    for (int i = 0; i < n_records; i++) {
        make_sample(&s, i);
        if (s.note.drop) continue;
        const lf_trajectory t = lf_trajectory_file_get(f, n);
        const lf_trajectory_note note = lf_trajectory_file_note(f, n);
        n++;
        size_t n_states = 0;
        for (int b = 0; b < t.n_blocks; b++) n_states += (size_t)t.n_states[b];
        assert_true(t.n_prompt == s.t.n_prompt && t.n == N && t.n_blocks == s.t.n_blocks &&
                    t.n_output == s.t.n_output);
        assert_memory_equal(t.prompt, s.prompt, (size_t)t.n_prompt * sizeof *t.prompt);
        assert_memory_equal(t.n_states, s.n_states, (size_t)t.n_blocks * sizeof *t.n_states);
        assert_memory_equal(t.states, s.states, n_states * N * sizeof *t.states);
        assert_true(note.i_prompt == i && note.passes == s.note.passes &&
                    note.stationary == s.note.stationary && note.n_output == s.t.n_output &&
                    note.fast_forwarded == s.note.fast_forwarded);
    }
    assert_int_equal(f->n, n);
}

static void test_round_trip(void **state)
{
    (void)state;
    lf_trajectory_file f;
    lf_error err;
    lf_trajectory_writer *w;
    int64_t n_records;
    write_samples(in_temp("whole"), N_PROMPTS - 4);
    assert_ok(lf_trajectory_writer_open(&w, &n_records, in_temp("whole"), &info, &err), &err);
    assert_int_equal(n_records, N_PROMPTS - 4);
    add_samples(w, n_records, N_PROMPTS);
    assert_ok(lf_trajectory_writer_sync(w, &err), &err);
    lf_trajectory_writer_close(w);
    assert_ok(lf_trajectory_file_open(&f, in_temp("whole"), &err), &err);
    expect_samples(&f, N_PROMPTS);
    assert_int_equal(f.torn_bytes, 0);
    /* prompts 2, 5 and 8 were dropped */
    assert_int_equal(f.n_dropped[1 + 2 % 4] + f.n_dropped[1 + 5 % 4] + f.n_dropped[1 + 8 % 4], 3);
    assert_int_equal(f.n_dropped[LF_TRAJECTORY_KEPT], 0);
    lf_trajectory_file_close(&f);
}

/* How many records lie whole in the first n bytes of the file. */
static int64_t whole_records(const char *bytes, size_t size, size_t n, bool *at_border)
{
    int64_t count = 0;
    size_t at = HEADER;
    while (at < size) {
        uint32_t sizes[3];
        memcpy(sizes, bytes + at + 16, sizeof sizes);
        at += HEAD + ((sizes[0] + sizes[1] + (size_t)sizes[2] * N) * 4 + 7) / 8 * 8;
        if (at > n) break;
        count++;
        *at_border = *at_border || at == n;
    }
    return count;
}

/* A file that was cut has the records before the cut, for reading and for going on, which ends with the
 * same bytes. */
static void test_cut_files(void **state)
{
    (void)state;
    size_t size, again_size;
    write_samples(in_temp("whole"), N_PROMPTS);
    char *bytes = read_file(in_temp("whole"), &size);
    for (size_t n = 0; n < size; n += n < HEADER ? 16 : 1) {
        lf_trajectory_file f;
        lf_trajectory_writer *w;
        lf_error err = {0};
        int64_t n_records;
        bool at_border = n == HEADER;
        const int64_t expected = whole_records(bytes, size, n, &at_border);
        write_file(in_temp("cut"), bytes, n);
        if (n < HEADER) {
            assert_int_equal(lf_trajectory_file_open(&f, in_temp("cut"), &err), n ? LF_EFORMAT : LF_EIO);
        } else {
            assert_ok(lf_trajectory_file_open(&f, in_temp("cut"), &err), &err);
            expect_samples(&f, expected);
            assert_int_equal(f.torn_bytes > 0, !at_border);
            lf_trajectory_file_close(&f);
        }
        assert_ok(lf_trajectory_writer_open(&w, &n_records, in_temp("cut"), &info, &err), &err);
        assert_int_equal(n_records, n < HEADER ? 0 : expected);
        add_samples(w, n_records, N_PROMPTS);
        lf_trajectory_writer_close(w);
        char *again = read_file(in_temp("cut"), &again_size);
        assert_int_equal(again_size, size);
        assert_memory_equal(again, bytes, size);
        free(again);
    }
    free(bytes);
}

static void expect_refused(const char *bytes, size_t size, const char *fragment)
{
    lf_trajectory_file f;
    lf_error err = {0};
    write_file(in_temp("bad"), bytes, size);
    assert_error(lf_trajectory_file_open(&f, in_temp("bad"), &err), LF_EFORMAT, &err, fragment);
}

/* With any byte changed it is refused, and the record named; only damage in the last record can be mended,
 * by a writer. */
static void test_damaged_files(void **state)
{
    (void)state;
    size_t size;
    write_samples(in_temp("whole"), N_PROMPTS);
    char *bytes = read_file(in_temp("whole"), &size);
    for (size_t i = 0; i < size; i++) {
        bool at_border = false;
        char fragment[64] = "trajectory file";
        lf_trajectory_writer *w;
        lf_error err = {0};
        int64_t n_records;
        const int64_t record = whole_records(bytes, size, i, &at_border);
        bytes[i] ^= 0x20;
        if (i >= HEADER) (void)snprintf(fragment, sizeof fragment, "record %lld (byte", (long long)record);
        expect_refused(bytes, size, fragment);
        const lf_status status = lf_trajectory_writer_open(&w, &n_records, in_temp("bad"), &info, &err);
        if (status == LF_OK) {
            assert_int_equal(record, N_PROMPTS - 1);
            assert_int_equal(n_records, N_PROMPTS - 1);
            lf_trajectory_writer_close(w);
        } else {
            assert_int_equal(status, LF_EFORMAT);
        }
        bytes[i] ^= 0x20;
    }
    free(bytes);
}

/* Zeros are what a power cut leaves of a record; anything else behind the last record is not ours. */
static void test_what_lies_behind(void **state)
{
    (void)state;
    size_t size;
    lf_trajectory_file f;
    lf_error err;
    write_samples(in_temp("whole"), 4);
    char *bytes = read_file(in_temp("whole"), &size);
    bytes = realloc(bytes, size + 1000);
    assert_non_null(bytes);
    memset(bytes + size, 0, 1000);
    write_file(in_temp("zeros"), bytes, size + 1000);
    assert_ok(lf_trajectory_file_open(&f, in_temp("zeros"), &err), &err);
    expect_samples(&f, 4);
    assert_int_equal(f.torn_bytes, 1000);
    lf_trajectory_file_close(&f);
    memset(bytes + size, 7, 1000);
    expect_refused(bytes, size + 1000, "record 4 (byte");
    free(bytes);
    write_samples(in_temp("all"), N_PROMPTS);
    bytes = read_file(in_temp("all"), &size);
    expect_refused(bytes, size + 1, "behind the last record"); /* the NUL that read_file adds */
    free(bytes);
}

/* Changes 4 bytes of record 0 and mends the checksums. */
static void expect_forgery_refused(const char *bytes, size_t size, size_t at, uint32_t value,
                                   const char *fragment)
{
    char *copy = malloc(size);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    memcpy(copy + at, &value, sizeof value);
    if (at < HEADER) {
        lf_data_hash hash = {0};
        lf_data_hash_add(&hash, copy, HEADER - 8);
        const uint64_t v = lf_data_hash_value(&hash);
        memcpy(copy + HEADER - 8, &v, 8);
    } else {
        lf_data_hash body = {0}, head = {0};
        uint32_t sizes[3];
        memcpy(sizes, bytes + HEADER + 16, sizeof sizes);
        lf_data_hash_add(&body, copy + HEADER + HEAD,
                         ((sizes[0] + sizes[1] + (size_t)sizes[2] * N) * 4 + 7) / 8 * 8);
        uint64_t v = lf_data_hash_value(&body);
        memcpy(copy + HEADER + 48, &v, 8);
        lf_data_hash_add(&head, copy + HEADER, HEAD - 8);
        v = lf_data_hash_value(&head);
        memcpy(copy + HEADER + 56, &v, 8);
    }
    expect_refused(copy, size, fragment);
    free(copy);
}

static void test_forged_files(void **state)
{
    (void)state;
    size_t size;
    write_samples(in_temp("whole"), N_PROMPTS);
    char *bytes = read_file(in_temp("whole"), &size);
    const struct {
        size_t at;
        uint32_t value;
        const char *fragment;
    } forgeries[] = {
        {8, 2, "version 2"},
        {12, 0, "0 tokens"},
        {12, N_VOCAB / 2, "record 0"},
        {48, 1, "blocks of 1"},
        {48, 65, "blocks of 65"},
        {52, 2, "fill 2"},
        {HEADER + 4, 5, "record 0 (byte 128): found an unknown reason"},
        {HEADER + 4, 1, "a dropped prompt with states"},
        {HEADER + 8, 1, "record 0"},
        {HEADER + 20, 0x7FFFFFFF, "record 0"},
        {HEADER + 28, 0, "an output that does not end in its last block"},
        {HEADER + 28, N + 1, "an output that does not end in its last block"},
        {HEADER + 32, 0x80000000u, "a count"},
        {HEADER + 44, 0x7FF00000u, "a count"},
        {HEADER + HEAD, N_VOCAB, "a prompt's token"},
        {HEADER + HEAD, 0x80000000u, "a prompt's token"},
        {HEADER + HEAD + 4, 0, "a block without a state"},
        {HEADER + HEAD + 4, 2, "more or fewer states"},
        {HEADER + HEAD + 8, N_VOCAB, "a state's token"},
    };
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++)
        /* a record that claims more than there is was cut off, as far as anyone can tell */
        if (forgeries[i].at != HEADER + 20)
            expect_forgery_refused(bytes, size, forgeries[i].at, forgeries[i].value, forgeries[i].fragment);
    free(bytes);
}

static void expect_other(const lf_trajectory_info *other, const char *fragment)
{
    lf_trajectory_writer *w;
    lf_error err = {0};
    int64_t n_records;
    assert_error(lf_trajectory_writer_open(&w, &n_records, in_temp("whole"), other, &err), LF_EINVAL, &err,
                 fragment);
}

#define EXPECT_OTHER(change, fragment)                                                                       \
    do {                                                                                                     \
        lf_trajectory_info o = info;                                                                         \
        change;                                                                                              \
        expect_other(&o, fragment);                                                                          \
    } while (0)

static void test_other_collections(void **state)
{
    (void)state;
    lf_trajectory_writer *w, *second;
    lf_error err = {0};
    int64_t n_records;
    write_samples(in_temp("whole"), 5);
    EXPECT_OTHER(o.n_prompts++, "prompts: found 9, expected 10");
    EXPECT_OTHER(o.n++, "tokens of a block");
    EXPECT_OTHER(o.n_vocab++, "vocabulary");
    EXPECT_OTHER(o.fill++, "fill");
    EXPECT_OTHER(o.seed++, "another seed"); /* in its last bit, which a double does not have */
    EXPECT_OTHER(o.temperature = 0, "temperature: found 0.5, expected 0");
    EXPECT_OTHER(o.top_p = 0.5f, "top_p");
    EXPECT_OTHER(o.min_p = 0.5f, "min_p");
    EXPECT_OTHER(o.top_k++, "top_k");
    EXPECT_OTHER(o.max_tokens++, "max_tokens");
    EXPECT_OTHER(o.augment = 0, "augment");
    EXPECT_OTHER(o.repeat_tokens++, "repeat_tokens");
    EXPECT_OTHER(o.repeat_sentences++, "repeat_sentences");
    EXPECT_OTHER(o.vocab_hash++, "another vocabulary");
    EXPECT_OTHER(o.model_hash++, "another model");
    EXPECT_OTHER(o.prompts_hash++, "another prompts");
    write_file(in_temp("text"), "a short note\n", 13);
    assert_error(lf_trajectory_writer_open(&w, &n_records, in_temp("text"), &info, &err), LF_EFORMAT, &err,
                 "no trajectory file");
    assert_error(lf_trajectory_writer_open(&w, &n_records, in_temp("."), &info, &err), LF_EIO, &err, "");
    assert_ok(lf_trajectory_writer_open(&w, &n_records, in_temp("whole"), &info, &err), &err);
    assert_error(lf_trajectory_writer_open(&second, &n_records, in_temp("whole"), &info, &err), LF_EIO, &err,
                 "another collection is writing it");
    lf_trajectory_writer_close(w);
}

/* A full disk is an error, and the file goes on when there is room again. */
static void test_full_disk(void **state)
{
    (void)state;
    size_t size, again_size;
    lf_trajectory_writer *w;
    sample s;
    lf_error err = {0};
    int64_t n_records;
    struct rlimit before;
    write_samples(in_temp("whole"), N_PROMPTS);
    char *whole = read_file(in_temp("whole"), &size);
    write_samples(in_temp("full"), 0);
    assert_ok(lf_trajectory_writer_open(&w, &n_records, in_temp("full"), &info, &err), &err);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){size / 2, before.rlim_max}), 0);
    lf_status status = LF_OK;
    for (int i = 0; status == LF_OK; i++) {
        make_sample(&s, i);
        status = lf_trajectory_writer_add(w, s.note.drop ? NULL : &s.t, &s.note, &err);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_error(status, LF_EIO, &err, "cannot write");
    lf_trajectory_writer_close(w);
    assert_ok(lf_trajectory_writer_open(&w, &n_records, in_temp("full"), &info, &err), &err);
    assert_in_range(n_records, 1, N_PROMPTS - 1);
    add_samples(w, n_records, N_PROMPTS);
    lf_trajectory_writer_close(w);
    char *again = read_file(in_temp("full"), &again_size);
    assert_int_equal(again_size, size);
    assert_memory_equal(again, whole, size);
    free(again);
    free(whole);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    oom_require();
    write_samples(in_temp("whole"), N_PROMPTS);
    for (long n = 1;; n++) {
        lf_trajectory_file f = {0};
        lf_trajectory_writer *w = NULL;
        sample s;
        lf_error err;
        int64_t n_records = 0;
        (void)unlink(in_temp("new"));
        write_samples(in_temp("new"), 0);
        make_sample(&s, 0);
        const long live = oom_live();
        oom_fail_at(n);
        lf_status status = lf_trajectory_file_open(&f, in_temp("whole"), &err);
        if (status == LF_OK) status = lf_trajectory_writer_open(&w, &n_records, in_temp("new"), &info, &err);
        if (status == LF_OK) status = lf_trajectory_writer_add(w, &s.t, &s.note, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        lf_trajectory_file_close(&f);
        lf_trajectory_writer_close(w);
        assert_int_equal(oom_live(), live);
        if (all_succeeded) {
            assert_int_equal(status, LF_OK);
            break;
        }
        assert_int_equal(status, LF_ENOMEM);
    }
}

/* ---- counts ---- */

/* CLLM's evaluation code, as research describes it, word for word: run lengths by position, states 1 to k. */
static lf_block_counts count_as_cllm(const int32_t *states, int n_states, int n, int n_output)
{
    const int k = n_states - 1;
    const int32_t *right = states + k * n;
    int run[LF_TRAJECTORY_N_MAX] = {0}, joined[LF_TRAJECTORY_N_MAX] = {0}, contiguous = 0;
    double grown = 0;
    for (int j = 1; j <= k; j++) {
        int n_new = 0;
        for (int i = 0; i < n_output; i++) run[i] = states[j * n + i] == right[i] ? run[i] + 1 : 0;
        for (int i = 0; i < n_output && states[j * n + i] == right[i]; i++) {
            if (i + 1 <= contiguous) continue;
            n_new++;
            joined[i] = j;
        }
        contiguous += n_new;
        grown += n_new;
    }
    lf_block_counts c = {.iterations = k < 1 ? 1 : k, .fast_forwarded = k < 1 ? n_output : grown / k};
    for (int i = 0; i < n_output; i++) c.stationary += joined[i] > 0 && run[i] > k - joined[i] + 1;
    return c;
}

/* Random trajectories as Jacobi decoding makes them: the right prefix grows by one token at least, the
 * rest comes and goes. */
static void test_counts(void **state)
{
    (void)state;
    enum { WIDTH = 12 };
    int32_t states[(WIDTH + 1) * WIDTH];
    uint64_t rng = 1;
    int n_stationary = 0;
    for (int round = 0; round < 2000; round++) {
        const int n_output = 1 + (int)(rng_next(&rng) % WIDTH);
        int32_t right[WIDTH];
        int n_states = 1, prefix = 0;
        for (int i = 0; i < WIDTH; i++) right[i] = (int32_t)(rng_next(&rng) % 9);
        for (int i = 0; i < WIDTH; i++) states[i] = (int32_t)(rng_next(&rng) % 9);
        for (; prefix < n_output; n_states++) {
            int32_t *s = states + n_states * WIDTH;
            for (int i = 0; i < WIDTH; i++)
                s[i] = i <= prefix || rng_next(&rng) % 2 || i >= n_output ? right[i] : 10;
            prefix = 0;
            while (prefix < n_output && s[prefix] == right[prefix]) prefix++;
        }
        const lf_block_counts found = lf_count_block(states, n_states, WIDTH, n_output),
                              expected = count_as_cllm(states, n_states, WIDTH, n_output);
        assert_int_equal(found.iterations, expected.iterations);
        assert_int_equal(found.stationary, expected.stationary);
        assert_true(found.fast_forwarded - expected.fast_forwarded < 1e-12 &&
                    expected.fast_forwarded - found.fast_forwarded < 1e-12);
        n_stationary += found.stationary;
    }
    assert_true(n_stationary > 1000);
}

/*   right    1 2 3 4
 *   state 0  9 2 9 9
 *   state 1  1 9 3 9    the prefix grows by 1
 *   state 2  1 2 3 9    by 2; the 3 was right before
 *   state 3  1 2 3 4    by 1 */
static void test_counts_by_hand(void **state)
{
    (void)state;
    const int32_t states[] = {9, 2, 9, 9, 1, 9, 3, 9, 1, 2, 3, 9, 1, 2, 3, 4, 5, 6, 6, 6};
    const int32_t n_states[] = {4, 1};
    const lf_block_counts c = lf_count_block(states, 4, 4, 4);
    assert_int_equal(c.iterations, 3);
    assert_int_equal(c.stationary, 1);
    assert_true(c.fast_forwarded == 4.0 / 3.0);
    assert_int_equal(lf_count_block(states, 4, 4, 2).stationary, 0);
    /* a block whose first guess is right, and which ends with its second token */
    const lf_trajectory t = {.n = 4, .n_blocks = 2, .n_states = n_states, .states = states, .n_output = 6};
    const lf_block_counts sum = lf_count_trajectory(&t);
    assert_int_equal(sum.iterations, 4);
    assert_int_equal(sum.stationary, 1);
    assert_true(sum.fast_forwarded == (4.0 / 3.0 + 2.0) / 2.0);
}

/* ---- augmentation and filters ---- */

static void test_augmentation(void **state)
{
    (void)state;
    enum { WIDTH = 16, K = 6 };
    int32_t states[2 * K * WIDTH], original[2 * K * WIDTH], n_states[] = {K, K}, again[2 * K * WIDTH];
    int n_set = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        uint64_t rng = seed;
        for (int i = 0; i < 2 * K * WIDTH; i++) states[i] = (int32_t)(rng_next(&rng) % 4);
        memcpy(original, states, sizeof states);
        memcpy(again, states, sizeof states);
        const lf_trajectory t = {
            .n = WIDTH, .n_blocks = 2, .n_states = n_states, .states = states, .n_output = 2 * WIDTH};
        lf_trajectory_augment(states, &t, 0.5f, seed);
        lf_trajectory_augment(again, &t, 0.5f, seed);
        assert_memory_equal(states, again, sizeof states);
        for (int j = 0; j < 2 * K; j++) {
            const int32_t *right = original + (j / K * K + K - 1) * WIDTH, *was = original + j * WIDTH,
                          *is = states + j * WIDTH;
            int n_wrong = 0, n_changed = 0;
            for (int i = 0; i < WIDTH; i++) {
                const bool changed = is[i] != was[i];
                if (changed) assert_true(is[i] == right[i] && n_wrong > 0); /* never the first wrong one */
                n_wrong += was[i] != right[i];
                n_changed += changed;
            }
            assert_true(n_changed <= n_wrong / 2);
            if (j % K >= K - 2) assert_int_equal(n_changed, 0);
            n_set += n_changed;
        }
        lf_trajectory_augment(original, &t, 0.0f, seed);
        assert_memory_equal(original + (2 * K - 2) * WIDTH, states + (2 * K - 2) * WIDTH,
                            2 * WIDTH * sizeof *states);
    }
    assert_true(n_set > 200 * 2 * 4 * 2); /* of some 12 wrong tokens of a state, 6 draws */
}

static void test_repeated_tokens(void **state)
{
    (void)state;
    const int32_t ids[] = {5, 1, 1, 1, 2, 1, 1};
    assert_true(lf_repeats_token(ids, 7, 3));
    assert_true(lf_repeats_token(ids + 1, 3, 3));
    assert_false(lf_repeats_token(ids, 3, 3));
    assert_false(lf_repeats_token(ids + 4, 3, 3));
    assert_false(lf_repeats_token(ids, 7, 4));
    assert_true(lf_repeats_token(ids, 7, 1));
    assert_false(lf_repeats_token(ids, 7, 0));
    assert_false(lf_repeats_token(ids, 0, 1));
}

static void expect_sentences(const char *text, int limit, bool expected)
{
    if (lf_repeats_sentence(text, strlen(text), limit) != expected)
        fail_msg("\"%s\", %d: expected %s", text, limit, expected ? "a repetition" : "none");
}

static void test_repeated_sentences(void **state)
{
    (void)state;
    expect_sentences("He ran. He ran. He ran.", 3, true);
    expect_sentences("So: He ran. He ran. He ran.", 3, false);
    expect_sentences("He ran. He ran. She ran. He ran.", 3, false);
    expect_sentences("He ran.  He ran.\n\nHe ran.", 3, true);
    expect_sentences("x = 1\n  x = 1\nx = 1\n", 3, true);
    expect_sentences("x = 1\nx = 1\nx = 1", 3, true);
    expect_sentences("a 1.5 1.5 1.5", 2, false);
    expect_sentences("No! No! No?", 3, false);
    expect_sentences("No! No! No!", 3, true);
    expect_sentences(")\n)\n)\n)\n", 3, false);
    expect_sentences("Ja. \xC3\xA9. \xC3\xA9.", 2, true);
    expect_sentences("Once.", 1, true);
    expect_sentences("Once.", 0, false);
    expect_sentences("", 1, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_cut_files, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_damaged_files, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_what_lies_behind, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_forged_files, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_other_collections, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_full_disk, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_out_of_memory, enter_temp, leave_temp),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_counts_by_hand),
        cmocka_unit_test(test_augmentation),
        cmocka_unit_test(test_repeated_tokens),
        cmocka_unit_test(test_repeated_sentences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The trainer's data: token files and what is refused as one, permutations, pieces and packing against a
 * count of every target, texts and JSON lines into tokens; and the schedules. */
#include "testing.h"

#include "oom.h"
#include "train/data.h"
#include "train/data_hash.h"
#include "train/data_out.h"
#include "train/data_permute.h"
#include "train/data_text.h"
#include "train/schedule.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void expect_failure(lf_status found, lf_status expected, const lf_error *err, const char *fragment)
{
    if (found == expected && strstr(err->text, fragment)) return;
    fail_msg("found %s: \"%s\", expected %s: \"%s\"", lf_status_name(found), err->text,
             lf_status_name(expected), fragment);
}

/* ---- token files ---- */

/* Documents of 1 to 40 tokens; every third token does not count. */
static void write_tokens(const char *path, int n_docs, const lf_token_info *info)
{
    uint64_t rng = 5;
    lf_error err;
    lf_token_writer *w;
    assert_ok(lf_token_writer_open(&w, path, info, &err), &err);
    for (int d = 0; d < n_docs; d++) {
        const int n = 1 + (int)(rng_next(&rng) % 40);
        for (int i = 0; i < n; i++) {
            int32_t id = (int32_t)(rng_next(&rng) % (uint64_t)info->n_vocab);
            if (i == 0 && info->bos >= 0) id = info->bos;
            assert_ok(lf_token_writer_add(w, &id, 1, id % 3 != 0, &err), &err);
        }
        assert_ok(lf_token_writer_end(w, &err), &err);
        assert_ok(lf_token_writer_end(w, &err), &err); /* an empty document is none */
    }
    assert_ok(lf_token_writer_finish(w, &err), &err);
    lf_token_writer_close(w);
}

static void expect_round_trip(int n_vocab, int id_bytes)
{
    const lf_token_info info = {.n_vocab = n_vocab, .bos = -1, .vocab_hash = 7, .source_hash = 8};
    uint64_t rng = 5;
    lf_token_file f;
    lf_error err;
    int64_t at = 0;
    write_tokens(in_temp("tokens"), 50, &info);
    assert_true(lf_token_file_is(in_temp("tokens")));
    assert_ok(lf_token_file_open(&f, in_temp("tokens"), &err), &err);
    assert_memory_equal(&f.info, &info, sizeof info);
    assert_int_equal(f.n_docs, 50);
    assert_int_equal(f.id_bytes, id_bytes);
    for (int64_t d = 0; d < f.n_docs; d++) {
        int64_t first, end;
        const int n = 1 + (int)(rng_next(&rng) % 40);
        lf_token_file_document(&f, d, &first, &end);
        assert_int_equal(first, at);
        assert_int_equal(end, at + n);
        for (; at < end; at++) {
            const int32_t id = (int32_t)(rng_next(&rng) % (uint64_t)n_vocab);
            assert_int_equal(lf_token_file_id(&f, at), id);
            assert_int_equal(lf_token_file_counts(&f, at), id % 3 != 0);
            assert_int_equal(lf_token_file_find(&f, at), d);
        }
    }
    assert_int_equal(f.n_tokens, at);
    lf_token_file_close(&f);
    assert_int_equal(count_temp_files(), 1);
}

static void test_round_trip(void **state)
{
    (void)state;
    expect_round_trip(1 << 15, 2);
    expect_round_trip((1 << 15) + 1, 4);
    expect_round_trip(151936, 4);
}

static void expect_refused(const char *bytes, size_t size, const char *fragment)
{
    lf_token_file f;
    lf_error err = {0};
    write_file(in_temp("bad"), bytes, size);
    const lf_status status = lf_token_file_open(&f, in_temp("bad"), &err);
    expect_failure(status, size == 0 ? LF_EIO : LF_EFORMAT, &err, fragment);
}

/* Cut at every byte, and with every byte changed, it is refused. */
static void test_damaged_files(void **state)
{
    (void)state;
    size_t size;
    write_tokens(in_temp("tokens"), 9, &(lf_token_info){.n_vocab = 600, .bos = 3});
    char *bytes = read_file(in_temp("tokens"), &size);
    for (size_t n = 0; n < size; n++) expect_refused(bytes, n, "bad");
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= 0x20;
        expect_refused(bytes, size, "bad");
        bytes[i] ^= 0x20;
    }
    free(bytes);
}

/* A file that is wrong though its checksums are right, as an attacker's is. */
typedef struct forgery {
    size_t at; /* of 8 bytes that become `value`; counted from the end when above SIZE_MAX / 2 */
    uint64_t value;
    const char *fragment;
} forgery;

static void expect_forgery_refused(const char *bytes, size_t size, const forgery *f)
{
    char *copy = malloc(size);
    lf_data_hash body = {0}, header = {0};
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    memcpy(copy + (f->at > SIZE_MAX / 2 ? size + f->at : f->at), &f->value, 8);
    lf_data_hash_add(&body, copy + LF_TOKEN_FILE_HEADER, size - LF_TOKEN_FILE_HEADER);
    const uint64_t body_hash = lf_data_hash_value(&body);
    memcpy(copy + 56, &body_hash, 8);
    lf_data_hash_add(&header, copy, 120);
    const uint64_t header_hash = lf_data_hash_value(&header);
    memcpy(copy + 120, &header_hash, 8);
    expect_refused(copy, size, f->fragment);
    free(copy);
}

static void test_forged_files(void **state)
{
    (void)state;
    static const forgery cases[] = {
        {8, 2 | (uint64_t)2 << 32, "version 2, expected 1"},
        {8, 1 | (uint64_t)3 << 32, "ids of 3 bytes"},
        {8, 1 | (uint64_t)4 << 32, "ids of 4 bytes for 600"},
        {24, 600 | (uint64_t)600 << 32, "bos 600"},
        {24, (uint64_t)600 | (uint64_t)0xFFFFFFFE << 32, "bos -2"},
        {24, 0, "for 0 tokens"},
        {24, 10 | (uint64_t)3 << 32, "expected below 10"},
        {32, 0, "header for 0 tokens"},
        {32, UINT64_MAX, "header for"},
        {32, (uint64_t)1 << 63, "header for"},
        {40, 0, "header for"},
        {40, UINT64_MAX, "header for"},
        {40, (uint64_t)1 << 61, "header for"},
        {(size_t)-8, 1, "do not cover"},
        {(size_t)-8, UINT64_MAX, "do not cover"},
        {(size_t)-16, UINT64_MAX, "ends before its first"},
        {(size_t)-16, 0, "ends before its first"},
        {LF_TOKEN_FILE_HEADER, 0x7FFF, "expected below 600"},
    };
    size_t size;
    write_tokens(in_temp("tokens"), 9, &(lf_token_info){.n_vocab = 600, .bos = 3});
    char *bytes = read_file(in_temp("tokens"), &size);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) expect_forgery_refused(bytes, size, &cases[i]);
    forgery empty_document = {(size_t)-16, 0, "ends before its first"};
    memcpy(&empty_document.value, bytes + 32, 8); /* n_tokens */
    expect_forgery_refused(bytes, size, &empty_document);
    free(bytes);
}

/* No room on the disk: an error, no half file, and the older file as it was. */
static void test_disk_full(void **state)
{
    (void)state;
    const lf_token_info info = {.n_vocab = 600, .bos = -1};
    struct rlimit limit, small;
    lf_error err = {0};
    lf_token_writer *w;
    lf_token_file f;
    write_tokens(in_temp("tokens"), 3, &info);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 4096;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_ok(lf_token_writer_open(&w, in_temp("tokens"), &info, &err), &err);
    for (int32_t i = 0; i < 4000; i++)
        assert_ok(lf_token_writer_add(w, &(int32_t){i % 600}, 1, true, &err), &err);
    assert_ok(lf_token_writer_end(w, &err), &err);
    const lf_status status = lf_token_writer_finish(w, &err);
    lf_token_writer_close(w);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    (void)signal(SIGXFSZ, SIG_DFL);
    expect_failure(status, LF_EIO, &err, "cannot write: File too large");
    assert_int_equal(count_temp_files(), 1);
    assert_ok(lf_token_file_open(&f, in_temp("tokens"), &err), &err);
    assert_int_equal(f.n_docs, 3);
    lf_token_file_close(&f);
}

/* ---- permutation ---- */

static void expect_permutation(int64_t n, uint64_t key)
{
    char *seen = calloc((size_t)n, 1);
    assert_non_null(seen);
    for (int64_t i = 0; i < n; i++) {
        const int64_t to = lf_data_permute(i, n, key);
        assert_true(to >= 0 && to < n);
        assert_int_equal(seen[to], 0);
        seen[to] = 1;
    }
    free(seen);
}

static void test_permutation(void **state)
{
    (void)state;
    const int64_t huge = (int64_t)1 << 61;
    for (int64_t n = 1; n < 300; n++) expect_permutation(n, (uint64_t)n);
    expect_permutation(100003, 1);
    expect_permutation(1 << 16, 2);
    int64_t n_fixed = 0, n_rising = 0, n_same = 0;
    for (int64_t i = 0; i < 10000; i++) {
        const int64_t to = lf_data_permute(i, 10000, 9);
        n_fixed += to == i;
        n_rising += lf_data_permute((i + 1) % 10000, 10000, 9) > to;
        n_same += to == lf_data_permute(i, 10000, 10);
        assert_true(lf_data_permute(huge - 1 - i, huge, 3) < huge);
    }
    /* A random permutation has one fixed point in the mean and rises half of the time. */
    assert_true(n_fixed < 10 && n_same < 10);
    assert_true(n_rising > 4800 && n_rising < 5200);
}

/* ---- pieces ---- */

static lf_data *open_data(const lf_token_file *f, double weight, const lf_data_params *params)
{
    const lf_data_source source = {f, weight};
    lf_error err;
    lf_data *d;
    assert_ok(lf_data_create(&d, &source, 1, params, &err), &err);
    return d;
}

/* Odd ids of 13 and more do not count in the loss. */
static void write_documents(const char *path, int32_t bos, const int32_t *const *docs, const int *lens, int n)
{
    const lf_token_info info = {.n_vocab = 100, .bos = bos};
    lf_error err;
    lf_token_writer *w;
    assert_ok(lf_token_writer_open(&w, path, &info, &err), &err);
    for (int d = 0; d < n; d++) {
        for (int i = 0; i < lens[d]; i++) {
            const bool counts = docs[d][i] < 13 || docs[d][i] % 2 == 0;
            assert_ok(lf_token_writer_add(w, &docs[d][i], 1, counts, &err), &err);
        }
        assert_ok(lf_token_writer_end(w, &err), &err);
    }
    assert_ok(lf_token_writer_finish(w, &err), &err);
    lf_token_writer_close(w);
}

/* The drawing of data.h, and a short document that does not fit behind it; t3 does not count. */
static void test_packing_exactly(void **state)
{
    (void)state;
    static const int32_t long_doc[] = {1, 10, 11, 12, 13, 14, 2}, short_doc[] = {1, 20, 2};
    static const int32_t *const docs[] = {long_doc, short_doc};
    static const struct {
        int32_t token[4], pos[4], own[4], target[4];
        int n;
    } pieces[] = {{{1, 10, 11, 12}, {0, 1, 2, 3}, {0}, {10, 11, 12, -1}, 4},
                  {{1, 13, 14}, {0, 1, 2}, {0}, {-1, 14, 2}, 3},
                  {{1, 20}, {0, 1}, {0}, {20, 2}, 2}};
    bool seen[3] = {false};
    lf_token_file f;
    lf_error err;
    lf_batch b;
    lf_data_cursor cursor = {0};
    write_documents(in_temp("tokens"), 1, docs, (const int[]){7, 3}, 2);
    assert_ok(lf_token_file_open(&f, in_temp("tokens"), &err), &err);
    lf_data *d = open_data(&f, 1.0, &(lf_data_params){.context = 4});
    assert_ok(lf_batch_create(&b, 8, 4, &err), &err);
    lf_data_fill(d, &cursor, &b, true);
    assert_int_equal(cursor.epoch, 1);
    assert_int_equal(b.n_tokens, 9);
    for (int i = 0, k; i < 8; i++) {
        const lf_train_rows rows = lf_batch_rows(&b, i);
        if (i >= 3) {
            assert_int_equal(rows.n, 0);
            continue;
        }
        for (k = 0; k < 3; k++)
            if (!seen[k] && memcmp(rows.token, pieces[k].token, (size_t)pieces[k].n * 4) == 0) break;
        assert_in_range(k, 0, 2);
        seen[k] = true;
        assert_int_equal(rows.n, 4); /* filled up with rows that ask for nothing */
        assert_memory_equal(rows.pos, pieces[k].pos, (size_t)pieces[k].n * 4);
        assert_memory_equal(rows.own, pieces[k].own, (size_t)pieces[k].n * 4);
        assert_memory_equal(b.target + 4 * i, pieces[k].target, (size_t)pieces[k].n * 4);
        for (int j = pieces[k].n; j < rows.n; j++) {
            assert_int_equal(rows.own[j], j);
            assert_int_equal(b.target[4 * i + j], -1);
        }
    }
    lf_batch_free(&b);
    lf_data_free(d);
    lf_token_file_close(&f);
}

/* Walks the rows of a batch as pieces of f and counts each target under its token's number. */
static void count_targets(int *counts, const lf_token_file *f, const lf_batch *b, int context)
{
    for (int m = 0; m < b->n_micro; m++) {
        const lf_train_rows r = lf_batch_rows(b, m);
        const int32_t *target = b->target + (size_t)m * (size_t)b->micro_rows;
        int n_targets = 0;
        for (int i = 0; i < r.n; i++) {
            assert_true(r.own[i] <= i && r.pos[i] == (target[i] < 0 && r.own[i] == i ? 0 : i - r.own[i]));
            assert_true(r.pos[i] < context);
            if (r.own[i] < i) assert_int_equal(r.own[i], r.own[i - 1]);
            if (i + 1 < r.n && r.own[i + 1] == r.own[i] && target[i] >= 0)
                assert_int_equal(target[i], r.token[i + 1]);
            if (target[i] >= 0) counts[target[i]]++;
            n_targets += target[i] >= 0;
        }
        assert_int_equal(n_targets, b->n_targets[m]);
    }
    (void)f;
}

/* Ids that are their own positions in the file, so that a target says which token it is. */
static void write_numbered(const char *path, int n_docs, int32_t bos)
{
    const lf_token_info info = {.n_vocab = 1 << 20, .bos = bos};
    uint64_t rng = 11;
    lf_error err;
    lf_token_writer *w;
    int32_t id = 0;
    assert_ok(lf_token_writer_open(&w, path, &info, &err), &err);
    for (int d = 0; d < n_docs; d++) {
        const int n = d % 7 == 0   ? 1
                      : d % 5 == 0 ? 200 + (int)(rng_next(&rng) % 200)
                                   : 2 + (int)(rng_next(&rng) % 30);
        for (int i = 0; i < n; i++, id++) {
            const int32_t token = i == 0 && bos >= 0 ? bos : id;
            assert_ok(lf_token_writer_add(w, &token, 1, true, &err), &err);
        }
        assert_ok(lf_token_writer_end(w, &err), &err);
    }
    assert_ok(lf_token_writer_finish(w, &err), &err);
    lf_token_writer_close(w);
}

/* After n_epochs, every token that is not the first of its document has been a target `times` times. */
static void expect_each_target(const lf_token_file *f, const lf_data *d, int context, int n_epochs, int times)
{
    int *counts = calloc(1 << 20, sizeof *counts);
    lf_error err;
    lf_batch b;
    lf_data_cursor cursor = {0};
    assert_non_null(counts);
    assert_ok(lf_batch_create(&b, 3, context + 37, &err), &err);
    while (cursor.epoch < n_epochs) {
        lf_data_fill(d, &cursor, &b, true);
        count_targets(counts, f, &b, context);
    }
    for (int64_t i_doc = 0; i_doc < f->n_docs; i_doc++) {
        int64_t first, end;
        lf_token_file_document(f, i_doc, &first, &end);
        for (int64_t i = first + 1; i < end; i++) assert_int_equal(counts[i], times);
    }
    lf_batch_free(&b);
    free(counts);
}

static void test_every_target_once(void **state)
{
    (void)state;
    for (int bos = -1; bos < 2; bos += 2) {
        lf_token_file f;
        lf_error err;
        write_numbered(in_temp("tokens"), 150, bos < 0 ? -1 : (1 << 20) - 1);
        assert_ok(lf_token_file_open(&f, in_temp("tokens"), &err), &err);
        static const int contexts[] = {2, 3, 16, 100, 1000};
        for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
            const lf_data_params params = {.context = contexts[i], .seed = i};
            lf_data *d = open_data(&f, 1.0, &params);
            expect_each_target(&f, d, contexts[i], 1, 1);
            lf_data_free(d);
        }
        /* Weights: two passes in an epoch; half a pass, so that two epochs are one. */
        lf_data *twice = open_data(&f, 2.0, &(lf_data_params){.context = 16});
        expect_each_target(&f, twice, 16, 1, 2);
        lf_data_free(twice);
        int n_halved = 0;
        for (int context = 16; context < 24; context++) { /* an odd number of windows has no half */
            lf_data *half = open_data(&f, 0.5, &(lf_data_params){.context = context}), *one;
            one = open_data(&f, 1.0, &(lf_data_params){.context = context});
            if (2 * lf_data_epoch_draws(half) == lf_data_epoch_draws(one)) {
                expect_each_target(&f, half, context, 2, 1);
                n_halved++;
            }
            lf_data_free(half);
            lf_data_free(one);
        }
        assert_true(n_halved > 0);
        lf_token_file_close(&f);
    }
}

/* Documents are trained on or held out, never both, in about the share asked for. */
static void test_hold_out(void **state)
{
    (void)state;
    lf_token_file f;
    lf_error err = {0};
    int *counts[2];
    int n_held = 0;
    write_numbered(in_temp("tokens"), 400, -1);
    assert_ok(lf_token_file_open(&f, in_temp("tokens"), &err), &err);
    for (int part = 0; part < 2; part++) {
        lf_batch b;
        lf_data_cursor cursor = {0};
        const lf_data_params params = {
            .context = 32, .hold_out = 0.25, .part = part ? LF_DATA_HELD_OUT : LF_DATA_TRAIN};
        lf_data *d = open_data(&f, 1.0, &params);
        counts[part] = calloc(1 << 20, sizeof **counts);
        assert_ok(lf_batch_create(&b, 2, 64, &err), &err);
        while (cursor.epoch == 0) {
            lf_data_fill(d, &cursor, &b, true);
            count_targets(counts[part], &f, &b, 32);
        }
        lf_batch_free(&b);
        lf_data_free(d);
    }
    for (int64_t i_doc = 0; i_doc < f.n_docs; i_doc++) {
        int64_t first, end;
        lf_token_file_document(&f, i_doc, &first, &end);
        for (int64_t i = first + 1; i < end; i++) {
            assert_int_equal(counts[0][i] + counts[1][i], 1);
            assert_int_equal(counts[1][i], counts[1][first + 1]);
        }
        n_held += end - first > 1 && counts[1][first + 1];
    }
    assert_in_range(n_held, 50, 120);
    free(counts[0]);
    free(counts[1]);
    lf_token_file_close(&f);

    static const int32_t doc[] = {5, 6, 7}, lone[] = {5};
    static const int32_t *const one[] = {doc}, *const empty[] = {lone};
    lf_data *d = NULL;
    write_documents(in_temp("one"), -1, one, (const int[]){3}, 1);
    assert_ok(lf_token_file_open(&f, in_temp("one"), &err), &err);
    const lf_data_source source = {&f, 1.0};
    const lf_data_params held = {.context = 8, .hold_out = 1e-9, .part = LF_DATA_HELD_OUT},
                         all = {.context = 8};
    expect_failure(lf_data_create(&d, &source, 1, &held, &err), LF_EINVAL, &err, "no document to hold out");
    lf_token_file_close(&f);
    write_documents(in_temp("empty"), -1, empty, (const int[]){1}, 1);
    assert_ok(lf_token_file_open(&f, in_temp("empty"), &err), &err);
    expect_failure(lf_data_create(&d, &source, 1, &all, &err), LF_EINVAL, &err, "no document to train on");
    lf_token_file_close(&f);
}

/* A reader that starts at a saved cursor sees what the first would have seen; other seeds give another
 * order. Nothing is allocated on the way. */
static void test_cursor(void **state)
{
    (void)state;
    enum { N_BATCHES = 250 };
    lf_token_file f;
    lf_error err;
    lf_batch a, b;
    lf_data_cursor cursor = {0}, saved[N_BATCHES];
    uint64_t hashes[N_BATCHES];
    write_numbered(in_temp("tokens"), 150, -1);
    assert_ok(lf_token_file_open(&f, in_temp("tokens"), &err), &err);
    const lf_data_source sources[] = {{&f, 0.3}, {&f, 1.7}};
    lf_data *d, *other;
    assert_ok(lf_data_create(&d, sources, 2, &(lf_data_params){.context = 50, .seed = 4}, &err), &err);
    assert_ok(lf_data_create(&other, sources, 2, &(lf_data_params){.context = 50, .seed = 5}, &err), &err);
    assert_ok(lf_batch_create(&a, 2, 70, &err), &err);
    assert_ok(lf_batch_create(&b, 2, 70, &err), &err);
    oom_fail_at((long)1 << 40);
    for (int i = 0; i < N_BATCHES; i++) {
        lf_data_hash hash = {0};
        saved[i] = cursor;
        lf_data_fill(d, &cursor, &a, false);
        for (int m = 0; m < 2; m++) lf_data_hash_add(&hash, a.token + 70 * m, (size_t)a.n_rows[m] * 4);
        hashes[i] = lf_data_hash_value(&hash);
    }
    assert_int_equal(oom_count(), 0);
    oom_off();
    assert_true(cursor.epoch >= 1);
    for (int i = N_BATCHES; i-- > 0;) {
        lf_data_hash hash = {0};
        lf_data_cursor from = saved[i];
        lf_data_fill(d, &from, &b, false);
        for (int m = 0; m < 2; m++) lf_data_hash_add(&hash, b.token + 70 * m, (size_t)b.n_rows[m] * 4);
        assert_true(hashes[i] == lf_data_hash_value(&hash));
        if (i > 0) assert_true(hashes[i] != hashes[i - 1]);
    }
    lf_data_fill(other, &(lf_data_cursor){0}, &a, false);
    assert_memory_not_equal(a.token, b.token, 70 * 4);
    lf_batch_free(&a);
    lf_batch_free(&b);
    lf_data_free(d);
    lf_data_free(other);
    lf_token_file_close(&f);
}

/* ---- texts ---- */

static lf_tokenizer *open_tokenizer(void)
{
    lf_tokenizer *t;
    lf_error err;
    assert_ok(lf_tokenizer_from_file(&t, golden_path("token/plain.model"), &err), &err);
    return t;
}

static const lf_data_text_options plain_options = {
    .separator = "<|endoftext|>", .template = "{prompt}", .response = "response"};

/* The file of `name` with this content, as tokens; the ids of document d must be bos, those of its parts,
 * eos. */
static void expect_document(const lf_token_file *f, const lf_tokenizer *t, int64_t d, const char *prompt,
                            const char *response, bool prompt_counts)
{
    int64_t first, end;
    lf_ids ids = {0};
    lf_error err;
    size_t n_prompt;
    lf_token_file_document(f, d, &first, &end);
    assert_true(lf_ids_push(&ids, lf_tokenizer_bos(t)));
    assert_ok(lf_tokenizer_encode(t, prompt, strlen(prompt), false, &ids, &err), &err);
    n_prompt = ids.len;
    assert_ok(lf_tokenizer_encode(t, response, strlen(response), false, &ids, &err), &err);
    assert_true(lf_ids_push(&ids, 2));
    assert_int_equal(end - first, ids.len);
    for (size_t i = 0; i < ids.len; i++) {
        assert_int_equal(lf_token_file_id(f, first + (int64_t)i), ids.data[i]);
        assert_int_equal(lf_token_file_counts(f, first + (int64_t)i),
                         i > 0 && (prompt_counts || i >= n_prompt));
    }
    lf_ids_free(&ids);
}

static lf_status prepare(const char *name, const char *text, size_t len, const lf_tokenizer *t,
                         const lf_data_text_options *options, lf_error *err)
{
    write_file(in_temp(name), text, len);
    return lf_data_text_prepare(in_temp("tokens"), in_temp(name), t, options, err);
}

static void test_texts(void **state)
{
    (void)state;
    static const char text[] =
        "the cat\nand </s>12<|endoftext|>\n \n<|endoftext|>\n  indented\n\nlast\n<|endoftext|>";
    lf_tokenizer *t = open_tokenizer();
    lf_data_text_options whole = plain_options;
    lf_token_file f;
    lf_error err;
    assert_ok(prepare("a.txt", text, strlen(text), t, &plain_options, &err), &err);
    assert_ok(lf_token_file_open(&f, in_temp("tokens"), &err), &err);
    assert_int_equal(f.n_docs, 2);
    assert_int_equal(f.info.bos, lf_tokenizer_bos(t));
    expect_document(&f, t, 0, "", "the cat\nand </s>12", false);
    expect_document(&f, t, 1, "", "  indented\n\nlast\n", false);
    lf_token_file_close(&f);
    whole.separator = "";
    assert_ok(prepare("a.txt", text, strlen(text), t, &whole, &err), &err);
    assert_ok(lf_token_file_open(&f, in_temp("tokens"), &err), &err);
    assert_int_equal(f.n_docs, 1);
    expect_document(&f, t, 0, "", text, false);
    lf_token_file_close(&f);
    lf_tokenizer_free(t);
}

static void test_json_lines(void **state)
{
    (void)state;
    static const char text[] = "{\"q\": \"who\", \"x\": \"the\", \"a\": \"me\"}\n\n"
                               "{\"a\": \"\", \"q\": \"\\u00e9\\n\", \"x\": \"he\", \"n\": 1}";
    lf_data_text_options options = plain_options;
    lf_tokenizer *t = open_tokenizer();
    lf_token_file f;
    lf_error err;
    options.template = "{q} { {x}: {";
    options.response = "a";
    for (int counts = 0; counts < 2; counts++) {
        options.train_prompt = counts;
        assert_ok(prepare("a.jsonl", text, strlen(text), t, &options, &err), &err);
        assert_ok(lf_token_file_open(&f, in_temp("tokens"), &err), &err);
        assert_int_equal(f.n_docs, 2);
        expect_document(&f, t, 0, "who { the: {", "me", counts);
        expect_document(&f, t, 1, "\xC3\xA9\n { he: {", "", counts);
        lf_token_file_close(&f);
    }
    lf_tokenizer_free(t);
}

static void test_bad_texts(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
        size_t len;
        const char *fragment;
    } cases[] = {
#define TEXT(text) text, sizeof(text) - 1
        {"e.txt", TEXT(""), "empty"},
        {"b.txt", TEXT(" \n\t\n"), "found no text"},
        {"c.txt", TEXT("<|endoftext|>\n<|endoftext|>"), "found no text"},
        {"d.txt", TEXT("abc\0def"), "byte 3: found 0x00, expected UTF-8 text (is it a binary file?)"},
        {"f.txt",
         TEXT("abc\xFF"
              "def"),
         "byte 3: found 0xFF, expected UTF-8 text"},
        {"g.txt", TEXT("ab\xC3"), "byte 2: found 0xC3"},
        {"h.jsonl", TEXT("{\"prompt\": \"a\", \"response\": \"b\"}\n{\"prompt\": \"a\"}\n"), "line 2"},
        {"i.jsonl", TEXT("{\"prompt\": \"a\", \"response\": 7}\n"), "response"},
        {"j.jsonl", TEXT("{\"response\": \"a\"}\n"), "prompt"},
        {"k.jsonl", TEXT("[1]\n"), "line 1: found no JSON object"},
        {"l.jsonl", TEXT("{\"a\": \n"), "line 1"},
        {"m.jsonl", TEXT("\n\n"), "found no text"},
#undef TEXT
    };
    lf_tokenizer *t = open_tokenizer();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lf_error err = {0};
        const lf_status status = prepare(cases[i].name, cases[i].text, cases[i].len, t, &plain_options, &err);
        expect_failure(status, cases[i].len ? LF_EFORMAT : LF_EIO, &err, cases[i].fragment);
        assert_non_null(strstr(err.text, cases[i].name));
        assert_int_equal(count_temp_files(), 1 + (int)i); /* the inputs alone */
    }
    lf_tokenizer_free(t);
}

static ino_t inode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

/* What is there already is kept, unless the input or the options are others, or the file is damaged. */
static void test_prepared_once(void **state)
{
    (void)state;
    lf_tokenizer *t = open_tokenizer();
    lf_data_text_options other = plain_options;
    lf_error err;
    other.separator = "cat";
    assert_ok(prepare("a.txt", "the cat", 7, t, &plain_options, &err), &err);
    const ino_t first = inode_of(in_temp("tokens"));
    assert_ok(prepare("a.txt", "the cat", 7, t, &plain_options, &err), &err);
    assert_true(inode_of(in_temp("tokens")) == first);
    assert_ok(prepare("a.txt", "the bat", 7, t, &plain_options, &err), &err);
    const ino_t second = inode_of(in_temp("tokens"));
    assert_true(second != first);
    assert_ok(prepare("a.txt", "the bat", 7, t, &other, &err), &err);
    assert_true(inode_of(in_temp("tokens")) != second);
    write_file(in_temp("tokens"), LF_TOKEN_FILE_MAGIC, 8);
    assert_ok(prepare("a.txt", "the bat", 7, t, &other, &err), &err);
    size_t size;
    free(read_file(in_temp("tokens"), &size));
    assert_true(size > LF_TOKEN_FILE_HEADER);
    lf_tokenizer_free(t);
}

static bool stop_at_half(void *cookie, size_t done, size_t total)
{
    (void)cookie;
    return 2 * done < total;
}

static void test_canceled(void **state)
{
    (void)state;
    lf_tokenizer *t = open_tokenizer();
    lf_data_text_options options = plain_options;
    lf_error err = {0};
    options.separator = "x";
    options.progress = stop_at_half;
    const lf_status status = prepare("a.txt", "the catxthe batxthe hat", 23, t, &options, &err);
    expect_failure(status, LF_ECANCELED, &err, "a.txt");
    assert_int_equal(count_temp_files(), 1);
    lf_tokenizer_free(t);
}

static void test_memory_failures(void **state)
{
    (void)state;
    oom_require();
    lf_tokenizer *t = open_tokenizer();
    write_file(in_temp("a.txt"), "the cat<|endoftext|>the hat", 27);
    for (long n = 1;; n++) {
        lf_token_file f = {0};
        lf_data *d = NULL;
        lf_batch b = {0};
        lf_error err;
        const long live = oom_live();
        oom_fail_at(n);
        lf_status status = lf_data_text_prepare(in_temp("tokens"), in_temp("a.txt"), t, &plain_options, &err);
        if (status == LF_OK) status = lf_token_file_open(&f, in_temp("tokens"), &err);
        const lf_data_source source = {&f, 1.0};
        if (status == LF_OK) status = lf_data_create(&d, &source, 1, &(lf_data_params){.context = 4}, &err);
        if (status == LF_OK) status = lf_batch_create(&b, 2, 8, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        lf_batch_free(&b);
        lf_data_free(d);
        lf_token_file_close(&f);
        assert_int_equal(oom_live(), live);
        if (all_succeeded) {
            assert_ok(status, &err);
            break;
        }
        if (status == LF_OK) continue; /* looking whether the file is there already can do without */
        assert_true(status == LF_ENOMEM || status == LF_EIO);
        (void)remove(in_temp("tokens"));
    }
    lf_tokenizer_free(t);
}

/* ---- schedules ---- */

static void expect_rates(const lf_schedule *s, const int64_t *steps, const double *rates, int n)
{
    for (int i = 0; i < n; i++) {
        const double found = lf_schedule_lr(s, steps[i]);
        if (fabs(found - rates[i]) > 1e-12)
            fail_msg("schedule %d, step %lld: found %.12g, expected %.12g", (int)s->kind, (long long)steps[i],
                     found, rates[i]);
    }
}

static void test_schedules(void **state)
{
    (void)state;
    lf_schedule s = {
        .kind = LF_TRAIN_COSINE, .lr = 2.0, .end = 0.1, .n_steps = 111, .n_warmup = 10, .n_decay = 20};
    static const int64_t steps[] = {0, 4, 9, 10, 35, 60, 85, 90, 95, 110};
    /* From 2 to 0.2 over 100 steps: 1.1 + 0.9 cos(pi t). */
    const double cosine[] = {0.2,
                             1.0,
                             2.0,
                             2.0,
                             1.1 + 0.9 * sqrt(0.5),
                             1.1,
                             1.1 - 0.9 * sqrt(0.5),
                             1.1 - 0.9 * cos(M_PI / 5),
                             1.1 - 0.9 * cos(0.15 * M_PI),
                             0.2};
    static const double wsd[] = {0.2, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.55, 0.2};
    static const double constant[] = {0.2, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0};
    expect_rates(&s, steps, cosine, 10);
    s.kind = LF_TRAIN_WSD;
    expect_rates(&s, steps, wsd, 10);
    s.kind = LF_TRAIN_CONSTANT;
    expect_rates(&s, steps, constant, 10);
    /* A decay longer than the run begins behind the warm-up; one step has the end's rate. */
    s = (lf_schedule){
        .kind = LF_TRAIN_WSD, .lr = 1.0, .end = 0.0, .n_steps = 5, .n_warmup = 0, .n_decay = 50};
    expect_rates(&s, (const int64_t[]){0, 1, 2, 3, 4}, (const double[]){1.0, 0.75, 0.5, 0.25, 0.0}, 5);
    s = (lf_schedule){.kind = LF_TRAIN_COSINE, .lr = 1.0, .end = 0.5, .n_steps = 1};
    assert_true(lf_schedule_lr(&s, 0) <= 1.0);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_temp, leave_temp)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_round_trip),
        IN_FOLDER(test_damaged_files),
        IN_FOLDER(test_forged_files),
        IN_FOLDER(test_disk_full),
        cmocka_unit_test(test_permutation),
        IN_FOLDER(test_packing_exactly),
        IN_FOLDER(test_every_target_once),
        IN_FOLDER(test_hold_out),
        IN_FOLDER(test_cursor),
        IN_FOLDER(test_texts),
        IN_FOLDER(test_json_lines),
        IN_FOLDER(test_bad_texts),
        IN_FOLDER(test_prepared_once),
        IN_FOLDER(test_canceled),
        IN_FOLDER(test_memory_failures),
        cmocka_unit_test(test_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

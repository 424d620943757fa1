#include "train/pack.h"

#include "base/mem.h"
#include "train/data.h"
#include "train/data_hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- random numbers: splitmix64 over a key ---- */

static uint64_t draw(uint64_t *key)
{
    return lf_data_mix(*key += 0x9E3779B97F4A7C15u);
}

/* 0 to n - 1. */
static int draw_below(uint64_t *key, int n)
{
    return (int)((draw(key) >> 32) * (uint64_t)n >> 32);
}

static bool draw_share(uint64_t *key, double share)
{
    return (double)(draw(key) >> 11) * 0x1p-53 < share;
}

/* ---- buffers ---- */

lf_status lf_pack_create(lf_pack *out, int rows_max, const lf_pack_options *options, lf_error *err)
{
    const size_t rows = (size_t)rows_max;
    size_t bytes = 0;
    *out = (lf_pack){.options = *options, .rows_max = rows_max};
    if (!lf_mul_size(rows + 1, 10 * sizeof(int32_t), &bytes))
        return lf_fail(err, LF_ELIMIT, "trajectories: batches of %d rows are too large", rows_max);
    int32_t *at = malloc(bytes);
    out->is_paired = malloc(rows);
    int32_t **const arrays[] = {&out->token, &out->pos,    &out->first,  &out->first_end, &out->own,
                                &out->next,  &out->picked, &out->target, &out->noisy,     &out->output};
    if (!at || !out->is_paired) {
        free(at);
        free(out->is_paired);
        *out = (lf_pack){0};
        return lf_fail_memory(err, "a batch of trajectories", bytes);
    }
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++, at += rows + 1) *arrays[i] = at;
    return LF_OK;
}

void lf_pack_free(lf_pack *p)
{
    free(p->token);
    free(p->is_paired);
    *p = (lf_pack){0};
}

void lf_pack_clear(lf_pack *p)
{
    p->n_rows = p->n_pairs = p->n_picked = p->n_targets = p->n_seen = 0;
}

/* ---- a trajectory ---- */

/* What of a trajectory is packed, and where. */
typedef struct place {
    const lf_trajectory *t;
    int n_blocks; /* that fit */
    int n_clean;  /* rows of the clean output: of all its tokens that have a next one */
    int base;     /* the prompt's first row */
    int clean;    /* the first row of the clean output */
} place;

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* Noisy rows for each clean one at most. */
static int n_copies(const lf_pack_options *o)
{
    if (o->recipe == LF_DISTILL_AR || o->recipe == LF_DISTILL_RKL) return 0;
    return o->recipe == LF_DISTILL_CLLM && o->local ? 2 : 1;
}

static int n_blocks_that_fit(const lf_pack *p, const lf_trajectory *t)
{
    const int by_context = (p->options.context - t->n_prompt) / t->n;
    const int by_rows = (p->rows_max - t->n_prompt) / (t->n * (1 + n_copies(&p->options)));
    if (t->n_prompt >= p->options.context || t->n_prompt >= p->rows_max) return 0;
    return min_int(t->n_blocks, min_int(by_context, by_rows));
}

bool lf_pack_takes(const lf_pack *p, const lf_trajectory *t)
{
    return n_blocks_that_fit(p, t) > 0;
}

/* A row that sees the trajectory's rows up to `seen_end`, and those from `own` on up to itself. */
static int add_row(lf_pack *p, const place *at, int32_t token, int pos, int seen_end, int own)
{
    const int i = p->n_rows++;
    assert(i < p->rows_max && seen_end <= own && own <= i);
    p->token[i] = token;
    p->pos[i] = pos;
    p->first[i] = at->base;
    p->first_end[i] = seen_end;
    p->own[i] = own;
    p->next[i] = -1;
    p->is_paired[i] = false;
    return i;
}

static void set_target(lf_pack *p, int row, int32_t target)
{
    p->next[row] = target;
    p->n_targets++;
}

/* The states (n_states, n) of block i_block. */
static const int32_t *states_of(const lf_trajectory *t, int i_block)
{
    int64_t i_state = 0;
    for (int i = 0; i < i_block; i++) i_state += t->n_states[i];
    return t->states + i_state * t->n;
}

/* The clean output into p->output: one token more than it has rows. */
static void read_output(lf_pack *p, const place *at)
{
    const lf_trajectory *t = at->t;
    const int32_t *states = t->states;
    for (int b = 0; b * t->n <= at->n_clean; b++) {
        const int32_t *fixed = states + (int64_t)(t->n_states[b] - 1) * t->n;
        const int n = min_int(t->n, at->n_clean + 1 - b * t->n);
        memcpy(p->output + b * t->n, fixed, (size_t)n * sizeof *fixed);
        states = fixed + t->n;
    }
}

/* Prompt and clean output. */
static void add_clean(lf_pack *p, const place *at)
{
    const lf_trajectory *t = at->t;
    for (int i = 0; i < t->n_prompt; i++) {
        const int row = add_row(p, at, t->prompt[i], i, at->base, at->base);
        if (i + 1 == t->n_prompt)
            set_target(p, row, p->output[0]);
        else if (p->options.train_prompt)
            set_target(p, row, t->prompt[i + 1]);
    }
    for (int i = 0; i < at->n_clean; i++)
        set_target(p, add_row(p, at, p->output[i], t->n_prompt + i, at->base, at->base), p->output[i + 1]);
}

static void add_pair(lf_pack *p, int teacher, int student)
{
    p->picked[2 * p->n_pairs] = teacher;
    p->picked[2 * p->n_pairs + 1] = student;
    p->n_pairs++;
    p->is_paired[teacher] = p->is_paired[student] = true;
}

/* Tokens of a span that are right up to its first wrong one, of `end` that matter. */
static int count_right(const int32_t *tokens, const int32_t *right, int end)
{
    int n = 0;
    while (n < end && tokens[n] == right[n]) n++;
    return n;
}

/* What a state has in place of the clean output's [from, end): rows from the first wrong token on. row_of
 * (end - from) becomes the row of each token, the clean one's where they are the same. */
static void add_teacher(lf_pack *p, const place *at, int *row_of, const int32_t *state, int from, int end)
{
    const int wrong = from + count_right(state, p->output + from, end - from), own = p->n_rows;
    for (int i = from; i < end; i++)
        row_of[i - from] = i < wrong
                               ? at->clean + i
                               : add_row(p, at, state[i - from], at->t->n_prompt + i, at->clean + wrong, own);
}

/* The same, paired with the rows in `teachers` (end - from), or with the clean ones when that is NULL. */
static void add_student(lf_pack *p, const place *at, const int32_t *state, int from, int end,
                        const int *teachers)
{
    const int wrong = from + count_right(state, p->output + from, end - from), own = p->n_rows;
    for (int i = wrong; i < end; i++) {
        const int row = add_row(p, at, state[i - from], at->t->n_prompt + i, at->clean + wrong, own);
        add_pair(p, teachers ? teachers[i - from] : at->clean + i, row);
    }
}

/* ---- noise ---- */

/* The first n_right tokens of block i_block, and then tokens of the text before the block. */
static void corrupt(int32_t *state, const lf_pack *p, const place *at, int i_block, int n_right,
                    uint64_t *key)
{
    const int n = at->t->n, begin = i_block * n, n_before = at->t->n_prompt + begin;
    for (int i = 0; i < n; i++) {
        const int from = i < n_right ? n_before + i : draw_below(key, n_before);
        const int in_output = from - at->t->n_prompt;
        /* the filling behind the output has rows nowhere */
        state[i] = in_output < 0 ? at->t->prompt[from] : in_output <= at->n_clean ? p->output[in_output] : 0;
    }
}

/* The state of a block whose number of right tokens in front is nearest to n_right, the first of equals. */
static const int32_t *nearest_state(const lf_pack *p, const place *at, int i_block, int n_right)
{
    const lf_trajectory *t = at->t;
    const int end = min_int(t->n, at->n_clean - i_block * t->n);
    const int32_t *states = states_of(t, i_block), *best = states;
    int least = t->n + 1;
    for (int i = 0; i < t->n_states[i_block]; i++) {
        const int32_t *state = states + (size_t)i * (size_t)t->n;
        const int right = count_right(state, p->output + i_block * t->n, end);
        const int apart = abs((right == end ? t->n : right) - n_right);
        if (apart < least) best = state;
        least = min_int(least, apart);
    }
    return best;
}

/* Every block of the output under a cycle of noise, as one span that sees itself. */
static void add_progressive(lf_pack *p, const place *at, uint64_t *key)
{
    const int n = at->t->n, window = p->options.window, phase = draw_below(key, window);
    for (int b = 0; b * n < at->n_clean; b++) {
        const int level = (b + phase) % window, n_right = n - (level * n + window / 2) / window;
        int32_t state[LF_TRAJECTORY_N_MAX];
        const int32_t *from = state;
        if (draw_share(key, p->options.synthetic))
            corrupt(state, p, at, b, n_right, key);
        else
            from = nearest_state(p, at, b, n_right);
        memcpy(p->noisy + b * n, from, (size_t)min_int(n, at->n_clean - b * n) * sizeof *from);
    }
    add_student(p, at, p->noisy, 0, at->n_clean, NULL);
}

/* One state of each block, which sees the clean blocks before it. */
static void add_blocks(lf_pack *p, const place *at, uint64_t *key)
{
    const int n = at->t->n;
    const int32_t *states = at->t->states;
    for (int b = 0; b * n < at->n_clean; b++) {
        const int from = b * n, end = min_int(from + n, at->n_clean), n_states = at->t->n_states[b];
        int32_t made[LF_TRAJECTORY_N_MAX];
        int teachers[LF_TRAJECTORY_N_MAX];
        if (draw_share(key, p->options.synthetic)) {
            corrupt(made, p, at, b, draw_below(key, n), key);
            add_student(p, at, made, from, end, NULL);
        } else if (n_states > 1) {
            const int32_t *state = states + (int64_t)draw_below(key, n_states - 1) * n;
            if (p->options.local) add_teacher(p, at, teachers, state + n, from, end);
            add_student(p, at, state, from, end, p->options.local ? teachers : NULL);
        }
        states += (int64_t)n_states * n;
    }
}

bool lf_pack_add(lf_pack *p, const lf_trajectory *t, uint64_t key)
{
    place at = {.t = t, .n_blocks = n_blocks_that_fit(p, t), .base = p->n_rows};
    assert(at.n_blocks > 0 && t->n <= LF_TRAJECTORY_N_MAX);
    at.n_clean = min_int(at.n_blocks * t->n, t->n_output - 1);
    at.clean = at.base + t->n_prompt;
    if (t->n_prompt + at.n_clean * (1 + n_copies(&p->options)) > p->rows_max - p->n_rows) return false;
    read_output(p, &at);
    add_clean(p, &at);
    if (p->options.recipe == LF_DISTILL_CLLM) add_blocks(p, &at, &key);
    if (p->options.recipe == LF_DISTILL_PROGRESSIVE) add_progressive(p, &at, &key);
    return true;
}

void lf_pack_finish(lf_pack *p)
{
    const place alone = {.base = p->n_rows};
    p->n_seen = p->n_rows;
    while (p->n_rows < p->rows_max && p->n_rows % LF_BATCH_ROUND != 0)
        (void)add_row(p, &alone, 0, 0, alone.base, p->n_rows);
    p->n_picked = 2 * p->n_pairs;
    for (int i = 0; i < p->n_seen; i++)
        if (p->next[i] >= 0 && !p->is_paired[i]) p->picked[p->n_picked++] = i;
    for (int i = 0; i < p->n_picked; i++) p->target[i] = p->next[p->picked[i]];
}

lf_train_rows lf_pack_rows(const lf_pack *p)
{
    return (lf_train_rows){.n = p->n_rows,
                           .token = p->token,
                           .pos = p->pos,
                           .first = p->first,
                           .first_end = p->first_end,
                           .own = p->own,
                           .picked = p->picked,
                           .n_picked = p->n_picked};
}

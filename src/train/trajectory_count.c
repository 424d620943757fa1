#include "train/trajectory_count.h"

#include "base/philox.h"

#include <string.h>

/* ---- counts ---- */

static int right_prefix(const int32_t *state, const int32_t *right, int n)
{
    int i = 0;
    while (i < n && state[i] == right[i]) i++;
    return i;
}

lf_block_counts lf_count_block(const int32_t *states, int n_states, int n, int n_output)
{
    const int k = n_states - 1;
    const int32_t *right = states + k * n;
    lf_block_counts c = {.iterations = k < 1 ? 1 : k};
    c.fast_forwarded = (double)n_output / c.iterations;
    int n_prefix = 0;
    for (int j = 1; j <= k; j++) {
        const int n_now = right_prefix(states + j * n, right, n_output);
        /* of those that the prefix has reached just now: CLLM asks for a run of states in which a token
         * was right that is longer than the one since the prefix reached it, which is to say that it was
         * right in the state before, too */
        for (int i = n_prefix; i < n_now && j > 1; i++) c.stationary += states[(j - 1) * n + i] == right[i];
        n_prefix = n_now > n_prefix ? n_now : n_prefix;
    }
    return c;
}

lf_block_counts lf_count_trajectory(const lf_trajectory *t)
{
    lf_block_counts sum = {0};
    const int32_t *states = t->states;
    for (int b = 0; b < t->n_blocks; b++) {
        const int left = t->n_output - b * t->n;
        const lf_block_counts c = lf_count_block(states, t->n_states[b], t->n, left < t->n ? left : t->n);
        sum.iterations += c.iterations;
        sum.stationary += c.stationary;
        sum.fast_forwarded += c.fast_forwarded / t->n_blocks;
        states += t->n_states[b] * t->n;
    }
    return sum;
}

/* ---- augmentation ---- */

/* A number below n: draw i_draw for a state. */
static int draw(uint64_t seed, int i_state, int i_draw, int n)
{
    const uint32_t counter[4] = {(uint32_t)i_state, (uint32_t)i_draw, 1, 0},
                   key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t words[4];
    lf_philox4x32(words, counter, key);
    return (int)(words[0] % (uint32_t)n);
}

static void augment_state(int32_t *state, const int32_t *right, int n, float share, uint64_t seed,
                          int i_state)
{
    int wrong[LF_TRAJECTORY_N_MAX], n_wrong = 0;
    for (int i = 0; i < n; i++)
        if (state[i] != right[i]) wrong[n_wrong++] = i;
    const int n_draws = (int)(share * (float)n_wrong);
    for (int i = 0; i < n_draws && n_wrong > 1; i++) {
        const int at = wrong[1 + draw(seed, i_state, i, n_wrong - 1)];
        state[at] = right[at];
    }
}

void lf_trajectory_augment(int32_t *states, const lf_trajectory *t, float share, uint64_t seed)
{
    int i_state = 0;
    for (int b = 0; b < t->n_blocks; b++) {
        const int32_t *right = states + (i_state + t->n_states[b] - 1) * t->n;
        for (int j = 0; j < t->n_states[b]; j++, i_state++)
            if (j < t->n_states[b] - 2)
                augment_state(states + i_state * t->n, right, t->n, share, seed, i_state);
    }
}

/* ---- filters ---- */

bool lf_repeats_token(const int32_t *ids, int n, int limit)
{
    int run = 0;
    for (int i = 0; i < n && limit > 0; i++) {
        run = i > 0 && ids[i] == ids[i - 1] ? run + 1 : 1;
        if (run == limit) return true;
    }
    return false;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A letter or digit of ASCII, or any byte of another character. */
static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c & 0x80) != 0;
}

typedef struct sentence {
    const char *text;
    size_t len;
} sentence;

static bool ends_sentence(const char *text, const char *end)
{
    const bool stop = *text == '.' || *text == '!' || *text == '?';
    return *text == '\n' || (stop && (text + 1 == end || is_space(text[1])));
}

/* The sentence at *at, without spaces around it; *at moves behind it. */
static sentence next_sentence(const char **at, const char *end)
{
    const char *stop = *at;
    while (stop < end && !ends_sentence(stop, end)) stop++;
    if (stop < end) stop++;
    sentence s = {*at, (size_t)(stop - *at)};
    *at = stop;
    while (s.len > 0 && is_space(s.text[0])) s.text++, s.len--;
    while (s.len > 0 && is_space(s.text[s.len - 1])) s.len--;
    return s;
}

static bool has_word(const sentence *s)
{
    for (size_t i = 0; i < s->len; i++)
        if (is_word(s->text[i])) return true;
    return false;
}

bool lf_repeats_sentence(const char *text, size_t len, int limit)
{
    const char *end = text + len;
    sentence last = {0};
    int run = 0;
    while (text < end && limit > 0) {
        const sentence s = next_sentence(&text, end);
        if (!has_word(&s)) continue;
        const bool same = run > 0 && s.len == last.len && memcmp(s.text, last.text, s.len) == 0;
        run = same ? run + 1 : 1;
        last = s;
        if (run == limit) return true;
    }
    return false;
}

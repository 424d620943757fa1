#include "trajectory_fixture.h"

#include <stdlib.h>
#include <string.h>

static int32_t any_token(int n_vocab, uint64_t *seed)
{
    return (int32_t)(rng_next(seed) % (uint64_t)n_vocab);
}

/* From the last state on backwards, each has fewer right tokens than the one after it. */
static void make_states(int32_t *states, int n_states, int n, int n_vocab, uint64_t *seed)
{
    int32_t *fixed = states + (n_states - 1) * n;
    for (int i = 0; i < n; i++) fixed[i] = any_token(n_vocab, seed);
    for (int k = 0; k + 1 < n_states; k++) {
        int32_t *state = states + k * n;
        const int wrong = k * n / n_states;
        for (int i = 0; i < n; i++)
            state[i] = i < wrong || rng_next(seed) % 3 == 0 ? fixed[i] : any_token(n_vocab, seed);
        state[wrong] = (fixed[wrong] + 1) % n_vocab;
    }
}

void make_trajectory(made_trajectory *m, int n_prompt, int n, int n_output, int n_vocab, uint64_t seed)
{
    const int n_blocks = (n_output + n - 1) / n;
    int n_all = 0;
    *m = (made_trajectory){.prompt = calloc((size_t)n_prompt, sizeof *m->prompt),
                           .n_states = calloc((size_t)n_blocks, sizeof *m->n_states)};
    for (int i = 0; i < n_prompt; i++) m->prompt[i] = any_token(n_vocab, &seed);
    for (int b = 0; b < n_blocks; b++) n_all += m->n_states[b] = 1 + (int)(rng_next(&seed) % 5);
    m->states = calloc((size_t)(n_all * n), sizeof *m->states);
    int32_t *at = m->states;
    for (int b = 0; b < n_blocks; at += m->n_states[b++] * n)
        make_states(at, m->n_states[b], n, n_vocab, &seed);
    const int n_filling = n_blocks * n - n_output;
    for (int32_t *end = at, *last = at - m->n_states[n_blocks - 1] * n; last < end; last += n)
        for (int i = n - n_filling; i < n; i++) last[i] = (end - n)[n - n_filling - 1];
    m->t = (lf_trajectory){.prompt = m->prompt,
                           .n_prompt = n_prompt,
                           .n = n,
                           .n_blocks = n_blocks,
                           .n_states = m->n_states,
                           .states = m->states,
                           .n_output = n_output};
}

void free_trajectory(made_trajectory *m)
{
    free(m->prompt);
    free(m->n_states);
    free(m->states);
}

const int32_t *state_of(const lf_trajectory *t, int b, int i)
{
    const int32_t *at = t->states;
    for (int before = 0; before < b; before++) at += t->n_states[before] * t->n;
    return at + (i < 0 ? t->n_states[b] - 1 : i) * t->n;
}

int32_t output_of(const lf_trajectory *t, int i)
{
    return state_of(t, i / t->n, -1)[i % t->n];
}

/* Trajectories for the tests of distillation. */
#ifndef LF_TESTS_TRAJECTORY_FIXTURE_H
#define LF_TESTS_TRAJECTORY_FIXTURE_H

#include "testing.h"

#include "train/trajectory.h"

/* A trajectory of its own memory. */
typedef struct made_trajectory {
    lf_trajectory t;
    int32_t *prompt, *n_states, *states;
} made_trajectory;

/* Random tokens below n_vocab; each block has 1 to 5 states, whose right beginnings grow, with right
 * tokens here and there behind them. */
void make_trajectory(made_trajectory *m, int n_prompt, int n, int n_output, int n_vocab, uint64_t seed);
void free_trajectory(made_trajectory *m);

/* State i of block b, -1: the fixed point. */
const int32_t *state_of(const lf_trajectory *t, int b, int i);

/* Token i of the output. */
int32_t output_of(const lf_trajectory *t, int i);

#endif

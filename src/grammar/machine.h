/* Running a grammar over bytes.
 *
 * A *reading* of a text is where its parser stands: inside a dfa or a literal, with a chain of *frames*, the sequences and
 * repetitions that are open around it. A *state* is the list of all readings of a text in the order in which the grammar has
 * them, and whether the text could end here. Equal frames and equal states exist once; so the step from a state by a byte is a
 * look-up after the first time, and the machine a deterministic automaton that is made as it is needed.
 *
 *     state 7:  readings  (dfa "string", its state 3, frame 12)     frame 12: sequence `"key": VALUE REST`, part 2, in frame 5
 *               ends: no                                            frame 5:  repeat, 3 times, in no frame
 *
 * A state depends on the bytes and the grammar alone. Its number does not: when the tables are full, all states are forgotten but
 * those that the caller is working with, and the epoch moves on. Whoever keeps a number keeps the epoch with it.
 *
 * No text is a dead end: a frame is only opened where what it needs fits the depth, and a DFA has no states that lead nowhere. Of more
 * than LF_READINGS_MAX readings the first are followed: less is then allowed than the grammar says, never more. */
#ifndef LF_GRAMMAR_MACHINE_H
#define LF_GRAMMAR_MACHINE_H

#include "grammar/expr.h"

enum {
    LF_READINGS_MAX = 512,
    LF_STATES_MAX = 8192,
    LF_STATE_UNKNOWN = 0, /* in `next`: not computed yet */
    LF_STATE_DEAD = 1,    /* the text is not the beginning of any of the grammar's */
    LF_STATE_START = 2,
};

typedef struct lf_machine lf_machine;

/* A machine for expressions, which it borrows. All its memory is taken here (and touched as it is used). */
lf_status lf_machine_create(lf_machine **out, const lf_exprs *exprs, lf_error *err);
void lf_machine_free(lf_machine *m); /* NULL is fine */

/* Changes when numbers of states lose their meaning, except LF_STATE_DEAD and LF_STATE_START. */
uint32_t lf_machine_epoch(const lf_machine *m);

/* The state after *state and a byte. *kept is a state that the caller goes on with, renumbered when the epoch moves. */
uint16_t lf_machine_step(lf_machine *m, uint16_t state, uint8_t byte, uint16_t *kept);

bool lf_machine_may_end(const lf_machine *m, uint16_t state);
bool lf_machine_may_go_on(const lf_machine *m, uint16_t state);

#endif

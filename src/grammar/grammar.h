/* What an output may say, as a stage of the pick (sample/pick.h): which tokens may follow the output so far.
 *
 *     text of a schema, a regular expression, choices        schema.c, pattern.c
 *       -> expressions over bytes, with automata as leaves   expr.h, dfa.h
 *       -> states of all readings of the output              machine.h
 *       -> the tokens whose bytes lead to a state            token_bytes.h, here
 *
 * The mask is a pure function of the grammar and the tokens of the output. What is remembered on the way, the states of a
 * machine, the mask of a state, the states of an output's beginnings, is found again from these by whoever asks, in any order. After
 * creation nothing is allocated.
 *
 * A grammar is shared by any number of requests of one engine, whose thread alone asks it. Making one, and taking and giving back
 * references, is for any thread. */
#ifndef LF_GRAMMAR_GRAMMAR_H
#define LF_GRAMMAR_GRAMMAR_H

#include "grammar/token_bytes.h"

/* A grammar over tokens, which it borrows. Errors name the place in the text: a JSON pointer, a byte. */
lf_status lf_grammar_create(lf_grammar **out, const lf_token_bytes *tokens, lf_grammar_kind kind,
                            const char *text, size_t len, lf_error *err);

/* Whether it was made over these tokens. */
bool lf_grammar_is_over(const lf_grammar *g, const lf_token_bytes *tokens);

/* One more reference; each is given back by lf_grammar_free. */
lf_grammar *lf_grammar_share(lf_grammar *g);

/* Where outputs of a sequence stand: a state for each of their tokens, the last time that somebody asked. */
typedef struct lf_grammar_cursor lf_grammar_cursor;

/* For histories of n_prompt tokens and then an output of n_output_max at most. Shares the grammar. */
lf_status lf_grammar_cursor_create(lf_grammar_cursor **out, lf_grammar *g, int n_prompt, int n_output_max,
                                   lf_error *err);
void lf_grammar_cursor_free(lf_grammar_cursor *c); /* NULL is fine */

/* Clears the bits of the ids that may not follow history: an lf_pick_mask_fn. Ends of sequence may follow a complete output; after
 * an output that the grammar does not have, nothing may. */
void lf_grammar_cursor_mask(void *cursor, const int32_t *history, int n_history, uint32_t *allowed);

/* Whether the output of history is complete and nothing but an end can follow. */
bool lf_grammar_cursor_is_done(lf_grammar_cursor *c, const int32_t *history, int n_history);

#endif

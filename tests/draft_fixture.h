/* Engines with a smaller model that drafts, both random: shared by the tests of drafting. */
#ifndef LF_TESTS_DRAFT_FIXTURE_H
#define LF_TESTS_DRAFT_FIXTURE_H

#include "testing.h"

#include "../src/engine_int.h"

enum { N_VOCAB = 40, N_CTX = 600, WINDOW = 40, SINKS = LF_TILE_POS };

/* Paths of the models: a target, another that drafts, one made for less context, and one with another vocabulary. */
enum { TARGET, OTHER, SHORT, STRANGE, N_MODELS };
extern char draft_models[N_MODELS][256];

/* Setup of a group of tests; leave_temp is its teardown. */
int begin_drafts(void **state);

/* Parameters of an engine of one thread, and the engine; draft may be NULL. */
lf_engine_params draft_engine_params(const char *target, const char *draft, int n_seqs);
lf_engine *open_drafting_engine(const char *target, const char *draft, int n_seqs);

/* A request for 40 tokens after a random prompt, which ids (n_ids) gets. */
lf_request_params draft_request_params(int32_t *ids, size_t n_ids, uint64_t seed);

/* Every page of both caches is accounted for. */
void check_draft_pages(const lf_engine *e);

/* Steps until a request has more than n tokens and is to be decoded further. */
lf_seq *step_until(lf_engine *e, lf_request *r, size_t n);

/* Lets the proposer of the sequences (n, of one proposer) propose n_wanted candidates each, without the round. */
void propose_alone(lf_seq *const *seqs, int n, const int *n_wanted);

#endif

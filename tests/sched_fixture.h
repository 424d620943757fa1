/* Engines with a random model and requests of which it is known what they say alone, without a proposer: shared by the tests of the
 * scheduler. */
#ifndef LF_TESTS_SCHED_FIXTURE_H
#define LF_TESTS_SCHED_FIXTURE_H

#include "testing.h"

#include "../src/engine_int.h"

enum { N_VOCAB = 40, N_CTX = 600, PROMPT_MAX = 420, OUTPUT_MAX = 140, N_CASES = 64, N_PROPOSERS = 6 };

extern const char *const proposers[N_PROPOSERS];

typedef struct ask {
    int32_t prompt[PROMPT_MAX];
    int n_prompt, n_predict;
    float temperature;
    uint64_t seed;
    int n_ids; /* the output of plain decoding, alone */
    int32_t ids[OUTPUT_MAX];
    float logprobs[OUTPUT_MAX];
} ask;

/* Prompts in families that begin alike, of all lengths, half of them greedy. */
extern ask asks[N_CASES];

/* Setup and teardown of a group of tests. */
int begin_sched(void **state);
int end_sched(void **state);

/* One that needs a page to begin with and two at its end; one whose prompt is of some pages. */
const ask *find_growing(void);
const ask *find_long(void);

/* n_pages 0: enough. And: an engine in which two of find_growing have all that they need, and a third only to begin with. */
lf_engine_params engine_params(int n_seqs, int n_pages);
lf_engine_params scarce_params(int n_seqs);
lf_request_params request_params(const ask *a, const char *proposer);

/* What the library has, where it must succeed. */
lf_engine *open_engine(const lf_engine_params *p);
void submit(lf_request **out, lf_engine *e, const lf_request_params *p);
lf_step_info step(lf_engine *e);
void wait_for(lf_request *r);
lf_request_result result_of(const lf_request *r);
lf_engine_stats stats_of(const lf_engine *e);

/* Ids and log probabilities so far are the first of those that the request gives alone. */
void check_output(const lf_request *r, const ask *a, bool whole);

/* Every page of both pools is accounted for. */
void check_pages(const lf_engine *e);

#endif

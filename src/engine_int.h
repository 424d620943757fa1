/* What engine.c and request.c share: the engine's parts and its requests. */
#ifndef LF_ENGINE_INT_H
#define LF_ENGINE_INT_H

#include "chat/chat.h"
#include "decode/round.h"
#include "grammar/grammar.h"
#include "kv/prefix.h"
#include "sched/sched.h"
#include "token/tokenizer.h"

#include <stdatomic.h>

/* One output token as the request keeps it: its text is text[text_begin .. text_end). */
typedef struct output_token {
    size_t text_begin, text_end;
    float logprob;
    bool proposed;
} output_token;

struct lf_request {
    lf_engine *engine;
    lf_seq seq; /* seq.kv is NULL while queued and after the end */
    lf_job job; /* of the scheduler, until the end */
    bool in_callback;
    bool cancel_asked, stopped, failed; /* how the sequence will end, or did */
    bool abandoned;                     /* to be freed when it has ended */
    lf_finish finish;
    lf_error err; /* of LF_FINISH_ERROR */

    bool ignore_eos, special, logprobs;
    int n_top;
    lf_token_fn on_token;
    lf_prefill_fn on_prefill;
    lf_token_fn on_prompt;
    void *cookie;
    int32_t *prediction;
    lf_bias *bias;
    char **stop; /* (n_stop) */
    int n_stop;

    lf_grammar_cursor *cursor; /* NULL: without a grammar */

    lf_detok detok;
    lf_ids ids;    /* output */
    lf_bytes text; /* output; what is past text_sent waits */
    size_t text_sent;
    output_token *tokens; /* (tokens_cap), ids.len of them */
    lf_logprob *tops;     /* (tokens_cap, n_top) */
    size_t tokens_cap;
    size_t text_tail; /* where the text begins that came after the last token, if has_tail */
    bool has_tail;
    size_t i_pull;    /* tokens that lf_request_next has given */
    int prefill_told; /* prompt tokens that on_prefill was told of */
    int64_t submitted_ns, prefilled_ns, finished_ns;
};

/* A smaller model that drafts; all zero where there is none. */
typedef struct lf_engine_draft {
    lf_source source; /* while the engine is being opened */
    lf_kv_shape shape;
    int n_pages;
    lf_model model;
    lf_kv_pool *pool;
    lf_forward *forward; /* NULL: there is no draft model */
    lf_cost cost;        /* of its passes, measured for the proposer `auto` */
    lf_draft_env env;
} lf_engine_draft;

struct lf_engine {
    lf_kernels kernels;
    lf_threads *threads;
    lf_model model;
    lf_tokenizer *tokenizer; /* NULL when the model has none */
    lf_chat *chat;           /* NULL without a tokenizer */
    lf_kv_pool *pool;
    lf_prefix *prefix;
    lf_forward *forward;
    lf_round *round;
    lf_engine_draft draft;
    lf_proposer *proposers[LF_PROPOSER_COUNT]; /* opened when first asked for */
    lf_cost cost;                              /* of passes, measured for the proposer `auto` */
    lf_sched *sched;                           /* of every unfinished request */
    lf_engine_stats stats;                     /* what lf_engine_get_stats does not compute when asked */
    lf_step_seq *step_seqs;                    /* (n_seqs) what requests had of the last step, for who asks */
    int64_t n_submitted;
    int n_seqs, batch_rows, logits_max;
    bool stepping;
    lf_engine_info info;
    char *path;
    _Atomic(lf_token_bytes *) token_bytes; /* made for the first grammar */
    lf_bytes profile_key;
};

/* The key of cost profiles of an engine that is open but for this. LF_ENOMEM. */
lf_status lf_engine_make_profile_key(lf_engine *e, lf_error *err);

/* LF_EINVAL, calling the ids `what`, unless all are in the vocabulary. */
lf_status lf_check_ids(const lf_engine *e, const char *what, const int32_t *ids, size_t n_ids, lf_error *err);

/* Appends the text that becomes certain with an id. A padded embedding has rows that are no token of the tokenizer: they have
 * no text. */
lf_status lf_append_text(const lf_engine *e, lf_detok *state, int32_t id, bool special, lf_bytes *out,
                         lf_error *err);

/* The draft model, if the parameters name one: what it takes (info.draft_bytes, info.draft_window) for a target of this config;
 * loading it, once the target has its tokenizer; giving it back, which is fine at any time. */
lf_status lf_engine_plan_draft(lf_engine *e, const lf_engine_params *p, const lf_config *target,
                               lf_error *err);
lf_status lf_engine_open_draft(lf_engine *e, const lf_engine_params *p, lf_error *err);
void lf_engine_close_draft(lf_engine *e);

/* The tokenizer of a model, or NULL when it has none. */
lf_status lf_engine_read_tokenizer(lf_tokenizer **out, const lf_source *source, lf_error *err);

/* The engine's proposer of an index, which is opened if it is not yet, and for `auto` passes are measured, if they are not yet:
 * lf_find_proposer_fn with the engine as its cookie. */
lf_status lf_engine_find_proposer(void *engine, lf_proposer **out, int index, lf_error *err);

/* Pages that a sequence of n positions can come to hold: those of its positions, and one for the copy of a shared page. */
int lf_pages_for(int n_positions);

#endif

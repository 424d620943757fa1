/* lookfar: LLaMA-family language models that emit several tokens per pass without changing a single output
 * token. */
#ifndef LOOKFAR_H
#define LOOKFAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What follows is all that the shared library exports. */
#if defined(__GNUC__)
#    pragma GCC visibility push(default)
#endif

/* Statuses: name, value (never renumbered), text. */
#define LF_STATUS_LIST(X)                                                                                    \
    X(LF_OK, 0, "ok")                                                                                        \
    X(LF_EINVAL, 1, "invalid argument")                                                                      \
    X(LF_ENOMEM, 2, "out of memory")                                                                         \
    X(LF_EIO, 3, "input or output failed")                                                                   \
    X(LF_EFORMAT, 4, "malformed file")                                                                       \
    X(LF_EUNSUPPORTED, 5, "not supported")                                                                   \
    X(LF_ELIMIT, 6, "limit exceeded")                                                                        \
    X(LF_ECANCELED, 7, "canceled")                                                                           \
    X(LF_EDIVERGED, 8, "training diverged")

typedef enum lf_status {
#define LF_STATUS_ENUM(name, value, text) name = value,
    LF_STATUS_LIST(LF_STATUS_ENUM)
#undef LF_STATUS_ENUM
} lf_status;

/* The status in words; never NULL. */
const char *lf_status_name(lf_status status);

/* What failed, where, what was found and what was expected. Every function that takes one accepts NULL. */
typedef struct lf_error {
    lf_status status;
    char text[500];
} lf_error;

/* Element types of weights and of the KV cache. */
typedef enum lf_dtype {
    LF_DTYPE_F32,
    LF_DTYPE_F16,
    LF_DTYPE_BF16,
    LF_DTYPE_Q8_0,
    LF_DTYPE_Q4_0,
    LF_DTYPE_Q4_K,
    LF_DTYPE_Q5_K,
    LF_DTYPE_Q6_K,
    LF_DTYPE_COUNT,
} lf_dtype;

/* The lower-case name of a dtype ("q8_0"), and the way back; false when no dtype has the name. */
const char *lf_dtype_name(lf_dtype dtype);
bool lf_dtype_parse(const char *name, lf_dtype *out);

/* The version of the library: "0.1.0". */
const char *lf_version(void);

/* Called with the bytes handled so far; returning false cancels, and the call that reports it ends with LF_ECANCELED. */
typedef bool (*lf_progress_fn)(void *cookie, size_t done_bytes, size_t total_bytes);

/* ---- engine: a loaded model with its cache ---- */

/* One thread at a time may use an engine and its requests; the engine's own threads do the arithmetic. Who serves many has one thread
 * that submits, steps, cancels and reads results, and talks to it by queues. Only what never changes after opening may be asked for
 * by any thread at any time: lf_engine_get_info, lf_tokenize, lf_detokenize, lf_token_text. Several engines may live in a process. */
typedef struct lf_engine lf_engine;

enum {
    LF_PAGE_TOKENS = 128
}; /* positions of a page of the cache, the unit in which it is taken and shared */

typedef struct lf_engine_params {
    size_t size;            /* sizeof(lf_engine_params), set by lf_engine_params_init */
    const char *model_path; /* a .gguf file, or a Hugging Face folder with config.json and safetensors */
    int n_threads;          /* 0: one for each processor that the process may use */
    bool pin_threads;       /* bind each thread to a processor */
    int n_ctx;              /* positions of a sequence; 0: what the model was made for */
    int n_seqs;             /* requests decoded together; 1 */
    int batch_rows;         /* rows of one pass, and so the chunk in which prompts are read; 512 */
    int prefill_rows;       /* rows of prompts in a pass that others decode in; 0: a quarter of batch_rows */
    int n_pages; /* of the cache, LF_PAGE_TOKENS positions each; 0: n_ctx positions for each of n_seqs. With fewer,
                    requests that grow may be preempted: they wait and are read again, and say what they would have said */
    int queue_max;     /* requests that may wait besides n_seqs; 0: any number */
    int n_candidates;  /* of one pass for each of n_seqs; 0: 8, and 64 in all at least */
    lf_dtype kv_dtype; /* f32, f16, bf16 (the default) or q8_0 */
    int weight_dtype;  /* an lf_dtype to convert every matrix to while loading, or -1: as the file has them */
    unsigned cpu_mask; /* of the processor's features, those that may be used: see lf_cpu_mask_parse */
    /* a smaller model with the same vocabulary, for the proposers "draft" and "auto"; NULL: none */
    const char *draft_path;
    int draft_window; /* how many of the last positions it sees; 0: 512, or what it was made for if that is less */
    lf_progress_fn progress; /* while loading; may be NULL */
    void *progress_cookie;
    const char *chat_template; /* Jinja text, or "chatml"; NULL: the model's own */
} lf_engine_params;

void lf_engine_params_init(lf_engine_params *params);

/* "scalar", "avx2", "avx512" or "native" (no restriction) as a mask; false for any other text. */
bool lf_cpu_mask_parse(const char *text, unsigned *out);

/* Loads the model. Errors name the file, what was found and what was expected: LF_EIO, LF_EFORMAT, LF_EUNSUPPORTED,
 * LF_EINVAL (a parameter), LF_ELIMIT (needs more memory than the machine has), LF_ENOMEM, LF_ECANCELED. */
lf_status lf_engine_open(lf_engine **out, const lf_engine_params *params, lf_error *err);
void lf_engine_close(lf_engine *engine); /* NULL is fine */

typedef struct lf_engine_info {
    size_t size;         /* sizeof(lf_engine_info), set by the caller */
    const char *arch;    /* "llama", "qwen2", "qwen3" */
    const char *kernels; /* "scalar", "avx2", "avx512", "avx512+bf16" */
    int n_layers, dim, n_heads, n_kv_heads, head_dim, ffn_dim, n_vocab;
    int n_ctx, n_seqs, n_threads;
    int n_pages; /* of the cache */
    size_t weight_bytes, kv_bytes, buffer_bytes;
    size_t draft_bytes; /* the draft model with its cache and buffers */
    int draft_window;   /* 0: there is no draft model */
    double load_seconds;
    const char *profile_key; /* what a cost profile depends on, in a line (lf_engine_get_profile) */
} lf_engine_info;

void lf_engine_get_info(const lf_engine *engine, lf_engine_info *info);

/* What passes cost on this machine, which the proposer `auto` decides by: measured in at most 2 seconds for each model, now or when it is
 * first asked for, unless it was set. As a text, whose first line is the engine's profile_key (version, models, types, threads,
 * instructions, limits), it can be kept for the next engine of the same key. *text is malloc'ed, the caller's. LF_ENOMEM. */
lf_status lf_engine_get_profile(lf_engine *engine, char **text, lf_error *err);

/* Takes a text of lf_engine_get_profile; false, and nothing is changed, when it is of another key or damaged. */
bool lf_engine_set_profile(lf_engine *engine, const char *text);

/* ---- text and tokens ---- */

/* Encodes text[0..len) (any bytes). add_bos: put the model's beginning-of-sequence token first, if it uses one;
 * parse_special: names of special tokens in the text become those tokens. *ids is malloc'ed, the caller's; *n_ids may be 0. */
lf_status lf_tokenize(const lf_engine *engine, const char *text, size_t len, bool add_bos, bool parse_special,
                      int32_t **ids, size_t *n_ids, lf_error *err);

/* The text of ids as UTF-8; *text is malloc'ed, NUL-terminated and the caller's. */
lf_status lf_detokenize(const lf_engine *engine, const int32_t *ids, size_t n_ids, bool special, char **text,
                        size_t *len, lf_error *err);

/* The bytes that a token stands for in the middle of a text, not always whole code points; a special token's are its name. Copies
 * them to out, LF_TOKEN_BYTES_LIMIT at most, and returns how many; 0 for an id without text, and without a tokenizer. From any
 * thread. */
enum { LF_TOKEN_BYTES_LIMIT = 1000 };
size_t lf_token_text(const lf_engine *engine, int32_t id, char *out);

/* ---- grammars: what an output may say ---- */

/* A grammar restricts the tokens that can be picked to those that go on with a text of the grammar: a stage of the pick, so that
 * outputs are the same with every proposer. Its end is the output's end. Any number of requests of the engine may share one. */
typedef struct lf_grammar lf_grammar;

typedef enum lf_grammar_kind {
    LF_GRAMMAR_JSON_OBJECT, /* any JSON object; text is not used */
    LF_GRAMMAR_JSON_SCHEMA, /* JSON values that satisfy the schema in text: see docs/DECODERS.md for what of it is supported */
    LF_GRAMMAR_REGEX,  /* what the regular expression in text matches as a whole */
    LF_GRAMMAR_CHOICE, /* one of the strings of the JSON array in text */
} lf_grammar_kind;

/* Compiles text[0..len). The vocabulary is prepared at the first time, once for an engine. LF_EINVAL and LF_EUNSUPPORTED name the
 * place; LF_EFORMAT: no JSON; LF_ELIMIT: too large. May be called from any thread. */
lf_status lf_grammar_compile(lf_grammar **out, lf_engine *engine, lf_grammar_kind kind, const char *text,
                             size_t len, lf_error *err);

/* Gives back a grammar, which lives on as long as a request has it; NULL is fine. From any thread. */
void lf_grammar_free(lf_grammar *grammar);

/* ---- conversations ---- */

typedef struct lf_chat_info {
    size_t size;               /* sizeof(lf_chat_info), set by the caller */
    const char *template_text; /* NULL: the model has none, and none was given */
    const char *error;         /* why the model's own template cannot be used; NULL: it can */
    bool tools, system;        /* whether it shows tools, and system messages, to the model */
} lf_chat_info;

void lf_chat_get_info(const lf_engine *engine, lf_chat_info *info);

/* The text that a conversation is for the model, by its chat template. request is a JSON object in OpenAI's form:
 *
 *     "messages"                [{"role": "user", "content": "..."}, ...]; content may be a list of {"type": "text"} parts
 *     "tools", "documents"      lists of objects; absent
 *     "add_generation_prompt"   end with what begins the answer; true
 *     "chat_template_kwargs"    an object: further variables of the template ("enable_thinking")
 *     "now"                     what strftime_now shows, in seconds since 1970, UTC; the time
 *
 * Other members are ignored, so that a whole request of the OpenAI API will do. *text is malloc'ed, NUL-terminated and the caller's.
 * LF_EFORMAT: not JSON; LF_EINVAL: a member, or the template refuses the conversation; LF_EUNSUPPORTED: no template, one beyond the
 * subset (docs/MODELS.md), or content other than text; LF_ELIMIT; LF_ENOMEM. Threads may render at the same time. */
lf_status lf_chat_render(const lf_engine *engine, const char *request, size_t request_len, char **text,
                         size_t *len, lf_error *err);

/* Encodes a rendered conversation: names of special tokens become those tokens, wherever they stand, and nothing is put in front,
 * because the template writes the beginning-of-sequence token itself. *ids is malloc'ed, the caller's. */
lf_status lf_chat_tokenize(const lf_engine *engine, const char *text, size_t len, int32_t **ids,
                           size_t *n_ids, lf_error *err);

/* ---- requests ---- */

/* A request is a prompt being continued. Any number may be open at once; the engine decodes up to n_seqs of them together, in
 * the order they came, and what one says does not depend on the others. One whose prompt begins like that of another waits until
 * the other has read it, where that is most of its work, and shares the pages: several answers to one prompt read it once. */
typedef struct lf_request lf_request;

typedef enum lf_finish {
    LF_FINISH_NONE,   /* not finished */
    LF_FINISH_STOP,   /* an end-of-sequence token or a stop string */
    LF_FINISH_LENGTH, /* n_predict, or the context is full */
    LF_FINISH_CANCEL, /* lf_request_cancel, or a callback returned false */
    LF_FINISH_ERROR,  /* memory ran out, or the logits were not finite: lf_request_wait has the text */
} lf_finish;

enum { LF_FINISH_COUNT = LF_FINISH_ERROR + 1 };

/* "none", "stop", "length", "cancel", "error". */
const char *lf_finish_name(lf_finish finish);

typedef struct lf_logprob {
    int32_t id;
    float
        logprob; /* natural logarithm, under the model itself: before bias, penalties, temperature and filters */
} lf_logprob;

/* A token of the output. text: the bytes that became certain with it, in whole code points, possibly none; text that may be
 * the beginning of a stop string waits. Valid until the request goes on. */
typedef struct lf_token {
    int32_t id; /* -1: no token, only the text that waited until the end */
    const char *text;
    size_t len;
    bool proposed;         /* an accepted candidate; otherwise the token that every pass is sure of */
    float logprob;         /* 0 unless logprobs were asked for */
    const lf_logprob *top; /* (n_top) the likeliest, best first */
    int n_top;
} lf_token;

/* Returning false ends the request with LF_FINISH_CANCEL. */
typedef bool (*lf_token_fn)(void *cookie, const lf_token *token);
typedef bool (*lf_prefill_fn)(void *cookie, int done_tokens, int total_tokens);

typedef struct lf_bias {
    int32_t id;
    float bias; /* added to the logit; -INFINITY forbids the id */
} lf_bias;

typedef struct lf_request_params {
    size_t size;        /* sizeof(lf_request_params), set by lf_request_params_init */
    const int32_t *ids; /* (n_ids) the prompt, copied; a prefix that is in the cache is not computed again */
    size_t n_ids;       /* 1 to n_ctx */
    int n_predict;      /* output tokens at most; -1: until the context is full */

    /* which token is picked, in the order in which these act */
    const lf_bias *bias; /* (n_bias) copied */
    int n_bias;
    lf_grammar *grammar; /* of this engine: what the output may say, or NULL; the request keeps it alive */
    float repetition_penalty; /* 1: none */
    float frequency_penalty;  /* 0: none */
    float presence_penalty;   /* 0: none */
    int repeat_last_n;        /* tokens that the penalties look at; -1: all */
    float temperature;        /* 0: greedy */
    int top_k;                /* 0: all */
    float top_p;              /* 1: all */
    float min_p;              /* 0: all */
    uint64_t seed;            /* the noise at a position depends on it, the position and the token id alone */

    /* when it ends */
    bool ignore_eos;         /* end-of-sequence tokens are like others */
    const char *const *stop; /* (n_stop) strings that end the output and are not part of it; copied */
    int n_stop;

    /* how it gets there: these change the number of passes and nothing else */
    /* "none", "ngram", "jacobi", "sparse", "draft" (the engine needs a draft model), or "auto": the engine chooses in each
     * round */
    const char *proposer;
    /* sparse, draft: "single" (the default), a pass for each candidate, or "jacobi", iterations over all; the same ones */
    const char *drafting;
    const char *selection; /* sparse: "window", "snap" or "verify" (the default); see docs/DECODERS.md */
    int sparse_budget; /* sparse: positions to draft over; 0: max(256, 6 % of the sequence), and "auto" chooses */
    /* candidates of a pass at most, 0 to LF_DRAFT_LIMIT. -1 (the default): 8; for "jacobi" and "auto" as many as are worth their time */
    int draft_max;
    const int32_t
        *prediction; /* (n_prediction) what the output is expected to be like, for "ngram"; copied */
    size_t n_prediction;
    bool no_prefix_cache; /* neither read nor feed the prefix cache */

    /* what comes out */
    bool special;         /* special tokens have text */
    bool logprobs;        /* compute them */
    int n_top;            /* and those of the n likeliest, 0 to LF_TOP_LIMIT */
    lf_token_fn on_token; /* may be NULL */
    lf_token_fn
        on_prompt; /* may be NULL; else it is told the log probability of each token of the prompt but the first (without
                                 text), which is then read as a whole, past the prefix cache. Not with n_predict 0 */
    lf_prefill_fn on_prefill; /* may be NULL */
    void *cookie;
} lf_request_params;

enum { LF_DRAFT_LIMIT = 64, LF_TOP_LIMIT = 20, LF_STOP_LIMIT = 16 };

void lf_request_params_init(lf_request_params *params);

typedef struct lf_request_result {
    size_t size; /* sizeof(lf_request_result), set by the caller */
    lf_finish finish;
    int prompt_tokens;
    int cached_tokens; /* of the prompt, taken from the prefix cache */
    int output_tokens; /* an end-of-sequence token that ended the output is not counted */
    int passes;        /* target passes that emitted tokens, the confirming ones included */
    int draft_passes;  /* passes of "sparse", "draft" and "auto" that drafted candidates of it */
    int proposed;      /* candidates verified */
    int accepted;      /* of those, emitted */
    /* As CLLM counts them (jacobi; docs/DECODERS.md): the mean of the tokens that become right in a pass, a last pass that
     * only confirms not counted; and the tokens that were right before what stands before them was, and stayed right. */
    double fast_forwarded;
    int stationary;
    int preemptions; /* how often it gave up its pages to those before it and was read again */
    double queue_seconds, prefill_seconds, decode_seconds;
    double ttft_seconds; /* from submitting to the first token; 0: there was none */
} lf_request_result;

/* Puts a request into the queue. Copies what params point to. LF_EINVAL names the parameter; LF_ELIMIT: the prompt does not
 * fit the context, or the queue is full. May be called from a callback. */
lf_status lf_request_submit(lf_request **out, lf_engine *engine, const lf_request_params *params,
                            lf_error *err);

/* Ends a request before its time; it is finished when this returns, except in a callback, where a request that is being decoded
 * ends with the pass. Finished requests are left alone. */
void lf_request_cancel(lf_request *request);

/* Releases a request, cancelling it first; no callback of it is called any more. NULL is fine. Not from a callback of its own. */
void lf_request_free(lf_request *request);

bool lf_request_is_finished(const lf_request *request);
void lf_request_get_result(const lf_request *request, lf_request_result *result);

/* The output so far: ids (n) and text (len bytes; a NUL follows once the request is finished), owned by the request, valid
 * until it goes on. */
const int32_t *lf_request_ids(const lf_request *request, size_t *n);
const char *lf_request_text(const lf_request *request, size_t *len);

/* Pull: the next token of a request, running passes (for every request of the engine) until there is one. *more is false,
 * with no token, when the output is at its end. */
lf_status lf_request_next(lf_request *request, lf_token *token, bool *more, lf_error *err);

/* Runs passes until the request is finished. LF_OK unless it finished with LF_FINISH_ERROR. */
lf_status lf_request_wait(lf_request *request, lf_error *err);

/* Requests of an engine are numbered from 0 in the order in which they were submitted. */
int64_t lf_request_id(const lf_request *request);

/* What a request had of a pass. */
typedef struct lf_step_seq {
    int64_t id;           /* of lf_request_id */
    int rows;             /* in the pass: of the prompt, or the last token and the candidates */
    const char *proposer; /* whose candidates it had: "auto" gives the one that it chose, or "none" */
    int budget;           /* positions that "sparse" drafted over; 0: another proposer */
    int proposed, accepted, emitted;
} lf_step_seq;

/* A request that gave up its pages before a pass. */
typedef struct lf_step_preemption {
    int64_t id;     /* of lf_request_id */
    int64_t for_id; /* the request whose rows had no page: an earlier one, or, as the last of all, itself */
    int tokens;     /* in the cache until then: read again, but for what the prefix cache keeps */
} lf_step_preemption;

/* What a pass did; times in seconds. */
typedef struct lf_step_info {
    size_t size;      /* sizeof(lf_step_info), set by the caller */
    int n_requests;   /* with rows in the pass */
    int prefill_rows; /* of prompts */
    int decode_rows;  /* of last tokens and candidates */
    int proposed, accepted, emitted;
    int queued, active; /* requests after the pass */
    int preempted;      /* requests that gave up their pages before it */
    double propose_seconds, forward_seconds, pick_seconds;
    const lf_step_seq *seqs;               /* (n_requests) valid until the next pass; the engine's */
    const lf_step_preemption *preemptions; /* (preempted) likewise */
} lf_step_info;

/* Runs one pass for all open requests. *busy is false when there was nothing to do. info may be NULL. A request that fails
 * finishes with LF_FINISH_ERROR and leaves the others alone. */
lf_status lf_engine_step(lf_engine *engine, bool *busy, lf_step_info *info, lf_error *err);

/* Why a round of a request with a proposer had no candidates. */
typedef enum lf_skip {
    LF_SKIP_LAST,  /* no more than one token was due */
    LF_SKIP_ROWS,  /* the pass had no rows left */
    LF_SKIP_PAGES, /* the cache had no pages left */
    LF_SKIP_NOTHING, /* the proposer had nothing: no earlier occurrence, or no more positions than the sparse budget */
    LF_SKIP_CONTROLLER, /* "auto": none would have been worth its time */
    LF_SKIP_COUNT,
} lf_skip;

/* "last", "rows", "pages", "nothing", "controller". */
const char *lf_skip_name(lf_skip skip);

typedef struct lf_proposer_stats {
    const char *name;
    int64_t rounds; /* with candidates */
    int64_t proposed, accepted;
} lf_proposer_stats;

enum { LF_PROPOSER_STATS_MAX = 8 };

/* What an engine has done since it was opened, and what it is doing. */
typedef struct lf_engine_stats {
    size_t size;                          /* sizeof(lf_engine_stats), set by the caller */
    int64_t finished[LF_FINISH_COUNT];    /* requests, by lf_finish */
    int64_t prompt_tokens, cached_tokens; /* of requests that were admitted, as in lf_request_result */
    int64_t output_tokens;                /* of all requests */
    int64_t steps;                        /* target passes, each for many requests */
    int64_t passes;                       /* the same, counted once for each request that they gave tokens */
    int64_t prefill_rows, decode_rows;    /* of those passes */
    int64_t preemptions;
    int n_proposers;
    lf_proposer_stats proposers
        [LF_PROPOSER_STATS_MAX];         /* (n_proposers) by who proposed: `auto` names those that it chose */
    int64_t proposed_at[LF_DRAFT_LIMIT]; /* candidates, by their place in the round */
    int64_t accepted_at[LF_DRAFT_LIMIT];
    int64_t skipped[LF_SKIP_COUNT]; /* rounds without candidates, by lf_skip */
    double schedule_seconds, propose_seconds, forward_seconds, pick_seconds;
    double emit_seconds; /* of pick_seconds, what follows the picks: text, stop strings, callbacks */
    int queued, active;  /* requests now */
    int pages, pages_used,
        pages_cached; /* of the cache; used: by requests; cached: kept for those that may come */
} lf_engine_stats;

/* Takes microseconds. */
void lf_engine_get_stats(const lf_engine *engine, lf_engine_stats *stats);

/* Submit, wait, free, for one request. result may be NULL. */
lf_status lf_generate(lf_engine *engine, const lf_request_params *params, lf_request_result *result,
                      lf_error *err);

/* The logits after every token of ids (n_ids): logits (n_ids, n_vocab), the caller's. Requests may be preempted for it. Not from a
 * callback. */
lf_status lf_score(lf_engine *engine, const int32_t *ids, size_t n_ids, float *logits, lf_error *err);

/* ---- model files ---- */

/* What a model file holds and what running it takes, as a JSON object: config, memory plan for n_ctx positions (0: the
 * model's) of n_seqs sequences with the given KV dtype, metadata, tensors, tokenizer. *json is malloc'ed, the caller's. */
lf_status lf_inspect(const char *model_path, int n_ctx, int n_seqs, lf_dtype kv_dtype, char **json,
                     lf_error *err);

typedef struct lf_convert_result {
    size_t size;   /* sizeof(lf_convert_result), set by the caller */
    int n_tensors; /* written */
    int n_fallback; /* matrices whose rows are not whole blocks of the type asked for, written as q8_0 or f16 */
} lf_convert_result;

typedef struct lf_convert_params {
    size_t size; /* sizeof(lf_convert_params), set by lf_convert_params_init */
    const char
        *input_path; /* convert: a Hugging Face folder, or a llama2.c .bin file. quantize: a .gguf file */
    const char *tokenizer_path; /* for a .bin file: tokenizer.model or llama2.c's tokenizer.bin; else NULL */
    const char *output_path;    /* written whole or not at all */
    int dtype;                  /* an lf_dtype for the matrices; -1: as the input has them (convert only) */
    int n_threads;              /* 0: one for each processor */
    lf_progress_fn progress;
    void *cookie;
    lf_convert_result *result; /* filled on success; may be NULL */
} lf_convert_params;

void lf_convert_params_init(lf_convert_params *params);

/* Writes a GGUF v3 file from another form, or with other element types. */
lf_status lf_convert(const lf_convert_params *params, lf_error *err);
lf_status lf_quantize(const lf_convert_params *params, lf_error *err);

/* ---- the theory of speculation over a sparse cache (MagicDec, arXiv 2408.11049, section 3) ---- */

typedef struct lf_model_cost_params {
    size_t size;            /* sizeof(lf_model_cost_params), set by lf_model_cost_params_init */
    const char *model_path; /* a config.json, a folder with one, or a .gguf file */
    double bandwidth;       /* bytes per second that memory gives */
    double flops;           /* multiplications and additions per second that products reach */
    double overhead;        /* seconds that a pass takes beyond both; 0 */
    double row_overhead;    /* seconds that each of its rows takes beyond both; 0 */
    double round_overhead;  /* seconds that a round takes beyond its passes; 0 */
    double weight_bytes;    /* of one weight; 2 */
    double cache_bytes;     /* of one element of K or V; 2 */
    int batch, context;     /* sequences, and positions of each */
    int budget;             /* positions that a draft pass sees; 512 */
    const char *draft_path; /* a smaller model that drafts; NULL: the model itself */
    double acceptance;      /* chance that a candidate is right, given those before it */
    int g;                  /* candidates of a round; 0: the best up to g_max */
    int g_max;              /* 16 */
} lf_model_cost_params;

void lf_model_cost_params_init(lf_model_cost_params *params);

typedef struct lf_model_cost_result {
    size_t size; /* sizeof(lf_model_cost_result), set by the caller */
    int g;
    double target_seconds, draft_seconds, verify_seconds; /* of a step, of a draft pass, of a verify pass */
    double tokens_per_round;
    double speedup; /* over plain decoding */
} lf_model_cost_result;

/* What the roofline says: a pass takes the longer of reading the weights and computing its products, and for attention the longer of
 * reading K and V and computing with them. The overheads are the target's; a smaller model has them in proportion to its layers, and
 * those of rows to its width, too. LF_EINVAL names a parameter; otherwise the errors of reading a config. */
lf_status lf_model_cost(const lf_model_cost_params *params, lf_model_cost_result *result, lf_error *err);

/* ---- training: in liblookfar-train (pkg-config lookfar-train), for which oneDNN must be there ---- */

/* How the learning rate goes on after the warm-up. The rate's end is lr_end times its height. */
typedef enum lf_train_schedule {
    LF_TRAIN_COSINE,   /* half a cosine down to the end */
    LF_TRAIN_WSD,      /* stays, then falls in a line over the last decay_share of the steps */
    LF_TRAIN_CONSTANT, /* stays */
} lf_train_schedule;

/* A LLaMA of this shape, with random weights; its vocabulary is the tokenizer's. */
typedef struct lf_train_shape {
    int dim, n_layers, n_heads, n_kv_heads, ffn_dim;
    int head_dim; /* 0: dim / n_heads */
    bool tied;    /* the output's weights are the embedding's */
} lf_train_shape;

/* A text (a document, or several with a separator between them), JSON lines (named .jsonl), or a token file. */
typedef struct lf_train_input {
    const char *path;
    double weight; /* passes over it in an epoch; 1 */
} lf_train_input;

typedef enum lf_train_event_kind {
    LF_TRAIN_PREPARING,  /* path, share: an input is being turned into tokens */
    LF_TRAIN_STEP,       /* step and what follows it */
    LF_TRAIN_VALIDATION, /* loss over the validation data, and by position */
    LF_TRAIN_SAMPLE,     /* temperature, text */
    LF_TRAIN_CHECKPOINT, /* path */
    LF_TRAIN_EXPORT,     /* path */
} lf_train_event_kind;

enum { LF_TRAIN_BUCKET_LIMIT = 32 };

/* What happened; valid during the call. */
typedef struct lf_train_event {
    size_t size; /* sizeof(lf_train_event) */
    lf_train_event_kind kind;
    const char *path;
    double share;                    /* 0 to 1 */
    int64_t step, n_steps, n_tokens; /* taken, to take, rows seen */
    double loss, lr, grad_norm;      /* the loss is the mean over targets, in nats */
    double tokens_per_second, seconds_left;
    int n_buckets; /* bucket b: the rows at positions 2^b to 2^(b+1) - 1; 0 in bucket 0 */
    double bucket_loss[LF_TRAIN_BUCKET_LIMIT]; /* (n_buckets) */
    int64_t bucket_targets[LF_TRAIN_BUCKET_LIMIT];
    float temperature;
    const char *text; /* prompt and continuation */
    /* of a distillation: what the loss is made of; and, of a validation, what decoding held-out prompts shows */
    double consistency_loss, ar_loss; /* means over pairs and over targets */
    double tokens_per_pass;           /* 0: not measured */
    double repeated;                  /* share of the output's tokens that end 4 tokens seen before in it */
} lf_train_event;

/* Returning false stops the run after a checkpoint; lf_train then returns LF_ECANCELED. */
typedef bool (*lf_train_fn)(void *cookie, const lf_train_event *event);

typedef struct lf_train_result {
    size_t size; /* sizeof(lf_train_result), set by the caller */
    int64_t step, n_tokens;
    double loss;       /* of the last step; NAN when none was taken */
    double valid_loss; /* of the last validation; NAN when there was none */
} lf_train_result;

typedef struct lf_train_params {
    size_t size; /* sizeof(lf_train_params), set by lf_train_params_init */

    /* the run's folder: log.jsonl, checkpoint, model.gguf, data/; one run at a time */
    const char *out_dir;
    bool resume;       /* go on from its checkpoint; otherwise the folder must not have one */
    bool prepare_only; /* stop when the inputs are token files in out_dir/data */
    bool export_only;  /* with resume: write model.gguf from the checkpoint and stop */

    /* the model: a file to go on from, or a shape */
    const char *model_path;     /* a .gguf file or a Hugging Face folder; NULL: `shape` */
    lf_train_shape shape;       /* used without model_path */
    const char *tokenizer_path; /* tokenizer.model or tokenizer.json; NULL: the model's */
    double rope_base;           /* 0: the model's, or 10000 */
    int lora_rank;     /* 0: all weights are trained; else adapters of this rank, merged in the output */
    double lora_alpha; /* adapters count alpha / rank times; 0: twice the rank */
    lf_dtype dtype;    /* of the output's matrices: bf16, or f32, f16, q8_0 */

    /* the data */
    const lf_train_input *data;  /* (n_data) */
    const lf_train_input *valid; /* (n_valid) weights are not used */
    int n_data, n_valid;
    double hold_out;       /* without `valid`: this share of the documents of `data` is for validation; 0 */
    const char *separator; /* of documents in a text: "<|endoftext|>"; "": none */
    const char *prompt_template; /* of JSON lines: {name} stands for that field; "{prompt}" */
    const char *response_field;  /* "response" */
    bool train_prompt;           /* prompts count in the loss, too */
    int context;                 /* rows of a sequence at most; 1024 */
    uint64_t seed;               /* of the weights and of the order of the data */

    /* the steps */
    int64_t n_steps; /* or, when 0, as many as n_tokens makes */
    int64_t n_tokens;
    int batch_tokens; /* rows of a step: 16384 */
    int micro_rows;   /* rows that go through the network together; 0: 4096, or the context if that is more */
    lf_train_schedule schedule;
    double lr;                                    /* 1e-3 */
    double lr_end;                                /* the last learning rate as a share of lr: 0.1 */
    double decay_share;                           /* of the steps, LF_TRAIN_WSD: 0.2 */
    int64_t warmup_steps;                         /* 100 */
    double beta1, beta2, eps, weight_decay, clip; /* 0.9, 0.95, 1e-8, 0.1, 1 */

    /* what it shows */
    int64_t valid_every;  /* steps; 0: at the end only. 250 */
    int64_t valid_tokens; /* rows of a validation: 131072 */
    int64_t sample_every; /* steps; 0: never */
    const char *sample_prompt;
    int sample_tokens;         /* 100 */
    double checkpoint_minutes; /* 10; 0: after each step */

    /* the machine */
    int n_threads;  /* 0: one for each processor. The result's bits depend on it */
    bool f32;       /* float products; otherwise those of bf16 operands with float sums */
    bool recompute; /* keep less for the backward pass and compute it again */

    lf_train_fn on_event; /* may be NULL */
    void *cookie;
    lf_train_result *result; /* may be NULL */
} lf_train_params;

void lf_train_params_init(lf_train_params *params);

/* Trains a model as the parameters say. A run that was stopped, killed or cut off goes on from its last checkpoint to the same
 * weights, bit for bit, that it would have had unbroken. LF_EINVAL names a parameter; LF_EDIVERGED: the loss is not a number or
 * stays far above what it was, and the last good checkpoint is kept; LF_ECANCELED: stopped by on_event, with a checkpoint. */
lf_status lf_train(const lf_train_params *params, lf_error *err);

/* ---- distilling: Jacobi trajectories (CLLM, arXiv 2403.00835); in liblookfar-train, too ---- */

typedef struct lf_distill_progress {
    size_t size;                  /* sizeof(lf_distill_progress) */
    int64_t n_prompts, n_done;    /* written, those of earlier calls included */
    int64_t n_resumed;            /* of those, written by earlier calls */
    int64_t n_kept;               /* written by this call and not dropped */
    double seconds, seconds_left; /* since the call began; to its end */
} lf_distill_progress;

/* Returning false stops; the call ends with LF_ECANCELED, and the same call goes on from there. */
typedef bool (*lf_distill_fn)(void *cookie, const lf_distill_progress *progress);

typedef struct lf_distill_collect_params {
    size_t size;              /* sizeof(lf_distill_collect_params), set by lf_distill_collect_params_init */
    lf_engine_params engine;  /* of the model; n_seqs and n_candidates are set by the call */
    const char *prompts_path; /* JSON lines */
    const char *prompt_template; /* {name} stands for a line's field: "{prompt}" */
    int64_t n_prompts;           /* the first ones; 0: all */
    const char *out_path;        /* the trajectory file, made or continued */
    int n_parallel;              /* sequences decoded together, which changes no byte of the file; 8 */

    int block;        /* tokens of a block: 16 */
    int max_tokens;   /* of an output, rounded up to whole blocks: 512 */
    const char *fill; /* first guesses: "prompt", tokens of the text so far at random, or "ngram" */
    float temperature, top_p, min_p; /* 0 (greedy), 1, 0 */
    int top_k;                       /* 0 */
    uint64_t seed; /* prompt i, from 0, is decoded as a request with the seed `seed` + i would be */

    float augment;        /* share of a state's wrong tokens that are set right, as CLLM does: 0.5; 0: none */
    int repeat_tokens;    /* drop an output with a run of one token as long as this: 10; 0: do not */
    int repeat_sentences; /* the same with a run of one sentence: 3; 0: do not */

    lf_distill_fn on_progress; /* may be NULL */
    void *cookie;
} lf_distill_collect_params;

void lf_distill_collect_params_init(lf_distill_collect_params *params);

/* Decodes every prompt in blocks by Jacobi iterations and writes the states that they go through. A file that an earlier call with
 * the same parameters left unfinished, by whatever end, is continued, and has the bytes of an unbroken one then. Errors: those
 * of lf_engine_open; LF_EINVAL, naming what differs, for a file of another collection; LF_EFORMAT, naming the record, for a damaged
 * one; LF_EIO; LF_ECANCELED. */
lf_status lf_distill_collect(const lf_distill_collect_params *params, lf_error *err);

/* What a trajectory file holds, as a JSON object: its parameters and counts, or, with i_record from 0, that trajectory with all its
 * states. *json is malloc'ed, the caller's. */
lf_status lf_distill_inspect(const char *path, int64_t i_record, char **json, lf_error *err);

/* ---- distilling: a model learns from trajectories to decode several tokens in a pass ---- */

typedef enum lf_distill_recipe {
    LF_DISTILL_CLLM,        /* consistency of the states of a block (arXiv 2403.00835) */
    LF_DISTILL_PROGRESSIVE, /* of whole outputs under progressive noise (arXiv 2512.14681) */
    LF_DISTILL_AR,          /* none: next tokens alone, to compare with */
    LF_DISTILL_RKL,         /* none: towards another model, by reverse KL on the outputs. For drafts */
} lf_distill_recipe;

typedef struct lf_distill_train_result {
    size_t size; /* sizeof(lf_distill_train_result), set by the caller */
    int64_t step, n_tokens;
    bool collapsed; /* the run ended early */
    /* of the held-out prompts, 0 without: at the start, and at the step whose weights are kept */
    int64_t best_step;
    double start_tokens_per_pass, tokens_per_pass;
    double start_ar_loss, ar_loss;
} lf_distill_train_result;

typedef struct lf_distill_train_params {
    size_t size; /* sizeof(lf_distill_train_params), set by lf_distill_train_params_init */

    /* The run: folder, model, steps, machine, on_event, and of the data hold_out (of trajectories), train_prompt, context (of
     * prompt and output), seed and valid_tokens. `data`, if any (and how texts and JSON lines are read), are the ground truth
     * that the autoregressive loss takes its labels from, instead of from the trajectories' outputs. The other members are not
     * used. Defaults that differ: lr 1e-4, no weight decay, 50 steps of warm-up, validation every 100. */
    lf_train_params train;

    /* Trajectories, of one tokenizer; validation reads `valid`, or train.hold_out of the others */
    const char *const *trajectories; /* (n_trajectories) files */
    const char *const *valid;        /* (n_valid) */
    int n_trajectories, n_valid;

    lf_distill_recipe recipe;
    double weight_ar; /* w: the loss is consistency + w autoregressive, both means over tokens; 1 */
    bool local;       /* LF_DISTILL_CLLM: adjacent states instead of a state and the fixed point */
    int window;       /* LF_DISTILL_PROGRESSIVE: levels of noise in a cycle; 16 */
    double synthetic; /* share of the blocks whose noise is drawn from the text, not from a state; 0 */
    const char *teacher_path; /* LF_DISTILL_RKL: the model to follow; it has the same tokenizer */

    /* which weights are kept, and when a run has collapsed; the bounds are not for LF_DISTILL_RKL */
    int measure_prompts;    /* held-out prompts that are decoded in a validation; 16, 0: none */
    double loss_bound;      /* nats that the autoregressive loss may rise over the start's; 0.1 */
    double repeat_bound;    /* that the share of repeated tokens may rise; 0.1 */
    double collapse_factor; /* times these bounds in two validations running end the run; 5 */

    lf_distill_train_result *result; /* may be NULL */
} lf_distill_train_params;

void lf_distill_train_params_init(lf_distill_train_params *params);

/* Trains a model on trajectories (lf_distill_collect makes them). train.out_dir/model.gguf is at any time the best model so far: of those
 * whose tokens per pass are the most, within what so few prompts can tell, the one with the least validation loss, if loss and repetition
 * stayed within the bounds; at first the model itself; without held-out trajectories, the last one. Interrupted and resumed as lf_train is, to the same bits. Errors as those of lf_train. */
lf_status lf_distill_train(const lf_distill_train_params *params, lf_error *err);

#if defined(__GNUC__)
#    pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif

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
    X(LF_ECANCELED, 7, "canceled")

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

/* One engine serves one thread at a time; its own threads do the arithmetic. Several engines may live in a process. */
typedef struct lf_engine lf_engine;

typedef struct lf_engine_params {
    size_t size;            /* sizeof(lf_engine_params), set by lf_engine_params_init */
    const char *model_path; /* a .gguf file, or a Hugging Face folder with config.json and safetensors */
    int n_threads;          /* 0: one for each processor that the process may use */
    bool pin_threads;       /* bind each thread to a processor */
    int n_ctx;              /* positions of the sequence; 0: what the model was made for */
    int batch_rows;         /* rows of one pass, and so the chunk in which prompts are read; 512 */
    lf_dtype kv_dtype;      /* f32, f16, bf16 (the default) or q8_0 */
    int weight_dtype;  /* an lf_dtype to convert every matrix to while loading, or -1: as the file has them */
    unsigned cpu_mask; /* of the processor's features, those that may be used: see lf_cpu_mask_parse */
    lf_progress_fn progress; /* while loading; may be NULL */
    void *progress_cookie;
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
    int n_ctx, n_threads;
    size_t weight_bytes, kv_bytes, buffer_bytes;
    double load_seconds;
} lf_engine_info;

void lf_engine_get_info(const lf_engine *engine, lf_engine_info *info);

/* ---- text and tokens ---- */

/* Encodes text[0..len) (any bytes). add_bos: put the model's beginning-of-sequence token first, if it uses one;
 * parse_special: names of special tokens in the text become those tokens. *ids is malloc'ed, the caller's; *n_ids may be 0. */
lf_status lf_tokenize(const lf_engine *engine, const char *text, size_t len, bool add_bos, bool parse_special,
                      int32_t **ids, size_t *n_ids, lf_error *err);

/* The text of ids as UTF-8; *text is malloc'ed, NUL-terminated and the caller's. */
lf_status lf_detokenize(const lf_engine *engine, const int32_t *ids, size_t n_ids, bool special, char **text,
                        size_t *len, lf_error *err);

/* ---- generation ---- */

typedef enum lf_finish {
    LF_FINISH_STOP,   /* an end-of-sequence token */
    LF_FINISH_LENGTH, /* n_predict, or the context is full */
    LF_FINISH_CANCEL, /* on_token returned false */
} lf_finish;

/* "stop", "length", "cancel". */
const char *lf_finish_name(lf_finish finish);

/* Called for every output token, in order: its id, and the bytes of text that became certain with it (UTF-8 in whole code
 * points, possibly none; valid during the call). Returning false ends the generation. */
typedef bool (*lf_token_fn)(void *cookie, int32_t id, const char *text, size_t len);

/* Called while the prompt is read. Returning false ends the generation with LF_FINISH_CANCEL. */
typedef bool (*lf_prefill_fn)(void *cookie, int done_tokens, int total_tokens);

typedef struct lf_generate_params {
    size_t size; /* sizeof(lf_generate_params), set by lf_generate_params_init */
    const int32_t *
        ids; /* (n_ids) the whole prompt; a prefix that the engine still has in its cache is not computed again */
    size_t n_ids;      /* at least 1, less than n_ctx */
    int n_predict;     /* output tokens at most; -1: until the context is full */
    float temperature; /* 0: greedy */
    uint64_t seed;
    bool ignore_eos;          /* end-of-sequence tokens are emitted like others */
    bool special;             /* special tokens have text */
    lf_token_fn on_token;     /* may be NULL */
    lf_prefill_fn on_prefill; /* may be NULL */
    void *cookie;
} lf_generate_params;

typedef struct lf_generate_result {
    size_t size; /* sizeof(lf_generate_result), set by the caller */
    lf_finish finish;
    int prompt_tokens;
    int cached_tokens;      /* of the prompt, taken from the cache */
    int output_tokens;      /* an end-of-sequence token that ended the output is not counted */
    int passes;             /* target passes that emitted tokens */
    int proposed, accepted; /* candidates */
    double prefill_seconds, decode_seconds;
} lf_generate_result;

void lf_generate_params_init(lf_generate_params *params);

/* Generates from a prompt. LF_EINVAL, LF_ELIMIT (a prompt that does not fit the context), LF_EFORMAT (the model's logits
 * are not finite). result may be NULL. */
lf_status lf_generate(lf_engine *engine, const lf_generate_params *params, lf_generate_result *result,
                      lf_error *err);

/* The logits after every token of ids (n_ids): logits (n_ids, n_vocab), the caller's. */
lf_status lf_score(lf_engine *engine, const int32_t *ids, size_t n_ids, float *logits, lf_error *err);

/* ---- model files ---- */

/* What a model file holds and what running it takes, as a JSON object: config, memory plan for n_ctx positions (0: the
 * model's) of n_seqs sequences with the given KV dtype, metadata, tensors, tokenizer. *json is malloc'ed, the caller's. */
lf_status lf_inspect(const char *model_path, int n_ctx, int n_seqs, lf_dtype kv_dtype, char **json,
                     lf_error *err);

typedef struct lf_convert_result {
    size_t size;    /* sizeof(lf_convert_result), set by the caller */
    int n_tensors;  /* written */
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

#if defined(__GNUC__)
#    pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif

/* What a client asks for: the body of a completion or a chat, parsed and checked. Nothing here knows of HTTP or of an engine:
 * bytes in, a call or an error out, so that it can be fuzzed.
 *
 * Fields that change nothing lookfar does are ignored, whatever they hold ("user", "metadata", ...). A field that would change
 * the output and that is not supported is refused by name, never dropped in silence. null is as good as absent. */
#ifndef LF_SERVE_CALL_H
#define LF_SERVE_CALL_H

#include "error.h"

enum {
    SERVE_CHOICES_MAX = 128, /* prompts times n */
    SERVE_BIAS_MAX = 1024,
    SERVE_N_PREDICT_DEFAULT = 16, /* of a completion; a chat goes on until the context is full */
};

/* What the output must look like. */
typedef enum serve_format_kind {
    SERVE_FORMAT_TEXT, /* anything */
    SERVE_FORMAT_JSON, /* any JSON object */
    SERVE_FORMAT_SCHEMA,
    SERVE_FORMAT_REGEX,
    SERVE_FORMAT_CHOICE,
} serve_format_kind;

typedef struct serve_call {
    bool is_chat;
    json_t *body;             /* the call's; strings and lists below are borrowed from it */
    lf_request_params params; /* but for prompt, prediction, grammar and callbacks */
    lf_bias *bias;            /* the call's */
    const char *stop[LF_STOP_LIMIT];
    int n; /* choices of each prompt; choice i is sampled with seed + i */
    bool has_seed;

    const json_t *prompts[SERVE_CHOICES_MAX]; /* (n_prompts) of a completion: a string, or a list of ids */
    int n_prompts;                            /* 1 of a chat */
    bool echo;
    const char *prediction; /* (prediction_len) or NULL */
    size_t prediction_len;
    serve_format_kind format;
    const json_t *format_spec; /* of a schema, a regular expression, a list of choices */

    bool stream, include_usage;
    bool wants_progress;   /* return_progress: how far the prompt is, in a stream */
    bool wants_timings;    /* timings_per_token: llama.cpp's `timings` at the end */
    bool wants_metrics;    /* return_metrics: vLLM's `metrics` at the end */
    bool wants_provenance; /* return_provenance: how each token came */
    bool wants_ids;        /* return_token_ids */
} serve_call;

/* Parses body (len). defaults: of the server. On false, *e says what is wrong and the call is empty. */
bool serve_call_parse(serve_call *call, bool is_chat, const char *body, size_t len,
                      const lf_request_params *defaults, serve_error *e);
void serve_call_free(serve_call *call);

/* A body that must be a JSON object; NULL and an error otherwise. */
json_t *serve_parse_object(const char *body, size_t len, serve_error *e);

/* The ids of a JSON list, malloc'ed; NULL and an error unless all are whole numbers of 32 bits. */
int32_t *serve_parse_ids(const json_t *list, const char *param, size_t *n, serve_error *e);

#endif

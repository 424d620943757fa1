/* The JSON of answers: OpenAI's objects, with llama.cpp's `timings` and vLLM's `metrics` where they were asked for. */
#ifndef LF_SERVE_REPLY_H
#define LF_SERVE_REPLY_H

#include "call.h"
#include "runner.h"

/* What all objects of one answer have in common. */
typedef struct serve_reply {
    const serve_call *call;
    const lf_engine *engine;
    const char *model;
    char id[64];
    int64_t created;
} serve_reply;

/* One choice of an answer, or a part of it. */
typedef struct serve_part {
    int index;
    const serve_feed *feed;
    const char *finish_reason; /* NULL: it goes on */
    const char *echo;          /* (echo_len) text before the output's, or NULL */
    size_t echo_len;
    const int32_t *prompt_ids; /* (n_prompt_ids) told with return_token_ids; NULL: not in this part */
    size_t n_prompt_ids;
    size_t *offset; /* characters of the choice so far; moved on */
} serve_part;

/* A choice of a whole answer, and a part of one in a stream. New references; NULL without memory, as with all of these. */
json_t *serve_choice_json(const serve_reply *r, const serve_part *part);
json_t *serve_delta_json(const serve_reply *r, const serve_part *part);

/* The first delta of a chat says whose turn it is. */
json_t *serve_role_json(int index);

/* The object around choices, or around one part of a stream, to which it takes the reference. A stream that will end with its
 * usage has "usage": null in each part before. */
json_t *serve_envelope_json(const serve_reply *r, json_t *choices);
json_t *serve_chunk_json(const serve_reply *r, json_t *part);

/* How each token of a feed came. */
json_t *serve_provenance_json(const serve_feed *feed);

/* {"total", "cache", "processed", "time_ms"} of a prompt that is being read. */
json_t *serve_progress_json(int total, int done, double seconds);

/* Of all choices together: results added up. */
json_t *serve_usage_json(const serve_reply *r, const lf_request_result *total);
json_t *serve_timings_json(const lf_request_result *total);
json_t *serve_speculation_json(const lf_request_result *total);

#endif

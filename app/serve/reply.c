#include "reply.h"

#include "json.h"

#include <string.h>

/* ---- tokens ---- */

/* A token by itself. What is not UTF-8 alone, a part of a character, is named by its bytes, so that tokens stay apart. */
static json_t *token_text_json(const lf_engine *engine, int32_t id)
{
    char bytes[LF_TOKEN_BYTES_LIMIT], name[7 + 4 * 16] = "bytes:";
    const size_t n = lf_token_text(engine, id, bytes);
    json_t *text = json_stringn(bytes, n); /* NULL unless it is UTF-8 */
    if (text) return text;
    size_t len = strlen(name);
    for (size_t i = 0; i < n && len + 5 < sizeof name; i++)
        len += (size_t)snprintf(name + len, sizeof name - len, "\\x%02x", (unsigned)(unsigned char)bytes[i]);
    return json_string(name);
}

static json_t *token_bytes_json(const lf_engine *engine, int32_t id)
{
    char bytes[LF_TOKEN_BYTES_LIMIT];
    const size_t n = lf_token_text(engine, id, bytes);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) serve_json_push(&list, json_integer((unsigned char)bytes[i]));
    return list;
}

static json_t *token_json(const lf_engine *engine, int32_t id, float logprob)
{
    return json_pack("{s:o, s:f, s:o}", "token", token_text_json(engine, id), "logprob", (double)logprob,
                     "bytes", token_bytes_json(engine, id));
}

/* ---- log probabilities ---- */

/* A chat's: a list of objects. */
static json_t *chat_logprobs_json(const serve_reply *r, const serve_feed *feed)
{
    json_t *content = json_array();
    const lf_logprob *top = feed->tops;
    for (size_t i = 0; i < feed->n_tokens; i++) {
        const serve_token *t = &feed->tokens[i];
        if (t->id < 0) continue;
        json_t *token = token_json(r->engine, t->id, t->logprob), *likeliest = json_array();
        for (int k = 0; k < t->n_top; k++, top++)
            serve_json_push(&likeliest, token_json(r->engine, top->id, top->logprob));
        serve_json_set(&token, "top_logprobs", likeliest);
        serve_json_push(&content, token);
    }
    return json_pack("{s:o, s:n}", "content", content, "refusal");
}

static size_t count_characters(const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* The parallel lists of a completion's. */
typedef struct lists {
    const lf_engine *engine;
    json_t *tokens, *logprobs, *tops, *offsets;
} lists;

/* top (n_top): the likeliest; logprob NULL: the first token of all, which nothing came before. */
static void add_to_lists(lists *l, int32_t id, const float *logprob, const lf_logprob *top, int n_top,
                         size_t offset)
{
    json_t *likeliest = n_top > 0 ? json_object() : json_null();
    for (int k = 0; k < n_top; k++) {
        json_t *name = token_text_json(l->engine, top[k].id);
        serve_json_set(&likeliest, json_string_value(name), json_real((double)top[k].logprob));
        json_decref(name);
    }
    serve_json_push(&l->tokens, token_text_json(l->engine, id));
    serve_json_push(&l->logprobs, logprob ? json_real((double)*logprob) : json_null());
    serve_json_push(&l->tops, likeliest);
    serve_json_push(&l->offsets, json_integer((json_int_t)offset));
}

/* A place in the text of a prompt that moves on token by token. */
typedef struct place {
    size_t bytes, characters;
} place;

/* Over a token's bytes, with the space in front that a tokenizer may have put there; a token that the text does not have, such
 * as the beginning of a sequence, does not move the place. */
static void move_place(place *at, const serve_part *part, const lf_engine *engine, int32_t id)
{
    char bytes[LF_TOKEN_BYTES_LIMIT];
    const char *token = bytes, *text = part->echo + at->bytes;
    size_t n = lf_token_text(engine, id, bytes);
    const size_t left = part->echo_len - at->bytes;
    if (at->bytes == 0 && n > 0 && token[0] == ' ' && (left == 0 || text[0] != ' ')) {
        token++;
        n--;
    }
    if (n > left || memcmp(token, text, n) != 0) return;
    at->bytes += n;
    at->characters += count_characters(token, n);
}

static json_t *completion_logprobs_json(const serve_reply *r, const serve_part *part)
{
    lists l = {r->engine, json_array(), json_array(), json_array(), json_array()};
    const serve_feed *feed = part->feed;
    const lf_logprob *top = feed->tops;
    const char *text = feed->text.data;
    size_t offset = *part->offset;
    place at = {0};
    if (part->echo) { /* its first token has no probability */
        add_to_lists(&l, part->prompt_ids[0], NULL, NULL, 0, 0);
        move_place(&at, part, r->engine, part->prompt_ids[0]);
    }
    for (size_t i = 0; i < feed->n_tokens; i++) {
        const serve_token *t = &feed->tokens[i];
        const bool is_prompt = i < feed->n_prompt;
        if (t->id >= 0)
            add_to_lists(&l, t->id, &t->logprob, top, t->n_top, is_prompt ? at.characters : offset);
        if (is_prompt) move_place(&at, part, r->engine, t->id);
        offset += count_characters(text, t->len);
        text += t->len;
        top += t->n_top;
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", l.tokens, "token_logprobs", l.logprobs, "top_logprobs",
                     l.tops, "text_offset", l.offsets);
}

static json_t *logprobs_json(const serve_reply *r, const serve_part *part)
{
    if (!r->call->params.logprobs) return json_null();
    return r->call->is_chat ? chat_logprobs_json(r, part->feed) : completion_logprobs_json(r, part);
}

/* ---- choices ---- */

static json_t *ids_json(const int32_t *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) serve_json_push(&list, json_integer(ids[i]));
    return list;
}

/* All texts are UTF-8: those of outputs and of ids by lf_detokenize's promise, other prompts because they came as JSON. */
static json_t *part_text_json(const serve_part *part)
{
    const lf_bytes *text = &part->feed->text;
    if (!part->echo) return json_stringn(text->data ? text->data : "", text->len);
    lf_bytes whole = {0};
    json_t *json = NULL;
    if (lf_bytes_append(&whole, part->echo, part->echo_len) && lf_bytes_append(&whole, text->data, text->len))
        json = json_stringn(whole.data, whole.len);
    lf_bytes_free(&whole);
    return json;
}

/* What is the same in a whole choice and a part of one, around `text` under its key. */
static json_t *choice_json(const serve_reply *r, const serve_part *part, const char *key, json_t *text)
{
    if (part->echo) *part->offset += count_characters(part->echo, part->echo_len);
    json_t *choice = json_pack("{s:i, s:o, s:o, s:s?}", "index", part->index, key, text, "logprobs",
                               logprobs_json(r, part), "finish_reason", part->finish_reason);
    *part->offset += count_characters(part->feed->text.data, part->feed->text.len);
    if (!r->call->wants_ids) return choice;
    json_t *ids = json_array();
    for (size_t i = part->feed->n_prompt; i < part->feed->n_tokens; i++)
        if (part->feed->tokens[i].id >= 0) serve_json_push(&ids, json_integer(part->feed->tokens[i].id));
    serve_json_set(&choice, "token_ids", ids);
    if (part->prompt_ids)
        serve_json_set(&choice, "prompt_token_ids", ids_json(part->prompt_ids, part->n_prompt_ids));
    return choice;
}

json_t *serve_choice_json(const serve_reply *r, const serve_part *part)
{
    if (!r->call->is_chat) return choice_json(r, part, "text", part_text_json(part));
    return choice_json(
        r, part, "message",
        json_pack("{s:s, s:o, s:n}", "role", "assistant", "content", part_text_json(part), "refusal"));
}

json_t *serve_delta_json(const serve_reply *r, const serve_part *part)
{
    if (!r->call->is_chat) return choice_json(r, part, "text", part_text_json(part));
    const bool is_empty = part->feed->text.len == 0;
    return choice_json(r, part, "delta",
                       is_empty ? json_object() : json_pack("{s:o}", "content", part_text_json(part)));
}

json_t *serve_role_json(int index)
{
    return json_pack("{s:i, s:{s:s, s:s}, s:n, s:n}", "index", index, "delta", "role", "assistant", "content",
                     "", "logprobs", "finish_reason");
}

json_t *serve_envelope_json(const serve_reply *r, json_t *choices)
{
    const char *object = !r->call->is_chat ? "text_completion"
                         : r->call->stream ? "chat.completion.chunk"
                                           : "chat.completion";
    char fingerprint[32];
    (void)snprintf(fingerprint, sizeof fingerprint, "lookfar-%s", lf_version());
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", r->id, "object", object, "created",
                     (json_int_t)r->created, "model", r->model, "system_fingerprint", fingerprint, "choices",
                     choices);
}

json_t *serve_chunk_json(const serve_reply *r, json_t *part)
{
    json_t *chunk = serve_envelope_json(r, json_pack("[o]", part));
    if (r->call->include_usage) serve_json_set(&chunk, "usage", json_null());
    return chunk;
}

/* ---- extras ---- */

json_t *serve_provenance_json(const serve_feed *feed)
{
    json_t *tokens = json_array();
    const char *text = feed->text.data ? feed->text.data : "";
    for (size_t i = 0; i < feed->n_tokens; i++) {
        const serve_token *t = &feed->tokens[i];
        serve_json_push(&tokens, json_pack("{s:i, s:s%, s:b}", "id", (int)t->id, "text", text, t->len,
                                           "proposed", (int)t->proposed));
        text += t->len;
    }
    return json_pack("{s:o}", "tokens", tokens);
}

json_t *serve_progress_json(int total, int done, double seconds)
{
    return json_pack("{s:i, s:i, s:i, s:I}", "total", total, "cache", 0, "processed", done, "time_ms",
                     (json_int_t)(seconds * 1e3));
}

json_t *serve_usage_json(const serve_reply *r, const lf_request_result *t)
{
    json_t *usage = json_pack("{s:i, s:i, s:i, s:{s:i}}", "prompt_tokens", t->prompt_tokens,
                              "completion_tokens", t->output_tokens, "total_tokens",
                              t->prompt_tokens + t->output_tokens, "prompt_tokens_details", "cached_tokens",
                              t->cached_tokens);
    if (r->call->prediction)
        serve_json_set(&usage, "completion_tokens_details",
                       json_pack("{s:i, s:i}", "accepted_prediction_tokens", t->accepted,
                                 "rejected_prediction_tokens", t->proposed - t->accepted));
    return usage;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0.0;
}

json_t *serve_timings_json(const lf_request_result *t)
{
    const int prompt_n = t->prompt_tokens - t->cached_tokens;
    const double prompt_ms = t->prefill_seconds * 1e3, predicted_ms = t->decode_seconds * 1e3;
    return json_pack("{s:i, s:i, s:f, s:f, s:f, s:i, s:f, s:f, s:f, s:i, s:i}", "cache_n", t->cached_tokens,
                     "prompt_n", prompt_n, "prompt_ms", prompt_ms, "prompt_per_token_ms",
                     ratio(prompt_ms, prompt_n), "prompt_per_second", ratio(prompt_n * 1e3, prompt_ms),
                     "predicted_n", t->output_tokens, "predicted_ms", predicted_ms, "predicted_per_token_ms",
                     ratio(predicted_ms, t->output_tokens), "predicted_per_second",
                     ratio(t->output_tokens * 1e3, predicted_ms), "draft_n", t->proposed, "draft_n_accepted",
                     t->accepted);
}

json_t *serve_speculation_json(const lf_request_result *t)
{
    return json_pack("{s:{s:f, s:f, s:i, s:i, s:i}}", "speculative_decoding", "mean_acceptance_length",
                     ratio(t->output_tokens, t->passes), "draft_acceptance_rate",
                     ratio(t->accepted, t->proposed), "num_spec_steps", t->passes,
                     "num_accepted_draft_tokens", t->accepted, "num_draft_tokens", t->proposed);
}

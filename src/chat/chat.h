/* A conversation as the text that a model was trained on: the model's chat template, and what surrounds it in practice.
 *
 * A request in OpenAI's form is brought into the form that templates expect, as other servers do: content that is a list of parts
 * becomes one string where the template wants strings (and the other way round), the arguments of tool calls, JSON in a string,
 * become what they say. What a template can do is found by trying it once, when it is opened. A chat never changes after that, so
 * that threads can share it. */
#ifndef LF_CHAT_CHAT_H
#define LF_CHAT_CHAT_H

#include "base/mem.h"
#include "token/tokenizer.h"

typedef struct lf_chat lf_chat;

/* template: Jinja text, or "chatml", or NULL: the model's own. A model's own template that cannot be compiled is no error here, but of
 * every rendering; one that was given is. */
lf_status lf_chat_open(lf_chat **out, const lf_tokenizer *t, const char *template, lf_error *err);
void lf_chat_close(lf_chat *chat); /* NULL is fine */

/* Fills the fields of lf_chat_info. */
void lf_chat_describe(const lf_chat *chat, lf_chat_info *info);

/* Appends the text of a request (see lf_chat_render) to out. */
lf_status lf_chat_write(const lf_chat *chat, const char *request, size_t len, lf_bytes *out, lf_error *err);

#endif

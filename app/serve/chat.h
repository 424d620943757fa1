/* A chat as text for the model. */
#ifndef LF_SERVE_CHAT_H
#define LF_SERVE_CHAT_H

#include "error.h"

/* The text of a body's messages, with what goes with them (tools, template arguments), up to where the answer begins; *text is
 * malloc'ed. */
bool serve_chat_render(const lf_engine *engine, const json_t *body, char **text, size_t *len, serve_error *e);

/* Its tokens; names of special tokens in the text are those tokens. *ids is malloc'ed. */
bool serve_chat_tokenize(const lf_engine *engine, const char *text, size_t len, int32_t **ids, size_t *n_ids,
                         serve_error *e);

#endif

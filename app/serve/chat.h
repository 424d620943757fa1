/* A chat as text for the model, by its template. */
#ifndef LF_SERVE_CHAT_H
#define LF_SERVE_CHAT_H

#include "error.h"

/* The text of a request's messages, with what goes with them (tools, chat_template_kwargs), up to where the answer begins; *text is
 * malloc'ed. request (len): the body of the request, which was parsed before. */
bool serve_chat_render(const lf_engine *engine, const char *request, size_t len, char **text,
                       size_t *text_len, serve_error *e);

/* Its tokens; *ids is malloc'ed. */
bool serve_chat_tokenize(const lf_engine *engine, const char *request, size_t len, int32_t **ids,
                         size_t *n_ids, serve_error *e);

#endif

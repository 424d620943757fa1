/* Completions and chats. */
#ifndef LF_SERVE_JOB_H
#define LF_SERVE_JOB_H

#include "server.h"

void serve_handle_completion(serve_exchange *x);
void serve_handle_chat(serve_exchange *x);

#endif

/* A model that tests can have without data: the weights of a recorded tiny Llama, and a tokenizer of one token for each of 128
 * bytes: printable ASCII, newline, tab, and bytes that are only ever a part of a character, so that what the model makes up is
 * full of broken UTF-8. */
#ifndef LF_TESTS_TINY_MODEL_H
#define LF_TESTS_TINY_MODEL_H

#include "model/config.h"

enum { TINY_VOCAB = 128, TINY_CTX = 200000 };

/* Writes a Hugging Face folder. n_tokens: of the tokenizer, TINY_VOCAB; with more, words past it; 0: without one. */
void tiny_model_write(const char *dir, int n_tokens);

/* The shape of models with random weights, where only exactness counts: dim 32, two heads on one KV head, tied. */
lf_config tiny_config(int n_layers, int n_vocab, int n_ctx);

#endif

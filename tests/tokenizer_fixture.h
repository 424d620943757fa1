/* Small tokenizers written by hand, for the tests of token/. */
#ifndef LF_TESTS_TOKENIZER_FIXTURE_H
#define LF_TESTS_TOKENIZER_FIXTURE_H

#include "testing.h"

#include "base/mem.h"
#include "token/tokenizer.h"

/* tiktoken's file of n bytes, each a token. */
void put_ranks(lf_bytes *out, int n);

/* Byte-level files with a few merges: vocab.json and merges.txt. */
void put_small_vocab(lf_bytes *vocab);
extern const char small_merges[];

/* The ids (n) of a text. */
void expect_ids(const lf_tokenizer *t, const char *text, bool special, const int32_t *expected, size_t n);

#endif

/* `lookfar bench tokenize`: how fast a text becomes tokens, and that the time is linear in its length. */
#ifndef LF_BENCH_TOKENIZE_H
#define LF_BENCH_TOKENIZE_H

#include "bench.h"

/* One tokenizer on the first n_bytes of the text. */
typedef struct bench_tokenize_result {
    const char *tokenizer; /* the path, as given */
    size_t n_bytes, n_tokens;
    bench_spread seconds; /* of a repetition */
} bench_tokenize_result;

/* Encodes the first eighth, quarter, half and the whole of text[0..len), reps times each after once uncounted, and
 * reports each. tokenizer: a GGUF file, a model folder, or a tokenizer's file. */
lf_status bench_run_tokenize(const char *tokenizer, const char *text, size_t len, int reps,
                             void (*on_result)(void *cookie, const bench_tokenize_result *result),
                             void *cookie, lf_error *err);

#endif

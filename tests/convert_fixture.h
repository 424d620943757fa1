/* Model folders, llama2.c files and calls of the converters, for the tests of convert/. */
#ifndef LF_TESTS_CONVERT_FIXTURE_H
#define LF_TESTS_CONVERT_FIXTURE_H

#include "testing.h"

/* A folder of golden/families. */
const char *family_path(const char *family);

/* Copies such a folder to in_temp("model"), with `from` in its config.json replaced by `to`. */
void copy_family(const char *family, const char *from, const char *to);

lf_convert_params params_for(const char *in, const char *out, int dtype);

/* Calls lf_convert, which must succeed. */
void convert(const char *in, const char *out, int dtype);

/* The call must fail with this status and a text that has `expected` in it, and leave no file. */
void assert_fails(lf_status (*call)(const lf_convert_params *, lf_error *), const lf_convert_params *p,
                  lf_status status, const char *expected);

/* Random models in the form of llama2.c. */
typedef struct bin_shape {
    int32_t dim, ffn_dim, n_layers, n_heads, n_kv_heads, vocab /* negative: untied */, seq_len;
} bin_shape;

extern const bin_shape tiny_shape;
extern const bin_shape wide_shape; /* fits the k-quants */
extern const bin_shape tall_shape; /* an embedding of 10 MB: several chunks */

size_t bin_floats(const bin_shape *s);

/* As bytes, *size of them, the caller's; as a file, whose path is returned. */
char *make_bin(const bin_shape *s, size_t *size);
const char *write_bin(const char *name, const bin_shape *s);

#endif

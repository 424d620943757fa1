/* Matrix products of the trainer, by oneDNN (its C API, version 2.6 or later). A product's shape is
 * compiled to a primitive when it is first asked for, and kept.
 *
 * All matrices are dense and row by row; "transposed" says that the file of numbers is that of the
 * transposed matrix. On AVX-512 oneDNN takes every combination within a tenth of the best, so nothing here
 * is ever copied into another layout. */
#ifndef LF_TRAIN_MATMUL_H
#define LF_TRAIN_MATMUL_H

#include "base/status.h"

#include <stdbool.h>

/* c (m, n) = a (m, k) b (k, n), or c += a b. */
typedef struct lf_product {
    int m, n, k;
    bool a_transposed; /* a lies in memory as (k, m) */
    bool b_transposed; /* b lies in memory as (n, k) */
    bool add;
    lf_dtype in;  /* of a and b: f32 or bf16 */
    lf_dtype out; /* of c: f32 or bf16. Sums are float in any case */
} lf_product;

typedef struct lf_matmul lf_matmul;

/* LF_ENOMEM; LF_EUNSUPPORTED when oneDNN refuses. */
lf_status lf_matmul_create(lf_matmul **out, lf_error *err);
void lf_matmul_free(lf_matmul *mm); /* NULL is fine */

/* Runs on omp_get_max_threads() threads, which must not change between calls. LF_EUNSUPPORTED with
 * oneDNN's status, e.g. for bf16 on a processor without AVX-512. */
lf_status lf_matmul_run(lf_matmul *mm, const lf_product *product, void *c, const void *a, const void *b,
                        lf_error *err);

#endif

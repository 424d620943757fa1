/* Memory: overflow-checked sizes, aligned blocks, growable byte and id vectors.
 *
 * Sizes that come from a file or a request are multiplied and added only through lf_mul_size and lf_add_size.
 * Everything allocated here is released with free(). */
#ifndef LF_BASE_MEM_H
#define LF_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = a * b (or a + b); returns false, leaving *out alone, when the result does not fit size_t. */
bool lf_mul_size(size_t a, size_t b, size_t *out);
bool lf_add_size(size_t a, size_t b, size_t *out);

/* A zeroed block of `bytes` bytes (0 is taken as 1) aligned to 64; blocks of 4 MiB and more are aligned to 2
 * MiB and offered to the kernel as huge pages. NULL when there is no memory. Free with free(). */
void *lf_calloc_aligned(size_t bytes);

/* Memory that can be had without swapping, or SIZE_MAX when the system does not say. */
size_t lf_memory_available(void);

/* A copy of s[0..n) with a terminating NUL, or NULL without memory. */
char *lf_strndup(const char *s, size_t n);

/* A growable string of bytes; data is NUL-terminated past len whenever data is not NULL. Zero-initialise. */
typedef struct lf_bytes {
    char *data;
    size_t len, cap;
} lf_bytes;

bool lf_bytes_append(lf_bytes *b, const void *src, size_t n); /* false: no memory, b unchanged */
bool lf_bytes_printf(lf_bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void lf_bytes_free(lf_bytes *b);

/* A growable vector of token ids. Zero-initialise. */
typedef struct lf_ids {
    int32_t *data;
    size_t len, cap;
} lf_ids;

bool lf_ids_push(lf_ids *v, int32_t id); /* false: no memory, v unchanged */
void lf_ids_free(lf_ids *v);

#endif

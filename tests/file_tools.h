/* Making model files byte by byte, and printing what a parsed one holds: for the tests of file/. */
#ifndef LF_TESTS_FILE_TOOLS_H
#define LF_TESTS_FILE_TOOLS_H

#include "base/mem.h"
#include "file/gguf.h"

#include <string.h>

/* Passes when expr is `expected`, which is not LF_OK, and the text of err contains the fragment. */
#define assert_error(expr, expected, err, fragment)                                                          \
    do {                                                                                                     \
        assert_int_equal(expr, expected);                                                                    \
        if (!strstr((err)->text, fragment)) fail_msg("'%s' lacks '%s'", (err)->text, fragment);              \
    } while (0)

void put(lf_bytes *f, const void *src, size_t n);
void put_u8(lf_bytes *f, uint8_t value);
void put_u32(lf_bytes *f, uint32_t value);
void put_u64(lf_bytes *f, uint64_t value);
void put_string(lf_bytes *f, const char *s);
void put_zeros(lf_bytes *f, size_t n);
void put_padding(lf_bytes *f, size_t alignment);

/* The start of a file: magic, version, counts. */
void put_start(lf_bytes *f, uint32_t version, uint64_t n_tensors, uint64_t n_keys);

/* A key with its type, with a whole scalar, or with the start of an array; the rest of the value follows. */
void put_key(lf_bytes *f, const char *key, lf_gguf_type type);
void put_scalar(lf_bytes *f, const char *key, lf_gguf_type type, const void *value, size_t bytes);
void put_array_start(lf_bytes *f, const char *key, lf_gguf_type item_type, uint64_t count);

/* A tensor record; dims (n_dims) innermost first. */
void put_tensor(lf_bytes *f, const char *name, int n_dims, const uint64_t *dims, uint32_t type,
                uint64_t offset);

enum { N_SMALL_KEYS = 20, N_SMALL_TENSORS = 4 };

/* A file with every value type and with tensors of a supported, a quantised, a foreign and an unknown type; returns the
 * length of its header. */
size_t put_small_file(lf_bytes *f);

/* The FNV-1a 64 checksum of a block of bytes. */
uint64_t fnv1a(const void *data, size_t n);

/* Everything that a parsed file holds, in the form of tests/oracle/check_gguf.py; the caller frees it. */
lf_bytes dump_gguf(const lf_gguf *g);

#endif

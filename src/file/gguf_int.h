/* What the reader and the writer of GGUF share. */
#ifndef LF_FILE_GGUF_INT_H
#define LF_FILE_GGUF_INT_H

#include "file/gguf.h"

#define LF_GGUF_MAGIC         "GGUF"
#define LF_GGUF_ALIGNMENT_KEY "general.alignment"

enum {
    LF_GGUF_VERSION = 3,
    LF_GGUF_ALIGNMENT = 32,         /* the default, and what the writer uses */
    LF_GGUF_NAME_BYTES_MAX = 65535, /* of a key, by the specification; taken for tensor names too */
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian and read in place");

/* Which member of an lf_gguf_value holds a value. */
typedef enum lf_gguf_kind {
    LF_GGUF_KIND_UNSIGNED, /* u */
    LF_GGUF_KIND_SIGNED,   /* i */
    LF_GGUF_KIND_FLOAT,    /* f */
    LF_GGUF_KIND_STRING,
    LF_GGUF_KIND_ARRAY,
} lf_gguf_kind;

typedef struct lf_gguf_type_info {
    const char *name; /* "uint8": as the specification spells it */
    uint8_t bytes;    /* of one value in the file; 0 for strings and arrays */
    lf_gguf_kind kind;
} lf_gguf_type_info;

/* The facts of a valid type (0 <= type < LF_GGUF_TYPE_COUNT). */
const lf_gguf_type_info *lf_gguf_type_of(lf_gguf_type type);

/* Fills u, i or f of v, by the kind of `type`, from the packed number at src. */
void lf_gguf_load_number(lf_gguf_value *v, lf_gguf_type type, const uint8_t *src);

/* A usable name: not empty, at most LF_GGUF_NAME_BYTES_MAX bytes, and free of control characters, which would cut the
 * C string short or play with the terminal that shows the name. */
bool lf_gguf_name_valid(const char *name, size_t len);

#endif

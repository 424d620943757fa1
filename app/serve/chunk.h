/* Most events of a stream differ in one text alone. A chunk is such an event, written once by way of JSON and then filled with one
 * text after the other. */
#ifndef LF_SERVE_CHUNK_H
#define LF_SERVE_CHUNK_H

#include "base/mem.h"

#include <jansson.h>

/* What the text is in the JSON that a chunk is made of. */
#define SERVE_CHUNK_MARK "?"

typedef struct serve_chunk {
    lf_bytes event; /* "data: ... \n\n" without the text */
    size_t gap;     /* where that goes */
} serve_chunk;

/* Makes a chunk of an object, to which it takes the reference, and in which the member `key`, wherever it is, is SERVE_CHUNK_MARK.
 * Without such a member, or memory, false. */
bool serve_chunk_make(serve_chunk *out, json_t *object, const char *key, size_t dump_flags);
void serve_chunk_free(serve_chunk *chunk);

/* Appends the event with a text (len), which is UTF-8; false: no memory, and a part of it was appended. */
bool serve_chunk_write(lf_bytes *out, const serve_chunk *chunk, const char *text, size_t len);

#endif

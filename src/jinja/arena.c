#include "jinja/arena.h"

#include "base/mem.h"

#include <stdalign.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 1 << 16 };

struct arena_chunk {
    arena_chunk *next;
    size_t used, size; /* of data */
    alignas(max_align_t) unsigned char data[];
};

static arena_chunk *add_chunk(arena *a, size_t n)
{
    const size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;
    size_t bytes;
    if (!lf_add_size(size, sizeof(arena_chunk), &bytes) || bytes > a->bytes_max - a->bytes) return NULL;
    arena_chunk *chunk = calloc(1, bytes);
    if (!chunk) return NULL;
    chunk->size = size;
    chunk->next = a->chunks;
    a->chunks = chunk;
    a->bytes += bytes;
    return chunk;
}

void *lf_arena_alloc(arena *a, size_t n)
{
    size_t need;
    if (!lf_add_size(n, alignof(max_align_t) - 1, &need)) return NULL;
    need &= ~(alignof(max_align_t) - 1);
    arena_chunk *chunk = a->chunks;
    if (!chunk || chunk->size - chunk->used < need) chunk = add_chunk(a, need);
    if (!chunk) return NULL;
    void *piece = chunk->data + chunk->used;
    chunk->used += need;
    return piece;
}

void lf_arena_free(arena *a)
{
    for (arena_chunk *chunk = a->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    a->chunks = NULL;
    a->bytes = 0;
}

/* Memory that is taken piece by piece and given back all at once, up to a limit. */
#ifndef LF_JINJA_ARENA_H
#define LF_JINJA_ARENA_H

#include <stddef.h>

typedef struct arena_chunk arena_chunk;

/* Zero-initialise, but for bytes_max. */
typedef struct arena {
    arena_chunk *chunks; /* the one in use first */
    size_t bytes, bytes_max;
} arena;

/* n bytes, zeroed and aligned for anything; NULL when there is no memory or the limit is reached. */
void *lf_arena_alloc(arena *a, size_t n);
void lf_arena_free(arena *a);

#endif

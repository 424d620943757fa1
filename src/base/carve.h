/* Many buffers in one block: carved once without a block, to learn the size, and once with it. */
#ifndef LF_BASE_CARVE_H
#define LF_BASE_CARVE_H

#include "base/mem.h"

typedef struct carver {
    uint8_t *base; /* NULL while measuring */
    size_t used;
    bool overflow; /* a size that no memory could hold */
} carver;

/* The next n items, 64-byte aligned. */
static inline void *carve(carver *c, size_t n, size_t item_bytes)
{
    void *piece = c->base ? c->base + c->used : NULL;
    size_t bytes;
    c->overflow = c->overflow || !lf_mul_size(n, item_bytes, &bytes) || !lf_add_size(bytes, 63, &bytes) ||
                  !lf_add_size(c->used, bytes & ~(size_t)63, &c->used);
    return piece;
}

#endif

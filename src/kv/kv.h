/* The KV cache: a pool of pages, sequences that own page tables, and views that say which tiles a row sees.
 *
 *   page   LF_PAGE_POS positions of all layers and KV heads: the unit of allocation and sharing. In memory
 *          (n_layers, n_kv_heads, LF_PAGE_TILES, tile_bytes), so the tiles of one head lie together.
 *   tile   16 positions of one layer and KV head (kernel/kv_tile.h): the unit of layout and of sparse selection.
 *
 * A sequence has a committed length. Rows of a pass write their K/V at positions from that length on, into reserved
 * slots; committing moves the length, and what lies past it is invisible and will be overwritten. So rejecting a
 * candidate copies nothing and frees nothing.
 *
 * Rules, checked by lf_kv_pool_check:
 *   1. Every page is either on the free list with no references, or referenced by the tables of as many sequences as its
 *      count says.
 *   2. Slots are written only in pages referenced once: lf_kv_seq_reserve copies a shared page before it can be written.
 *   3. A sequence of length n references at least the pages that hold positions begin .. n - 1, and none that ends before begin:
 *      the first position that it has not forgotten, 0 unless lf_kv_seq_forget was called. */
#ifndef LF_KV_KV_H
#define LF_KV_KV_H

#include "base/status.h"
#include "kernel/kv_tile.h"

enum { LF_PAGE_TILES = 8, LF_PAGE_POS = LF_PAGE_TILES * LF_TILE_POS };

typedef struct lf_kv_pool lf_kv_pool;
typedef struct lf_kv_seq lf_kv_seq;

typedef struct lf_kv_shape {
    int n_layers, n_kv_heads;
    lf_kv_layout layout; /* dtype and head_dim */
} lf_kv_shape;

/* The bytes of one page; false on overflow. */
bool lf_kv_page_bytes(const lf_kv_shape *shape, size_t *out);

/* A pool of n_pages >= 1 pages; memory is reserved now and taken from the machine when a page is first used. */
lf_status lf_kv_pool_create(lf_kv_pool **out, const lf_kv_shape *shape, int n_pages, lf_error *err);
void lf_kv_pool_free(lf_kv_pool *pool); /* NULL is fine; every sequence must be closed */

const lf_kv_shape *lf_kv_pool_shape(const lf_kv_pool *pool);
int lf_kv_pool_n_pages(const lf_kv_pool *pool);
int lf_kv_pool_n_free(const lf_kv_pool *pool);
int lf_kv_pool_n_idle(
    const lf_kv_pool *pool); /* pages that a prefix cache has and no sequence: it can give them back */

/* Shuffles the free list with a seed, so that tests meet every placement of pages. */
void lf_kv_pool_shuffle(lf_kv_pool *pool, uint64_t seed);

/* Whether rules 1 to 3 hold for the pool and the n_seqs sequences given, which must be all it has; other_refs (n_pages) are
 * the references of a prefix cache (lf_prefix_count_refs), or NULL. */
bool lf_kv_pool_check(const lf_kv_pool *pool, const lf_kv_seq *const *seqs, int n_seqs,
                      const int32_t *other_refs);

/* An empty sequence that can hold up to n_ctx positions. */
lf_status lf_kv_seq_open(lf_kv_seq **out, lf_kv_pool *pool, int n_ctx, lf_error *err);
void lf_kv_seq_close(lf_kv_seq *seq); /* drops its pages; NULL is fine */

/* Gives an empty sequence the first n committed positions of another one, sharing their pages. What the other has forgotten, n at
 * most, is forgotten. */
void lf_kv_seq_share(lf_kv_seq *seq, const lf_kv_seq *from, int n);

/* A new sequence with the same committed positions, sharing their pages. */
lf_status lf_kv_seq_fork(lf_kv_seq **out, lf_kv_seq *seq, lf_error *err);

int lf_kv_seq_len(const lf_kv_seq *seq); /* committed positions */

/* Makes slots for the n positions after the committed ones writable. LF_ELIMIT when they pass n_ctx, or when the pool has
 * too few free pages; the sequence is then unchanged. */
lf_status lf_kv_seq_reserve(lf_kv_seq *seq, int n, lf_error *err);

/* The free pages that lf_kv_seq_reserve would take. */
int lf_kv_seq_missing(const lf_kv_seq *seq, int n);

/* Moves the committed length forward by n <= what is reserved. */
void lf_kv_seq_commit(lf_kv_seq *seq, int n);

/* Moves the committed length back to len <= the present one and drops pages that hold nothing any more. */
void lf_kv_seq_truncate(lf_kv_seq *seq, int len);

/* Forgets the positions before `begin` >= those forgotten already: pages that hold nothing else are given back, and no row may see
 * those positions again. A shorter sequence becomes as long as that, so that one can begin in the middle of a text. What is
 * forgotten cannot be shared or cut off: truncating is to `begin` at least, or to 0, which makes an empty sequence. */
void lf_kv_seq_forget(lf_kv_seq *seq, int begin);

/* The address of a tile; i_tile counts from position 0 and must lie in a page of the sequence. */
void *lf_kv_seq_tile(const lf_kv_seq *seq, int i_layer, int i_kv_head, int i_tile);

/* What a row sees besides its own recent tiles. A row at position p of a sequence sees, for each layer and KV head, the
 * selected tiles, then every tile from recent_tile to p / 16, and of the last one only the positions up to p. A NULL
 * view is the full one: every tile from 0. */
typedef struct lf_view {
    int recent_tile; /* selected tiles are below it */
    int n_selected;  /* per layer and KV head */
    const int32_t
        *selected; /* (n_layers, n_kv_heads, n_selected), each list ascending; owned by the caller */
} lf_view;

#endif

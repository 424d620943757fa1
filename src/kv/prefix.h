/* The prefix cache: full pages of committed tokens, kept after their sequence is gone and shared by whoever starts with
 * the same tokens.
 *
 * Entries form a tree: an entry is one page of tokens after its parent's. Look-up is by a hash of (parent, tokens) and then
 * by the tokens themselves, so a collision cannot serve wrong K/V. The cache holds one reference to each page; pages that
 * nobody else references can be evicted, leaves first, least recently used first. Shared pages are never written:
 * lf_kv_seq_reserve copies one before that. */
#ifndef LF_KV_PREFIX_H
#define LF_KV_PREFIX_H

#include "kv/kv.h"

typedef struct lf_prefix lf_prefix;

/* A cache over the pages of a pool, which must outlive it. */
lf_status lf_prefix_create(lf_prefix **out, lf_kv_pool *pool, lf_error *err);
void lf_prefix_free(lf_prefix *p); /* drops its references; NULL is fine */

/* Gives an empty sequence the longest cached prefix of ids, at most n_max positions (a last page may be shared in part),
 * and returns how many positions it has now. */
int lf_prefix_attach(lf_prefix *p, lf_kv_seq *seq, const int32_t *ids, int n_max);

/* Remembers the full committed pages of a sequence whose tokens are ids. Pages it already has are marked as used. */
void lf_prefix_insert(lf_prefix *p, const lf_kv_seq *seq, const int32_t *ids);

/* Frees pages that only the cache references until the pool has n_free free ones; false when it cannot. */
bool lf_prefix_evict(lf_prefix *p, int n_free);

/* Pages held, and how many references the cache has to each page of the pool, added to n_refs (n_pages): for checks. */
int lf_prefix_n_pages(const lf_prefix *p);
void lf_prefix_count_refs(const lf_prefix *p, int32_t *n_refs);

#endif

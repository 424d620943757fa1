#include "kv/prefix.h"

#include "kv/kv_int.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };

/* One page of tokens after its parent's. Entries live in an array with a slot for each page of the pool: an entry's index
 * is its page's number, so there is nothing to allocate and a page is in the cache at most once. */
typedef struct entry {
    bool used;
    int32_t parent; /* an entry, or NONE */
    int32_t n_children;
    uint64_t hash; /* of the parent's hash and the tokens */
    uint64_t last_use;
    int32_t next; /* in the bucket */
} entry;

struct lf_prefix {
    lf_kv_pool *pool;
    int n_slots;   /* pages of the pool */
    int n_pages;   /* entries in use */
    int n_buckets; /* a power of two */
    uint64_t clock;
    entry *entries;   /* (n_slots) */
    int32_t *ids;     /* (n_slots, LF_PAGE_POS) of the entries; apart, because eviction walks the entries */
    int32_t *buckets; /* (n_buckets) first entry, or NONE */
};

lf_status lf_prefix_create(lf_prefix **out, lf_kv_pool *pool, lf_error *err)
{
    lf_prefix *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) return lf_fail_memory(err, "a prefix cache", sizeof *p);
    p->pool = pool;
    p->n_slots = lf_kv_pool_n_pages(pool);
    p->n_buckets = 16;
    while (p->n_buckets < p->n_slots) p->n_buckets *= 2;
    p->entries = calloc((size_t)p->n_slots, sizeof *p->entries);
    p->ids = calloc((size_t)p->n_slots, LF_PAGE_POS * sizeof *p->ids);
    p->buckets = malloc((size_t)p->n_buckets * sizeof *p->buckets);
    if (!p->entries || !p->ids || !p->buckets) {
        const size_t bytes = (size_t)p->n_slots * LF_PAGE_POS * sizeof *p->ids;
        lf_prefix_free(p);
        return lf_fail_memory(err, "a prefix cache", bytes);
    }
    for (int i = 0; i < p->n_buckets; i++) p->buckets[i] = NONE;
    *out = p;
    return LF_OK;
}

void lf_prefix_free(lf_prefix *p)
{
    if (!p) return;
    for (int32_t i = 0; p->entries && i < p->n_slots; i++)
        if (p->entries[i].used) lf_kv_page_let_go(p->pool, i);
    free(p->entries);
    free(p->ids);
    free(p->buckets);
    free(p);
}

/* FNV-1a over the parent's hash and the tokens of a page. */
static uint64_t chain_hash(uint64_t parent_hash, const int32_t *ids)
{
    uint64_t h = 0xcbf29ce484222325u ^ parent_hash;
    for (int i = 0; i < LF_PAGE_POS; i++) {
        h ^= (uint32_t)ids[i];
        h *= 0x100000001b3u;
    }
    return h ^ h >> 29;
}

/* (LF_PAGE_POS) the tokens of an entry. */
static int32_t *ids_of(const lf_prefix *p, int32_t i)
{
    return p->ids + (size_t)i * LF_PAGE_POS;
}

static int32_t *bucket_of(const lf_prefix *p, uint64_t hash)
{
    return &p->buckets[hash & (uint64_t)(p->n_buckets - 1)];
}

static uint64_t hash_of(const lf_prefix *p, int32_t i)
{
    return i == NONE ? 0 : p->entries[i].hash;
}

static int32_t find_child(const lf_prefix *p, int32_t parent, const int32_t *ids)
{
    const uint64_t hash = chain_hash(hash_of(p, parent), ids);
    int32_t i = *bucket_of(p, hash);
    while (i != NONE && !(p->entries[i].hash == hash && p->entries[i].parent == parent &&
                          memcmp(ids_of(p, i), ids, LF_PAGE_POS * sizeof *ids) == 0))
        i = p->entries[i].next;
    return i;
}

static int common_length(const int32_t *a, const int32_t *b, int n)
{
    int i = 0;
    while (i < n && a[i] == b[i]) i++;
    return i;
}

/* The child of `parent` that begins with the most of ids (n), and how many. A scan: it runs once a request. */
static int32_t find_partial(const lf_prefix *p, int32_t parent, const int32_t *ids, int n, int *length)
{
    int32_t best = NONE;
    *length = 0;
    for (int32_t i = 0; i < p->n_slots; i++) {
        if (!p->entries[i].used || p->entries[i].parent != parent) continue;
        const int common = common_length(ids_of(p, i), ids, n < LF_PAGE_POS ? n : LF_PAGE_POS);
        if (common <= *length) continue;
        *length = common;
        best = i;
    }
    return best;
}

int lf_prefix_attach(lf_prefix *p, lf_kv_seq *seq, const int32_t *ids, int n_max)
{
    assert(lf_kv_seq_len(seq) == 0);
    int n = 0;
    int32_t last = NONE;
    while (n_max - n >= LF_PAGE_POS) {
        const int32_t next = find_child(p, last, ids + n);
        if (next == NONE) break;
        lf_kv_seq_share_page(seq, next, LF_PAGE_POS);
        p->entries[next].last_use = ++p->clock;
        last = next;
        n += LF_PAGE_POS;
    }
    int length;
    const int32_t partial = find_partial(p, last, ids + n, n_max - n, &length);
    if (partial != NONE) {
        lf_kv_seq_share_page(seq, partial, length);
        p->entries[partial].last_use = ++p->clock;
        n += length;
    }
    return n;
}

void lf_prefix_insert(lf_prefix *p, const lf_kv_seq *seq, const int32_t *ids)
{
    int32_t parent = NONE;
    bool own = true; /* every page so far is the cache's */
    for (int i = 0; i < lf_kv_seq_len(seq) / LF_PAGE_POS; i++, ids += LF_PAGE_POS) {
        const int32_t page = lf_kv_seq_page(seq, i);
        int32_t found = find_child(p, parent, ids);
        /* A page below one that is not the sequence's own (two requests computed the same prompt at once) could outlive its
         * parent's last user, and an inner entry cannot be evicted. */
        if (found == NONE && !own) return;
        if (found == NONE) {
            entry *e = &p->entries[page];
            /* a shared page holds its own tokens and no others: they would have been found */
            assert(!e->used);
            *e = (entry){.used = true, .parent = parent, .hash = chain_hash(hash_of(p, parent), ids)};
            memcpy(ids_of(p, page), ids, LF_PAGE_POS * sizeof *ids);
            e->next = *bucket_of(p, e->hash);
            *bucket_of(p, e->hash) = page;
            lf_kv_page_keep(p->pool, page);
            if (parent != NONE) p->entries[parent].n_children++;
            p->n_pages++;
            found = page;
        }
        p->entries[found].last_use = ++p->clock;
        own = own && found == page;
        parent = found;
    }
}

static void remove_entry(lf_prefix *p, int32_t i)
{
    entry *e = &p->entries[i];
    int32_t *link = bucket_of(p, e->hash);
    while (*link != i) link = &p->entries[*link].next;
    *link = e->next;
    if (e->parent != NONE) p->entries[e->parent].n_children--;
    e->used = false;
    p->n_pages--;
    lf_kv_page_let_go(p->pool, i);
}

bool lf_prefix_evict(lf_prefix *p, int n_free)
{
    while (lf_kv_pool_n_free(p->pool) < n_free) {
        int32_t oldest = NONE;
        for (int32_t i = 0; i < p->n_slots; i++) {
            const entry *e = &p->entries[i];
            if (!e->used || e->n_children > 0 || lf_kv_page_n_refs(p->pool, i) > 1) continue;
            if (oldest == NONE || e->last_use < p->entries[oldest].last_use) oldest = i;
        }
        if (oldest == NONE) return false;
        remove_entry(p, oldest);
    }
    return true;
}

int lf_prefix_n_pages(const lf_prefix *p)
{
    return p->n_pages;
}

void lf_prefix_count_refs(const lf_prefix *p, int32_t *n_refs)
{
    for (int32_t i = 0; i < p->n_slots; i++) n_refs[i] += p->entries[i].used;
}

#include "kv/kv_int.h"

#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { NO_PAGE = -1 };

struct lf_kv_pool {
    lf_kv_shape shape;
    size_t page_bytes;
    size_t tiles_bytes; /* of one layer and head in a page: LF_PAGE_TILES tiles */
    size_t mapped_bytes;
    uint8_t *memory; /* (n_pages, page_bytes), mapped */
    int n_pages, n_free;
    int n_idle;          /* pages that are kept and referenced by nobody else */
    int32_t *free_pages; /* (n_pages) a stack of n_free page numbers */
    int32_t *n_refs;     /* (n_pages) */
    bool *kept;          /* (n_pages) one of the references is the prefix cache's */
};

struct lf_kv_seq {
    lf_kv_pool *pool;
    int n_ctx, len;
    int begin; /* positions before it are forgotten */
    int n_pages;
    int32_t pages[]; /* (ceil(n_ctx / LF_PAGE_POS)), n_pages of them in use; NO_PAGE where all is forgotten */
};

static int pages_for(int n_pos)
{
    return (n_pos + LF_PAGE_POS - 1) / LF_PAGE_POS;
}

/* Whether the pages of a sequence are those that rule 3 asks for. */
static bool has_its_pages(const lf_kv_seq *seq)
{
    if (seq->len > seq->n_ctx || seq->begin > seq->len) return false;
    if (seq->begin < seq->len && pages_for(seq->len) > seq->n_pages) return false;
    for (int i = 0; i < seq->n_pages; i++)
        if ((seq->pages[i] == NO_PAGE) != (i < seq->begin / LF_PAGE_POS)) return false;
    return true;
}

/* ---- pool ---- */

bool lf_kv_page_bytes(const lf_kv_shape *shape, size_t *out)
{
    size_t bytes;
    return lf_mul_size(shape->layout.tile_bytes, LF_PAGE_TILES, &bytes) &&
           lf_mul_size(bytes, (size_t)shape->n_kv_heads, &bytes) &&
           lf_mul_size(bytes, (size_t)shape->n_layers, out);
}

lf_status lf_kv_pool_create(lf_kv_pool **out, const lf_kv_shape *shape, int n_pages, lf_error *err)
{
    lf_status status = LF_OK;
    *out = NULL;
    assert(n_pages >= 1);
    lf_kv_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return lf_fail_memory(err, "a KV pool", sizeof *pool);
    pool->shape = *shape;
    pool->n_pages = pool->n_free = n_pages;
    pool->tiles_bytes = shape->layout.tile_bytes * LF_PAGE_TILES;
    size_t bytes = 0;
    if (!lf_kv_page_bytes(shape, &pool->page_bytes) ||
        !lf_mul_size(pool->page_bytes, (size_t)n_pages, &bytes)) {
        status = lf_fail(err, LF_ELIMIT, "KV cache: the size of %d pages overflows", n_pages);
        goto done;
    }
    pool->free_pages = malloc((size_t)n_pages * sizeof *pool->free_pages);
    pool->n_refs = calloc((size_t)n_pages, sizeof *pool->n_refs);
    pool->kept = calloc((size_t)n_pages, sizeof *pool->kept);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                        0);
    if (memory != MAP_FAILED) {
        pool->memory = memory;
        pool->mapped_bytes = bytes;
        (void)madvise(memory, bytes, MADV_HUGEPAGE); /* a hint: refusal costs speed only */
    }
    if (!pool->free_pages || !pool->n_refs || !pool->kept || !pool->memory) {
        status = lf_fail_memory(err, "the KV cache", bytes);
        goto done;
    }
    for (int i = 0; i < n_pages; i++) pool->free_pages[i] = n_pages - 1 - i;
    *out = pool;
done:
    if (status != LF_OK) lf_kv_pool_free(pool);
    return status;
}

void lf_kv_pool_free(lf_kv_pool *pool)
{
    if (!pool) return;
    assert(pool->n_free == pool->n_pages);
    if (pool->memory) (void)munmap(pool->memory, pool->mapped_bytes);
    free(pool->free_pages);
    free(pool->n_refs);
    free(pool->kept);
    free(pool);
}

const lf_kv_shape *lf_kv_pool_shape(const lf_kv_pool *pool)
{
    return &pool->shape;
}

int lf_kv_pool_n_pages(const lf_kv_pool *pool)
{
    return pool->n_pages;
}

int lf_kv_pool_n_free(const lf_kv_pool *pool)
{
    return pool->n_free;
}

int lf_kv_pool_n_idle(const lf_kv_pool *pool)
{
    return pool->n_idle;
}

void lf_kv_pool_shuffle(lf_kv_pool *pool, uint64_t seed)
{
    for (int i = pool->n_free - 1; i > 0; i--) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const int j = (int)((seed >> 33) % (uint64_t)(i + 1));
        const int32_t page = pool->free_pages[i];
        pool->free_pages[i] = pool->free_pages[j];
        pool->free_pages[j] = page;
    }
}

bool lf_kv_pool_check(const lf_kv_pool *pool, const lf_kv_seq *const *seqs, int n_seqs,
                      const int32_t *other_refs)
{
    int32_t *n_refs = calloc((size_t)pool->n_pages, sizeof *n_refs);
    bool ok = n_refs != NULL;
    for (int i = 0; ok && other_refs && i < pool->n_pages; i++) n_refs[i] = other_refs[i];
    for (int i = 0; ok && i < n_seqs; i++) {
        ok = has_its_pages(seqs[i]);
        for (int j = seqs[i]->begin / LF_PAGE_POS; ok && j < seqs[i]->n_pages; j++)
            n_refs[seqs[i]->pages[j]]++;
    }
    ok = ok && memcmp(n_refs, pool->n_refs, (size_t)pool->n_pages * sizeof *n_refs) == 0;
    int n_unused = 0, n_idle = 0;
    for (int i = 0; ok && i < pool->n_pages; i++) {
        n_unused += n_refs[i] == 0;
        n_idle += pool->kept[i] && n_refs[i] == 1;
    }
    ok = ok && n_unused == pool->n_free && n_idle == pool->n_idle;
    for (int i = 0; ok && i < pool->n_free; i++) ok = n_refs[pool->free_pages[i]]++ == 0;
    free(n_refs);
    return ok;
}

static int32_t take_page(lf_kv_pool *pool)
{
    assert(pool->n_free > 0);
    const int32_t page = pool->free_pages[--pool->n_free];
    pool->n_refs[page] = 1;
    return page;
}

void lf_kv_page_ref(lf_kv_pool *pool, int32_t page)
{
    assert(pool->n_refs[page] > 0);
    if (pool->n_refs[page]++ == 1 && pool->kept[page]) pool->n_idle--;
}

void lf_kv_page_unref(lf_kv_pool *pool, int32_t page)
{
    assert(pool->n_refs[page] > (pool->kept[page] ? 1 : 0));
    if (--pool->n_refs[page] == 0) pool->free_pages[pool->n_free++] = page;
    if (pool->n_refs[page] == 1 && pool->kept[page]) pool->n_idle++;
}

void lf_kv_page_keep(lf_kv_pool *pool, int32_t page)
{
    assert(pool->n_refs[page] > 0 && !pool->kept[page]);
    pool->n_refs[page]++;
    pool->kept[page] = true;
}

void lf_kv_page_let_go(lf_kv_pool *pool, int32_t page)
{
    assert(pool->kept[page]);
    pool->kept[page] = false;
    if (pool->n_refs[page] == 1) pool->n_idle--;
    lf_kv_page_unref(pool, page);
}

int32_t lf_kv_page_n_refs(const lf_kv_pool *pool, int32_t page)
{
    return pool->n_refs[page];
}

/* ---- sequences ---- */

lf_status lf_kv_seq_open(lf_kv_seq **out, lf_kv_pool *pool, int n_ctx, lf_error *err)
{
    assert(n_ctx >= 1);
    const size_t bytes = sizeof(lf_kv_seq) + (size_t)pages_for(n_ctx) * sizeof(int32_t);
    lf_kv_seq *seq = calloc(1, bytes);
    *out = seq;
    if (!seq) return lf_fail_memory(err, "a sequence", bytes);
    seq->pool = pool;
    seq->n_ctx = n_ctx;
    return LF_OK;
}

void lf_kv_seq_close(lf_kv_seq *seq)
{
    if (!seq) return;
    lf_kv_seq_truncate(seq, 0);
    free(seq);
}

void lf_kv_seq_share(lf_kv_seq *seq, const lf_kv_seq *from, int n)
{
    assert(seq->pool == from->pool && seq->n_pages == 0 && n >= from->begin && n <= from->len &&
           n <= seq->n_ctx);
    seq->len = n;
    seq->begin = from->begin;
    seq->n_pages = n > from->begin ? pages_for(n) : from->begin / LF_PAGE_POS;
    memcpy(seq->pages, from->pages, (size_t)seq->n_pages * sizeof *seq->pages);
    for (int i = seq->begin / LF_PAGE_POS; i < seq->n_pages; i++) lf_kv_page_ref(seq->pool, seq->pages[i]);
}

lf_status lf_kv_seq_fork(lf_kv_seq **out, lf_kv_seq *seq, lf_error *err)
{
    const lf_status status = lf_kv_seq_open(out, seq->pool, seq->n_ctx, err);
    if (status != LF_OK) return status;
    lf_kv_seq_share(*out, seq, seq->len);
    return LF_OK;
}

int lf_kv_seq_len(const lf_kv_seq *seq)
{
    return seq->len;
}

/* Only the page with the first uncommitted position can be both shared and due to be written: pages after it are the
 * sequence's own. */
static bool must_copy_tail(const lf_kv_seq *seq)
{
    const int i = seq->len / LF_PAGE_POS;
    return i < seq->n_pages && seq->pool->n_refs[seq->pages[i]] > 1;
}

int lf_kv_seq_missing(const lf_kv_seq *seq, int n)
{
    const int n_pages = pages_for(seq->len + n);
    return (n_pages > seq->n_pages ? n_pages - seq->n_pages : 0) + (n > 0 && must_copy_tail(seq));
}

lf_status lf_kv_seq_reserve(lf_kv_seq *seq, int n, lf_error *err)
{
    lf_kv_pool *pool = seq->pool;
    if (n > seq->n_ctx - seq->len)
        return lf_fail(err, LF_ELIMIT, "context: %d positions asked for after %d, expected at most %d in all",
                       n, seq->len, seq->n_ctx);
    const int n_pages = pages_for(seq->len + n), n_new = lf_kv_seq_missing(seq, n);
    if (n_new > pool->n_free)
        return lf_fail(err, LF_ELIMIT, "KV cache: %d pages of %d positions are free, %d needed", pool->n_free,
                       LF_PAGE_POS, n_new);
    if (n > 0 && must_copy_tail(seq)) {
        int32_t *tail = &seq->pages[seq->len / LF_PAGE_POS];
        const int32_t page = take_page(pool);
        memcpy(pool->memory + (size_t)page * pool->page_bytes,
               pool->memory + (size_t)*tail * pool->page_bytes, pool->page_bytes);
        lf_kv_page_unref(pool, *tail);
        *tail = page;
    }
    while (seq->n_pages < n_pages) seq->pages[seq->n_pages++] = take_page(pool);
    return LF_OK;
}

void lf_kv_seq_commit(lf_kv_seq *seq, int n)
{
    assert(n == 0 || (n > 0 && pages_for(seq->len + n) <= seq->n_pages));
    seq->len += n;
}

void lf_kv_seq_truncate(lf_kv_seq *seq, int len)
{
    assert((len == 0 || len >= seq->begin) && len <= seq->len);
    seq->len = len;
    while (seq->n_pages > pages_for(len))
        if (seq->pages[--seq->n_pages] != NO_PAGE) lf_kv_page_unref(seq->pool, seq->pages[seq->n_pages]);
    if (len == 0) seq->begin = 0;
}

void lf_kv_seq_forget(lf_kv_seq *seq, int begin)
{
    const int n_pages = begin / LF_PAGE_POS;
    assert(begin >= seq->begin && begin <= seq->n_ctx);
    for (int i = seq->begin / LF_PAGE_POS; i < n_pages; i++) {
        if (i < seq->n_pages) lf_kv_page_unref(seq->pool, seq->pages[i]);
        seq->pages[i] = NO_PAGE;
    }
    if (seq->n_pages < n_pages) seq->n_pages = n_pages;
    if (seq->len < begin) seq->len = begin;
    seq->begin = begin;
}

void *lf_kv_seq_tile(const lf_kv_seq *seq, int i_layer, int i_kv_head, int i_tile)
{
    const lf_kv_pool *pool = seq->pool;
    assert(i_tile >= seq->begin / LF_TILE_POS && i_tile / LF_PAGE_TILES < seq->n_pages);
    const size_t page = (size_t)seq->pages[i_tile / LF_PAGE_TILES];
    const size_t head = (size_t)i_layer * (size_t)pool->shape.n_kv_heads + (size_t)i_kv_head;
    return pool->memory + page * pool->page_bytes + head * pool->tiles_bytes +
           (size_t)(i_tile % LF_PAGE_TILES) * pool->shape.layout.tile_bytes;
}

int32_t lf_kv_seq_page(const lf_kv_seq *seq, int i_page)
{
    assert(i_page >= seq->begin / LF_PAGE_POS && i_page < seq->n_pages);
    return seq->pages[i_page];
}

void lf_kv_seq_share_page(lf_kv_seq *seq, int32_t page, int n_pos)
{
    assert(seq->begin == 0 && seq->len % LF_PAGE_POS == 0 && seq->n_pages == seq->len / LF_PAGE_POS);
    assert(n_pos > 0 && n_pos <= LF_PAGE_POS && seq->len + n_pos <= seq->n_ctx);
    lf_kv_page_ref(seq->pool, page);
    seq->pages[seq->n_pages++] = page;
    seq->len += n_pos;
}

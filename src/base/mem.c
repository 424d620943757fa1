#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

bool lf_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool lf_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

void *lf_calloc_aligned(size_t bytes)
{
    const size_t align = bytes >= 2 * HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 64;
    size_t padded;
    if (!lf_add_size(bytes ? bytes : 1, align - 1, &padded)) return NULL;
    padded &= ~(align - 1);
    void *block = aligned_alloc(align, padded);
    if (!block) return NULL;
    if (align == HUGE_PAGE_BYTES)
        (void)madvise(block, padded, MADV_HUGEPAGE); /* a hint: refusal costs speed only */
    memset(block, 0, padded);
    return block;
}

size_t lf_memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return SIZE_MAX;
    char line[128];
    unsigned long long kib = 0;
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) found = sscanf(line, "MemAvailable: %llu kB", &kib) == 1;
    (void)fclose(f);
    return found ? (size_t)kib * 1024 : SIZE_MAX;
}

char *lf_strndup(const char *s, size_t n)
{
    char *copy = malloc(n + 1);
    if (!copy) return NULL;
    if (n) memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

/* Capacity for `need` elements that doubles, so that appending n elements one by one costs O(n). */
static size_t grown_capacity(size_t cap, size_t need)
{
    size_t grown = cap < 16 ? 16 : cap;
    while (grown < need && grown <= SIZE_MAX / 2) grown *= 2;
    return grown < need ? need : grown;
}

static bool bytes_reserve(lf_bytes *b, size_t extra)
{
    size_t need;
    if (!lf_add_size(b->len, extra, &need) || !lf_add_size(need, 1, &need)) return false;
    if (need <= b->cap) return true;
    const size_t cap = grown_capacity(b->cap, need);
    char *data = realloc(b->data, cap);
    if (!data) return false;
    b->data = data;
    b->cap = cap;
    return true;
}

bool lf_bytes_append(lf_bytes *b, const void *src, size_t n)
{
    if (!bytes_reserve(b, n)) return false;
    if (n) memcpy(b->data + b->len, src, n);
    b->len += n;
    b->data[b->len] = '\0';
    return true;
}

bool lf_bytes_printf(lf_bytes *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || !bytes_reserve(b, (size_t)n)) return false;
    va_start(args, fmt);
    (void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, args);
    va_end(args);
    b->len += (size_t)n;
    return true;
}

void lf_bytes_free(lf_bytes *b)
{
    free(b->data);
    *b = (lf_bytes){0};
}

bool lf_ids_push(lf_ids *v, int32_t id)
{
    if (v->len == v->cap) {
        const size_t cap = grown_capacity(v->cap, v->len + 1);
        size_t bytes;
        if (!lf_mul_size(cap, sizeof *v->data, &bytes)) return false;
        int32_t *data = realloc(v->data, bytes);
        if (!data) return false;
        v->data = data;
        v->cap = cap;
    }
    v->data[v->len++] = id;
    return true;
}

void lf_ids_free(lf_ids *v)
{
    free(v->data);
    *v = (lf_ids){0};
}

/* The allocator of the test executables: glibc's own, behind a counter. Symbols of an executable come before those of
 * libc, so defining malloc here catches the calls of every library too. */
#include "oom.h"

#include "testing.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define SANITIZED 1
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#        define SANITIZED 1
#    endif
#endif

static atomic_long n_allocations, n_live, i_failing;

void oom_fail_at(long n)
{
    atomic_store(&n_allocations, 0);
    atomic_store(&i_failing, n);
}

void oom_off(void)
{
    atomic_store(&i_failing, 0);
}

long oom_count(void)
{
    return atomic_load(&n_allocations);
}

long oom_live(void)
{
    return atomic_load(&n_live);
}

#ifdef SANITIZED

void oom_require(void)
{
    print_message("skipped: a sanitizer owns the allocator\n");
    skip();
}

#else

/* The build hides symbols by default; these must be seen by the libraries. */
#    define REPLACES_LIBC __attribute__((visibility("default")))

/* glibc's names for its own allocator, exported for this purpose but declared nowhere. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *block);

void oom_require(void) {}

static bool must_fail(void)
{
    const long i = atomic_fetch_add(&n_allocations, 1) + 1;
    if (i != atomic_load(&i_failing)) return false;
    errno = ENOMEM;
    return true;
}

static void *counted(void *block)
{
    if (block) atomic_fetch_add(&n_live, 1);
    return block;
}

REPLACES_LIBC void *malloc(size_t size)
{
    return must_fail() ? NULL : counted(__libc_malloc(size));
}

REPLACES_LIBC void *calloc(size_t n, size_t size)
{
    return must_fail() ? NULL : counted(__libc_calloc(n, size));
}

REPLACES_LIBC void *realloc(void *block, size_t size)
{
    if (!block) return malloc(size);
    if (size == 0) { /* glibc frees and returns NULL */
        free(block);
        return NULL;
    }
    return must_fail() ? NULL : __libc_realloc(block, size);
}

REPLACES_LIBC void *reallocarray(void *block, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

REPLACES_LIBC void *memalign(size_t align, size_t size)
{
    return must_fail() ? NULL : counted(__libc_memalign(align, size));
}

REPLACES_LIBC void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size);
}

REPLACES_LIBC int posix_memalign(void **out, size_t align, size_t size)
{
    void *block = memalign(align, size);
    if (!block) return ENOMEM;
    *out = block;
    return 0;
}

REPLACES_LIBC void free(void *block)
{
    if (block) atomic_fetch_sub(&n_live, 1);
    __libc_free(block);
}

#endif

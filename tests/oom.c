/* The allocator of the test executables: glibc's own, behind a counter. Symbols of an executable come
 * before those of libc, so defining malloc here catches the calls of every library too. */
#include "oom.h"

#include "testing.h"

#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#    define HAS_FEATURE(f) __has_feature(f)
#else
#    define HAS_FEATURE(f) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
#    define BEHIND_LINKER /* calls of our objects come here by --wrap, and go on to the sanitizer's allocator */
#elif defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
#    define SANITIZED
#endif

static atomic_long n_allocations, n_live, i_failing;

/* The code of libraries that end the process, or throw through C, when they get no memory: oneDNN, and
 * what it stands on. */
static const char *const spared_names[] = {"/libdnnl.", "/libgomp.", "/libstdc++."};
enum { N_SPARED = sizeof spared_names / sizeof *spared_names };
static struct range {
    uintptr_t begin, end;
} spared[N_SPARED];

static int find_spared(struct dl_phdr_info *info, size_t size, void *cookie)
{
    (void)size, (void)cookie;
    for (int i = 0; i < N_SPARED; i++) {
        if (!strstr(info->dlpi_name, spared_names[i])) continue;
        for (int k = 0; k < info->dlpi_phnum; k++) {
            const ElfW(Phdr) *part = &info->dlpi_phdr[k];
            const uintptr_t begin = info->dlpi_addr + part->p_vaddr;
            if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0)
                spared[i] = (struct range){begin, begin + part->p_memsz};
        }
    }
    return 0;
}

void oom_fail_at(long n)
{
    (void)dl_iterate_phdr(find_spared, NULL);
    atomic_store(&n_allocations, 0);
    atomic_store(&i_failing, n);
}

void oom_off(void)
{
    atomic_store(&i_failing, 0);
}

bool oom_sees_libraries(void)
{
#ifdef BEHIND_LINKER
    return false;
#else
    return true;
#endif
}

long oom_count(void)
{
    return atomic_load(&n_allocations);
}

long oom_live(void)
{
    return atomic_load(&n_live);
}

bool oom_attempt(lf_status *status, long n, lf_status (*run)(void *cookie, lf_error *err), void *cookie)
{
    lf_error err = {0};
    const long live = oom_live();
    oom_fail_at(n);
    *status = run(cookie, &err);
    const bool some_failed = oom_count() >= n;
    oom_off();
    /* some that fail can be done without; libc's files report theirs by errno */
    const bool is_memory = some_failed &&
                           (*status == LF_ENOMEM || strstr(err.text, "Cannot allocate memory"));
    if (*status != LF_OK && !is_memory)
        fail_msg("allocation %ld: %s: %s", n, lf_status_name(*status), err.text);
    if (oom_live() != live) fail_msg("allocation %ld: found %ld blocks more", n, oom_live() - live);
    return some_failed;
}

#ifdef SANITIZED

void oom_require(void)
{
    print_message("skipped: a sanitizer owns the allocator\n");
    skip();
}

#else

void oom_require(void) {}

static bool is_spared(const void *caller)
{
    for (int i = 0; i < N_SPARED; i++)
        if ((uintptr_t)caller >= spared[i].begin && (uintptr_t)caller < spared[i].end) return true;
    return false;
}

/* `caller`: the code that asks for memory. */
static bool must_fail(const void *caller)
{
    if (is_spared(caller)) return false;
    const long i = atomic_fetch_add(&n_allocations, 1) + 1;
    if (i != atomic_load(&i_failing)) return false;
    errno = ENOMEM;
    return true;
}

#    ifdef BEHIND_LINKER

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);

void *__wrap_malloc(size_t size)
{
    return must_fail(NULL) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return must_fail(NULL) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *block, size_t size)
{
    return must_fail(NULL) ? NULL : __real_realloc(block, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return must_fail(NULL) ? NULL : __real_aligned_alloc(align, size);
}

#    else

/* The build hides symbols by default; these must be seen by the libraries. */
#        define REPLACES_LIBC __attribute__((visibility("default")))

/* glibc's names for its own allocator, exported for this purpose but declared nowhere. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *block);

static void *counted(void *block)
{
    if (block) atomic_fetch_add(&n_live, 1);
    return block;
}

/* Each entry point counts for itself: one that called another would be the caller. */
#        define CALLER        __builtin_return_address(0)

REPLACES_LIBC void *malloc(size_t size)
{
    return must_fail(CALLER) ? NULL : counted(__libc_malloc(size));
}

REPLACES_LIBC void *calloc(size_t n, size_t size)
{
    return must_fail(CALLER) ? NULL : counted(__libc_calloc(n, size));
}

static void *change_size(void *block, size_t size, const void *caller)
{
    if (block && size == 0) { /* glibc frees and returns NULL */
        free(block);
        return NULL;
    }
    if (must_fail(caller)) return NULL;
    return block ? __libc_realloc(block, size) : counted(__libc_malloc(size));
}

static void *take_aligned(size_t align, size_t size, const void *caller)
{
    return must_fail(caller) ? NULL : counted(__libc_memalign(align, size));
}

REPLACES_LIBC void *realloc(void *block, size_t size)
{
    return change_size(block, size, CALLER);
}

REPLACES_LIBC void *reallocarray(void *block, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return change_size(block, bytes, CALLER);
}

REPLACES_LIBC void *memalign(size_t align, size_t size)
{
    return take_aligned(align, size, CALLER);
}

REPLACES_LIBC void *aligned_alloc(size_t align, size_t size)
{
    return take_aligned(align, size, CALLER);
}

REPLACES_LIBC int posix_memalign(void **out, size_t align, size_t size)
{
    void *block = take_aligned(align, size, CALLER);
    if (!block) return ENOMEM;
    *out = block;
    return 0;
}

REPLACES_LIBC void free(void *block)
{
    if (block) atomic_fetch_sub(&n_live, 1);
    __libc_free(block);
}

#    endif
#endif

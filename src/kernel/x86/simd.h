/* What the vector kernels of every instruction set share. */
#ifndef LF_KERNEL_X86_SIMD_H
#define LF_KERNEL_X86_SIMD_H

#include <immintrin.h>
#include <stddef.h>

/* Under clang's undefined-behaviour sanitizer, whose checks in unrolled code take minutes to compile, these functions go
 * without; gcc's checks them. */
#ifdef __clang__
#    define ALWAYS_INLINE static inline __attribute__((always_inline, no_sanitize("undefined")))
#else
#    define ALWAYS_INLINE static inline __attribute__((always_inline))
#endif

/* A loop over 0 .. n - 1, a constant: unrolled, so that arrays indexed by i live in registers. */
#ifdef __clang__
#    define UNROLL(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#else
#    define UNROLL(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)
#endif

/* n, in a way that the compiler cannot look through: to it, this is another n each time. */
ALWAYS_INLINE size_t opaque(size_t n)
{
    __asm__("" : "+r"(n));
    return n;
}

/* Makes the processor take subnormals as zeros; returns the state to restore by _mm_setcsr. The compiler could move
 * arithmetic across this, but not a call: what must run flushed is in functions that are not inlined. */
static inline unsigned flush_subnormals(void)
{
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | _MM_FLUSH_ZERO_ON | 0x40 /* denormals are zeros */);
    return saved;
}

#endif

#include "peak.h"

#include "base/clock.h"
#include "base/cpu.h"

#include <math.h>

#if defined(__x86_64__)
#    include <immintrin.h>
#endif

enum {
    TRIES = 8,             /* the best counts: on a shared machine most are disturbed */
    TRY_NS = 1000 * 1000,  /* of one, at least */
    TURNS_FIRST = 1 << 10, /* of the first, with which it is found how many make a try */
};

/* The compiler must not see that a factor is the same in every turn and every sum, or it would take products out of the loop. */
#if defined(__x86_64__)
#    define FORGET(x) __asm__ volatile("" : "+x"(x))
#else
#    define FORGET(x) __asm__ volatile("" : "+m"(x)) /* a register's name there is not known here */
#endif
#define FORGET_INT(x) __asm__ volatile("" : "+r"(x))

/* Independent sums hide the latency of an instruction that may come twice a cycle. 12 fit the 16 registers of plain x86-64 and
 * AVX2; AVX-512 has 32, and takes 16: its products of pairs need more than 12. */
#define EACH_OF_12(DO, x, y)                                                                                 \
    DO(s0, x, y)                                                                                             \
    DO(s1, x, y)                                                                                             \
    DO(s2, x, y)                                                                                             \
    DO(s3, x, y)                                                                                             \
    DO(s4, x, y)                                                                                             \
    DO(s5, x, y)                                                                                             \
    DO(s6, x, y)                                                                                             \
    DO(s7, x, y)                                                                                             \
    DO(s8, x, y)                                                                                             \
    DO(s9, x, y)                                                                                             \
    DO(s10, x, y)                                                                                            \
    DO(s11, x, y)
#define EACH_OF_16(DO, x, y)                                                                                 \
    EACH_OF_12(DO, x, y)                                                                                     \
    DO(s12, x, y)                                                                                            \
    DO(s13, x, y)                                                                                            \
    DO(s14, x, y)                                                                                            \
    DO(s15, x, y)

#define DO_BEGIN(sum, type, zero) type sum = zero;
#define DO_STEP(sum, forget, multiply_add)                                                                   \
    forget(a);                                                                                               \
    sum = multiply_add(sum, a, b);
#define DO_KEEP(sum, forget, unused) forget(sum);

/* Defines a loop over the sums; multiply_add(sum, a, b) gives the new one. */
#define DEFINE_PEAK(name, attributes, type, each, zero, factor, forget, multiply_add)                        \
    attributes static void name(long n)                                                                      \
    {                                                                                                        \
        type a = factor, b = factor;                                                                         \
        each(DO_BEGIN, type, zero);                                                                          \
        for (long i = 0; i < n; i++) {                                                                       \
            each(DO_STEP, forget, multiply_add);                                                             \
        }                                                                                                    \
        each(DO_KEEP, forget, );                                                                             \
    }

#define FMA_SCALAR(s, a, b) fmaf(a, b, s)
#define FMA_INT(s, a, b)    ((s) + (a) * (b))

DEFINE_PEAK(run_fmaf, , float, EACH_OF_12, 0.0f, 0.5f, FORGET, FMA_SCALAR)
DEFINE_PEAK(run_int, , unsigned, EACH_OF_12, 0, 3, FORGET_INT, FMA_INT)

static const bench_peak peak_fmaf = {"fmaf", 2 * 12, run_fmaf};
static const bench_peak peak_int = {"imul", 2 * 12, run_int};

#if defined(__x86_64__)
#    define AVX2       __attribute__((target("avx2,fma")))
#    define AVX512     __attribute__((target("avx512f,avx512bw,avx512vnni")))
#    define AVX512BF16 __attribute__((target("avx512f,avx512bw,avx512bf16")))

#    define FMA_256(s, a, b) _mm256_fmadd_ps(a, b, s)
#    define FMA_512(s, a, b) _mm512_fmadd_ps(a, b, s)
/* as the kernels do it: pairs of bytes, pairs of pairs, sum */
#    define QUADS_256(s, a, b)                                                                               \
        _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)))
#    define QUADS_512(s, a, b) _mm512_dpbusd_epi32(s, a, b)
#    define BF16_512(s, a, b)  _mm512_dpbf16_ps(s, (__m512bh)(a), (__m512bh)(b))

DEFINE_PEAK(run_fma_256, AVX2, __m256, EACH_OF_12, _mm256_setzero_ps(), _mm256_set1_ps(0.5f), FORGET, FMA_256)
DEFINE_PEAK(run_quads_256, AVX2, __m256i, EACH_OF_12, _mm256_setzero_si256(), _mm256_set1_epi8(3), FORGET,
            QUADS_256)
DEFINE_PEAK(run_fma_512, AVX512, __m512, EACH_OF_16, _mm512_setzero_ps(), _mm512_set1_ps(0.5f), FORGET,
            FMA_512)
DEFINE_PEAK(run_quads_512, AVX512, __m512i, EACH_OF_16, _mm512_setzero_si512(), _mm512_set1_epi32(0x03030303),
            FORGET, QUADS_512)
DEFINE_PEAK(run_bf16_512, AVX512BF16, __m512, EACH_OF_16, _mm512_setzero_ps(), _mm512_set1_ps(0.5f), FORGET,
            BF16_512)

static const bench_peak peak_fma_256 = {"vfmadd ymm", 2 * 8 * 12, run_fma_256};
static const bench_peak peak_quads_256 = {"vpmaddubsw ymm", 2 * 32 * 12, run_quads_256};
static const bench_peak peak_fma_512 = {"vfmadd zmm", 2 * 16 * 16, run_fma_512};
static const bench_peak peak_quads_512 = {"vpdpbusd zmm", 2 * 64 * 16, run_quads_512};
static const bench_peak peak_bf16_512 = {"vdpbf16ps zmm", 2 * 32 * 16, run_bf16_512};
#endif

const bench_peak *bench_peak_of(lf_dtype dtype, unsigned cpu_flags)
{
    const bool is_float = dtype <= LF_DTYPE_BF16;
#if defined(__x86_64__)
    const unsigned avx512 = LF_CPU_AVX2 | LF_CPU_AVX512, all = avx512 | LF_CPU_AVX512BF16;
    if ((cpu_flags & all) == all && dtype == LF_DTYPE_BF16) return &peak_bf16_512;
    if ((cpu_flags & avx512) == avx512) return is_float ? &peak_fma_512 : &peak_quads_512;
    if (cpu_flags & LF_CPU_AVX2) return is_float ? &peak_fma_256 : &peak_quads_256;
#else
    (void)cpu_flags;
#endif
    return is_float ? &peak_fmaf : &peak_int;
}

typedef struct peak_run {
    const bench_peak *peak;
    long n;
} peak_run;

static void run_thread(void *arg, int i_thread)
{
    (void)i_thread;
    const peak_run *run = arg;
    run->peak->run(run->n);
}

static int64_t time_run(peak_run *run, lf_threads *threads)
{
    const int64_t start = lf_clock_ns();
    lf_threads_run_all(threads, run_thread, run);
    return lf_clock_ns() - start;
}

double bench_peak_measure(const bench_peak *peak, lf_threads *threads)
{
    peak_run run = {.peak = peak, .n = TURNS_FIRST};
    int64_t best;
    while ((best = time_run(&run, threads)) < TRY_NS) run.n *= 2;
    for (int i = 1; i < TRIES; i++) {
        const int64_t took = time_run(&run, threads);
        if (took < best) best = took;
    }
    return (double)run.n * peak->flops * lf_threads_count(threads) * 1e9 / (double)best;
}

#include "probe.h"

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    READS = 2,             /* of the whole memory; the best counts */
    CHUNK_BYTES = 1 << 20, /* of one take, so that a slow thread takes less */
    ROUNDS = 1000,         /* of one ping-pong */
    PING_PONGS = 3,        /* the best counts */
    CACHE_READS = 3,       /* of what follows; the best counts */
    CACHE_BYTES = 1 << 25, /* that each thread reads of its part in one of them, again and again */
    CACHE_UNIT = 512,      /* a part is a multiple of this */
    SPINS_MAX = 10000,     /* after which the processor is offered to whoever waits for it */
};

/* The compiler makes of it what the instruction set has. Loads of 16 bytes, all that plain x86-64 has, read memory at
 * three quarters of the speed of wide ones. */
typedef uint64_t vector __attribute__((vector_size(64)));
#define DEFINE_SUM_CHUNK(name, attributes)                                                                   \
    attributes static uint64_t name(const uint8_t *chunk, size_t bytes)                                      \
    {                                                                                                        \
        const vector *v = (const void *)chunk;                                                               \
        const size_t half = bytes / 2 / sizeof(vector); /* two streams are a little faster than one */       \
        vector a = {0}, b = {0}, c = {0}, d = {0};      /* four sums hide the latency of the additions */    \
        for (size_t i = 0; i < half; i += 2) {                                                               \
            a += v[i];                                                                                       \
            b += v[i + 1];                                                                                   \
            c += v[half + i];                                                                                \
            d += v[half + i + 1];                                                                            \
        }                                                                                                    \
        a += b + c + d;                                                                                      \
        return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];                                        \
    }

DEFINE_SUM_CHUNK(sum_chunk, )
#if defined(__x86_64__)
DEFINE_SUM_CHUNK(sum_chunk_avx2, __attribute__((target("avx2"))))
DEFINE_SUM_CHUNK(sum_chunk_avx512, __attribute__((target("avx512f"))))
#endif

typedef uint64_t sum_chunk_fn(const uint8_t *chunk, size_t bytes);

static sum_chunk_fn *widest_sum_chunk(void)
{
#if defined(__x86_64__)
    if (lf_cpu_flags() & LF_CPU_AVX512) return sum_chunk_avx512;
    if (lf_cpu_flags() & LF_CPU_AVX2) return sum_chunk_avx2;
#endif
    return sum_chunk;
}

typedef struct ball {
    _Alignas(64) atomic_int turn;
} ball;

struct bench_probe {
    lf_threads *threads;
    sum_chunk_fn *sum_chunk;
    uint8_t *memory; /* (n_chunks, CHUNK_BYTES) */
    int n_chunks;
    size_t part_bytes; /* of each thread, while a cache is measured */
    bool pair;         /* two threads, and two processors for them */
    atomic_uint sink;  /* keeps the sums from being optimised away */
    ball ball;
};

lf_status bench_probe_create(bench_probe **out, lf_threads *threads, size_t bytes, lf_error *err)
{
    *out = NULL;
    bench_probe *p = lf_calloc_aligned(sizeof *p);
    if (!p) return lf_fail_memory(err, "a probe", sizeof *p);
    p->threads = threads;
    p->sum_chunk = widest_sum_chunk();
    p->pair = lf_threads_count(threads) > 1 && lf_threads_processors() > 1;
    p->n_chunks = (int)((bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
    p->memory = lf_calloc_aligned((size_t)p->n_chunks * CHUNK_BYTES);
    if (!p->memory) {
        free(p);
        return lf_fail_memory(err, "the bandwidth probe", bytes);
    }
    *out = p;
    return LF_OK;
}

void bench_probe_free(bench_probe *p)
{
    if (!p) return;
    free(p->memory);
    free(p);
}

static void read_thread(void *arg, int i_thread)
{
    (void)i_thread;
    bench_probe *p = arg;
    uint64_t sum = 0;
    for (int i; (i = lf_threads_take(p->threads, 1)) < p->n_chunks;)
        sum += p->sum_chunk(p->memory + (size_t)i * CHUNK_BYTES, CHUNK_BYTES);
    atomic_fetch_add(&p->sink, (unsigned)sum);
}

static void read_part_thread(void *arg, int i_thread)
{
    bench_probe *p = arg;
    uint64_t sum = 0;
    for (size_t read = 0; read < CACHE_BYTES; read += p->part_bytes)
        sum += p->sum_chunk(p->memory + (size_t)i_thread * p->part_bytes, p->part_bytes);
    atomic_fetch_add(&p->sink, (unsigned)sum);
}

static void wait_for_turn(bench_probe *p, int turn)
{
    for (int i = 0; atomic_load_explicit(&p->ball.turn, memory_order_acquire) != turn; i++)
        if (i % SPINS_MAX == SPINS_MAX - 1) (void)sched_yield();
}

/* The turn counts up: even numbers are the first thread's, odd ones the second's. */
static void ping_pong_thread(void *arg, int i_thread)
{
    bench_probe *p = arg;
    for (int turn = i_thread; i_thread < 2 && turn < 2 * ROUNDS; turn += 2) {
        wait_for_turn(p, turn);
        atomic_store_explicit(&p->ball.turn, turn + 1, memory_order_release);
    }
}

static double seconds_of(bench_probe *p, void (*fn)(void *arg, int i_thread))
{
    const int64_t start = lf_clock_ns();
    lf_threads_run_all(p->threads, fn, p);
    return (double)(lf_clock_ns() - start) * 1e-9;
}

bench_limits bench_probe_measure(bench_probe *p)
{
    double read = INFINITY, hop = INFINITY;
    for (int i = 0; i < READS; i++) read = fmin(read, seconds_of(p, read_thread));
    for (int i = 0; p->pair && i < PING_PONGS; i++) {
        atomic_store(&p->ball.turn, 0);
        hop = fmin(hop, seconds_of(p, ping_pong_thread) / (2 * ROUNDS));
    }
    return (bench_limits){.gbytes_per_s = (double)p->n_chunks * CHUNK_BYTES * 1e-9 / read,
                          .core_to_core_ns = p->pair ? hop * 1e9 : NAN};
}

double bench_probe_measure_cache(bench_probe *p, size_t bytes)
{
    const size_t n_threads = (size_t)lf_threads_count(p->threads);
    const size_t most = (size_t)p->n_chunks * CHUNK_BYTES / n_threads;
    double read = INFINITY;
    p->part_bytes = (bytes < most ? bytes : most) / CACHE_UNIT * CACHE_UNIT;
    if (p->part_bytes == 0) p->part_bytes = CACHE_UNIT;
    for (int i = 0; i < CACHE_READS; i++) read = fmin(read, seconds_of(p, read_part_thread));
    const size_t n_parts = (CACHE_BYTES + p->part_bytes - 1) / p->part_bytes;
    return (double)(n_threads * n_parts * p->part_bytes) * 1e-9 / read;
}

#include "probe.h"

#include "base/clock.h"
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
    SPINS_MAX = 10000,     /* after which the processor is offered to whoever waits for it */
};

/* Eight sums hide the latency of the additions. Loads of 16 bytes, which every x86-64 has, saturate memory. */
typedef uint64_t vector __attribute__((vector_size(16)));
enum { SUMS = 8 };

typedef struct ball {
    _Alignas(64) atomic_int turn;
} ball;

struct bench_probe {
    lf_threads *threads;
    uint8_t *memory; /* (n_chunks, CHUNK_BYTES) */
    int n_chunks;
    bool pair;        /* two threads, and two processors for them */
    atomic_uint sink; /* keeps the sums from being optimised away */
    ball ball;
};

lf_status bench_probe_create(bench_probe **out, lf_threads *threads, size_t bytes, lf_error *err)
{
    *out = NULL;
    bench_probe *p = lf_calloc_aligned(sizeof *p);
    if (!p) return lf_fail_memory(err, "a probe", sizeof *p);
    p->threads = threads;
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
    vector sums[SUMS] = {{0}};
    for (int i; (i = lf_threads_take(p->threads, 1)) < p->n_chunks;) {
        const vector *v = (const void *)(p->memory + (size_t)i * CHUNK_BYTES);
        for (size_t j = 0; j < CHUNK_BYTES / sizeof *v; j += SUMS)
            for (size_t k = 0; k < SUMS; k++) sums[k] += v[j + k];
    }
    for (size_t k = 1; k < SUMS; k++) sums[0] += sums[k];
    atomic_fetch_add(&p->sink, (unsigned)(sums[0][0] + sums[0][1]));
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
    lf_threads_run(p->threads, fn, p);
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

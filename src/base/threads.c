#include "base/threads.h"

#include "base/mem.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About 20 microseconds of spinning: longer than the skew of two running threads at a barrier, far shorter than a time
 * slice. */
enum { SPIN_ROUNDS = 2000 };

typedef struct worker {
    pthread_t thread;
    lf_threads *team;
    int i_thread;
    int cpu; /* to be bound to, or -1 */
} worker;

struct lf_threads {
    atomic_uint n;
    _Alignas(64) atomic_uint arrived;    /* threads at the barrier */
    _Alignas(64) atomic_uint generation; /* counts barriers passed: what waiting threads watch */
    atomic_uint n_asleep;                /* threads that may be in futex_wait on generation */
    _Alignas(64) atomic_int next;        /* lf_threads_take */
    atomic_bool quit;
    void (*fn)(void *arg, int i_thread);
    void *arg;
    int n_started;
    worker workers[]; /* (n - 1) */
};

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void futex_wait(atomic_uint *word, unsigned expected)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake_all(atomic_uint *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void wait_for_next_generation(lf_threads *t, unsigned generation)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&t->generation, memory_order_acquire) != generation) return;
        pause_cpu();
    }
    /* Sequentially consistent with the store and load of lf_threads_barrier: either the waker sees this sleeper or the
     * sleeper sees the new generation (the kernel compares once more). */
    atomic_fetch_add(&t->n_asleep, 1);
    while (atomic_load(&t->generation) == generation) futex_wait(&t->generation, generation);
    atomic_fetch_sub(&t->n_asleep, 1);
}

void lf_threads_barrier(lf_threads *t)
{
    const unsigned generation = atomic_load_explicit(&t->generation, memory_order_relaxed);
    const unsigned n = atomic_load_explicit(&t->n, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == n) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&t->next, 0, memory_order_relaxed);
        atomic_store(&t->generation, generation + 1);
        if (atomic_load(&t->n_asleep) > 0) futex_wake_all(&t->generation);
    } else {
        wait_for_next_generation(t, generation);
    }
}

int lf_threads_take(lf_threads *t, int chunk)
{
    return atomic_fetch_add_explicit(&t->next, chunk, memory_order_relaxed);
}

int lf_threads_count(const lf_threads *t)
{
    return (int)atomic_load_explicit(&t->n, memory_order_relaxed);
}

/* A run is two barriers, one that starts it and one that ends it; between runs the workers wait at the first. */
static void *worker_main(void *arg)
{
    worker *w = arg;
    if (w->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)w->cpu, &set);
        (void)sched_setaffinity(0, sizeof set, &set); /* a hint: a refusal costs speed only */
    }
    for (;;) {
        lf_threads_barrier(w->team);
        if (atomic_load_explicit(&w->team->quit, memory_order_acquire)) return NULL;
        w->team->fn(w->team->arg, w->i_thread);
        lf_threads_barrier(w->team);
    }
}

void lf_threads_run(lf_threads *t, void (*fn)(void *arg, int i_thread), void *arg)
{
    t->fn = fn;
    t->arg = arg;
    lf_threads_barrier(t);
    fn(arg, 0);
    lf_threads_barrier(t);
}

int lf_threads_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    const int n = CPU_COUNT(&set);
    return n > LF_THREADS_MAX ? LF_THREADS_MAX : n;
}

/* The processor that thread i is bound to: the i-th of those the process may use, counted around. */
static int processor_of(int i, const cpu_set_t *allowed)
{
    const int n = CPU_COUNT(allowed);
    if (n == 0) return -1;
    int skip = i % n;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, allowed) && skip-- == 0) return cpu;
    return -1;
}

lf_status lf_threads_create(lf_threads **out, int n, bool pin, lf_error *err)
{
    *out = NULL;
    if (n < 1 || n > LF_THREADS_MAX)
        return lf_fail(err, LF_EINVAL, "threads: found %d, expected 1 to %d", n, LF_THREADS_MAX);
    const size_t bytes = sizeof(lf_threads) + (size_t)(n - 1) * sizeof(worker);
    lf_threads *t = lf_calloc_aligned(bytes);
    if (!t) return lf_fail_memory(err, "a thread team", bytes);
    atomic_init(&t->n, (unsigned)n);
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (!pin || sched_getaffinity(0, sizeof allowed, &allowed) != 0) CPU_ZERO(&allowed);
    for (int i = 1; i < n; i++) {
        worker *w = &t->workers[i - 1];
        *w = (worker){.team = t, .i_thread = i, .cpu = processor_of(i, &allowed)};
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            /* Those started wait at a barrier for n threads: make it their number and the caller's. */
            atomic_store(&t->n, (unsigned)i);
            lf_threads_free(t);
            return lf_fail(err, LF_ENOMEM, "cannot start thread %d of %d", i + 1, n);
        }
        t->n_started++;
    }
    *out = t;
    return LF_OK;
}

void lf_threads_free(lf_threads *t)
{
    if (!t) return;
    atomic_store_explicit(&t->quit, true, memory_order_release);
    lf_threads_barrier(t);
    for (int i = 0; i < t->n_started; i++) (void)pthread_join(t->workers[i].thread, NULL);
    free(t);
}

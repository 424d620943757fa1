#include "base/threads.h"

#include "base/clock.h"
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

/* How long a thread is left out that was not worth waiting for: the first time, and at most when it was not again and
 * again. A run that loses less than SLEEP_MIN_NS to sleeping is no reason. */
enum { ABSENCE_NS = 4 * 1000 * 1000, ABSENCE_MAX_NS = 16 * ABSENCE_NS, SLEEP_MIN_NS = 500 * 1000 };

/* The word that starts a run: how many runs there were, and how many threads take part in this one. */
enum { COUNT_BITS = 9, COUNT_MASK = (1 << COUNT_BITS) - 1 };

typedef struct worker {
    pthread_t thread;
    lf_threads *team;
    int i_thread;
    int cpu; /* to be bound to, or -1 */
} worker;

/* A word that threads wait on: they spin, then sleep. */
typedef struct gate {
    _Alignas(64) atomic_uint word;
    atomic_uint n_asleep; /* threads that may be in futex_wait on it */
} gate;

struct lf_threads {
    gate start;                       /* of runs: what workers between runs watch */
    gate generation;                  /* counts barriers passed: what threads at a barrier watch */
    _Alignas(64) atomic_uint arrived; /* threads at the barrier */
    _Alignas(64) atomic_int next;     /* lf_threads_take */
    _Alignas(64) unsigned n_now; /* threads of the run at hand; as the next four are, written between runs */
    pthread_t caller;            /* of lf_threads_run */
    atomic_bool quit;
    void (*fn)(void *arg, int i_thread);
    void *arg;

    /* the caller's */
    int n;                 /* threads of the team */
    int64_t slept_ns;      /* by the caller at the barriers of this run */
    int n_absent;          /* threads left out, the last ones */
    int64_t absence_ns;    /* for how long */
    int64_t changed_at_ns; /* when n_absent or absence_ns last changed */
    worker workers[];      /* (n - 1) */
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

/* Waits until the word is another; returns how long it slept. */
static int64_t wait_for_change(gate *g, unsigned old)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&g->word, memory_order_acquire) != old) return 0;
        pause_cpu();
    }
    const int64_t start = lf_clock_ns();
    /* Sequentially consistent with the store and load of `open`: either that sees this sleeper, or the sleeper sees the
     * new word (the kernel compares once more). */
    atomic_fetch_add(&g->n_asleep, 1);
    while (atomic_load(&g->word) == old) futex_wait(&g->word, old);
    atomic_fetch_sub(&g->n_asleep, 1);
    return lf_clock_ns() - start;
}

static void open_gate(gate *g, unsigned word)
{
    atomic_store(&g->word, word);
    if (atomic_load(&g->n_asleep) > 0) futex_wake_all(&g->word);
}

void lf_threads_barrier(lf_threads *t)
{
    /* all of these before arriving: with the last arrival the run may end, and the next one change them */
    const unsigned generation = atomic_load_explicit(&t->generation.word, memory_order_relaxed);
    const unsigned n_now = t->n_now;
    const pthread_t caller = t->caller;
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == n_now) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&t->next, 0, memory_order_relaxed);
        open_gate(&t->generation, generation + 1);
        return;
    }
    const int64_t slept = wait_for_change(&t->generation, generation);
    if (slept > 0 && pthread_equal(pthread_self(), caller)) t->slept_ns += slept;
}

int lf_threads_take(lf_threads *t, int chunk)
{
    return atomic_fetch_add_explicit(&t->next, chunk, memory_order_relaxed);
}

int lf_threads_count(const lf_threads *t)
{
    return t->n;
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    lf_threads *t = w->team;
    if (w->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)w->cpu, &set);
        (void)sched_setaffinity(0, sizeof set, &set); /* a hint: a refusal costs speed only */
    }
    for (unsigned seen = 0;;) {
        (void)wait_for_change(&t->start, seen);
        seen = atomic_load(&t->start.word);
        if (atomic_load_explicit(&t->quit, memory_order_acquire)) return NULL;
        if (w->i_thread >= (int)(seen & COUNT_MASK)) continue;
        t->fn(t->arg, w->i_thread);
        lf_threads_barrier(t);
    }
}

/* Starts a run of the first n threads, takes part in it and ends it. */
static void run_on(lf_threads *t, int n, void (*fn)(void *arg, int i_thread), void *arg)
{
    t->fn = fn;
    t->arg = arg;
    t->n_now = (unsigned)n;
    t->caller = pthread_self();
    t->slept_ns = 0;
    if (n > 1) {
        const unsigned n_runs = atomic_load_explicit(&t->start.word, memory_order_relaxed) >> COUNT_BITS;
        open_gate(&t->start, (n_runs + 1) << COUNT_BITS | (unsigned)n);
    }
    fn(arg, 0);
    lf_threads_barrier(t);
}

/* Who comes back after an absence; `now` is when a run begins. */
static void call_back(lf_threads *t, int64_t now)
{
    if (t->n_absent == 0 || now - t->changed_at_ns < t->absence_ns) return;
    t->n_absent--;
    t->changed_at_ns = now;
}

/* Without one of its threads, a run of n threads takes n / (n - 1) times what the caller worked in it. When it took clearly
 * longer than that, the threads were not running when they were waited for. */
static void learn(lf_threads *t, int n, int64_t took, int64_t now)
{
    const int64_t worked = took - t->slept_ns;
    if (t->slept_ns > SLEEP_MIN_NS && 4 * took * (n - 1) > 5 * n * worked) {
        if (t->n_absent < t->n - 1) t->n_absent++;
        if (t->absence_ns < ABSENCE_MAX_NS) t->absence_ns *= 2;
        t->changed_at_ns = now;
    } else if (t->n_absent == 0 && t->absence_ns > ABSENCE_NS && now - t->changed_at_ns > t->absence_ns) {
        t->absence_ns /= 2;
        t->changed_at_ns = now;
    }
}

void lf_threads_run_few(lf_threads *t, int n_most, void (*fn)(void *arg, int i_thread), void *arg)
{
    const int64_t start = lf_clock_ns();
    assert(n_most >= 1);
    call_back(t, start);
    const int n_here = t->n - t->n_absent, n = n_most < n_here ? n_most : n_here;
    run_on(t, n, fn, arg);
    if (n == 1) return;
    const int64_t end = lf_clock_ns();
    learn(t, n, end - start, end);
}

void lf_threads_run(lf_threads *t, void (*fn)(void *arg, int i_thread), void *arg)
{
    lf_threads_run_few(t, t->n, fn, arg);
}

void lf_threads_run_all(lf_threads *t, void (*fn)(void *arg, int i_thread), void *arg)
{
    run_on(t, t->n, fn, arg);
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
    t->n = 1; /* with the threads that are started */
    t->absence_ns = ABSENCE_NS / 2;
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (!pin || sched_getaffinity(0, sizeof allowed, &allowed) != 0) CPU_ZERO(&allowed);
    for (int i = 1; i < n; i++) {
        worker *w = &t->workers[i - 1];
        *w = (worker){.team = t, .i_thread = i, .cpu = processor_of(i, &allowed)};
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            lf_threads_free(t);
            return lf_fail(err, LF_ENOMEM, "cannot start thread %d of %d", i + 1, n);
        }
        t->n++;
    }
    *out = t;
    return LF_OK;
}

void lf_threads_free(lf_threads *t)
{
    if (!t) return;
    atomic_store_explicit(&t->quit, true, memory_order_release);
    open_gate(&t->start, atomic_load(&t->start.word) + (1u << COUNT_BITS));
    for (int i = 0; i < t->n - 1; i++) (void)pthread_join(t->workers[i].thread, NULL);
    free(t);
}

#include "team.h"

lf_status bench_team_open(bench_team *t, int n_threads, lf_error *err)
{
    const int n_processors = lf_threads_processors();
    const int n = n_threads ? n_threads : n_processors;
    *t = (bench_team){.fits = n <= n_processors};
    return lf_threads_create(&t->threads, n, t->fits, err);
}

void bench_team_bind(bench_team *t)
{
    if (!t->fits || sched_getaffinity(0, sizeof t->processors, &t->processors) != 0) return;
    int cpu = 0;
    while (cpu < CPU_SETSIZE && !CPU_ISSET((size_t)cpu, &t->processors)) cpu++;
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET((size_t)cpu, &first);
    t->bound = sched_setaffinity(0, sizeof first, &first) == 0;
}

void bench_team_close(bench_team *t)
{
    if (t->bound) (void)sched_setaffinity(0, sizeof t->processors, &t->processors);
    lf_threads_free(t->threads);
    *t = (bench_team){0};
}

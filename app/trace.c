/* Lines of --trace: JSON, one for each pass, flushed so that they can be followed while a run goes on. Names of proposers need no
 * escaping. */
#include "app.h"

#include <time.h>

static double seconds_since_1970(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void app_write_trace(FILE *trace, int i_step, const lf_step_info *s)
{
    (void)fprintf(
        trace,
        "{\"step\":%d,\"time\":%.6f,\"requests\":%d,\"queued\":%d,\"prefill_rows\":%d,\"decode_rows\":%d,"
        "\"proposed\":%d,\"accepted\":%d,\"emitted\":%d,\"propose_ms\":%.4f,\"forward_ms\":%.4f,\"pick_ms\":%.4f,"
        "\"seqs\":[",
        i_step, seconds_since_1970(), s->n_requests, s->queued, s->prefill_rows, s->decode_rows, s->proposed,
        s->accepted, s->emitted, s->propose_seconds * 1e3, s->forward_seconds * 1e3, s->pick_seconds * 1e3);
    for (int i = 0; i < s->n_requests; i++) {
        const lf_step_seq *q = &s->seqs[i];
        (void)fprintf(
            trace,
            "%s{\"id\":%lld,\"rows\":%d,\"proposer\":\"%s\",\"budget\":%d,\"g\":%d,\"accepted\":%d,\"emitted\":%d}",
            i ? "," : "", (long long)q->id, q->rows, q->proposer, q->budget, q->proposed, q->accepted,
            q->emitted);
    }
    (void)fprintf(trace, "],\"preempted\":[");
    for (int i = 0; i < s->preempted; i++) {
        const lf_step_preemption *p = &s->preemptions[i];
        (void)fprintf(trace, "%s{\"id\":%lld,\"for\":%lld,\"tokens\":%d}", i ? "," : "", (long long)p->id,
                      (long long)p->for_id, p->tokens);
    }
    (void)fprintf(trace, "]}\n");
    (void)fflush(trace);
}

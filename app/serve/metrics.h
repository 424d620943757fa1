/* Counters and histograms, and their text for Prometheus. Names and labels are vLLM's, under a prefix. */
#ifndef LF_SERVE_METRICS_H
#define LF_SERVE_METRICS_H

#include "lookfar.h"

#include "base/mem.h"

enum { SERVE_BUCKETS_MAX = 24 };

/* Upper bounds of a histogram's buckets; the last, infinity, is not among them. */
typedef struct serve_bounds {
    int n;
    double v[SERVE_BUCKETS_MAX];
} serve_bounds;

typedef struct serve_histogram {
    uint64_t counts[SERVE_BUCKETS_MAX + 1]; /* not cumulative */
    double sum;
} serve_histogram;

typedef enum serve_histogram_id {
    SERVE_TTFT,
    SERVE_INTER_TOKEN,
    SERVE_E2E,
    SERVE_QUEUE,
    SERVE_PREFILL,
    SERVE_DECODE,
    SERVE_PROMPT_TOKENS,
    SERVE_OUTPUT_TOKENS,
    SERVE_HISTOGRAMS,
} serve_histogram_id;

typedef struct serve_metrics {
    lf_engine_stats engine; /* after the last pass */
    serve_histogram histograms[SERVE_HISTOGRAMS];
    double http_seconds; /* processor time of the HTTP thread */
} serve_metrics;

void serve_metrics_observe(serve_metrics *m, serve_histogram_id id, double value);

/* Appends the exposition; false: no memory. */
bool serve_metrics_write(lf_bytes *out, const serve_metrics *m, const char *prefix, const char *model);

#endif

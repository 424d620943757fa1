/* Another engine to measure beside lookfar: a command that reads a JSON object per line and answers each with one line.
 *
 *   {"model": "m.gguf", "test": "tg128", "depth": 4096, "batch": 1, "threads": 2, "kv_type": "f16"}
 *   {"seconds": 1.25, "engine": "llama.cpp"}          one repetition, warmed up; or {"error": "..."}
 *
 * Tests are ppN, tgN and rowsN (bench_kind). The command may keep model and cache between requests. It ends when its
 * standard input does. peer_llama.py --serve is one. */
#ifndef LF_BENCH_PEER_H
#define LF_BENCH_PEER_H

#include "bench.h"

typedef struct bench_peer bench_peer;

/* Starts the command with /bin/sh in a process group of its own. It inherits the calling thread's processors, so call it
 * before that thread is bound to one. LF_EIO, LF_ENOMEM. */
lf_status bench_peer_start(bench_peer **out, const char *command, const bench_hooks *hooks, lf_error *err);

/* Ends the process group; NULL is fine. */
void bench_peer_stop(bench_peer *p);

/* What the peer calls itself: "peer" until an answer said so. */
const char *bench_peer_name(const bench_peer *p);

typedef struct bench_request {
    const char *model; /* path */
    bench_test test;
    int depth, batch, threads;
    const char *kv_type;
} bench_request;

/* One repetition. LF_EIO when the peer has ended or is silent for an hour, LF_EFORMAT when the answer is not as above or
 * says that it cannot; LF_ECANCELED. */
lf_status bench_peer_time(bench_peer *p, const bench_request *request, double *seconds, lf_error *err);

#endif

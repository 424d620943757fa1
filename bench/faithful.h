/* Decoding as the published code of MagicDec does it (Infini-AI-Lab/MagicDec at 09cd671, tests/SnapKV/selfspec_benchmark.py and
 * tests/StreamingLLM/selfspec_benchmark.py), on this engine's kernels, cache and picks: what there is to gain over it is then the
 * method's, not the engine's.
 *
 *   * The draft has a cache of its own: a copy of some of each prompt's K/V, chosen once when the prompt has been read. Generated tokens
 *     are added to it and nothing leaves it.
 *       snap    for each layer and KV head the positions that the prompt's last 32 rows looked at most, and those rows. Verify passes
 *               put the exact K/V of what was accepted into the draft's cache, too.
 *       window  the first 16 positions and the last ones, of a second prefill under that window, moved together so that positions are
 *               those in the cache. What the draft wrote stays.
 *   * Every round drafts g tokens for every sequence, whatever came of it before.
 *   * With `window`, after a round in which any sequence had all of its candidates accepted, the first draft pass has two rows for
 *     every sequence: the last candidate has no K/V yet in the draft's cache; the others' second row is padding.
 *   * The batch ends as a whole, when any sequence has its tokens.
 *
 * Differences: snap selects whole tiles of 16 positions, not single ones (attention is known by tile here), and sampling works, since
 * candidates are accepted by the Pick law. Capturing draft passes into a graph has no meaning on a CPU. */
#ifndef LF_BENCH_FAITHFUL_H
#define LF_BENCH_FAITHFUL_H

#include "magicdec_lab.h"

typedef struct bench_faithful bench_faithful;

/* Pages of the pool that the settings of the options need for this at most. */
int bench_faithful_pages(const bench_lab *l);

/* One repetition: the subjects' sequences, which are started, read the rest of their prompts and decode until the first has its tokens.
 * The drafts' caches of a selection and budget are made when first needed, untimed. *draft_bytes is what they hold. */
lf_status bench_faithful_run(bench_lab *l, const bench_setting *setting, bench_run *run, double *draft_bytes,
                             lf_error *err);

void bench_faithful_close(bench_faithful *f); /* NULL is fine */

#endif

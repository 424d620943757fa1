#include "faithful.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SINK_POS = 16, PREFILL_ROWS = 128 };

/* The drafts' caches of a selection and budget, as the prompts leave them. */
typedef struct draft_cache {
    lf_selection selection;
    int n;            /* positions of each */
    lf_kv_seq **seqs; /* (batch) */
} draft_cache;

typedef struct scored_tile {
    float mass;
    int tile;
} scored_tile;

struct bench_faithful {
    bench_lab *l;
    draft_cache caches[BENCH_SETTINGS_MAX];
    int n_caches;
    /* while a cache is made: */
    float *mass;         /* (n_lists, stride) attention of a prompt's last rows by tile */
    scored_tile *scored; /* (stride) */
    int32_t *zeros;      /* (n_lists) a selection of the first tile everywhere */
    int *positions;      /* (n_prompt) that are copied, in the order of their slots */
    int stride;
    float *cos, *sin; /* (head_dim / 2) of the angles of the positions that copies are moved by */
    /* of a run: */
    lf_kv_seq **drafts; /* (batch) */
    int *ahead;         /* (batch) rows of the first draft pass before that of the last token: 0 or 1 */
    int *accepted;      /* (batch) of the last round */
    bool *lags;         /* (batch) the last candidate has no K/V in the draft's cache */
};

static int count_lists(const bench_lab *l)
{
    return l->shape.n_layers * l->shape.n_kv_heads;
}

static bool is_faithful(const bench_setting *s)
{
    return s->proposer == BENCH_FAITHFUL;
}

/* Positions of a setting's draft cache after the prompt. */
static int budget_of(const bench_lab *l, const bench_setting *s)
{
    const int budget = s->budget > 0 ? s->budget : bench_own_budget(l->n_prompt);
    return budget < l->n_prompt ? budget : l->n_prompt;
}

int bench_faithful_pages(const bench_lab *l)
{
    int n = 0;
    const int growth = bench_pages_of(l->o->n_tokens + 2 * LF_DRAFT_MAX);
    for (int i = 0; i < l->o->n_settings; i++)
        if (is_faithful(&l->o->settings[i])) n += l->batch * bench_pages_of(budget_of(l, &l->o->settings[i]));
    return n > 0 ? n + l->batch * growth + bench_pages_of(l->n_prompt) : 0;
}

/* ---- copying K/V ---- */

/* What turns K of a position into K of the position `shift` before it, since rotations add up. */
static void set_shift(bench_faithful *f, int shift)
{
    const int half = f->l->shape.layout.head_dim / 2;
    for (int i = 0; i < half; i++) {
        const double angle = -(double)shift * (double)f->l->model.rope_freqs[i];
        f->cos[i] = (float)cos(angle);
        f->sin[i] = (float)sin(angle);
    }
}

/* K and V of a slot, in one layer and head; `moves`: K is to be that of the position `shift` before. */
static void copy_slot(const bench_faithful *f, const lf_kv_seq *to, int to_pos, const lf_kv_seq *from,
                      int from_pos, int layer, int head, bool moves)
{
    const bench_lab *l = f->l;
    const lf_kv_layout *layout = &l->shape.layout;
    float k[LF_HEAD_DIM_MAX], v[LF_HEAD_DIM_MAX];
    lf_kv_tile_load(k, v, lf_kv_seq_tile(from, layer, head, from_pos / LF_TILE_POS), layout,
                    from_pos % LF_TILE_POS);
    if (moves) l->kernels.rope(k, f->cos, f->sin, 1, layout->head_dim);
    lf_kv_tile_store(lf_kv_seq_tile(to, layer, head, to_pos / LF_TILE_POS), layout, to_pos % LF_TILE_POS, k,
                     v);
}

/* ---- making a cache ---- */

static int compare_mass(const void *a, const void *b)
{
    const scored_tile *x = a, *y = b;
    return x->mass != y->mass ? (x->mass < y->mass ? 1 : -1) : x->tile - y->tile;
}

/* Lists n positions: those of the tiles with the most mass, best first, then the last ones. */
static void list_snap(bench_faithful *f, int n, const float *mass)
{
    const int n_prompt = f->l->n_prompt, n_tiles = (n_prompt - BENCH_LAST_ROWS) / LF_TILE_POS;
    const int n_last = n_prompt - n_tiles * LF_TILE_POS, n_top = n > n_last ? (n - n_last) / LF_TILE_POS : 0;
    int at = 0;
    for (int i = 0; i < n_tiles; i++) f->scored[i] = (scored_tile){mass[i], i};
    qsort(f->scored, (size_t)n_tiles, sizeof *f->scored, compare_mass);
    for (int i = 0; i < n_top; i++)
        for (int j = 0; j < LF_TILE_POS; j++) f->positions[at++] = f->scored[i].tile * LF_TILE_POS + j;
    while (at < n) { /* what is not a whole tile is the positions before the last ones */
        f->positions[at] = n_prompt - n + at;
        at++;
    }
}

static void list_window(bench_faithful *f, int n)
{
    for (int j = 0; j < n; j++) f->positions[j] = j < SINK_POS ? j : f->l->n_prompt - n + j;
}

/* Fills a draft's cache of n positions from a sequence. snap: whatever the slot, K stays what it is to the others and to what follows,
 * so all are moved alike; window: the sinks stay where they are. */
static void gather(bench_faithful *f, lf_selection selection, lf_kv_seq *to, int n, const lf_kv_seq *from)
{
    const lf_kv_shape *shape = &f->l->shape;
    if (selection == LF_SELECT_WINDOW) list_window(f, n);
    for (int layer = 0; layer < shape->n_layers; layer++)
        for (int head = 0; head < shape->n_kv_heads; head++) {
            if (selection != LF_SELECT_WINDOW)
                list_snap(f, n, f->mass + (size_t)(layer * shape->n_kv_heads + head) * (size_t)f->stride);
            for (int j = 0; j < n; j++)
                copy_slot(f, to, j, from, f->positions[j], layer, head,
                          selection != LF_SELECT_WINDOW || j >= SINK_POS);
        }
    lf_kv_seq_commit(to, n);
}

/* Reads positions begin to end of a prompt into a sequence, which holds those before. */
static lf_status read_rows(const bench_faithful *f, const bench_subject *s, lf_kv_seq *seq, int begin,
                           int end, const lf_view *view, float *mass, lf_error *err)
{
    const bench_lab *l = f->l;
    const lf_status status = lf_kv_seq_reserve(seq, end - begin, err);
    if (status != LF_OK) return status;
    for (int i = begin; i < end; i++)
        l->rows[i - begin] = (lf_row){
            .seq = seq, .view = view, .token = s->tokens[i], .pos = i, .mass = mass};
    lf_forward_run(l->forward, l->rows, end - begin);
    lf_kv_seq_commit(seq, end - begin);
    return l->hooks->canceled(l->hooks->cookie) ? lf_fail(err, LF_ECANCELED, "interrupted") : LF_OK;
}

/* The second prefill: the whole prompt, each chunk seeing the sinks and the last n positions. */
static lf_status read_under_window(const bench_faithful *f, const bench_subject *s, lf_kv_seq *seq, int n,
                                   lf_error *err)
{
    lf_status status = LF_OK;
    const int n_prompt = f->l->n_prompt;
    for (int begin = 0; begin < n_prompt && status == LF_OK; begin += PREFILL_ROWS) {
        const int end = begin + PREFILL_ROWS < n_prompt ? begin + PREFILL_ROWS : n_prompt;
        const lf_view view = {
            .recent_tile = (begin - (n - SINK_POS)) / LF_TILE_POS, .n_selected = 1, .selected = f->zeros};
        status = read_rows(f, s, seq, begin, end, view.recent_tile > 1 ? &view : NULL, NULL, err);
    }
    return status;
}

static lf_status make_draft(bench_faithful *f, draft_cache *cache, int i, lf_error *err)
{
    lf_status status = LF_OK;
    bench_lab *l = f->l;
    bench_subject *s = &l->subjects[i];
    lf_kv_seq *read = NULL;
    if (cache->selection == LF_SELECT_WINDOW) {
        LF_TRY(lf_kv_seq_open(&read, l->pool, l->n_prompt, err));
        LF_TRY(read_under_window(f, s, read, cache->n, err));
    } else {
        memset(f->mass, 0, (size_t)count_lists(l) * (size_t)f->stride * sizeof *f->mass);
        LF_TRY(lf_kv_seq_fork(&read, s->prompt, err));
        LF_TRY(read_rows(f, s, read, lf_kv_seq_len(read), l->n_prompt, NULL, f->mass, err));
    }
    LF_TRY(lf_kv_seq_open(&cache->seqs[i], l->pool, cache->n + l->o->n_tokens + 2 * LF_DRAFT_MAX, err));
    LF_TRY(lf_kv_seq_reserve(cache->seqs[i], cache->n, err));
    gather(f, cache->selection, cache->seqs[i], cache->n, read);
done:
    lf_kv_seq_close(read);
    return status;
}

static lf_status find_cache(bench_faithful *f, const bench_setting *setting, const draft_cache **out,
                            lf_error *err)
{
    lf_status status = LF_OK;
    const bench_lab *l = f->l;
    const int n = budget_of(l, setting);
    set_shift(f, l->n_prompt - n);
    for (int i = 0; i < f->n_caches; i++)
        if (f->caches[i].selection == setting->selection && f->caches[i].n == n) {
            *out = &f->caches[i];
            return LF_OK;
        }
    draft_cache *cache = &f->caches[f->n_caches++];
    *cache = (draft_cache){.selection = setting->selection, .n = n};
    cache->seqs = calloc((size_t)l->batch, sizeof(lf_kv_seq *));
    if (!cache->seqs) return lf_fail_memory(err, "draft caches", (size_t)l->batch * sizeof(lf_kv_seq *));
    for (int i = 0; i < l->batch; i++) {
        l->hooks->on_progress(l->hooks->cookie, "drafts' caches of the baseline", (double)i / l->batch);
        LF_TRY(make_draft(f, cache, i, err));
    }
    *out = cache;
done:
    return status;
}

/* ---- opening ---- */

static lf_status open_faithful(bench_lab *l, lf_error *err)
{
    const size_t batch = (size_t)l->batch, n_lists = (size_t)count_lists(l);
    const size_t half = (size_t)l->shape.layout.head_dim / 2 + 1;
    bench_faithful *f = l->faithful = calloc(1, sizeof *f);
    if (!f) return lf_fail_memory(err, "the faithful baseline", sizeof *f);
    f->l = l;
    f->stride = (bench_positions_of(l) + LF_TILE_POS - 1) / LF_TILE_POS;
    f->mass = calloc(n_lists * (size_t)f->stride, sizeof *f->mass);
    f->scored = calloc((size_t)f->stride, sizeof *f->scored);
    f->zeros = calloc(n_lists, sizeof *f->zeros);
    f->positions = calloc((size_t)l->n_prompt, sizeof *f->positions);
    f->cos = calloc(half, sizeof *f->cos);
    f->sin = calloc(half, sizeof *f->sin);
    f->drafts = calloc(batch, sizeof(lf_kv_seq *));
    f->ahead = calloc(batch, sizeof *f->ahead);
    f->accepted = calloc(batch, sizeof *f->accepted);
    f->lags = calloc(batch, sizeof *f->lags);
    if (f->mass && f->scored && f->zeros && f->positions && f->cos && f->sin && f->drafts && f->ahead &&
        f->accepted && f->lags)
        return lf_forward_enable_mass(l->forward, bench_positions_of(l), err);
    return lf_fail_memory(err, "the faithful baseline", n_lists * (size_t)f->stride * sizeof *f->mass);
}

void bench_faithful_close(bench_faithful *f)
{
    if (!f) return;
    for (int i = 0; i < f->n_caches; i++) {
        for (int j = 0; f->caches[i].seqs && j < f->l->batch; j++) lf_kv_seq_close(f->caches[i].seqs[j]);
        free(f->caches[i].seqs);
    }
    free(f->mass);
    free(f->scored);
    free(f->zeros);
    free(f->positions);
    free(f->cos);
    free(f->sin);
    free(f->drafts);
    free(f->ahead);
    free(f->accepted);
    free(f->lags);
    free(f);
}

/* ---- a run ---- */

static lf_status check_pick(int32_t id, lf_error *err)
{
    return id >= 0 ? LF_OK : lf_fail(err, LF_EFORMAT, "the logits are not finite");
}

/* Forks everything and reads the last rows of all prompts, which give each output its first token. */
static lf_status start_run(bench_faithful *f, const draft_cache *cache, const bench_setting *setting,
                           lf_error *err)
{
    lf_status status = LF_OK;
    bench_lab *l = f->l;
    const int n = l->n_prompt, first = n - BENCH_LAST_ROWS;
    lf_row *row = l->rows;
    for (int i = 0; i < l->batch; i++) {
        bench_subject *s = &l->subjects[i];
        f->lags[i] = false;
        LF_TRY(bench_subject_start(l, s, setting, err));
        LF_TRY(lf_kv_seq_fork(&f->drafts[i], cache->seqs[i], err));
        LF_TRY(lf_kv_seq_reserve(s->seq.kv, BENCH_LAST_ROWS, err));
        for (int pos = first; pos < n; pos++)
            *row++ = (lf_row){
                .seq = s->seq.kv, .token = s->tokens[pos], .pos = pos, .wants_logits = pos == n - 1};
    }
    lf_forward_run(l->forward, l->rows, l->batch * BENCH_LAST_ROWS);
    for (int i = 0; i < l->batch; i++) {
        bench_subject *s = &l->subjects[i];
        lf_kv_seq_commit(s->seq.kv, BENCH_LAST_ROWS);
        s->tokens[n] = lf_pick(l->picker, lf_forward_logits(l->forward, i), s->tokens, n, &s->seq.pick);
        LF_TRY(check_pick(s->tokens[n], err));
        s->seq.tokens.len++;
        s->n_output = 1;
    }
done:
    return status;
}

/* Rows of the draft pass of a place (0 ..): one for each sequence, or two where one has a candidate to make up for. Returns how many. */
static int draft_rows(bench_faithful *f, int place)
{
    bench_lab *l = f->l;
    bool double_rows = false;
    int n = 0;
    for (int i = 0; i < l->batch; i++) double_rows = double_rows || (place == 0 && f->lags[i]);
    for (int i = 0; i < l->batch; i++) {
        const bench_subject *s = &l->subjects[i];
        lf_kv_seq *seq = f->drafts[i];
        const int32_t *last = s->tokens + s->seq.tokens.len - 1;
        const int pos = lf_kv_seq_len(seq);
        if (place == 0) f->ahead[i] = f->lags[i];
        if (place == 0 && f->ahead[i]) l->rows[n++] = (lf_row){.seq = seq, .token = last[-1], .pos = pos};
        l->rows[n++] = (lf_row){
            .seq = seq, .token = last[place], .pos = pos + f->ahead[i] + place, .wants_logits = true};
        if (double_rows && !f->ahead[i]) l->rows[n++] = (lf_row){.seq = seq, .pos = pos + 1}; /* padding */
    }
    return n;
}

static lf_status draft(bench_faithful *f, int g, lf_error *err)
{
    lf_status status = LF_OK;
    bench_lab *l = f->l;
    for (int i = 0; i < l->batch; i++) LF_TRY(lf_kv_seq_reserve(f->drafts[i], g + 2, err));
    for (int place = 0; place < g; place++) {
        lf_forward_run(l->forward, l->rows, draft_rows(f, place));
        for (int i = 0; i < l->batch; i++) {
            bench_subject *s = &l->subjects[i];
            const int n = (int)s->seq.tokens.len + place;
            s->tokens[n] = lf_pick(l->picker, lf_forward_logits(l->forward, i), s->tokens, n, &s->seq.pick);
            LF_TRY(check_pick(s->tokens[n], err));
        }
    }
done:
    return status;
}

static lf_status verify(const bench_faithful *f, int g, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_lab *l = f->l;
    lf_row *row = l->rows;
    for (int i = 0; i < l->batch; i++) {
        const bench_subject *s = &l->subjects[i];
        const int len = lf_kv_seq_len(s->seq.kv);
        LF_TRY(lf_kv_seq_reserve(s->seq.kv, g + 1, err));
        for (int j = 0; j <= g; j++)
            *row++ = (lf_row){
                .seq = s->seq.kv, .token = s->tokens[len + j], .pos = len + j, .wants_logits = true};
    }
    lf_forward_run(l->forward, l->rows, l->batch * (g + 1));
done:
    return status;
}

/* Accepts the candidates that equal the picks, and one pick more. */
static lf_status accept(bench_faithful *f, int g, bench_run *run, lf_error *err)
{
    lf_status status = LF_OK;
    bench_lab *l = f->l;
    for (int i = 0; i < l->batch; i++) {
        bench_subject *s = &l->subjects[i];
        const int n = (int)s->seq.tokens.len;
        int a = 0;
        for (;; a++) {
            const int32_t id = lf_pick(l->picker, lf_forward_logits(l->forward, i * (g + 1) + a), s->tokens,
                                       n + a, &s->seq.pick);
            LF_TRY(check_pick(id, err));
            const bool right = a < g && id == s->tokens[n + a];
            s->tokens[n + a] = id;
            if (!right) break;
        }
        f->accepted[i] = a;
        s->seq.tokens.len += (size_t)a + 1;
        s->n_output += a + 1;
        s->n_timed += a + 1;
        run->n_timed += a + 1;
        bench_run_count(run, g, a);
    }
done:
    return status;
}

/* Moves both caches on; snap puts the exact K/V into the draft's. */
static void commit(bench_faithful *f, lf_selection selection, int g)
{
    const bench_lab *l = f->l;
    for (int i = 0; i < l->batch; i++) {
        lf_kv_seq *target = l->subjects[i].seq.kv, *seq = f->drafts[i];
        const int a = f->accepted[i], from = lf_kv_seq_len(target), to = lf_kv_seq_len(seq);
        lf_kv_seq_commit(target, a + 1);
        if (selection == LF_SELECT_WINDOW) {
            lf_kv_seq_commit(seq, f->ahead[i] + (a < g ? a + 1 : g));
            f->lags[i] = a == g;
            continue;
        }
        for (int layer = 0; layer < l->shape.n_layers; layer++)
            for (int head = 0; head < l->shape.n_kv_heads; head++)
                for (int j = 0; j <= a; j++) copy_slot(f, seq, to + j, target, from + j, layer, head, true);
        lf_kv_seq_commit(seq, a + 1);
    }
}

static bool has_ended(const bench_lab *l)
{
    for (int i = 0; i < l->batch; i++)
        if (l->subjects[i].n_output >= l->o->n_tokens) return true;
    return false;
}

static lf_status run_round(bench_faithful *f, const bench_setting *setting, bench_run *run, lf_error *err)
{
    lf_status status = LF_OK;
    const int g = setting->g;
    const int64_t start = lf_clock_ns();
    LF_TRY(draft(f, g, err));
    const int64_t drafted = lf_clock_ns();
    LF_TRY(verify(f, g, err));
    const int64_t verified = lf_clock_ns();
    LF_TRY(accept(f, g, run, err));
    const int64_t accepted = lf_clock_ns();
    commit(f, setting->selection, g);
    run->propose += (double)(drafted - start + lf_clock_ns() - accepted) * 1e-9;
    run->forward += (double)(verified - drafted) * 1e-9;
    run->pick += (double)(accepted - verified) * 1e-9;
    if (f->l->hooks->canceled(f->l->hooks->cookie)) status = lf_fail(err, LF_ECANCELED, "interrupted");
done:
    return status;
}

lf_status bench_faithful_run(bench_lab *l, const bench_setting *setting, bench_run *run, double *draft_bytes,
                             lf_error *err)
{
    lf_status status = LF_OK;
    const draft_cache *cache = NULL;
    size_t page_bytes = 0;
    if (!l->faithful) LF_TRY(open_faithful(l, err));
    bench_faithful *f = l->faithful;
    LF_TRY(find_cache(f, setting, &cache, err));
    LF_TRY(start_run(f, cache, setting, err));
    const int64_t start = lf_clock_ns();
    while (!has_ended(l)) LF_TRY(run_round(f, setting, run, err));
    run->seconds = (double)(lf_clock_ns() - start) * 1e-9;
    for (int i = 0; i < l->batch; i++) l->subjects[i].seconds = run->seconds;
    (void)lf_kv_page_bytes(&l->shape, &page_bytes);
    *draft_bytes = (double)page_bytes * l->batch *
                   ((cache->n + l->o->n_tokens + LF_PAGE_POS - 1) / LF_PAGE_POS);
done:
    for (int i = 0; l->faithful && l->faithful->drafts && i < l->batch; i++) {
        lf_kv_seq_close(l->faithful->drafts[i]);
        l->faithful->drafts[i] = NULL;
    }
    return status;
}

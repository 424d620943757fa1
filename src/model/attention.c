/* The attention phase of a pass. A unit of work is (rows of a run, KV head), or, where there are too few of those to keep the
 * threads busy, (rows of a run, KV head, segment of positions). A row's state is that of each segment merged in order, whoever
 * computed it: the Row law. */
#include "model/forward_int.h"

#include "kernel/exp.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The tiles that a row sees in one layer and KV head, counted through its view: selected ones, then recent ones. */
typedef struct tile_list {
    const lf_kv_seq *seq;
    const int32_t *selected; /* (n_selected) */
    int n_selected, recent_tile;
    int i_layer, i_head;
} tile_list;

/* Rows [begin, end) of one run against one KV head: queries are (row, head of the group), rows outermost. */
typedef struct unit {
    tile_list list;
    int begin, end, group, n_q, n_pos; /* n_pos: positions of the list that its last row sees */
} unit;

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static int div_up(int a, int b)
{
    return (a + b - 1) / b;
}

static tile_list tiles_of(const lf_forward *f, const lf_row *row, int i_layer, int i_head)
{
    tile_list list = {.seq = row->seq, .i_layer = i_layer, .i_head = i_head};
    if (row->view) {
        list.recent_tile = row->view->recent_tile;
        list.n_selected = row->view->n_selected;
        list.selected = row->view->selected +
                        ((size_t)i_layer * (size_t)f->model->config.n_kv_heads + (size_t)i_head) *
                            (size_t)list.n_selected;
    }
    return list;
}

/* How many positions of its view a row sees: all before its own tile, and up to itself in that. */
static int visible_positions(const lf_row *row)
{
    const int n_before = row->view ? row->view->n_selected - row->view->recent_tile : 0;
    return (n_before + row->pos / LF_TILE_POS) * LF_TILE_POS + row->pos % LF_TILE_POS + 1;
}

static void gather_tiles(const void *tiles[LF_SEGMENT_TILES], const tile_list *list, int first, int n)
{
    for (int i = 0; i < n; i++) {
        const int j = first + i;
        const int tile = j < list->n_selected ? list->selected[j] : list->recent_tile + j - list->n_selected;
        tiles[i] = lf_kv_seq_tile(list->seq, list->i_layer, list->i_head, tile);
    }
}

/* The head, of all query heads, of query i. */
static size_t head_of(const unit *u, int i)
{
    return (size_t)(u->list.i_head * u->group + i % u->group);
}

/* Makes a unit and gathers its queries. */
static unit open_unit(const lf_forward *f, lf_forward_thread *t, int i_layer, int i_head, int begin, int end)
{
    const lf_config *c = &f->model->config;
    const int group = c->n_heads / c->n_kv_heads;
    const unit u = {.list = tiles_of(f, &f->rows[begin], i_layer, i_head),
                    .begin = begin,
                    .end = end,
                    .group = group,
                    .n_q = (end - begin) * group,
                    .n_pos = visible_positions(&f->rows[end - 1])};
    for (int i = 0; i < u.n_q; i++) {
        const size_t at = (size_t)(begin + i / group) * (size_t)c->n_heads + head_of(&u, i);
        memcpy(t->q + (size_t)i * f->q_stride, f->q_act + at * f->q_stride, f->q_stride);
    }
    return u;
}

/* The state of the unit's queries over one segment. mass (its tiles from the first of the segment on) may be NULL. */
static void attend_segment(const lf_forward *f, lf_forward_thread *t, const unit *u, int i_segment,
                           const lf_attend_state *state, const lf_attend_mass *mass)
{
    const void *tiles[LF_SEGMENT_TILES];
    const size_t width = (size_t)f->layout.dim_padded;
    const int first = i_segment * LF_SEGMENT_POS;
    const int n_tiles = min_int(div_up(u->n_pos - first, LF_TILE_POS), LF_SEGMENT_TILES);
    gather_tiles(tiles, &u->list, i_segment * LF_SEGMENT_TILES, n_tiles);
    for (int i = 0; i < u->n_q; i++) {
        const int visible = visible_positions(&f->rows[u->begin + i / u->group]) - first;
        t->n_visible[i] = visible < 0 ? 0 : min_int(visible, n_tiles * LF_TILE_POS);
        state->m[i] = -INFINITY;
        state->l[i] = 0.0f;
    }
    memset(state->o, 0, (size_t)u->n_q * width * sizeof *state->o);
    f->kernels->attend[f->layout.dtype](state->o, width, state->m, state->l, &f->layout, tiles, n_tiles, t->q,
                                        f->q_stride, t->n_visible, u->n_q,
                                        1.0f / sqrtf((float)f->model->config.head_dim), mass, t->scratch);
}

static void clear_state(const lf_forward *f, const lf_attend_state *state, int n_q)
{
    memset(state->o, 0, (size_t)n_q * (size_t)f->layout.dim_padded * sizeof *state->o);
    for (int i = 0; i < n_q; i++) {
        state->m[i] = -INFINITY;
        state->l[i] = 0.0f;
    }
}

/* Query i of `state` takes in query j of a later segment's. */
static void merge_query(const lf_forward *f, const lf_attend_state *state, int i,
                        const lf_attend_state *segment, size_t j)
{
    const size_t width = (size_t)f->layout.dim_padded;
    f->kernels->attend_merge(state->o + (size_t)i * width, &state->m[i], &state->l[i], segment->o + j * width,
                             segment->m[j], segment->l[j], f->layout.dim_padded);
}

/* The attention output of the unit's rows, o / l, into the form that attn_output takes (or as floats into `att`). */
static void finish_unit(const lf_forward *f, lf_forward_thread *t, const unit *u, int i_layer)
{
    const lf_config *c = &f->model->config;
    const lf_packed *w = &f->model->layers[i_layer].attn_output;
    const lf_act act = lf_act_for(w->dtype);
    const int head_dim = c->head_dim, n = u->group * head_dim, first = u->list.i_head * n;
    const size_t width = (size_t)f->layout.dim_padded;
    for (int r = u->begin; r < u->end; r++) {
        float *att = f->heads_fit_act ? t->row : f->att + (size_t)r * (size_t)w->n_in + first;
        for (int g = 0; g < u->group; g++) {
            const size_t i = (size_t)((r - u->begin) * u->group + g);
            f->kernels->attend_finish(att + g * head_dim, t->all.o + i * width, t->all.l[i], head_dim);
        }
        if (f->heads_fit_act)
            f->kernels->act_part[act](f->in.rows[act] + (size_t)r * f->in.stride[act], w->n_in, att, first,
                                      n);
    }
}

/* ---- mass ---- */

/* The part of a thread's mass from the first tile of a segment on, cleared. */
static lf_attend_mass open_mass(const lf_forward_thread *t, const unit *u, int i_segment)
{
    lf_attend_mass mass = t->mass;
    mass.sum += i_segment * LF_SEGMENT_TILES;
    mass.max += i_segment * (LF_SEGMENT_TILES / LF_ATTN_TILES);
    const int n_tiles = min_int(div_up(u->n_pos, LF_TILE_POS) - i_segment * LF_SEGMENT_TILES,
                                LF_SEGMENT_TILES);
    for (int i = 0; i < u->n_q; i++) {
        memset(mass.sum + (size_t)i * mass.sum_stride, 0, (size_t)n_tiles * sizeof *mass.sum);
        for (int b = 0; b < div_up(n_tiles, LF_ATTN_TILES); b++)
            mass.max[(size_t)i * mass.max_stride + (size_t)b] = -INFINITY;
    }
    return mass;
}

/* Adds the shares of the tiles in the attention of the unit's rows that want it. */
static void close_mass(const lf_forward *f, const lf_forward_thread *t, const unit *u)
{
    const lf_config *c = &f->model->config;
    const int n_tiles = div_up(u->n_pos, LF_TILE_POS);
    for (int i = 0; i < u->n_q; i++) {
        float *out = f->rows[u->begin + i / u->group].mass;
        if (!out) continue;
        out += ((size_t)u->list.i_layer * (size_t)c->n_kv_heads + (size_t)u->list.i_head) *
               (size_t)f->mass_tiles;
        const float *sum = t->mass.sum + (size_t)i * t->mass.sum_stride;
        const float *max = t->mass.max + (size_t)i * t->mass.max_stride;
        for (int first = 0; first < n_tiles; first += LF_ATTN_TILES) {
            const float share = lf_exp(max[first / LF_ATTN_TILES] - t->all.m[i]) / t->all.l[i];
            for (int j = first; j < min_int(first + LF_ATTN_TILES, n_tiles); j++) out[j] += sum[j] * share;
        }
    }
}

/* ---- the phase ---- */

/* Rows of a unit at most. */
static int rows_of_unit(const lf_forward *f)
{
    return LF_QUERIES_MAX / (f->model->config.n_heads / f->model->config.n_kv_heads);
}

static bool wants_mass(const lf_forward *f, int begin, int end)
{
    for (int r = begin; r < end; r++)
        if (f->rows[r].mass) return true;
    return false;
}

/* All segments, one after the other. A single one needs no merging: the first merge changes nothing but the sign of zeros, which
 * attend_finish takes away in any case. */
static void attend_whole(const lf_forward *f, lf_forward_thread *t, int i_layer, int i_head, int begin,
                         int end)
{
    const unit u = open_unit(f, t, i_layer, i_head, begin, end);
    const bool mass = wants_mass(f, begin, end);
    const int n_segments = div_up(u.n_pos, LF_SEGMENT_POS);
    if (n_segments > 1) clear_state(f, &t->all, u.n_q);
    for (int s = 0; s < n_segments; s++) {
        const lf_attend_mass segment_mass = mass ? open_mass(t, &u, s) : (lf_attend_mass){0};
        attend_segment(f, t, &u, s, n_segments > 1 ? &t->segment : &t->all, mass ? &segment_mass : NULL);
        for (int i = 0; n_segments > 1 && i < u.n_q; i++) merge_query(f, &t->all, i, &t->segment, (size_t)i);
    }
    if (mass) close_mass(f, t, &u);
    finish_unit(f, t, &u, i_layer);
}

/* All rows of a run against one KV head. Units that want mass add to one array, so one thread takes them together. */
static void attend_run(const lf_forward *f, lf_forward_thread *t, int i_layer, int i_head, const lf_run *r)
{
    const int rows = rows_of_unit(f);
    for (int begin = r->begin; begin < r->end; begin += rows)
        attend_whole(f, t, i_layer, i_head, begin, min_int(begin + rows, r->end));
}

/* Calls for units are numbered through runs, parts of a run, and KV heads; a part is what the callback says. */
static void attend_units(const lf_forward *f, int i_thread, int i_layer)
{
    const lf_config *c = &f->model->config;
    lf_forward_thread *t = &f->scratch[i_thread];
    const int rows = rows_of_unit(f);
    int i_unit = lf_threads_take(f->threads, 1), base = 0;
    for (int i = 0; i < f->n_runs; i++) {
        const lf_run *r = &f->runs[i];
        const bool together = f->has_mass && wants_mass(f, r->begin, r->end);
        const int n_units = (together ? 1 : div_up(r->end - r->begin, rows)) * c->n_kv_heads;
        for (; i_unit < base + n_units; i_unit = lf_threads_take(f->threads, 1)) {
            const int i_head = (i_unit - base) % c->n_kv_heads,
                      begin = r->begin + (i_unit - base) / c->n_kv_heads * rows;
            if (together)
                attend_run(f, t, i_layer, i_head, r);
            else
                attend_whole(f, t, i_layer, i_head, begin, min_int(begin + rows, r->end));
        }
        base += n_units;
    }
}

/* ---- split by segments ---- */

static int segments_of(const lf_forward *f, const lf_run *r)
{
    return div_up(visible_positions(&f->rows[r->end - 1]), LF_SEGMENT_POS);
}

/* Where the states of a unit's segment lie in `parts`: first is the run's first (row, segment) pair. */
static size_t part_at(const lf_forward *f, const unit *u, const lf_run *r, int first, int i_segment, int i)
{
    const int pair = first + i_segment * (r->end - r->begin) + u->begin - r->begin + i / u->group;
    return (size_t)pair * (size_t)f->model->config.n_heads + head_of(u, i);
}

static void attend_part(const lf_forward *f, lf_forward_thread *t, int i_layer, int i_head, const lf_run *r,
                        int first, int i_segment)
{
    const size_t width = (size_t)f->layout.dim_padded;
    const unit u = open_unit(f, t, i_layer, i_head, r->begin, r->end);
    attend_segment(f, t, &u, i_segment, &t->segment, NULL);
    for (int i = 0; i < u.n_q; i++) {
        const size_t at = part_at(f, &u, r, first, i_segment, i);
        memcpy(f->parts.o + at * width, t->segment.o + (size_t)i * width, width * sizeof *f->parts.o);
        f->parts.m[at] = t->segment.m[i];
        f->parts.l[at] = t->segment.l[i];
    }
}

static void merge_parts(const lf_forward *f, lf_forward_thread *t, int i_layer, int i_head, const lf_run *r,
                        int first)
{
    const unit u = open_unit(f, t, i_layer, i_head, r->begin, r->end);
    clear_state(f, &t->all, u.n_q);
    for (int s = 0; s < segments_of(f, r); s++)
        for (int i = 0; i < u.n_q; i++) merge_query(f, &t->all, i, &f->parts, part_at(f, &u, r, first, s, i));
    finish_unit(f, t, &u, i_layer);
}

/* Two rounds of units: (run, segment, KV head), then, when all are done, (run, KV head). */
static void attend_split(const lf_forward *f, int i_thread, int i_layer, bool merges)
{
    const int n_heads = f->model->config.n_kv_heads;
    lf_forward_thread *t = &f->scratch[i_thread];
    int i_unit = lf_threads_take(f->threads, 1), base = 0, first = 0;
    for (int i = 0; i < f->n_runs; i++) {
        const lf_run *r = &f->runs[i];
        const int n_segments = segments_of(f, r), n_units = (merges ? 1 : n_segments) * n_heads;
        for (; i_unit < base + n_units; i_unit = lf_threads_take(f->threads, 1)) {
            const int i_head = (i_unit - base) % n_heads, i_segment = (i_unit - base) / n_heads;
            if (merges)
                merge_parts(f, t, i_layer, i_head, r, first);
            else
                attend_part(f, t, i_layer, i_head, r, first, i_segment);
        }
        base += n_units;
        first += n_segments * (r->end - r->begin);
    }
    lf_threads_barrier(f->threads);
}

void lf_forward_plan_attention(lf_forward *f)
{
    enum { ENOUGH_UNITS = 6 }; /* for each thread: then none waits long for the last */
    const int rows = rows_of_unit(f), n_heads = f->model->config.n_kv_heads;
    int n_units = 0, n_parts = 0, longest = 0;
    f->has_mass = wants_mass(f, 0, f->n_rows);
    for (int i = 0; i < f->n_runs; i++) {
        const lf_run *r = &f->runs[i];
        const int n_rows = r->end - r->begin;
        n_units += div_up(n_rows, rows) * n_heads;
        n_parts += segments_of(f, r) * n_rows;
        if (n_rows > longest) longest = n_rows;
    }
    f->split = !f->has_mass && lf_threads_count(f->threads) > 1 && longest <= rows &&
               n_parts <= LF_PARTS_MAX && n_parts > f->n_rows &&
               n_units < ENOUGH_UNITS * lf_threads_count(f->threads);
}

void lf_forward_attend(const lf_forward *f, int i_thread, int i_layer)
{
    if (f->split) {
        attend_split(f, i_thread, i_layer, false);
        attend_split(f, i_thread, i_layer, true);
    } else {
        attend_units(f, i_thread, i_layer);
        lf_threads_barrier(f->threads);
    }
    if (f->heads_fit_act) return;
    const lf_packed *w = &f->model->layers[i_layer].attn_output;
    for (int r; (r = lf_threads_take(f->threads, 1)) < f->n_rows;)
        lf_forward_convert_row(f, &f->in, w, r, f->att + (size_t)r * (size_t)w->n_in);
    lf_threads_barrier(f->threads);
}

/* The machine (machine.h). Simulation of all readings at once as Thompson's of an NFA (CACM 11(6), 1968), with a stack for each
 * that is shared as far as it is equal, and with states remembered as in lazily built DFAs. */
#include "grammar/machine.h"

#include "base/carve.h"
#include "token/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    NO_FRAME = 0,         /* around the root */
    PUSHES_MAX = 1 << 13, /* frames opened in one step */
    VISITS_MAX = 1 << 13, /* rules and choices entered in one step */
    /* Two states with all their frames must fit beside what one step adds. */
    READINGS_CAP = 1 << 17,
    FRAMES_CAP = 2 * LF_READINGS_MAX * LF_EXPR_DEPTH_MAX + 2 * PUSHES_MAX,
    FRAME_SLOTS = 1 << 18,
    STATE_SLOTS = 2 * LF_STATES_MAX,
    VISIT_SLOTS = 2 * VISITS_MAX,
    SEEN_SLOTS = 4 * LF_READINGS_MAX,
};
_Static_assert(FRAME_SLOTS >= 2 * FRAMES_CAP, "the table of frames stays half empty");

typedef struct frame {
    uint32_t parent, expr;
    uint32_t at; /* the part of a sequence that is being read; the parts of a repetition that were */
    uint32_t depth;
} frame;

typedef struct reading {
    uint32_t expr;  /* a dfa or a literal */
    uint32_t at;    /* its state; the bytes read */
    uint32_t frame; /* around it */
} reading;

typedef struct state {
    uint32_t first, n; /* readings[first .. first + n) */
    bool may_end;
} state;

/* An entry of a set that is emptied by moving `mark` on. */
typedef struct seen {
    uint64_t key;
    uint32_t mark;
} seen;

struct lf_machine {
    const lf_exprs *exprs;
    uint32_t epoch;
    frame *frames;       /* (FRAMES_CAP) a frame's parent comes before it */
    uint32_t *completed; /* (FRAMES_CAP) the mark of the step that completed the part of a frame */
    uint32_t *frame_slots;
    reading *readings;
    state *states;
    uint16_t *next; /* (LF_STATES_MAX, 256) */
    uint16_t *state_slots;
    uint32_t n_frames, n_readings, n_states;

    /* the step at hand */
    reading *list; /* (LF_READINGS_MAX) */
    uint32_t n_list, n_pushes, n_visits, mark;
    bool may_end;
    seen *visits;         /* (VISIT_SLOTS) expressions entered in a frame */
    uint32_t *list_slots; /* (SEEN_SLOTS) readings of the list + 1, or 0 */
    uint32_t *renamed;    /* (FRAMES_CAP) of recycle */
};

static void carve_machine(lf_machine *m, carver *c)
{
    m->frames = carve(c, FRAMES_CAP, sizeof *m->frames);
    m->completed = carve(c, FRAMES_CAP, sizeof *m->completed);
    m->frame_slots = carve(c, FRAME_SLOTS, sizeof *m->frame_slots);
    m->readings = carve(c, READINGS_CAP + 2 * LF_READINGS_MAX, sizeof *m->readings);
    m->states = carve(c, LF_STATES_MAX, sizeof *m->states);
    m->next = carve(c, (size_t)LF_STATES_MAX * 256, sizeof *m->next);
    m->state_slots = carve(c, STATE_SLOTS, sizeof *m->state_slots);
    m->list = carve(c, LF_READINGS_MAX, sizeof *m->list);
    m->visits = carve(c, VISIT_SLOTS, sizeof *m->visits);
    m->list_slots = carve(c, SEEN_SLOTS, sizeof *m->list_slots);
    m->renamed = carve(c, FRAMES_CAP, sizeof *m->renamed);
}

/* ---- frames ---- */

static uint64_t hash_frame(const frame *f)
{
    return lf_hash_mix(lf_hash_mix((uint64_t)f->parent << 32 | f->expr) ^ f->at);
}

static uint32_t *frame_slot(lf_machine *m, const frame *f)
{
    size_t at = (size_t)hash_frame(f);
    for (;; at++) {
        uint32_t *slot = &m->frame_slots[at & (FRAME_SLOTS - 1)];
        const frame *known = &m->frames[*slot];
        if (*slot == NO_FRAME || (known->parent == f->parent && known->expr == f->expr && known->at == f->at))
            return slot;
    }
}

/* The frame of an expression inside another; NO_FRAME when this step has opened too many. */
static uint32_t open_frame(lf_machine *m, uint32_t parent, uint32_t expr, uint32_t at)
{
    const frame f = {parent, expr, at, m->frames[parent].depth + 1};
    if (m->n_pushes++ >= PUSHES_MAX) return NO_FRAME;
    uint32_t *slot = frame_slot(m, &f);
    if (*slot == NO_FRAME) {
        assert(m->n_frames < FRAMES_CAP);
        m->frames[m->n_frames] = f;
        *slot = m->n_frames++;
    }
    return *slot;
}

/* ---- the readings of a step ---- */

static void add_reading(lf_machine *m, reading r)
{
    size_t at = (size_t)lf_hash_mix(lf_hash_mix((uint64_t)r.expr << 32 | r.at) ^ r.frame);
    if (m->n_list == LF_READINGS_MAX) return;
    for (;; at++) {
        uint32_t *slot = &m->list_slots[at & (SEEN_SLOTS - 1)];
        if (*slot == 0) {
            m->list[m->n_list++] = r;
            *slot = m->n_list;
            return;
        }
        const reading *known = &m->list[*slot - 1];
        if (known->expr == r.expr && known->at == r.at && known->frame == r.frame) return;
    }
}

/* Whether this step enters the expression in the frame for the first time. Past the limit it says no: like the limit of readings,
 * that leaves ways out. */
static bool visit(lf_machine *m, uint32_t expr, uint32_t in)
{
    const uint64_t key = (uint64_t)expr << 32 | in;
    for (size_t at = (size_t)lf_hash_mix(key);; at++) {
        seen *s = &m->visits[at & (VISIT_SLOTS - 1)];
        if (s->mark == m->mark && s->key == key) return false;
        if (s->mark == m->mark) continue;
        if (m->n_visits++ >= VISITS_MAX) return false;
        *s = (seen){key, m->mark};
        return true;
    }
}

static void enter(lf_machine *m, uint32_t i_expr, uint32_t in);

/* The parts of a sequence from `at` on. */
static void enter_part(lf_machine *m, uint32_t i_expr, uint32_t at, uint32_t in)
{
    const lf_expr *x = &m->exprs->items[i_expr];
    const uint32_t part = (uint32_t)m->exprs->parts.data[x->first + at];
    const uint32_t inner = at + 1 < x->n ? open_frame(m, in, i_expr, at)
                                         : in; /* nothing comes after the last */
    if (at + 1 == x->n || inner != NO_FRAME) enter(m, part, inner);
}

/* The next part of a repetition, `at` of which have been read. */
static void enter_next(lf_machine *m, uint32_t i_expr, uint32_t at, uint32_t in)
{
    const lf_expr *x = &m->exprs->items[i_expr];
    const bool is_last = at + 1 == x->max;
    const uint32_t inner = is_last ? in : open_frame(m, in, i_expr, at);
    if (is_last || inner != NO_FRAME) enter(m, x->first, inner);
}

/* The part of a frame has been read; with NO_FRAME, everything has. */
static void complete(lf_machine *m, uint32_t i_frame)
{
    if (i_frame == NO_FRAME) {
        m->may_end = true;
        return;
    }
    if (m->completed[i_frame] == m->mark) return;
    m->completed[i_frame] = m->mark;
    const frame f = m->frames[i_frame];
    const lf_expr *x = &m->exprs->items[f.expr];
    if (x->kind == LF_EXPR_SEQUENCE) {
        enter_part(m, f.expr, f.at + 1, f.parent);
        return;
    }
    /* without an upper bound there is nothing to count beyond the lower one */
    const uint32_t at = x->max == LF_EXPR_UNBOUNDED && f.at + 1 > x->min ? x->min : f.at + 1;
    if (at >= x->min) complete(m, f.parent);
    enter_next(m, f.expr, at, f.parent);
}

static void enter(lf_machine *m, uint32_t i_expr, uint32_t in)
{
    const lf_exprs *e = m->exprs;
    const lf_expr *x = &e->items[i_expr];
    if (x->need + m->frames[in].depth > LF_EXPR_DEPTH_MAX || m->n_list == LF_READINGS_MAX) return;
    switch (x->kind) {
    case LF_EXPR_DFA:
        if (e->dfas[x->first].accepts[0]) complete(m, in);
        if (e->dfas[x->first].goes_on[0]) add_reading(m, (reading){i_expr, 0, in});
        return;
    case LF_EXPR_LITERAL: add_reading(m, (reading){i_expr, 0, in}); return;
    case LF_EXPR_SEQUENCE:
        if (x->n == 0)
            complete(m, in);
        else
            enter_part(m, i_expr, 0, in);
        return;
    case LF_EXPR_CHOICE:
        if (!visit(m, i_expr, in)) return;
        for (uint32_t i = 0; i < x->n; i++) enter(m, (uint32_t)e->parts.data[x->first + i], in);
        return;
    case LF_EXPR_REPEAT:
        if (x->min == 0) complete(m, in);
        /* that none is needed says nothing of what one needs */
        if (e->items[x->first].need + (x->max > 1) + m->frames[in].depth <= LF_EXPR_DEPTH_MAX)
            enter_next(m, i_expr, 0, in);
        return;
    case LF_EXPR_RULE:
        if (visit(m, i_expr, in)) enter(m, x->first, in);
        return;
    }
}

static void begin_list(lf_machine *m)
{
    memset(m->list_slots, 0, SEEN_SLOTS * sizeof *m->list_slots);
    m->n_list = m->n_pushes = m->n_visits = 0;
    m->may_end = false;
    m->mark++;
}

static void read_byte(lf_machine *m, const reading *r, uint8_t byte)
{
    const lf_expr *x = &m->exprs->items[r->expr];
    if (x->kind == LF_EXPR_LITERAL) {
        if ((uint8_t)m->exprs->text.data[x->first + r->at] != byte) return;
        if (r->at + 1 == x->n)
            complete(m, r->frame);
        else
            add_reading(m, (reading){r->expr, r->at + 1, r->frame});
        return;
    }
    const lf_dfa *d = &m->exprs->dfas[x->first];
    const uint16_t next = lf_dfa_next(d, (uint16_t)r->at, byte);
    if (next == LF_DFA_DEAD) return;
    if (d->accepts[next]) complete(m, r->frame);
    if (d->goes_on[next]) add_reading(m, (reading){r->expr, next, r->frame});
}

/* ---- states ---- */

static uint16_t *state_slot(lf_machine *m, const reading *list, uint32_t n, bool may_end)
{
    size_t at = (size_t)lf_hash_bytes((const char *)list, n * sizeof *list) + may_end;
    for (;; at++) {
        uint16_t *slot = &m->state_slots[at & (STATE_SLOTS - 1)];
        const state *known = &m->states[*slot];
        if (*slot == LF_STATE_UNKNOWN || (known->n == n && known->may_end == may_end &&
                                          memcmp(m->readings + known->first, list, n * sizeof *list) == 0))
            return slot;
    }
}

/* The state of the list. */
static uint16_t intern_list(lf_machine *m)
{
    uint16_t *slot = state_slot(m, m->list, m->n_list, m->may_end);
    if (*slot == LF_STATE_UNKNOWN) {
        assert(m->n_states < LF_STATES_MAX && m->n_readings + m->n_list <= READINGS_CAP);
        m->states[m->n_states] = (state){m->n_readings, m->n_list, m->may_end};
        memcpy(m->readings + m->n_readings, m->list, m->n_list * sizeof *m->list);
        m->n_readings += m->n_list;
        *slot = (uint16_t)m->n_states++;
    }
    return *slot;
}

static void add_first_states(lf_machine *m)
{
    begin_list(m);
    const uint16_t dead = intern_list(m);
    begin_list(m);
    enter(m, m->exprs->root, NO_FRAME);
    const uint16_t start = intern_list(m);
    assert(dead == LF_STATE_DEAD && start == LF_STATE_START);
    (void)dead, (void)start;
}

/* Moves the frames that the readings list[0 .. n) are in to the front and renames them there. */
static void keep_frames(lf_machine *m, reading *list, uint32_t n)
{
    uint32_t kept = 1;
    memset(m->renamed, 0, m->n_frames * sizeof *m->renamed);
    for (uint32_t i = 0; i < n; i++) m->renamed[list[i].frame] = 1;
    for (uint32_t f = m->n_frames; f-- > 1;)
        if (m->renamed[f]) m->renamed[m->frames[f].parent] = 1;
    m->renamed[NO_FRAME] = NO_FRAME;
    memset(m->frame_slots, 0, FRAME_SLOTS * sizeof *m->frame_slots);
    for (uint32_t f = 1; f < m->n_frames; f++) {
        if (!m->renamed[f]) continue;
        frame moved = m->frames[f];
        moved.parent = m->renamed[moved.parent];
        m->frames[kept] = moved;
        m->completed[kept] = 0;
        m->renamed[f] = kept;
        *frame_slot(m, &m->frames[kept]) = kept;
        kept++;
    }
    m->n_frames = kept;
    for (uint32_t i = 0; i < n; i++) list[i].frame = m->renamed[list[i].frame];
}

/* Forgets all states but two, which get new numbers. */
static void recycle(lf_machine *m, uint16_t *a, uint16_t *b)
{
    const state sa = m->states[*a], sb = m->states[*b];
    reading *saved = m->readings + READINGS_CAP; /* room that only this uses */
    memcpy(saved, m->readings + sa.first, sa.n * sizeof *saved);
    memcpy(saved + sa.n, m->readings + sb.first, sb.n * sizeof *saved);
    keep_frames(m, saved, sa.n + sb.n);
    memset(m->next, 0, (size_t)m->n_states * 256 * sizeof *m->next);
    memset(m->state_slots, 0, STATE_SLOTS * sizeof *m->state_slots);
    m->n_states = 1;
    m->n_readings = 0;
    m->epoch++;
    add_first_states(m);
    uint16_t *const roots[2] = {a, b};
    const state old[2] = {sa, sb};
    for (int i = 0; i < 2; i++) {
        begin_list(m);
        memcpy(m->list, saved + (i ? sa.n : 0), old[i].n * sizeof *m->list);
        m->n_list = old[i].n;
        m->may_end = old[i].may_end;
        *roots[i] = intern_list(m);
    }
}

static bool is_full(const lf_machine *m)
{
    return m->n_states == LF_STATES_MAX || m->n_readings + LF_READINGS_MAX > READINGS_CAP ||
           m->n_frames + PUSHES_MAX > FRAMES_CAP;
}

static uint16_t compute_step(lf_machine *m, uint16_t from, uint8_t byte, uint16_t *kept)
{
    assert(from < m->n_states && *kept < m->n_states); /* numbers of this epoch */
    if (is_full(m)) recycle(m, &from, kept);
    const state s = m->states[from];
    begin_list(m);
    for (uint32_t i = 0; i < s.n; i++) read_byte(m, &m->readings[s.first + i], byte);
    const uint16_t to = intern_list(m);
    m->next[(size_t)from * 256 + byte] = to;
    return to;
}

uint16_t lf_machine_step(lf_machine *m, uint16_t from, uint8_t byte, uint16_t *kept)
{
    const uint16_t known = m->next[(size_t)from * 256 + byte];
    return known != LF_STATE_UNKNOWN ? known : compute_step(m, from, byte, kept);
}

bool lf_machine_may_end(const lf_machine *m, uint16_t i_state)
{
    return m->states[i_state].may_end;
}

bool lf_machine_may_go_on(const lf_machine *m, uint16_t i_state)
{
    return m->states[i_state].n > 0;
}

uint32_t lf_machine_epoch(const lf_machine *m)
{
    return m->epoch;
}

/* ---- creation ---- */

lf_status lf_machine_create(lf_machine **out, const lf_exprs *exprs, lf_error *err)
{
    lf_machine *m = calloc(1, sizeof *m);
    carver measure = {0};
    *out = NULL;
    if (!m) return lf_fail_memory(err, "a grammar", sizeof *m);
    carve_machine(m, &measure);
    carver block = {.base = calloc(1, measure.used)}; /* large, so zeroed by the system as it is touched */
    if (!block.base) {
        free(m);
        return lf_fail_memory(err, "a grammar", measure.used);
    }
    carve_machine(m, &block);
    m->exprs = exprs;
    m->n_frames = m->n_states = 1; /* NO_FRAME and LF_STATE_UNKNOWN */
    add_first_states(m);
    *out = m;
    return LF_OK;
}

void lf_machine_free(lf_machine *m)
{
    if (!m) return;
    free(m->frames); /* the block */
    free(m);
}

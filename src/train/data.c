#include "train/data.h"

#include "base/mem.h"
#include "train/data_hash.h"
#include "train/data_permute.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct source {
    const lf_token_file *file;
    int64_t step;      /* tokens that a piece advances */
    int64_t n_windows; /* of `step` tokens */
    int64_t n_draws;   /* of an epoch */
} source;

struct lf_data {
    lf_data_params params;
    int n_sources;
    int64_t n_draws; /* of an epoch, all sources */
    source sources[];
};

/* What permutation keys are for. */
enum { KEY_EPOCH = 0, KEY_SOURCE = 1 };

/* A piece: input tokens [first, first + n) of the file, after a bos row of its own or (`lead` is 0) not. */
typedef struct piece {
    const lf_token_file *file;
    int64_t first, n, doc_end;
    int lead;
    bool continues; /* not the document's first piece */
} piece;

static bool is_drawn(const lf_data *d, int64_t i_doc)
{
    if (d->params.part == LF_DATA_ALL) return true;
    const double place = (double)(lf_data_mix((uint64_t)i_doc + 1) >> 11) * 0x1p-53;
    return (place < d->params.hold_out) == (d->params.part == LF_DATA_HELD_OUT);
}

static bool has_pieces(const lf_data *d, const lf_token_file *f)
{
    for (int64_t i = 0; i < f->n_docs; i++) {
        int64_t first, end;
        lf_token_file_document(f, i, &first, &end);
        if (end - first > 1 && is_drawn(d, i)) return true;
    }
    return false;
}

static lf_status add_source(lf_data *d, const lf_data_source *from, lf_error *err)
{
    source *s = &d->sources[d->n_sources++];
    s->file = from->file;
    s->step = d->params.context - (from->file->info.bos >= 0);
    s->n_windows = (from->file->n_tokens + s->step - 1) / s->step;
    const double draws = from->weight * (double)s->n_windows;
    if (!(draws >= 0.0 && draws < 0x1p52))
        return lf_fail(err, LF_EINVAL, "training data: found weight %g, expected a number above 0",
                       from->weight);
    s->n_draws = draws < 1.0 ? 1 : llround(draws);
    d->n_draws += s->n_draws;
    if (has_pieces(d, s->file)) return LF_OK;
    return lf_fail(
        err, LF_EINVAL,
        "training data: found no document %s among %lld (a document is never divided between training and "
        "validation)",
        d->params.part == LF_DATA_HELD_OUT ? "to hold out" : "to train on", (long long)s->file->n_docs);
}

lf_status lf_data_create(lf_data **out, const lf_data_source *sources, int n_sources,
                         const lf_data_params *params, lf_error *err)
{
    lf_status status = LF_OK;
    const size_t bytes = sizeof(lf_data) + (size_t)n_sources * sizeof(source);
    lf_data *d = calloc(1, bytes);
    if (!d) return lf_fail_memory(err, "training data", bytes);
    assert(n_sources > 0 && params->context >= 2);
    d->params = *params;
    for (int i = 0; i < n_sources; i++) LF_TRY(add_source(d, &sources[i], err));
    *out = d;
    d = NULL;
done:
    lf_data_free(d);
    return status;
}

void lf_data_free(lf_data *d)
{
    free(d);
}

int64_t lf_data_epoch_draws(const lf_data *d)
{
    return d->n_draws;
}

/* ---- pieces ---- */

/* The source and window of a draw. */
static const source *find_window(const lf_data *d, int64_t epoch, int64_t i_draw, int64_t *i_window)
{
    const uint64_t epoch_key = lf_data_permute_key(d->params.seed, KEY_EPOCH, (uint64_t)epoch);
    int64_t i = lf_data_permute(i_draw, d->n_draws, epoch_key);
    int i_source = 0;
    while (i >= d->sources[i_source].n_draws) i -= d->sources[i_source++].n_draws;
    const source *s = &d->sources[i_source];
    const int64_t in_all = epoch * s->n_draws + i;
    const uint64_t pass = (uint64_t)(in_all / s->n_windows);
    const uint64_t key = lf_data_permute_key(d->params.seed, KEY_SOURCE + (uint64_t)i_source, pass);
    *i_window = lf_data_permute(in_all % s->n_windows, s->n_windows, key);
    return s;
}

/* The piece of document i_doc that starts in the tokens [low, low + step), of which there is one at most;
 * false: none. The document's last token is a target only. */
static bool find_piece(piece *p, const source *s, int64_t i_doc, int64_t low)
{
    int64_t doc_first, doc_end;
    lf_token_file_document(s->file, i_doc, &doc_first, &doc_end);
    const int lead = s->file->info.bos >= 0;
    const int64_t k = low > doc_first ? (low - doc_first + s->step - 1) / s->step : 0;
    const int64_t first = doc_first + k * s->step + lead, inputs_end = doc_end - 1;
    if (first - lead >= low + s->step || first - (k == 0 ? lead : 0) >= inputs_end) return false;
    const int64_t left = inputs_end - first;
    *p = (piece){.file = s->file,
                 .first = first,
                 .n = left < s->step ? left : s->step,
                 .doc_end = doc_end,
                 .lead = lead,
                 .continues = k > 0};
    return true;
}

/* The piece under the cursor; moves the cursor over windows that have no more. */
static piece find_next(const lf_data *d, lf_data_cursor *c)
{
    for (;;) {
        int64_t i_window, i_piece = 0;
        const source *s = find_window(d, c->epoch, c->i_draw, &i_window);
        const int64_t low = i_window * s->step;
        for (int64_t i_doc = lf_token_file_find(s->file, low); i_doc < s->file->n_docs; i_doc++) {
            piece p;
            int64_t doc_first, doc_end;
            lf_token_file_document(s->file, i_doc, &doc_first, &doc_end);
            if (doc_first >= low + s->step) break;
            if (is_drawn(d, i_doc) && find_piece(&p, s, i_doc, low) && i_piece++ == c->i_piece) return p;
        }
        c->i_piece = 0;
        if (++c->i_draw == d->n_draws) {
            c->i_draw = 0;
            c->epoch++;
        }
    }
}

/* ---- batches ---- */

lf_status lf_batch_create(lf_batch *out, int n_micro, int micro_rows, lf_error *err)
{
    size_t rows = 0, bytes = 0;
    *out = (lf_batch){.n_micro = n_micro, .micro_rows = micro_rows};
    if (!lf_mul_size((size_t)n_micro, (size_t)micro_rows, &rows) ||
        !lf_mul_size(rows, 4 * sizeof *out->token, &bytes))
        return lf_fail(err, LF_ELIMIT, "training data: %d micro-batches of %d rows are too many", n_micro,
                       micro_rows);
    out->token = malloc(bytes);
    out->n_rows = malloc(2 * (size_t)n_micro * sizeof *out->n_rows);
    if (!out->token || !out->n_rows) {
        lf_batch_free(out);
        return lf_fail_memory(err, "a batch", bytes);
    }
    out->pos = out->token + rows;
    out->own = out->pos + rows;
    out->target = out->own + rows;
    out->n_targets = out->n_rows + n_micro;
    return LF_OK;
}

void lf_batch_free(lf_batch *b)
{
    free(b->token);
    free(b->n_rows);
    *b = (lf_batch){0};
}

static int32_t target_of(const piece *p, int64_t i)
{
    return lf_token_file_counts(p->file, i) ? lf_token_file_id(p->file, i) : -1;
}

/* Puts a piece behind the n rows that a micro-batch has; the result is their number after it. */
static int add_piece(lf_batch *b, int i_micro, int n, const piece *p)
{
    const size_t base = (size_t)i_micro * (size_t)b->micro_rows;
    const int n_piece = p->lead + (int)p->n;
    for (int j = 0; j < n_piece; j++) {
        const size_t at = base + (size_t)(n + j);
        const int64_t i = p->first + j -
                          p->lead; /* the row's token, or, of a lead row, the one before the first */
        b->token[at] = j < p->lead ? p->file->info.bos : lf_token_file_id(p->file, i);
        b->target[at] = j < p->lead && p->continues ? -1 : target_of(p, i + 1);
        b->pos[at] = j;
        b->own[at] = n;
        b->n_targets[i_micro] += b->target[at] >= 0;
    }
    return n + n_piece;
}

/* Fills the micro-batch up with rows of no consequence. */
static void round_up(lf_batch *b, int i_micro)
{
    const size_t base = (size_t)i_micro * (size_t)b->micro_rows;
    int n = b->n_rows[i_micro];
    b->n_tokens += n;
    for (; n < b->micro_rows && n % LF_BATCH_ROUND != 0; n++) {
        b->token[base + (size_t)n] = b->pos[base + (size_t)n] = 0;
        b->own[base + (size_t)n] = n;
        b->target[base + (size_t)n] = -1;
    }
    b->n_rows[i_micro] = n;
}

void lf_data_fill(const lf_data *d, lf_data_cursor *cursor, lf_batch *b, bool one_epoch)
{
    const int64_t epoch = cursor->epoch;
    assert(b->micro_rows >= d->params.context);
    piece p = find_next(d, cursor);
    b->n_tokens = 0;
    for (int i = 0; i < b->n_micro; i++) {
        b->n_rows[i] = b->n_targets[i] = 0;
        while (b->n_rows[i] + p.lead + (int)p.n <= b->micro_rows && !(one_epoch && cursor->epoch > epoch)) {
            b->n_rows[i] = add_piece(b, i, b->n_rows[i], &p);
            cursor->i_piece++;
            p = find_next(d, cursor);
        }
        round_up(b, i);
    }
}

lf_train_rows lf_batch_rows(const lf_batch *b, int i_micro)
{
    const size_t base = (size_t)i_micro * (size_t)b->micro_rows;
    return (lf_train_rows){
        .n = b->n_rows[i_micro], .token = b->token + base, .pos = b->pos + base, .own = b->own + base};
}

int64_t lf_batch_n_targets(const lf_batch *b)
{
    int64_t n = 0;
    for (int i = 0; i < b->n_micro; i++) n += b->n_targets[i];
    return n;
}

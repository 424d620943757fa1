#include "train/distill_data.h"

#include "base/mem.h"
#include "train/data.h"
#include "train/data_hash.h"
#include "train/data_permute.h"
#include "train/data_text.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_ORDER = 0x44495354, KEY_NOISE };

static lf_status check_tokens(const lf_trajectory_file *f, const char *path, const lf_tokenizer *tokenizer,
                              lf_error *err)
{
    const lf_token_info info = lf_data_token_info(tokenizer);
    if (f->info.vocab_hash == info.vocab_hash) return LF_OK;
    return lf_fail(err, LF_EINVAL,
                   "%s: found trajectories of another tokenizer (vocabulary of %d, hash %016llx), expected "
                   "%d, hash %016llx",
                   path, f->info.n_vocab, (unsigned long long)f->info.vocab_hash, info.n_vocab,
                   (unsigned long long)info.vocab_hash);
}

static lf_status open_files(lf_distill_data *d, const lf_distill_train_params *p,
                            const lf_tokenizer *tokenizer, lf_error *err)
{
    lf_status status = LF_OK;
    const int n = p->n_trajectories + p->n_valid;
    d->files = calloc((size_t)n, sizeof *d->files);
    if (!d->files) return lf_fail_memory(err, "trajectory files", (size_t)n * sizeof *d->files);
    for (int i = 0; i < n; i++) {
        const char *path = i < p->n_trajectories ? p->trajectories[i] : p->valid[i - p->n_trajectories];
        LF_TRY(lf_trajectory_file_open(&d->files[i], path, err));
        d->n_files++;
        LF_TRY(check_tokens(&d->files[i], path, tokenizer, err));
    }
done:
    return status;
}

static uint64_t hash_ids(const int32_t *ids, size_t n)
{
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, ids, n * sizeof *ids);
    return lf_data_hash_value(&hash);
}

/* What a trajectory says, for the identity of the run. */
static uint64_t hash_trajectory(const lf_trajectory *t)
{
    size_t n_states = 0;
    for (int i = 0; i < t->n_blocks; i++) n_states += (size_t)t->n_states[i];
    return hash_ids(t->prompt, (size_t)t->n_prompt) ^
           lf_data_mix(hash_ids(t->states, n_states * (size_t)t->n) + (uint64_t)t->n_output);
}

static bool is_held_out(const lf_trajectory *t, double share)
{
    return (double)(lf_data_mix(hash_ids(t->prompt, (size_t)t->n_prompt)) >> 11) * 0x1p-53 < share;
}

/* Puts every trajectory that fits into its list. */
static void sort_trajectories(lf_distill_data *d, const lf_distill_train_params *p, const lf_pack *probe)
{
    lf_data_hash hash = {0};
    for (int f = 0; f < d->n_files; f++) {
        for (int64_t i = 0; i < d->files[f].n; i++) {
            const lf_trajectory t = lf_trajectory_file_get(&d->files[f], i);
            const bool trains = f < p->n_trajectories && !is_held_out(&t, p->train.hold_out);
            lf_distill_list *list = trains ? &d->train : &d->held_out;
            if (!lf_pack_takes(probe, &t)) {
                d->n_skipped++;
                continue;
            }
            list->items[list->n++] = (lf_distill_item){f, i};
            const uint64_t seen = hash_trajectory(&t);
            if (trains) lf_data_hash_add(&hash, &seen, sizeof seen);
        }
    }
    d->hash = lf_data_hash_value(&hash);
}

lf_status lf_distill_data_open(lf_distill_data *out, const lf_distill_train_params *p,
                               const lf_tokenizer *tokenizer, const lf_pack *probe, lf_error *err)
{
    lf_status status = LF_OK;
    size_t n = 0;
    *out = (lf_distill_data){0};
    LF_TRY(open_files(out, p, tokenizer, err));
    for (int i = 0; i < out->n_files; i++) n += (size_t)out->files[i].n;
    out->train.items = calloc(n + 1, sizeof *out->train.items);
    out->held_out.items = calloc(n + 1, sizeof *out->held_out.items);
    if (!out->train.items || !out->held_out.items) {
        status = lf_fail_memory(err, "a list of trajectories", n * sizeof *out->train.items);
        goto done;
    }
    sort_trajectories(out, p, probe);
    if (out->train.n == 0)
        status = lf_fail(err, LF_EINVAL,
                         "%s: found no trajectory to train on among %zu (%lld are too long for context %d), "
                         "expected one or more",
                         p->trajectories[0], n, (long long)out->n_skipped, p->train.context);
done:
    if (status != LF_OK) lf_distill_data_close(out);
    return status;
}

void lf_distill_data_close(lf_distill_data *d)
{
    for (int i = 0; i < d->n_files; i++) lf_trajectory_file_close(&d->files[i]);
    free(d->files);
    free(d->train.items);
    free(d->held_out.items);
    *d = (lf_distill_data){0};
}

lf_trajectory lf_distill_data_get(const lf_distill_data *d, lf_distill_item item)
{
    return lf_trajectory_file_get(&d->files[item.i_file], item.i);
}

int64_t lf_distill_data_draw(const lf_distill_data *d, lf_data_cursor *cursor, uint64_t seed, lf_pack *packs,
                             int n)
{
    int64_t n_rows = 0;
    for (int i = 0; i < n; i++) {
        lf_pack_clear(&packs[i]);
        for (;;) {
            const uint64_t order = lf_data_permute_key(seed, KEY_ORDER, (uint64_t)cursor->epoch);
            const uint64_t noise = lf_data_permute_key(seed, KEY_NOISE, (uint64_t)cursor->epoch);
            const int64_t at = lf_data_permute(cursor->i_draw, d->train.n, order);
            const lf_trajectory t = lf_distill_data_get(d, d->train.items[at]);
            if (!lf_pack_add(&packs[i], &t, lf_data_mix(noise + (uint64_t)cursor->i_draw))) break;
            if (++cursor->i_draw == d->train.n) {
                cursor->i_draw = 0;
                cursor->epoch++;
            }
        }
        lf_pack_finish(&packs[i]);
        n_rows += packs[i].n_seen;
    }
    return n_rows;
}

void lf_distill_data_fill(const lf_distill_data *d, const lf_distill_list *list, int64_t *i, lf_pack *pack)
{
    lf_pack_clear(pack);
    for (; *i < list->n; ++*i) {
        const lf_trajectory t = lf_distill_data_get(d, list->items[*i]);
        if (!lf_pack_add(pack, &t, lf_data_mix(KEY_NOISE + (uint64_t)*i))) break;
    }
    lf_pack_finish(pack);
}

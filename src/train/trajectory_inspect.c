/* lookfar.h's lf_distill_inspect: a trajectory file, or one of its records, as JSON. */
#include "train/trajectory_count.h"

#include <jansson.h>
#include <stdlib.h>

static const char *const drop_names[LF_TRAJECTORY_DROP_COUNT] = {"kept", "too_long", "empty", "repeats_token",
                                                                 "repeats_sentence"};

/* Sums over the trajectories of a file. */
typedef struct sums {
    int64_t n_blocks, n_states, n_output, n_passes, n_iterations, n_stationary;
    double fast_forwarded;
} sums;

static sums add_up(const lf_trajectory_file *f)
{
    sums s = {0};
    for (int64_t i = 0; i < f->n; i++) {
        const lf_trajectory t = lf_trajectory_file_get(f, i);
        const lf_trajectory_note note = lf_trajectory_file_note(f, i);
        s.n_blocks += t.n_blocks;
        for (int b = 0; b < t.n_blocks; b++) {
            s.n_states += t.n_states[b];
            s.n_iterations += t.n_states[b] > 1 ? t.n_states[b] - 1 : 1;
        }
        s.n_output += t.n_output;
        s.n_passes += note.passes;
        s.n_stationary += note.stationary;
        s.fast_forwarded += note.fast_forwarded;
    }
    return s;
}

static double ratio(double a, int64_t b)
{
    return b > 0 ? a / (double)b : 0;
}

static json_t *describe_dropped(const lf_trajectory_file *f)
{
    json_t *dropped = json_object();
    for (int i = LF_TRAJECTORY_KEPT + 1; i < LF_TRAJECTORY_DROP_COUNT; i++)
        (void)json_object_set_new(dropped, drop_names[i], json_integer(f->n_dropped[i]));
    return dropped;
}

static json_t *describe_file(const lf_trajectory_file *f)
{
    static const char *const fills[LF_TRAJECTORY_FILL_COUNT] = {"prompt", "ngram"};
    const lf_trajectory_info *info = &f->info;
    const sums s = add_up(f);
    char model[17], vocabulary[17];
    (void)snprintf(model, sizeof model, "%016llx", (unsigned long long)info->model_hash);
    (void)snprintf(vocabulary, sizeof vocabulary, "%016llx", (unsigned long long)info->vocab_hash);
    return json_pack(
        "{s:I, s:I, s:b, s:I, s:o, s:i, s:s, s:i, s:f, s:f, s:f, s:i, s:I, s:f, s:i, s:i, s:i, s:s, s:s, "
        "s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f}",
        "prompts", (json_int_t)info->n_prompts, "records", (json_int_t)f->n_records, "complete",
        (int)(f->n_records == info->n_prompts), "trajectories", (json_int_t)f->n, "dropped",
        describe_dropped(f), "n", info->n, "fill", fills[info->fill], "max_tokens", info->max_tokens,
        "temperature", (double)info->temperature, "top_p", (double)info->top_p, "min_p", (double)info->min_p,
        "top_k", info->top_k, "seed", (json_int_t)info->seed, "augment", (double)info->augment,
        "repeat_tokens", info->repeat_tokens, "repeat_sentences", info->repeat_sentences, "n_vocab",
        info->n_vocab, "model_hash", model, "vocab_hash", vocabulary, "blocks", (json_int_t)s.n_blocks,
        "states", (json_int_t)s.n_states, "output_tokens", (json_int_t)s.n_output, "passes",
        (json_int_t)s.n_passes, "stationary", (json_int_t)s.n_stationary, "mean_iterations",
        ratio((double)s.n_iterations, s.n_blocks), "tokens_per_pass", ratio((double)s.n_output, s.n_passes),
        "fast_forwarded", ratio(s.fast_forwarded, f->n), "stationary_per_block",
        ratio((double)s.n_stationary, s.n_blocks));
}

static json_t *list_ids(const int32_t *ids, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) (void)json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static json_t *list_blocks(const lf_trajectory *t)
{
    json_t *blocks = json_array();
    const int32_t *state = t->states;
    for (int b = 0; b < t->n_blocks; b++) {
        json_t *states = json_array();
        for (int j = 0; j < t->n_states[b]; j++, state += t->n)
            (void)json_array_append_new(states, list_ids(state, t->n));
        (void)json_array_append_new(blocks, states);
    }
    return blocks;
}

static json_t *describe_record(const lf_trajectory_file *f, int64_t i)
{
    const lf_trajectory t = lf_trajectory_file_get(f, i);
    const lf_trajectory_note note = lf_trajectory_file_note(f, i);
    return json_pack("{s:I, s:I, s:i, s:i, s:i, s:i, s:f, s:o, s:o}", "record", (json_int_t)i, "prompt_index",
                     (json_int_t)note.i_prompt, "n", t.n, "output_tokens", t.n_output, "passes", note.passes,
                     "stationary", note.stationary, "fast_forwarded", note.fast_forwarded, "prompt",
                     list_ids(t.prompt, t.n_prompt), "blocks", list_blocks(&t));
}

lf_status lf_distill_inspect(const char *path, int64_t i_record, char **json, lf_error *err)
{
    lf_status status = LF_OK;
    lf_trajectory_file f = {0};
    json_t *object = NULL;
    *json = NULL;
    LF_TRY(lf_trajectory_file_open(&f, path, err));
    if (i_record >= f.n) {
        status = lf_fail(err, LF_EINVAL, "%s: trajectory %lld: found %lld trajectories, counted from 0", path,
                         (long long)i_record, (long long)f.n);
        goto done;
    }
    object = i_record < 0 ? describe_file(&f) : describe_record(&f, i_record);
    *json = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    if (!*json) status = lf_fail_memory(err, "a description", 0);
done:
    json_decref(object);
    lf_trajectory_file_close(&f);
    return status;
}

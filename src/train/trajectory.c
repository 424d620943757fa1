#include "train/trajectory.h"

#include "base/mem.h"
#include "train/data_hash.h"
#include "train/trajectory_int.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 8, OFFSETS_MIN = 64 };

/* ---- the header ---- */

static uint64_t hash_bytes(const void *data, size_t n)
{
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, data, n);
    return lf_data_hash_value(&hash);
}

lf_trajectory_header lf_trajectory_pack(const lf_trajectory_info *info)
{
    lf_trajectory_header h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, LF_TRAJECTORY_MAGIC, sizeof h.magic);
    h.version = LF_TRAJECTORY_VERSION;
    h.n_vocab = (uint32_t)info->n_vocab;
    h.vocab_hash = info->vocab_hash;
    h.model_hash = info->model_hash;
    h.prompts_hash = info->prompts_hash;
    h.n_prompts = (uint64_t)info->n_prompts;
    h.n = (uint32_t)info->n;
    h.fill = (uint32_t)info->fill;
    h.seed = info->seed;
    h.temperature = info->temperature;
    h.top_p = info->top_p;
    h.min_p = info->min_p;
    h.top_k = (uint32_t)info->top_k;
    h.max_tokens = (uint32_t)info->max_tokens;
    h.augment = info->augment;
    h.repeat_tokens = (uint32_t)info->repeat_tokens;
    h.repeat_sentences = (uint32_t)info->repeat_sentences;
    h.header_hash = hash_bytes(&h, offsetof(lf_trajectory_header, header_hash));
    return h;
}

static lf_trajectory_info unpack(const lf_trajectory_header *h)
{
    return (lf_trajectory_info){.n_vocab = (int)h->n_vocab,
                                .vocab_hash = h->vocab_hash,
                                .model_hash = h->model_hash,
                                .prompts_hash = h->prompts_hash,
                                .n_prompts = (int64_t)h->n_prompts,
                                .n = (int)h->n,
                                .fill = (lf_trajectory_fill)h->fill,
                                .seed = h->seed,
                                .temperature = h->temperature,
                                .top_p = h->top_p,
                                .min_p = h->min_p,
                                .top_k = (int)h->top_k,
                                .max_tokens = (int)h->max_tokens,
                                .augment = h->augment,
                                .repeat_tokens = (int)h->repeat_tokens,
                                .repeat_sentences = (int)h->repeat_sentences};
}

static lf_status check_header(const lf_trajectory_header *h, const char *name, lf_error *err)
{
    if (memcmp(h->magic, LF_TRAJECTORY_MAGIC, sizeof h->magic) != 0)
        return lf_fail(err, LF_EFORMAT, "%s: byte 0: expected the magic of a trajectory file (%s)", name,
                       LF_TRAJECTORY_MAGIC);
    if (h->version != LF_TRAJECTORY_VERSION)
        return lf_fail(err, LF_EFORMAT, "%s: trajectory file: found version %u, expected %d", name,
                       h->version, LF_TRAJECTORY_VERSION);
    if (h->header_hash != hash_bytes(h, offsetof(lf_trajectory_header, header_hash)))
        return lf_fail(err, LF_EFORMAT, "%s: trajectory file: the header does not match its checksum", name);
    if (h->n_vocab < 1 || h->n_vocab > INT32_MAX || h->n_prompts < 1 || h->n_prompts > INT32_MAX)
        return lf_fail(err, LF_EFORMAT,
                       "%s: trajectory file: found %u tokens and %llu prompts, expected 1 to %d of each",
                       name, h->n_vocab, (unsigned long long)h->n_prompts, INT32_MAX);
    if (h->n < 2 || h->n > LF_TRAJECTORY_N_MAX || h->fill >= LF_TRAJECTORY_FILL_COUNT)
        return lf_fail(
            err, LF_EFORMAT,
            "%s: trajectory file: found blocks of %u tokens and fill %u, expected 2 to %d, fill below %d",
            name, h->n, h->fill, LF_TRAJECTORY_N_MAX, LF_TRAJECTORY_FILL_COUNT);
    if (h->top_k > INT32_MAX || h->max_tokens > INT32_MAX || h->repeat_tokens > INT32_MAX ||
        h->repeat_sentences > INT32_MAX)
        return lf_fail(err, LF_EFORMAT, "%s: trajectory file: found a number above %d in the header", name,
                       INT32_MAX);
    return LF_OK;
}

/* ---- a record ---- */

uint64_t lf_trajectory_hash_head(const lf_trajectory_head *h)
{
    return hash_bytes(h, offsetof(lf_trajectory_head, head_hash));
}

bool lf_trajectory_body_bytes(const lf_trajectory_head *h, int n, size_t *bytes)
{
    size_t words;
    return lf_mul_size(h->n_states, (size_t)n, &words) && lf_add_size(words, h->n_prompt, &words) &&
           lf_add_size(words, h->n_blocks, &words) && lf_mul_size(words, sizeof(int32_t), bytes) &&
           lf_add_size(*bytes, (ALIGN - *bytes % ALIGN) % ALIGN, bytes);
}

/* A record at the end of what is read. */
typedef struct record {
    lf_trajectory_head head;
    const int32_t *body;
    size_t bytes; /* of head and body; 0 when the head does not say */
} record;

typedef enum found { FOUND_WHOLE, FOUND_TORN, FOUND_DAMAGED } found;

static bool all_zero(const uint8_t *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (data[i] != 0) return false;
    return true;
}

/* What the `left` bytes at `data` begin with. The head has a checksum of its own, so that its sizes can be
 * relied on: a record that claims more bytes than are left was cut off. */
static found find_record(record *r, const uint8_t *data, size_t left, int64_t i_record, int n)
{
    size_t body_bytes = 0;
    r->bytes = 0;
    if (left < sizeof r->head || all_zero(data, left)) return FOUND_TORN;
    memcpy(&r->head, data, sizeof r->head);
    if (r->head.mark != LF_TRAJECTORY_MARK || r->head.head_hash != lf_trajectory_hash_head(&r->head) ||
        r->head.i_prompt != (uint64_t)i_record || !lf_trajectory_body_bytes(&r->head, n, &body_bytes))
        return FOUND_DAMAGED;
    if (body_bytes > left - sizeof r->head) return FOUND_TORN;
    r->bytes = sizeof r->head + body_bytes;
    /* data is 8-byte aligned, and so is every record in it */
    r->body = (const int32_t *)(const void *)(data + sizeof r->head);
    return hash_bytes(r->body, body_bytes) == r->head.body_hash ? FOUND_WHOLE : FOUND_DAMAGED;
}

/* What is wrong in a record that matches its checksums; NULL: nothing. */
static const char *check_sizes(const lf_trajectory_head *h, int n)
{
    if (h->drop >= LF_TRAJECTORY_DROP_COUNT) return "an unknown reason for dropping it";
    if (h->n_output > INT32_MAX || h->passes > INT32_MAX || h->stationary > INT32_MAX ||
        !isfinite(h->fast_forwarded))
        return "a count that is none";
    if (h->drop != LF_TRAJECTORY_KEPT)
        return h->n_prompt || h->n_blocks || h->n_states ? "a dropped prompt with states" : NULL;
    if (h->n_prompt < 1 || h->n_prompt > INT32_MAX) return "no prompt";
    if (h->n_blocks < 1 || h->n_states < h->n_blocks || h->n_states > INT32_MAX)
        return "blocks without states";
    if (h->n_output <= (h->n_blocks - 1) * (uint64_t)n || h->n_output > h->n_blocks * (uint64_t)n)
        return "an output that does not end in its last block";
    return NULL;
}

static const char *check_contents(const record *r, int n, int n_vocab)
{
    const lf_trajectory_head *h = &r->head;
    const char *wrong = check_sizes(h, n);
    if (wrong || h->drop != LF_TRAJECTORY_KEPT) return wrong;
    uint64_t n_states = 0;
    const int32_t *counts = r->body + h->n_prompt, *states = counts + h->n_blocks;
    for (uint32_t b = 0; b < h->n_blocks; b++) {
        if (counts[b] < 1) return "a block without a state";
        n_states += (uint64_t)counts[b];
    }
    if (n_states != h->n_states) return "blocks with more or fewer states than it has";
    for (uint32_t i = 0; i < h->n_prompt; i++)
        if (r->body[i] < 0 || r->body[i] >= n_vocab) return "a prompt's token that is not in the vocabulary";
    for (size_t i = 0; i < (size_t)h->n_states * (size_t)n; i++)
        if (states[i] < 0 || states[i] >= n_vocab) return "a state's token that is not in the vocabulary";
    return NULL;
}

/* ---- the file ---- */

static bool add_offset(lf_trajectory_file *f, size_t *room, size_t offset)
{
    if ((size_t)f->n == *room) {
        const size_t wanted = *room ? 2 * *room : OFFSETS_MIN;
        size_t *offsets = realloc(f->offsets, wanted * sizeof *offsets);
        if (!offsets) return false;
        f->offsets = offsets;
        *room = wanted;
    }
    f->offsets[f->n++] = offset;
    return true;
}

static lf_status scan_records(lf_trajectory_file *f, size_t size, bool mends, const char *name, lf_error *err)
{
    const int n = f->info.n;
    size_t room = 0;
    record r;
    for (size_t at = LF_TRAJECTORY_HEADER; at < size; at += r.bytes, f->n_records++) {
        const long long i = (long long)f->n_records;
        if (f->n_records == f->info.n_prompts)
            return lf_fail(err, LF_EFORMAT, "%s: trajectory file: found %zu bytes behind the last record",
                           name, size - at);
        found what = find_record(&r, f->data + at, size - at, f->n_records, n);
        if (what == FOUND_DAMAGED && mends && r.bytes == size - at) what = FOUND_TORN;
        if (what == FOUND_TORN) {
            f->torn_bytes = size - at;
            return LF_OK;
        }
        if (what == FOUND_DAMAGED)
            return lf_fail(err, LF_EFORMAT, "%s: record %lld (byte %zu): it does not match its checksum",
                           name, i, at);
        const char *wrong = check_contents(&r, n, f->info.n_vocab);
        if (wrong)
            return lf_fail(err, LF_EFORMAT, "%s: record %lld (byte %zu): found %s", name, i, at, wrong);
        f->n_dropped[r.head.drop]++;
        if (r.head.drop == LF_TRAJECTORY_KEPT && !add_offset(f, &room, at))
            return lf_fail_memory(err, "an index of records", 2 * room * sizeof *f->offsets);
    }
    return LF_OK;
}

lf_status lf_trajectory_scan(lf_trajectory_file *out, const uint8_t *data, size_t size, bool mends,
                             const char *name, lf_error *err)
{
    lf_status status = LF_OK;
    lf_trajectory_file f = {.data = data};
    lf_trajectory_header h;
    assert((uintptr_t)data % ALIGN == 0);
    *out = (lf_trajectory_file){0};
    if (size < sizeof h)
        return lf_fail(err, LF_EFORMAT, "%s: found %zu bytes, expected a trajectory file of at least %zu",
                       name, size, sizeof h);
    memcpy(&h, data, sizeof h);
    LF_TRY(check_header(&h, name, err));
    f.info = unpack(&h);
    LF_TRY(scan_records(&f, size, mends, name, err));
    f.n_dropped[LF_TRAJECTORY_KEPT] = 0;
    *out = f;
    f.offsets = NULL;
done:
    free(f.offsets);
    return status;
}

lf_status lf_trajectory_file_parse(lf_trajectory_file *out, const uint8_t *data, size_t size,
                                   const char *name, lf_error *err)
{
    return lf_trajectory_scan(out, data, size, false, name, err);
}

lf_status lf_trajectory_file_open(lf_trajectory_file *out, const char *path, lf_error *err)
{
    lf_map map;
    *out = (lf_trajectory_file){0};
    lf_status status = lf_map_open(&map, path, err);
    if (status != LF_OK) return status;
    status = lf_trajectory_scan(out, map.data, map.size, false, path, err);
    if (status == LF_OK)
        out->map = map;
    else
        lf_map_close(&map);
    return status;
}

void lf_trajectory_file_close(lf_trajectory_file *f)
{
    lf_map_close(&f->map);
    free(f->offsets);
    *f = (lf_trajectory_file){0};
}

static lf_trajectory_head head_at(const lf_trajectory_file *f, int64_t i)
{
    lf_trajectory_head h;
    assert(i >= 0 && i < f->n);
    memcpy(&h, f->data + f->offsets[i], sizeof h);
    return h;
}

lf_trajectory lf_trajectory_file_get(const lf_trajectory_file *f, int64_t i)
{
    const lf_trajectory_head h = head_at(f, i);
    const int32_t *body = (const int32_t *)(const void *)(f->data + f->offsets[i] + sizeof h);
    return (lf_trajectory){.prompt = body,
                           .n_prompt = (int)h.n_prompt,
                           .n = f->info.n,
                           .n_blocks = (int)h.n_blocks,
                           .n_states = body + h.n_prompt,
                           .states = body + h.n_prompt + h.n_blocks,
                           .n_output = (int)h.n_output};
}

lf_trajectory_note lf_trajectory_file_note(const lf_trajectory_file *f, int64_t i)
{
    const lf_trajectory_head h = head_at(f, i);
    return (lf_trajectory_note){.i_prompt = (int64_t)h.i_prompt,
                                .drop = (lf_trajectory_drop)h.drop,
                                .n_output = (int)h.n_output,
                                .passes = (int)h.passes,
                                .stationary = (int)h.stationary,
                                .fast_forwarded = h.fast_forwarded};
}

#include "train/checkpoint.h"

#include "base/map.h"
#include "base/mem.h"
#include "train/data_hash.h"
#include "train/data_out.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 8 };
#define MAGIC "LFCKPOIN"

typedef struct header {
    char magic[8];
    uint32_t version, n_buffers;
    uint64_t identity_bytes, body_hash;
    uint8_t zeros[LF_CHECKPOINT_HEADER - 40];
    uint64_t header_hash;
} header;
_Static_assert(sizeof(header) == LF_CHECKPOINT_HEADER, "the header has no padding of the compiler's");

static uint64_t hash_header(const header *h)
{
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, h, offsetof(header, header_hash));
    return lf_data_hash_value(&hash);
}

/* ---- writing ---- */

static lf_status write_padded(lf_data_out *out, const void *data, size_t bytes, lf_error *err)
{
    static const uint8_t zeros[ALIGN];
    lf_status status = LF_OK;
    LF_TRY(lf_data_out_write(out, data, bytes, err));
    if (bytes % ALIGN != 0) LF_TRY(lf_data_out_write(out, zeros, ALIGN - bytes % ALIGN, err));
done:
    return status;
}

static lf_status write_body(lf_data_out *out, const lf_checkpoint_state *state, const char *identity,
                            const lf_checkpoint_buffer *buffers, int n_buffers, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(lf_data_out_write(out, state, sizeof *state, err));
    LF_TRY(write_padded(out, identity, strlen(identity), err));
    for (int i = 0; i < n_buffers; i++) {
        const uint64_t n = buffers[i].n;
        LF_TRY(lf_data_out_write(out, &n, sizeof n, err));
        LF_TRY(write_padded(out, buffers[i].data, buffers[i].n * sizeof *buffers[i].data, err));
    }
done:
    return status;
}

lf_status lf_checkpoint_write(const char *path, const lf_checkpoint_state *state, const json_t *identity,
                              const lf_checkpoint_buffer *buffers, int n_buffers, lf_error *err)
{
    lf_status status = LF_OK;
    lf_data_out *out = NULL;
    header h = {.version = LF_CHECKPOINT_VERSION, .n_buffers = (uint32_t)n_buffers};
    char *text = json_dumps(identity, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text) return lf_fail_memory(err, "a checkpoint's identity", 0);
    memcpy(h.magic, MAGIC, sizeof h.magic);
    h.identity_bytes = strlen(text);
    LF_TRY(lf_data_out_open(&out, path, sizeof h, err));
    LF_TRY(write_body(out, state, text, buffers, n_buffers, err));
    h.body_hash = lf_data_out_hash(out);
    h.header_hash = hash_header(&h);
    status = lf_data_out_finish(out, &h, err);
done:
    lf_data_out_close(out);
    free(text);
    return status;
}

/* ---- reading ---- */

/* The part of a file that is not read yet. */
typedef struct reader {
    const char *path;
    const uint8_t *at;
    size_t left;
    lf_error *err;
} reader;

/* *data = the next bytes, and whatever pads them to 8. */
static lf_status take(reader *r, const void **data, size_t bytes, const char *what)
{
    size_t padded = 0;
    if (!lf_add_size(bytes, (ALIGN - bytes % ALIGN) % ALIGN, &padded) || padded > r->left)
        return lf_fail(r->err, LF_EFORMAT, "%s: checkpoint: found %zu bytes for %s, expected %zu", r->path,
                       r->left, what, bytes);
    *data = r->at;
    r->at += padded;
    r->left -= padded;
    return LF_OK;
}

static lf_status check_header(const header *h, const lf_map *map, const char *path, lf_error *err)
{
    if (memcmp(h->magic, MAGIC, sizeof h->magic) != 0)
        return lf_fail(err, LF_EFORMAT, "%s: byte 0: expected the magic of a checkpoint", path);
    if (h->version != LF_CHECKPOINT_VERSION)
        return lf_fail(err, LF_EFORMAT, "%s: checkpoint: found version %u, expected %d", path, h->version,
                       LF_CHECKPOINT_VERSION);
    if (h->header_hash != hash_header(h))
        return lf_fail(err, LF_EFORMAT, "%s: checkpoint: the header does not match its checksum", path);
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, map->data + sizeof *h, map->size - sizeof *h);
    if (lf_data_hash_value(&hash) != h->body_hash)
        return lf_fail(err, LF_EFORMAT, "%s: checkpoint: the data do not match their checksum", path);
    return LF_OK;
}

/* A member's text for messages; the caller frees it. */
static char *member_text(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
}

static lf_status check_identity(const json_t *found, const json_t *expected, const char *path, lf_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)expected, key, value)
    {
        if (json_equal(value, json_object_get(found, key))) continue;
        char *was = member_text(found, key), *is = member_text(expected, key);
        const lf_status status = lf_fail(err, LF_EINVAL,
                                         "%s: checkpoint of another run: %s: found %.150s, expected %.150s",
                                         path, key, was ? was : "nothing", is ? is : "nothing");
        free(was);
        free(is);
        return status;
    }
    return LF_OK;
}

/* Checks the sizes of all buffers (data NULL), or copies them. */
static lf_status read_buffers(reader *r, const lf_checkpoint_buffer *buffers, int n_buffers, bool copies)
{
    lf_status status = LF_OK;
    for (int i = 0; i < n_buffers; i++) {
        const void *data;
        uint64_t n;
        LF_TRY(take(r, &data, sizeof n, "a buffer's size"));
        memcpy(&n, data, sizeof n);
        if (n != buffers[i].n) {
            status = lf_fail(r->err, LF_EINVAL, "%s: checkpoint: buffer %d: found %llu numbers, expected %zu",
                             r->path, i, (unsigned long long)n, buffers[i].n);
            goto done;
        }
        LF_TRY(take(r, &data, buffers[i].n * sizeof *buffers[i].data, "a buffer"));
        if (copies) memcpy(buffers[i].data, data, buffers[i].n * sizeof *buffers[i].data);
    }
    if (r->left > 0)
        status = lf_fail(r->err, LF_EFORMAT, "%s: checkpoint: found %zu bytes more than it holds", r->path,
                         r->left);
done:
    return status;
}

lf_status lf_checkpoint_read(lf_checkpoint_state *state, const lf_checkpoint_buffer *buffers, int n_buffers,
                             const json_t *identity, const char *path, lf_error *err)
{
    lf_status status = LF_OK;
    lf_map map = {0};
    json_t *found = NULL;
    const void *data, *state_data;
    header h;
    LF_TRY(lf_map_open(&map, path, err));
    if (map.size < sizeof h) {
        status = lf_fail(err, LF_EFORMAT, "%s: found %zu bytes, expected a checkpoint of at least %zu", path,
                         map.size, sizeof h);
        goto done;
    }
    memcpy(&h, map.data, sizeof h);
    LF_TRY(check_header(&h, &map, path, err));
    reader r = {path, map.data + sizeof h, map.size - sizeof h, err};
    LF_TRY(take(&r, &state_data, sizeof *state, "the state"));
    LF_TRY(take(&r, &data, h.identity_bytes, "the identity"));
    LF_TRY(lf_json_parse(&found, data, h.identity_bytes, path, err));
    LF_TRY(check_identity(found, identity, path, err));
    if (h.n_buffers != (uint32_t)n_buffers) {
        status = lf_fail(err, LF_EINVAL, "%s: checkpoint: found %u buffers, expected %d", path, h.n_buffers,
                         n_buffers);
        goto done;
    }
    reader checking = r;
    LF_TRY(read_buffers(&checking, buffers, n_buffers, false));
    LF_TRY(read_buffers(&r, buffers, n_buffers, true));
    memcpy(state, state_data, sizeof *state);
done:
    json_decref(found);
    lf_map_close(&map);
    return status;
}

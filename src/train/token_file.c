#include "train/token_file.h"

#include "base/mem.h"
#include "train/data_hash.h"
#include "train/data_out.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ALIGN = 8 };

/* The header as it lies in the file. */
typedef struct header {
    char magic[8];
    uint32_t version, id_bytes;
    uint64_t vocab_hash;
    uint32_t n_vocab;
    int32_t bos;
    uint64_t n_tokens, n_docs;
    uint64_t source_hash, body_hash;
    uint8_t zeros[LF_TOKEN_FILE_HEADER - 72];
    uint64_t header_hash;
} header;
_Static_assert(sizeof(header) == LF_TOKEN_FILE_HEADER, "the header has no padding of the compiler's");

static uint64_t hash_header(const header *h)
{
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, h, offsetof(header, header_hash));
    return lf_data_hash_value(&hash);
}

/* Ids of two bytes leave the top bit free for vocabularies of up to 32768. */
static int id_bytes_for(int n_vocab)
{
    return n_vocab <= 1 << 15 ? 2 : 4;
}

/* ---- reading ---- */

static uint32_t entry_at(const lf_token_file *f, int64_t i)
{
    if (f->id_bytes == 2) {
        uint16_t entry;
        memcpy(&entry, f->ids + 2 * i, sizeof entry);
        return entry;
    }
    uint32_t entry;
    memcpy(&entry, f->ids + 4 * i, sizeof entry);
    return entry;
}

static uint32_t count_bit(const lf_token_file *f)
{
    return f->id_bytes == 2 ? 1u << 15 : 1u << 31;
}

int32_t lf_token_file_id(const lf_token_file *f, int64_t i)
{
    assert(i >= 0 && i < f->n_tokens);
    return (int32_t)(entry_at(f, i) & ~count_bit(f));
}

bool lf_token_file_counts(const lf_token_file *f, int64_t i)
{
    assert(i >= 0 && i < f->n_tokens);
    return (entry_at(f, i) & count_bit(f)) != 0;
}

void lf_token_file_document(const lf_token_file *f, int64_t d, int64_t *first, int64_t *end)
{
    assert(d >= 0 && d < f->n_docs);
    *first = (int64_t)f->offsets[d];
    *end = (int64_t)f->offsets[d + 1];
}

int64_t lf_token_file_find(const lf_token_file *f, int64_t i)
{
    assert(i >= 0 && i < f->n_tokens);
    int64_t low = 0, high = f->n_docs; /* offsets[low] <= i < offsets[high] */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if ((int64_t)f->offsets[middle] <= i)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static lf_status check_header(const header *h, const char *path, lf_error *err)
{
    if (memcmp(h->magic, LF_TOKEN_FILE_MAGIC, sizeof h->magic) != 0)
        return lf_fail(err, LF_EFORMAT, "%s: byte 0: expected the magic of a token file (%s)", path,
                       LF_TOKEN_FILE_MAGIC);
    if (h->version != LF_TOKEN_FILE_VERSION)
        return lf_fail(err, LF_EFORMAT, "%s: token file: found version %u, expected %d", path, h->version,
                       LF_TOKEN_FILE_VERSION);
    if (h->header_hash != hash_header(h))
        return lf_fail(err, LF_EFORMAT, "%s: token file: the header does not match its checksum", path);
    if (h->n_vocab < 1 || h->n_vocab > INT32_MAX || h->id_bytes != (uint32_t)id_bytes_for((int)h->n_vocab))
        return lf_fail(err, LF_EFORMAT, "%s: token file: found ids of %u bytes for %u tokens", path,
                       h->id_bytes, h->n_vocab);
    if (h->bos < -1 || h->bos >= (int32_t)h->n_vocab)
        return lf_fail(err, LF_EFORMAT, "%s: token file: found bos %d, expected -1 to %u", path, h->bos,
                       h->n_vocab - 1);
    return LF_OK;
}

/* *ids_bytes: of the ids, padded. The sizes must add up to the file's exactly. */
static lf_status check_size(const header *h, size_t size, const char *path, size_t *ids_bytes, lf_error *err)
{
    size_t ids, padded = 0, offsets, body = 0;
    const bool fits = h->n_tokens <= SIZE_MAX && h->n_docs < SIZE_MAX &&
                      lf_mul_size((size_t)h->n_tokens, h->id_bytes, &ids) &&
                      lf_add_size(ids, ALIGN - 1, &padded) &&
                      lf_mul_size((size_t)h->n_docs + 1, sizeof(uint64_t), &offsets) &&
                      lf_add_size(padded / ALIGN * ALIGN, offsets, &body) &&
                      lf_add_size(body, sizeof *h, &body);
    if (!fits || body != size)
        return lf_fail(err, LF_EFORMAT,
                       "%s: token file of %zu bytes: found a header for %llu tokens in %llu documents", path,
                       size, (unsigned long long)h->n_tokens, (unsigned long long)h->n_docs);
    if (h->n_tokens == 0 || h->n_docs == 0)
        return lf_fail(err, LF_EFORMAT, "%s: token file: found no tokens", path);
    *ids_bytes = padded / ALIGN * ALIGN;
    return LF_OK;
}

static lf_status check_body(const lf_token_file *f, const char *path, size_t body_bytes, lf_error *err)
{
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, f->ids, body_bytes);
    if (lf_data_hash_value(&hash) != f->body_hash)
        return lf_fail(err, LF_EFORMAT, "%s: token file: the data do not match their checksum", path);
    if (f->offsets[0] != 0 || f->offsets[f->n_docs] != (uint64_t)f->n_tokens)
        return lf_fail(err, LF_EFORMAT, "%s: token file: the documents do not cover its tokens", path);
    for (int64_t d = 0; d < f->n_docs; d++)
        if (f->offsets[d] >= f->offsets[d + 1])
            return lf_fail(err, LF_EFORMAT, "%s: token file: document %lld ends before its first token", path,
                           (long long)d);
    for (int64_t i = 0; i < f->n_tokens; i++)
        if (lf_token_file_id(f, i) >= f->info.n_vocab)
            return lf_fail(err, LF_EFORMAT, "%s: token file: token %lld: found id %d, expected below %d",
                           path, (long long)i, lf_token_file_id(f, i), f->info.n_vocab);
    return LF_OK;
}

lf_status lf_token_file_open(lf_token_file *out, const char *path, lf_error *err)
{
    lf_status status = LF_OK;
    lf_token_file f = {0};
    header h;
    size_t ids_bytes = 0;
    LF_TRY(lf_map_open(&f.map, path, err));
    if (f.map.size < sizeof h) {
        status = lf_fail(err, LF_EFORMAT, "%s: found %zu bytes, expected a token file of at least %zu", path,
                         f.map.size, sizeof h);
        goto done;
    }
    memcpy(&h, f.map.data, sizeof h);
    LF_TRY(check_header(&h, path, err));
    LF_TRY(check_size(&h, f.map.size, path, &ids_bytes, err));
    f.info = (lf_token_info){(int)h.n_vocab, h.bos, h.vocab_hash, h.source_hash};
    f.n_tokens = (int64_t)h.n_tokens;
    f.n_docs = (int64_t)h.n_docs;
    f.body_hash = h.body_hash;
    f.id_bytes = (int)h.id_bytes;
    f.ids = f.map.data + sizeof h;
    /* The mapping is page-aligned, header and ids are multiples of 8. */
    f.offsets = (const uint64_t *)(const void *)(f.ids + ids_bytes);
    LF_TRY(check_body(&f, path, f.map.size - sizeof h, err));
    *out = f;
    f.map = (lf_map){0};
done:
    lf_map_close(&f.map);
    return status;
}

void lf_token_file_close(lf_token_file *f)
{
    lf_map_close(&f->map);
    *f = (lf_token_file){0};
}

bool lf_token_file_is(const char *path)
{
    char magic[sizeof LF_TOKEN_FILE_MAGIC - 1];
    FILE *f = fopen(path, "rb");
    const bool is = f && fread(magic, 1, sizeof magic, f) == sizeof magic &&
                    memcmp(magic, LF_TOKEN_FILE_MAGIC, sizeof magic) == 0;
    if (f) (void)fclose(f);
    return is;
}

/* ---- writing ---- */

struct lf_token_writer {
    lf_data_out *out;
    FILE *offsets; /* a file without a name: where documents end */
    lf_token_info info;
    uint64_t n_tokens, n_docs;
    uint64_t doc_first; /* of the document that is being written */
};

lf_status lf_token_writer_open(lf_token_writer **out, const char *path, const lf_token_info *info,
                               lf_error *err)
{
    lf_status status = LF_OK;
    lf_bytes spill = {0};
    int fd = -1;
    lf_token_writer *w = calloc(1, sizeof *w);
    if (!w) return lf_fail_memory(err, "a token file", sizeof *w);
    assert(info->n_vocab >= 1 && info->bos < info->n_vocab);
    w->info = *info;
    LF_TRY(lf_data_out_open(&w->out, path, sizeof(header), err));
    if (!lf_bytes_printf(&spill, "%s.offsets.tmp", path)) {
        status = lf_fail_memory(err, "a path", strlen(path));
        goto done;
    }
    fd = open(spill.data, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd >= 0) (void)unlink(spill.data);
    w->offsets = fd >= 0 ? fdopen(fd, "w+b") : NULL;
    if (!w->offsets) {
        status = lf_fail(err, LF_EIO, "%s: cannot create: %s", spill.data, strerror(errno));
        goto done;
    }
    fd = -1;
    *out = w;
    w = NULL;
done:
    if (fd >= 0) (void)close(fd);
    lf_bytes_free(&spill);
    lf_token_writer_close(w);
    return status;
}

lf_status lf_token_writer_add(lf_token_writer *w, const int32_t *ids, size_t n, bool counts, lf_error *err)
{
    const int id_bytes = id_bytes_for(w->info.n_vocab);
    const uint32_t bit = counts ? id_bytes == 2 ? 1u << 15 : 1u << 31 : 0;
    for (size_t i = 0; i < n; i++) {
        assert(ids[i] >= 0 && ids[i] < w->info.n_vocab);
        const uint32_t wide = (uint32_t)ids[i] | bit;
        const uint16_t narrow = (uint16_t)wide;
        const lf_status status = lf_data_out_write(w->out, id_bytes == 2 ? (const void *)&narrow : &wide,
                                                   (size_t)id_bytes, err);
        if (status != LF_OK) return status;
    }
    w->n_tokens += n;
    return LF_OK;
}

static lf_status fail_offsets(lf_error *err)
{
    return lf_fail(err, LF_EIO, "the list of documents: cannot write: %s", strerror(errno));
}

lf_status lf_token_writer_end(lf_token_writer *w, lf_error *err)
{
    if (w->n_tokens == w->doc_first) return LF_OK;
    if (fwrite(&w->doc_first, sizeof w->doc_first, 1, w->offsets) != 1) return fail_offsets(err);
    w->doc_first = w->n_tokens;
    w->n_docs++;
    return LF_OK;
}

int64_t lf_token_writer_n_tokens(const lf_token_writer *w)
{
    return (int64_t)w->n_tokens;
}

/* Copies the offsets behind the ids. */
static lf_status append_offsets(lf_token_writer *w, lf_error *err)
{
    static const uint8_t zeros[ALIGN];
    lf_status status = LF_OK;
    uint64_t chunk[512];
    size_t n;
    const size_t past = lf_data_out_size(w->out) % ALIGN;
    if (past > 0) LF_TRY(lf_data_out_write(w->out, zeros, ALIGN - past, err));
    if (fflush(w->offsets) != 0 || fseek(w->offsets, 0, SEEK_SET) != 0) {
        status = fail_offsets(err);
        goto done;
    }
    while ((n = fread(chunk, sizeof *chunk, sizeof chunk / sizeof *chunk, w->offsets)) > 0)
        LF_TRY(lf_data_out_write(w->out, chunk, n * sizeof *chunk, err));
    if (ferror(w->offsets)) {
        status = fail_offsets(err);
        goto done;
    }
    status = lf_data_out_write(w->out, &w->n_tokens, sizeof w->n_tokens, err);
done:
    return status;
}

lf_status lf_token_writer_finish(lf_token_writer *w, lf_error *err)
{
    header h = {.version = LF_TOKEN_FILE_VERSION,
                .id_bytes = (uint32_t)id_bytes_for(w->info.n_vocab),
                .vocab_hash = w->info.vocab_hash,
                .n_vocab = (uint32_t)w->info.n_vocab,
                .bos = w->info.bos,
                .n_tokens = w->n_tokens,
                .n_docs = w->n_docs,
                .source_hash = w->info.source_hash};
    assert(w->n_docs > 0 && w->doc_first == w->n_tokens);
    const lf_status status = append_offsets(w, err);
    if (status != LF_OK) return status;
    memcpy(h.magic, LF_TOKEN_FILE_MAGIC, sizeof h.magic);
    h.body_hash = lf_data_out_hash(w->out);
    h.header_hash = hash_header(&h);
    return lf_data_out_finish(w->out, &h, err);
}

void lf_token_writer_close(lf_token_writer *w)
{
    if (!w) return;
    if (w->offsets) (void)fclose(w->offsets);
    lf_data_out_close(w->out);
    free(w);
}

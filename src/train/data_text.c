#include "train/data_text_int.h"

#include "base/map.h"
#include "token/utf8.h"
#include "train/data_hash.h"

#include <string.h>

lf_token_info lf_data_token_info(const lf_tokenizer *t)
{
    lf_data_hash hash = {0};
    int32_t n_used = lf_tokenizer_n_vocab(t);
    /* A model file pads the vocabulary with unused tokens; it is the same vocabulary. */
    while (n_used > 1 && lf_tokenizer_kind(t, n_used - 1) == LF_TOKEN_UNUSED) n_used--;
    for (int32_t id = 0; id < n_used; id++) {
        size_t len;
        const char *piece = lf_tokenizer_piece(t, id, &len);
        const uint64_t facts[2] = {(uint64_t)lf_tokenizer_kind(t, id) << 1 | lf_tokenizer_is_eos(t, id), len};
        lf_data_hash_add(&hash, facts, sizeof facts);
        lf_data_hash_add(&hash, piece, len);
    }
    const int32_t bos = lf_tokenizer_adds_bos(t) ? lf_tokenizer_bos(t) : -1;
    lf_data_hash_add(&hash, &bos, sizeof bos);
    return (lf_token_info){.n_vocab = n_used, .bos = bos, .vocab_hash = lf_data_hash_value(&hash)};
}

/* ---- documents ---- */

lf_status lf_data_text_begin(lf_data_text *t, lf_error *err)
{
    if (t->info.bos < 0) return LF_OK;
    return lf_token_writer_add(t->writer, &t->info.bos, 1, false, err);
}

lf_status lf_data_text_end(lf_data_text *t, lf_error *err)
{
    lf_status status = LF_OK;
    if (t->eos != LF_TOKEN_NONE) LF_TRY(lf_token_writer_add(t->writer, &t->eos, 1, true, err));
    status = lf_token_writer_end(t->writer, err);
done:
    return status;
}

/* A byte is counted from the file's start, or, in a text that was made from fields, from that text's. */
static lf_status check_text(const lf_data_text *t, const char *text, size_t len, lf_error *err)
{
    const size_t base = text >= t->data && text < t->data + t->size ? (size_t)(text - t->data) : 0;
    const size_t valid = lf_utf8_valid_prefix(text, len);
    const char *nul = memchr(text, '\0', valid);
    if (!nul && valid == len) return LF_OK;
    const char *bad = nul ? nul : text + valid;
    return lf_fail(err, LF_EFORMAT, "%s: byte %zu: found 0x%02X, expected UTF-8 text%s", t->path,
                   base + (size_t)(bad - text), (unsigned char)*bad, nul ? " (is it a binary file?)" : "");
}

/* The end of the part that starts at text: everything, or up to the last line end within LF_DATA_TEXT_PART
 * bytes, or, in a line as long as that, up to a code point. */
static size_t part_length(const char *text, size_t len)
{
    if (len <= LF_DATA_TEXT_PART) return len;
    const char *line_end = memrchr(text, '\n', LF_DATA_TEXT_PART);
    if (line_end) return (size_t)(line_end - text) + 1;
    size_t n = LF_DATA_TEXT_PART;
    while (n > LF_DATA_TEXT_PART - 4 && ((unsigned char)text[n] & 0xC0) == 0x80) n--;
    return n;
}

lf_status lf_data_text_add(lf_data_text *t, const char *text, size_t len, bool counts, lf_error *err)
{
    lf_status status = LF_OK;
    for (size_t done = 0, n; done < len; done += n) {
        n = part_length(text + done, len - done);
        LF_TRY(check_text(t, text + done, n, err));
        t->ids.len = 0;
        LF_TRY(lf_tokenizer_encode(t->tokenizer, text + done, n, false, &t->ids, err));
        LF_TRY(lf_token_writer_add(t->writer, t->ids.data, t->ids.len, counts, err));
        LF_TRY(lf_data_text_progress(t, text + done + n, err));
    }
done:
    return status;
}

lf_status lf_data_text_progress(const lf_data_text *t, const char *at, lf_error *err)
{
    if (!t->options->progress || at < t->data || at > t->data + t->size) return LF_OK;
    if (t->options->progress(t->options->cookie, (size_t)(at - t->data), t->size)) return LF_OK;
    return lf_fail(err, LF_ECANCELED, "%s: canceled while it was being read", t->path);
}

bool lf_data_text_is_blank(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && (text[i] == ' ' || (text[i] >= '\t' && text[i] <= '\r'))) i++;
    return i == len;
}

/* A line end right behind a separator belongs to it. */
static lf_status read_plain(lf_data_text *t, lf_error *err)
{
    lf_status status = LF_OK;
    const char *separator = t->options->separator, *end = t->data + t->size;
    const size_t separator_len = strlen(separator);
    for (const char *at = t->data; at < end;) {
        const char *stop = separator_len > 0 ? memmem(at, (size_t)(end - at), separator, separator_len)
                                             : NULL;
        const size_t len = (size_t)((stop ? stop : end) - at);
        if (!lf_data_text_is_blank(at, len)) {
            LF_TRY(lf_data_text_begin(t, err));
            LF_TRY(lf_data_text_add(t, at, len, true, err));
            LF_TRY(lf_data_text_end(t, err));
        }
        at = stop ? stop + separator_len : end;
        if (stop && at < end && *at == '\n') at++;
    }
done:
    return status;
}

/* ---- files ---- */

static void hash_string(lf_data_hash *hash, const char *s)
{
    lf_data_hash_add(hash, s, strlen(s) + 1);
}

/* Of the bytes of the input and of everything that decides what becomes of them. */
static uint64_t hash_source(const lf_data_text *t, bool jsonl)
{
    const lf_data_text_options *o = t->options;
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, t->data, t->size);
    lf_data_hash_add(&hash, &t->info.vocab_hash, sizeof t->info.vocab_hash);
    if (jsonl) {
        hash_string(&hash, o->template);
        hash_string(&hash, o->response);
        lf_data_hash_add(&hash, o->train_prompt ? "1" : "0", 1);
    } else {
        hash_string(&hash, o->separator);
    }
    return lf_data_hash_value(&hash);
}

static bool is_made(const char *path, uint64_t source_hash)
{
    lf_token_file f;
    if (!lf_token_file_is(path) || lf_token_file_open(&f, path, NULL) != LF_OK) return false;
    const bool same = f.info.source_hash == source_hash;
    lf_token_file_close(&f);
    return same;
}

static int32_t find_eos(const lf_tokenizer *t)
{
    for (int32_t id = 0; id < lf_tokenizer_n_vocab(t); id++)
        if (lf_tokenizer_is_eos(t, id)) return id;
    return LF_TOKEN_NONE;
}

lf_status lf_data_text_prepare(const char *out_path, const char *path, const lf_tokenizer *tokenizer,
                               const lf_data_text_options *options, lf_error *err)
{
    lf_status status = LF_OK;
    lf_map map = {0};
    lf_data_text t = {.path = path,
                      .tokenizer = tokenizer,
                      .options = options,
                      .info = lf_data_token_info(tokenizer),
                      .eos = find_eos(tokenizer)};
    const size_t path_len = strlen(path);
    const bool jsonl = path_len > 6 && strcmp(path + path_len - 6, ".jsonl") == 0;
    LF_TRY(lf_map_open(&map, path, err));
    t.data = (const char *)map.data;
    t.size = map.size;
    t.info.source_hash = hash_source(&t, jsonl);
    if (is_made(out_path, t.info.source_hash)) goto done;
    LF_TRY(lf_token_writer_open(&t.writer, out_path, &t.info, err));
    LF_TRY(jsonl ? lf_data_text_read_jsonl(&t, err) : read_plain(&t, err));
    if (lf_token_writer_n_tokens(t.writer) == 0) {
        status = lf_fail(err, LF_EFORMAT, "%s: found no text, expected some", path);
        goto done;
    }
    status = lf_token_writer_finish(t.writer, err);
done:
    lf_token_writer_close(t.writer);
    lf_ids_free(&t.ids);
    lf_map_close(&map);
    return status;
}

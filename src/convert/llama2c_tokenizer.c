/* Tokenizer files of a llama2.c model -> GGUF metadata. llama2.c's own tokenizer.bin knows no more of a token than its
 * score and its text; the rest follows from constants of its run.c.
 *
 *   uint32 longest piece; for each token: float32 score, int32 length, the piece with ' ' for U+2581 */
#include "convert/convert_int.h"

#include "base/map.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { UNKNOWN_ID, BOS_ID, EOS_ID }; /* llama2.c's run.c has the same constants */

typedef struct vocabulary {
    size_t n;
    float *scores;      /* (n) */
    int32_t *kinds;     /* (n) lf_token_kind */
    const char **texts; /* (n) in `bytes`, or constants */
    size_t *lens;       /* (n) */
    lf_bytes bytes;
} vocabulary;

typedef struct piece {
    float score;
    const char *text; /* (len) in the file */
    size_t len;
} piece;

/* The record at *offset, which moves past it; false when it does not lie in the file. */
static bool next_piece(piece *out, size_t *offset, const lf_map *map)
{
    uint32_t longest;
    int32_t len;
    if (map->size - *offset < sizeof out->score + sizeof len) return false;
    memcpy(&longest, map->data, sizeof longest);
    memcpy(&out->score, map->data + *offset, sizeof out->score);
    memcpy(&len, map->data + *offset + sizeof out->score, sizeof len);
    *offset += sizeof out->score + sizeof len;
    if (len < 0 || (uint32_t)len > longest || (size_t)len > map->size - *offset) return false;
    out->text = (const char *)map->data + *offset;
    out->len = (size_t)len;
    *offset += out->len;
    return true;
}

/* The number of records, or 0 when the file is not a tokenizer.bin: then records do not end where the file does. */
static size_t count_pieces(const lf_map *map)
{
    size_t n = 0, offset = sizeof(uint32_t);
    piece p;
    if (map->size < offset) return 0;
    while (offset < map->size) {
        if (!next_piece(&p, &offset, map)) return 0;
        n++;
    }
    return n;
}

static lf_token_kind kind_of(size_t id, const piece *p)
{
    const bool is_byte = p->len == strlen("<0x00>") && memcmp(p->text, "<0x", 3) == 0 &&
                         isxdigit((unsigned char)p->text[3]) && isxdigit((unsigned char)p->text[4]) &&
                         p->text[5] == '>';
    if (id == UNKNOWN_ID) return LF_TOKEN_UNKNOWN;
    if (id == BOS_ID || id == EOS_ID) return LF_TOKEN_CONTROL;
    return is_byte ? LF_TOKEN_BYTE : LF_TOKEN_NORMAL;
}

/* Appends the piece with U+2581 for each space, as vocabularies have it. */
static bool append_piece(lf_bytes *out, const piece *p)
{
    static const char space[] = "\xe2\x96\x81";
    for (size_t i = 0; i < p->len; i++) {
        const bool is_space = p->text[i] == ' ';
        if (!lf_bytes_append(out, is_space ? space : p->text + i, is_space ? sizeof space - 1 : 1))
            return false;
    }
    return true;
}

static void free_vocabulary(vocabulary *v)
{
    free(v->scores);
    free(v->kinds);
    free(v->texts);
    free(v->lens);
    lf_bytes_free(&v->bytes);
}

static bool read_vocabulary(vocabulary *v, const lf_map *map, size_t n)
{
    size_t offset = sizeof(uint32_t);
    v->n = n;
    v->scores = calloc(n, sizeof *v->scores);
    v->kinds = calloc(n, sizeof *v->kinds);
    v->texts = calloc(n, sizeof *v->texts);
    v->lens = calloc(n, sizeof *v->lens);
    if (!v->scores || !v->kinds || !v->texts || !v->lens) return false;
    for (size_t i = 0; i < n; i++) {
        piece p = {0};
        (void)next_piece(&p, &offset, map); /* the second time over the file */
        v->scores[i] = p.score;
        v->kinds[i] = (int32_t)kind_of(i, &p);
        const size_t start = v->bytes.len;
        if (!append_piece(&v->bytes, &p)) return false;
        v->lens[i] = v->bytes.len - start;
    }
    offset = 0;
    for (size_t i = 0; i < n; i++) { /* only now does `bytes` stay where it is */
        v->texts[i] = v->lens[i] ? v->bytes.data + offset : "";
        offset += v->lens[i];
    }
    return true;
}

/* The file has "\n<s>\n" where the vocabulary has "<s>". */
static void rename_piece(vocabulary *v, size_t id, const char *text)
{
    if (id >= v->n) return;
    v->texts[id] = text;
    v->lens[id] = strlen(text);
}

static void set_vocabulary(lf_gguf_writer *w, vocabulary *v)
{
    rename_piece(v, BOS_ID, "<s>");
    rename_piece(v, EOS_ID, "</s>");
    lf_gguf_set_string(w, "tokenizer.ggml.model", "llama", strlen("llama"));
    lf_gguf_set_string(w, "tokenizer.ggml.pre", "default", strlen("default"));
    lf_gguf_set_strings(w, "tokenizer.ggml.tokens", v->texts, v->lens, v->n);
    lf_gguf_set_array(w, "tokenizer.ggml.scores", LF_GGUF_F32, v->scores, v->n);
    lf_gguf_set_array(w, "tokenizer.ggml.token_type", LF_GGUF_I32, v->kinds, v->n);
    lf_gguf_set_int(w, "tokenizer.ggml.bos_token_id", LF_GGUF_U32, BOS_ID);
    lf_gguf_set_int(w, "tokenizer.ggml.eos_token_id", LF_GGUF_U32, EOS_ID);
    lf_gguf_set_int(w, "tokenizer.ggml.unknown_token_id", LF_GGUF_U32, UNKNOWN_ID);
    lf_gguf_set_bool(w, "tokenizer.ggml.add_bos_token", true);
    lf_gguf_set_bool(w, "tokenizer.ggml.add_space_prefix", true);
}

static lf_status set_other_tokenizer(lf_gguf_writer *w, const char *path, int n_vocab, lf_error *err)
{
    lf_tokenizer *t = NULL;
    lf_status status = LF_OK;
    LF_TRY(lf_tokenizer_from_file(&t, path, err));
    LF_TRY(lf_out_set_tokenizer(w, t, path, n_vocab, err));
done:
    lf_tokenizer_free(t);
    return status;
}

lf_status lf_out_set_tokenizer_file(lf_gguf_writer *w, const char *path, int n_vocab, lf_error *err)
{
    lf_status status = LF_OK;
    lf_map map = {0};
    vocabulary v = {0};
    LF_TRY(lf_map_open(&map, path, err));
    const size_t n = count_pieces(&map);
    if (n == 0)
        LF_TRY(set_other_tokenizer(w, path, n_vocab, err));
    else if (n != (size_t)n_vocab)
        status = lf_fail(err, LF_EFORMAT, "%s: the tokenizer has %zu tokens, the embedding %d rows", path, n,
                         n_vocab);
    else if (read_vocabulary(&v, &map, n))
        set_vocabulary(w, &v);
    else
        status = lf_fail_memory(err, "the vocabulary", n * sizeof *v.texts);
done:
    free_vocabulary(&v);
    lf_map_close(&map);
    return status;
}

/* What several tokenizer formats have in common: a vocabulary as a JSON object, merges by name, added tokens. */
#include "token/load.h"

#include <stdlib.h>
#include <string.h>

/* A vocabulary in the making, by id. */
typedef struct id_table {
    const char **pieces; /* (n), borrowed; NULL: none yet */
    size_t n;
    const char *name;
    lf_error *err;
} id_table;

static lf_status put(id_table *ids, const char *piece, const json_t *id)
{
    const json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
    if (value < 0 || (size_t)value >= ids->n)
        return lf_fail(ids->err, LF_EFORMAT,
                       "%s: token '%.80s': found id %lld, expected an integer from 0 to %zu", ids->name,
                       piece, (long long)value, ids->n - 1);
    const char **place = &ids->pieces[value];
    if (*place && strcmp(*place, piece) != 0)
        return lf_fail(ids->err, LF_EFORMAT, "%s: id %lld: found both '%.80s' and '%.80s'", ids->name,
                       (long long)value, *place, piece);
    *place = piece;
    return LF_OK;
}

static lf_status put_all(id_table *ids, const json_t *vocab, const json_t *added)
{
    const char *piece;
    json_t *id, *token;
    size_t i;
    json_object_foreach((json_t *)vocab, piece, id)
    {
        const lf_status status = put(ids, piece, id);
        if (status != LF_OK) return status;
    }
    json_array_foreach(added, i, token)
    {
        const char *content;
        lf_status status = lf_json_get_string(token, ids->name, "content", true, &content, ids->err);
        if (status == LF_OK) status = put(ids, content, json_object_get(token, "id"));
        if (status != LF_OK) return status;
    }
    return LF_OK;
}

/* How many of the added tokens are not in the vocabulary. */
static size_t count_new(const json_t *vocab, const json_t *added)
{
    size_t n = 0, i;
    json_t *token;
    json_array_foreach(added, i, token)
    {
        const char *content = json_string_value(json_object_get(token, "content"));
        n += content && !json_object_get(vocab, content);
    }
    return n;
}

lf_status lf_load_vocab_object(lf_tokenizer *t, const json_t *vocab, const json_t *added, const char *name,
                               lf_error *err)
{
    if (!json_is_object(vocab))
        return lf_fail(err, LF_EFORMAT, "%s: found no object of pieces and ids as the vocabulary", name);
    id_table ids = {.n = json_object_size(vocab) + count_new(vocab, added), .name = name, .err = err};
    if (ids.n > LF_VOCAB_MAX)
        return lf_fail(err, LF_ELIMIT, "%s: found %zu tokens, expected at most %d", name, ids.n,
                       LF_VOCAB_MAX);
    ids.pieces = calloc(ids.n ? ids.n : 1, sizeof *ids.pieces);
    if (!ids.pieces) return lf_fail_memory(err, "a vocabulary", ids.n * sizeof *ids.pieces);
    lf_status status;
    LF_TRY(put_all(&ids, vocab, added));
    for (size_t id = 0; id < ids.n; id++) {
        if (!ids.pieces[id])
            LF_TRY(lf_fail(err, LF_EFORMAT, "%s: id %zu: found no token, expected one for each id up to %zu",
                           name, id, ids.n - 1));
        LF_TRY(lf_vocab_add(&t->vocab, ids.pieces[id], strlen(ids.pieces[id]), LF_TOKEN_NORMAL, name, err));
    }
done:
    free(ids.pieces);
    return status;
}

static lf_status fail_merge(uint32_t rank, const char *left, size_t left_len, const char *right,
                            size_t right_len, const char *what, const char *name, lf_error *err)
{
    return lf_fail(err, LF_EFORMAT, "%s: merge %u ('%.*s' '%.*s'): %s is not in the vocabulary", name,
                   (unsigned)rank, (int)(left_len < 80 ? left_len : 80), left,
                   (int)(right_len < 80 ? right_len : 80), right, what);
}

lf_status lf_load_merge(lf_tokenizer *t, uint32_t rank, const char *left, size_t left_len, const char *right,
                        size_t right_len, const char *name, lf_error *err)
{
    char joined[2 * LF_PIECE_BYTES_MAX];
    lf_merge merge = {.rank = rank,
                      .left = lf_vocab_find(&t->vocab, left, left_len),
                      .right = lf_vocab_find(&t->vocab, right, right_len)};
    if (merge.left == LF_TOKEN_NONE)
        return fail_merge(rank, left, left_len, right, right_len, "the left piece", name, err);
    if (merge.right == LF_TOKEN_NONE)
        return fail_merge(rank, left, left_len, right, right_len, "the right piece", name, err);
    memcpy(joined, left, left_len); /* pieces of the vocabulary: at most LF_PIECE_BYTES_MAX each */
    memcpy(joined + left_len, right, right_len);
    merge.id = lf_vocab_find(&t->vocab, joined, left_len + right_len);
    if (merge.id == LF_TOKEN_NONE)
        return fail_merge(rank, left, left_len, right, right_len, "their concatenation", name, err);
    return lf_merges_add(&t->merges, &merge, err);
}

/* ---- added tokens ---- */

/* What a token that is sought in normalised text looks like there. */
static lf_status add_normalized(lf_tokenizer *t, const lf_added *added, const char *piece, size_t len,
                                const char *name, lf_error *err)
{
    lf_bytes buffers[2] = {{0}};
    lf_status status;
    LF_TRY(lf_rewrites_apply(&t->normalizer, true, &piece, &len, buffers, err));
    if (len == 0 || len > LF_PIECE_BYTES_MAX)
        LF_TRY(lf_fail(err, LF_EFORMAT,
                       "%s: added token %d: found %zu bytes when normalised, expected 1 to %d", name,
                       (int)added->id, len, LF_PIECE_BYTES_MAX));
    LF_TRY(lf_added_set_add(&t->normalized, added, piece, len, err));
done:
    lf_bytes_free(&buffers[0]);
    lf_bytes_free(&buffers[1]);
    return status;
}

lf_status lf_load_added_token(lf_tokenizer *t, int64_t id, const json_t *object, const char *name,
                              lf_error *err)
{
    const char *content;
    lf_added added = {.id = (int32_t)id};
    lf_status status;
    LF_TRY(lf_json_get_string(object, name, "content", true, &content, err));
    LF_TRY(lf_json_get_bool(object, name, "special", false, &added.special, err));
    added.normalized = !added.special;
    LF_TRY(lf_json_get_bool(object, name, "normalized", false, &added.normalized, err));
    LF_TRY(lf_json_get_bool(object, name, "lstrip", false, &added.lstrip, err));
    LF_TRY(lf_json_get_bool(object, name, "rstrip", false, &added.rstrip, err));
    LF_TRY(lf_json_get_bool(object, name, "single_word", false, &added.single_word, err));

    const size_t len = strlen(content);
    if (id == t->vocab.n) LF_TRY(lf_vocab_add(&t->vocab, content, len, LF_TOKEN_NORMAL, name, err));
    if (id < 0 || id >= t->vocab.n || lf_vocab_find(&t->vocab, content, len) != id)
        LF_TRY(
            lf_fail(err, LF_EFORMAT,
                    "%s: added token '%.80s': found id %lld, expected the id of that piece in a vocabulary "
                    "of %d tokens, or the next",
                    name, content, (long long)id, (int)t->vocab.n));
    if (t->vocab.kinds[id] == LF_TOKEN_NORMAL)
        t->vocab.kinds[id] = added.special ? LF_TOKEN_CONTROL : LF_TOKEN_USER_DEFINED;
    status = added.normalized ? add_normalized(t, &added, content, len, name, err)
                              : lf_added_set_add(&t->raw, &added, content, len, err);
done:
    return status;
}

lf_status lf_load_added_by_kind(lf_tokenizer *t, bool user_defined_normalized, lf_error *err)
{
    for (int32_t id = 0; id < t->vocab.n; id++) {
        const lf_token_kind kind = (lf_token_kind)t->vocab.kinds[id];
        const bool own = kind == LF_TOKEN_USER_DEFINED;
        if (!own && kind != LF_TOKEN_CONTROL && kind != LF_TOKEN_UNKNOWN) continue;
        const lf_added added = {.id = id, .special = !own, .normalized = own && user_defined_normalized};
        size_t len;
        const char *piece = lf_vocab_piece(&t->vocab, id, &len);
        const lf_status status = lf_added_set_add(added.normalized ? &t->normalized : &t->raw, &added, piece,
                                                  len, err);
        if (status != LF_OK) return status;
    }
    return LF_OK;
}

lf_status lf_load_special(lf_tokenizer *t, int32_t id, lf_error *err)
{
    for (size_t i = 0; i < t->raw.n; i++)
        if (t->raw.items[i].id == id) return LF_OK;
    for (size_t i = 0; i < t->normalized.n; i++)
        if (t->normalized.items[i].id == id) return LF_OK;
    if (t->vocab.kinds[id] == LF_TOKEN_NORMAL) t->vocab.kinds[id] = LF_TOKEN_CONTROL;
    size_t len;
    const char *piece = lf_vocab_piece(&t->vocab, id, &len);
    return lf_added_set_add(&t->raw, &(lf_added){.id = id, .special = true}, piece, len, err);
}

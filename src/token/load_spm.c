/* SentencePiece models: a ModelProto of sentencepiece_model.proto, read by a bounds-checked walk over the wire format.
 *
 *   ModelProto     1: SentencePiece (repeated)   2: TrainerSpec   3: NormalizerSpec   5: NormalizerSpec (denormalizer)
 *   SentencePiece  1: piece   2: score (float)   3: type, whose numbers are those of lf_token_kind
 *   TrainerSpec    3: model_type   24: treat_whitespace_as_suffix   35: byte_fallback   46: bos_piece   47: eos_piece
 *   NormalizerSpec 2: precompiled_charsmap   3: add_dummy_prefix   4: remove_extra_whitespaces   5: escape_whitespaces
 *
 * The ids are those of the SentencePiece library, also for bytes that are not UTF-8: each becomes U+FFFD. */
#include "token/load.h"

#include "token/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2, MODEL_WORD = 3, MODEL_CHAR = 4 };

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* A message that is not read yet. */
typedef struct wire {
    const uint8_t *p, *end, *file; /* file: its first byte, for messages */
    const char *name;
    lf_error *err;
} wire;

typedef struct field {
    uint64_t number;
    unsigned type;
    uint64_t value;       /* of a varint or a fixed number */
    const uint8_t *bytes; /* (size) */
    size_t size;
} field;

static lf_status fail_wire(const wire *w, const char *what)
{
    return lf_fail(w->err, LF_EFORMAT, "%s: byte %zu: found %s, expected a SentencePiece model", w->name,
                   (size_t)(w->p - w->file), what);
}

static lf_status read_varint(wire *w, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (w->p == w->end) return fail_wire(w, "the end inside a number");
        const uint8_t byte = *w->p++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return LF_OK;
    }
    return fail_wire(w, "a number of more than 64 bits");
}

static lf_status read_fixed(wire *w, size_t size, uint64_t *value)
{
    if ((size_t)(w->end - w->p) < size) return fail_wire(w, "the end inside a fixed number");
    *value = 0;
    for (size_t i = size; i-- > 0;) *value = *value << 8 | w->p[i];
    w->p += size;
    return LF_OK;
}

static lf_status read_field(wire *w, field *f)
{
    uint64_t tag;
    lf_status status = read_varint(w, &tag);
    if (status != LF_OK) return status;
    *f = (field){.number = tag >> 3, .type = tag & 7};
    switch (f->type) {
    case WIRE_VARINT: return read_varint(w, &f->value);
    case WIRE_FIXED64: return read_fixed(w, 8, &f->value);
    case WIRE_FIXED32: return read_fixed(w, 4, &f->value);
    case WIRE_BYTES: break;
    default: return fail_wire(w, "an unknown wire type");
    }
    uint64_t size;
    status = read_varint(w, &size);
    if (status != LF_OK) return status;
    if (size > (uint64_t)(w->end - w->p)) return fail_wire(w, "a length beyond the end");
    f->bytes = w->p;
    f->size = (size_t)size;
    w->p += size;
    return LF_OK;
}

/* The message inside a field; a number where a message is expected has no bytes and reads as an empty one. */
static wire enter(const wire *w, const field *f)
{
    wire inner = *w;
    inner.p = f->bytes ? f->bytes : w->end;
    inner.end = inner.p + f->size;
    return inner;
}

/* What a model says besides its pieces; the values are the defaults of the proto file. */
typedef struct spec {
    uint64_t model_type;
    bool whitespace_as_suffix, byte_fallback;
    bool dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    size_t charsmap_size;
    field bos_piece, eos_piece;
} spec;

static lf_status read_trainer(wire w, spec *s)
{
    while (w.p < w.end) {
        field f;
        const lf_status status = read_field(&w, &f);
        if (status != LF_OK) return status;
        switch (f.number) {
        case 3: s->model_type = f.value; break;
        case 24: s->whitespace_as_suffix = f.value != 0; break;
        case 35: s->byte_fallback = f.value != 0; break;
        case 46: s->bos_piece = f; break;
        case 47: s->eos_piece = f; break;
        default: break;
        }
    }
    return LF_OK;
}

static lf_status read_normalizer(wire w, spec *s)
{
    while (w.p < w.end) {
        field f;
        const lf_status status = read_field(&w, &f);
        if (status != LF_OK) return status;
        switch (f.number) {
        case 2: s->charsmap_size = f.size; break;
        case 3: s->dummy_prefix = f.value != 0; break;
        case 4: s->remove_extra_whitespaces = f.value != 0; break;
        case 5: s->escape_whitespaces = f.value != 0; break;
        default: break;
        }
    }
    return LF_OK;
}

static lf_status read_piece(lf_tokenizer *t, wire w, size_t *scores_cap)
{
    field piece = {0};
    uint32_t score_bits = 0;
    uint64_t kind = LF_TOKEN_NORMAL;
    while (w.p < w.end) {
        field f;
        const lf_status status = read_field(&w, &f);
        if (status != LF_OK) return status;
        if (f.number == 1) piece = f;
        if (f.number == 2) score_bits = (uint32_t)f.value;
        if (f.number == 3) kind = f.value;
    }
    const int32_t id = t->vocab.n;
    if (kind < LF_TOKEN_NORMAL || kind > LF_TOKEN_BYTE)
        return lf_fail(w.err, LF_EFORMAT, "%s: token %d: found type %llu, expected 1 to 6", w.name, (int)id,
                       (unsigned long long)kind);
    const lf_status status = lf_vocab_add(&t->vocab, (const char *)piece.bytes, piece.size,
                                          (lf_token_kind)kind, w.name, w.err);
    if (status != LF_OK) return status;
    if ((size_t)id == *scores_cap) {
        const size_t cap = *scores_cap ? 2 * *scores_cap : 1024;
        float *scores = realloc(t->scores, cap * sizeof *scores);
        if (!scores) return lf_fail_memory(w.err, "the scores", cap * sizeof *scores);
        t->scores = scores;
        *scores_cap = cap;
    }
    memcpy(&t->scores[id], &score_bits, sizeof score_bits);
    return LF_OK;
}

static lf_status read_model(lf_tokenizer *t, wire w, spec *s)
{
    size_t scores_cap = 0;
    while (w.p < w.end) {
        field f;
        lf_status status = read_field(&w, &f);
        if (status == LF_OK && f.number == 1) status = read_piece(t, enter(&w, &f), &scores_cap);
        if (status == LF_OK && f.number == 2) status = read_trainer(enter(&w, &f), s);
        if (status == LF_OK && f.number == 3) status = read_normalizer(enter(&w, &f), s);
        if (status != LF_OK) return status;
    }
    return t->vocab.n ? LF_OK : fail_wire(&w, "no pieces");
}

static lf_status check_supported(const spec *s, const char *name, lf_error *err)
{
    static const char *const types[] = {"0", "unigram", "BPE", "word", "char"};
    const char *type = s->model_type <= MODEL_CHAR ? types[s->model_type] : "unknown";
    if (s->model_type != MODEL_BPE)
        return lf_fail(err, LF_EUNSUPPORTED, "%s: found a SentencePiece model of type %s, expected BPE", name,
                       type);
    if (s->charsmap_size)
        return lf_fail(err, LF_EUNSUPPORTED,
                       "%s: found a normalisation table of %zu bytes, expected the rule 'identity'", name,
                       s->charsmap_size);
    if (s->whitespace_as_suffix || !s->escape_whitespaces)
        return lf_fail(err, LF_EUNSUPPORTED, "%s: found %s, which is not supported", name,
                       s->whitespace_as_suffix ? "treat_whitespace_as_suffix" : "no escape_whitespaces");
    return LF_OK;
}

static int32_t find_control(const lf_tokenizer *t, const field *piece, const char *usual)
{
    const int32_t id = piece->bytes ? lf_vocab_find(&t->vocab, (const char *)piece->bytes, piece->size)
                                    : lf_vocab_find(&t->vocab, usual, strlen(usual));
    return id != LF_TOKEN_NONE && t->vocab.kinds[id] == LF_TOKEN_CONTROL ? id : LF_TOKEN_NONE;
}

static lf_status find_unknown(lf_tokenizer *t, const char *name, lf_error *err)
{
    for (int32_t id = 0; id < t->vocab.n; id++) {
        if (t->vocab.kinds[id] != LF_TOKEN_UNKNOWN) continue;
        if (t->unknown != LF_TOKEN_NONE)
            return lf_fail(err, LF_EFORMAT, "%s: found unknown pieces %d and %d, expected one", name,
                           (int)t->unknown, (int)id);
        t->unknown = id;
    }
    if (t->unknown == LF_TOKEN_NONE)
        return lf_fail(err, LF_EFORMAT, "%s: found no piece of type unknown, expected one", name);
    return LF_OK;
}

lf_status lf_load_sentencepiece(lf_tokenizer *t, const void *data, size_t size, const char *name,
                                lf_error *err)
{
    spec s = {.model_type = MODEL_UNIGRAM,
              .dummy_prefix = true,
              .remove_extra_whitespaces = true,
              .escape_whitespaces = true};
    const wire w = {.p = data, .end = (const uint8_t *)data + size, .file = data, .name = name, .err = err};
    lf_status status;
    LF_TRY(read_model(t, w, &s));
    LF_TRY(check_supported(&s, name, err));
    LF_TRY(find_unknown(t, name, err));
    t->scheme = LF_SCHEME_CODE_POINTS;
    t->byte_fallback = s.byte_fallback;
    t->fuse_unknown = true;
    LF_TRY(lf_rewrites_add(&t->normalizer, LF_REWRITE_ILL_FORMED, NULL, NULL, name, err));
    LF_TRY(lf_rewrites_add_spaces(&t->normalizer, s.dummy_prefix, s.remove_extra_whitespaces, name, err));
    t->lead = s.remove_extra_whitespaces ? LF_LEAD_SYMBOLS : s.dummy_prefix ? LF_LEAD_SYMBOL : LF_LEAD_KEPT;
    t->bos = find_control(t, &s.bos_piece, "<s>");
    t->adds_bos = true; /* as the tokenizers of Llama 2 and Mistral do */
    const int32_t eos = find_control(t, &s.eos_piece, "</s>");
    if (eos != LF_TOKEN_NONE) LF_TRY(lf_tokenizer_add_eos(t, eos, err));
    status = lf_load_added_by_kind(t, true, err);
done:
    return status;
}

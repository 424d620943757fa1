/* llama2.c's first ("legacy") model format -> GGUF.
 *
 *   int32    dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len      vocab_size < 0: untied
 *   float32  token embedding; attention norm, q, k, v, output, ffn norm, gate (w1), down (w2), up (w3), each for all
 *            layers before the next; final norm; 2 tables of (seq_len, head_dim / 2) that nobody needs; output (untied)
 *
 * Q and K already rotate adjacent pairs, as GGUF's architecture llama does. The epsilon (1e-5) and the rotary base
 * (10000) are constants of llama2.c's run.c. */
#include "convert/convert_int.h"

#include "base/map.h"
#include "base/mem.h"

#include <string.h>

enum { HEADER_INTS = 7, FIELD_MAX = 1 << 22 };

static const uint32_t later_magic = 0x616b3432; /* "ak42": the formats from version 1 on */

static lf_status read_header(lf_config *c, const lf_map *map, const char *path, lf_error *err)
{
    static const char *const names[HEADER_INTS] = {"dim",        "hidden_dim", "n_layers", "n_heads",
                                                   "n_kv_heads", "vocab_size", "seq_len"};
    int32_t h[HEADER_INTS];
    uint32_t magic;
    if (map->size < sizeof h)
        return lf_fail(err, LF_EFORMAT, "%s: found %zu bytes, expected a llama2.c header of %zu", path,
                       map->size, sizeof h);
    memcpy(h, map->data, sizeof h);
    memcpy(&magic, map->data, sizeof magic);
    if (memcmp(map->data, "GGUF", sizeof magic) == 0)
        return lf_fail(
            err, LF_EINVAL,
            "%s: found a GGUF file, expected a folder or a llama2.c file (quantize changes the types of a "
            "GGUF file)",
            path);
    if (magic == later_magic)
        return lf_fail(err, LF_EUNSUPPORTED,
                       "%s: found llama2.c format version %d, supported is the first (legacy) one", path,
                       (int)h[1]);
    const bool tied = h[5] > 0;
    if (h[5] < 0 && h[5] >= -FIELD_MAX) h[5] = -h[5];
    for (int i = 0; i < HEADER_INTS; i++)
        if (h[i] < 1 || h[i] > FIELD_MAX)
            return lf_fail(err, LF_EFORMAT, "%s: llama2.c header: found %s %d, expected 1 to %d", path,
                           names[i], (int)h[i], FIELD_MAX);
    if (h[0] % h[3] != 0 || h[0] / h[3] % 2 != 0 || h[3] % h[4] != 0)
        return lf_fail(
            err, LF_EFORMAT,
            "%s: llama2.c header: found dim %d, n_heads %d, n_kv_heads %d, expected whole heads of even "
            "size, in whole groups",
            path, (int)h[0], (int)h[3], (int)h[4]);
    *c = (lf_config){.arch = LF_ARCH_LLAMA,
                     .dim = h[0],
                     .ffn_dim = h[1],
                     .n_layers = h[2],
                     .n_heads = h[3],
                     .n_kv_heads = h[4],
                     .head_dim = h[0] / h[3],
                     .n_vocab = h[5],
                     .n_ctx_max = h[6],
                     .norm_eps = 1e-5f,
                     .rope_base = 10000.0,
                     .rope_factor = 1.0,
                     .tied = tied};
    return LF_OK;
}

typedef struct cursor {
    const lf_map *map;
    const char *path;
    size_t offset;
} cursor;

/* Moves past (rows, cols) float32, which must lie in the file; *out is where they start. */
static lf_status take(const uint8_t **out, cursor *at, int64_t rows, int64_t cols, const char *what,
                      lf_error *err)
{
    size_t bytes, end;
    if (!lf_mul_size((size_t)rows, (size_t)cols, &bytes) || !lf_mul_size(bytes, sizeof(float), &bytes) ||
        !lf_add_size(at->offset, bytes, &end) || end > at->map->size)
        return lf_fail(err, LF_EFORMAT, "%s: found %zu bytes, expected more: %s (%lld, %lld) starts at %zu",
                       at->path, at->map->size, what, (long long)rows, (long long)cols, at->offset);
    *out = at->map->data + at->offset;
    at->offset = end;
    return LF_OK;
}

static lf_status add_weight(lf_out_plan *plan, cursor *at, lf_weight weight, int i_layer, lf_error *err)
{
    char name[LF_WEIGHT_NAME_MAX];
    const uint8_t *src;
    int64_t n_out, n_in;
    lf_weight_name(name, weight, i_layer, LF_NAMES_GGUF);
    lf_weight_shape(plan->config, weight, &n_out, &n_in);
    const lf_status status = take(&src, at, n_out, n_in, name, err);
    return status == LF_OK ? lf_out_plan_add(plan, weight, i_layer, src, LF_DTYPE_F32, err) : status;
}

static lf_status plan_weights(lf_out_plan *plan, const lf_map *map, const char *path, lf_error *err)
{
    static const lf_weight of_layers[] = {LF_W_ATTN_NORM, LF_W_Q,    LF_W_K,    LF_W_V, LF_W_ATTN_OUTPUT,
                                          LF_W_FFN_NORM,  LF_W_GATE, LF_W_DOWN, LF_W_UP};
    lf_status status = LF_OK;
    const lf_config *c = plan->config;
    const uint8_t *unused;
    cursor at = {map, path, HEADER_INTS * sizeof(int32_t)};
    LF_TRY(add_weight(plan, &at, LF_W_TOKEN_EMBD, 0, err));
    for (size_t w = 0; w < sizeof of_layers / sizeof *of_layers; w++)
        for (int i = 0; i < c->n_layers; i++) LF_TRY(add_weight(plan, &at, of_layers[w], i, err));
    LF_TRY(add_weight(plan, &at, LF_W_OUTPUT_NORM, 0, err));
    LF_TRY(take(&unused, &at, c->n_ctx_max, c->head_dim, "the rotary tables", err));
    if (!c->tied) LF_TRY(add_weight(plan, &at, LF_W_OUTPUT, 0, err));
    if (at.offset != map->size)
        status = lf_fail(err, LF_EFORMAT, "%s: found %zu bytes, expected %zu for this header", path,
                         map->size, at.offset);
done:
    return status;
}

lf_status lf_convert_llama2c(const lf_convert_params *params, lf_error *err)
{
    lf_status status = LF_OK;
    lf_map map = {0};
    lf_config config;
    lf_gguf_writer *writer = NULL;
    lf_out_plan plan = {.config = &config, .dtype = params->dtype};
    LF_TRY(lf_map_open(&map, params->input_path, err));
    LF_TRY(read_header(&config, &map, params->input_path, err));
    LF_TRY(plan_weights(&plan, &map, params->input_path, err));
    LF_TRY(lf_gguf_writer_open(&writer, params->output_path, err));
    LF_TRY(lf_out_set_config(writer, &config, params->input_path,
                             params->dtype >= 0 ? (lf_dtype)params->dtype : LF_DTYPE_F32, err));
    if (params->tokenizer_path)
        LF_TRY(lf_out_set_tokenizer_file(writer, params->tokenizer_path, config.n_vocab, err));
    LF_TRY(lf_out_write(writer, &plan, params, err));
done:
    lf_gguf_writer_close(writer);
    lf_out_plan_free(&plan);
    lf_map_close(&map);
    return status;
}

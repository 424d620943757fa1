/* lookfar.h's lf_inspect: a model file as a JSON object. */
#include "base/mem.h"
#include "file/json.h"
#include "kv/kv.h"
#include "model/forward.h"
#include "token/tokenizer.h"

#include <stdlib.h>
#include <string.h>

/* Long metadata (vocabularies, templates) is shown by its beginning. */
enum { ITEMS_SHOWN = 8, STRING_SHOWN = 200, BUFFER_ROWS = 512, BUFFER_LOGITS = 16 };

static json_t *config_json(const lf_config *c)
{
    static const char *const scalings[] = {"none", "linear", "llama3"};
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:s, s:f, s:b, s:b, s:b}",
                     "arch", lf_arch_name(c->arch), "n_layers", c->n_layers, "dim", c->dim, "n_heads",
                     c->n_heads, "n_kv_heads", c->n_kv_heads, "head_dim", c->head_dim, "ffn_dim", c->ffn_dim,
                     "n_vocab", c->n_vocab, "n_ctx", c->n_ctx_max, "sliding_window", c->sliding_window,
                     "norm_eps", (double)c->norm_eps, "rope_base", c->rope_base, "rope_scaling",
                     scalings[c->rope_scaling], "rope_factor", c->rope_factor, "tied", c->tied, "qkv_bias",
                     c->qkv_bias, "qk_norm", c->qk_norm);
}

/* UTF-8 as it is; anything else is described by its length. */
static json_t *string_json(const char *s, size_t len)
{
    const size_t shown = len < STRING_SHOWN ? len : STRING_SHOWN;
    json_t *whole = json_stringn(s, shown);
    for (size_t cut = shown; !whole && cut > 0 && cut + 4 > shown; cut--) whole = json_stringn(s, cut - 1);
    return whole ? whole : json_sprintf("(%zu bytes)", len);
}

static json_t *value_json(const lf_gguf_value *v)
{
    switch (v->type) {
    case LF_GGUF_BOOL: return json_boolean(v->u != 0);
    case LF_GGUF_F32:
    case LF_GGUF_F64: return json_real(v->f);
    case LF_GGUF_STRING: return string_json(v->str, v->len);
    case LF_GGUF_U8:
    case LF_GGUF_U16:
    case LF_GGUF_U32:
    case LF_GGUF_U64: return json_integer((json_int_t)v->u);
    case LF_GGUF_I8:
    case LF_GGUF_I16:
    case LF_GGUF_I32:
    case LF_GGUF_I64: return json_integer(v->i);
    default: break;
    }
    json_t *items = json_array();
    const uint8_t *cursor = v->items;
    for (size_t i = 0; i < v->count && i < ITEMS_SHOWN; i++) {
        const char *str;
        size_t len;
        if (v->item_type == LF_GGUF_STRING) {
            lf_gguf_array_next_string(&cursor, &str, &len);
            (void)json_array_append_new(items, string_json(str, len));
        } else if (v->item_type == LF_GGUF_F32 || v->item_type == LF_GGUF_F64) {
            (void)json_array_append_new(items, json_real(lf_gguf_array_float(v, i)));
        } else {
            (void)json_array_append_new(items, json_integer(lf_gguf_array_int(v, i)));
        }
    }
    return json_pack("{s:I, s:o}", "count", (json_int_t)v->count, "first", items);
}

static json_t *metadata_json(const lf_gguf *g)
{
    json_t *all = json_object();
    for (size_t i = 0; i < lf_gguf_n_values(g); i++) {
        const lf_gguf_value *v = lf_gguf_value_at(g, i);
        (void)json_object_set_new(all, v->key, value_json(v));
    }
    return all;
}

static json_t *tensors_json(const lf_source *source)
{
    json_t *all = json_array();
    for (size_t i = 0; i < lf_source_n_tensors(source); i++) {
        const lf_tensor_info *t = lf_source_tensor_at(source, i);
        json_t *shape = json_array();
        for (int d = 0; d < t->n_dims; d++) (void)json_array_append_new(shape, json_integer(t->dims[d]));
        (void)json_array_append_new(all,
                                    json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "type", t->type_name,
                                              "shape", shape, "bytes", (json_int_t)t->bytes));
    }
    return all;
}

static json_t *tokenizer_json(const lf_source *source)
{
    lf_error err;
    lf_tokenizer *t = NULL;
    const lf_status status = source->form == LF_NAMES_HF ? lf_tokenizer_from_dir(&t, source->path, &err)
                                                         : lf_tokenizer_from_gguf(&t, source->gguf, &err);
    if (status != LF_OK) return json_pack("{s:s}", "error", err.text);
    json_t *facts = json_pack("{s:i, s:i, s:b, s:b}", "n_vocab", (int)lf_tokenizer_n_vocab(t), "bos",
                              (int)lf_tokenizer_bos(t), "adds_bos", lf_tokenizer_adds_bos(t), "chat_template",
                              lf_tokenizer_chat_template(t) != NULL);
    lf_tokenizer_free(t);
    return facts;
}

static lf_status memory_json(json_t **out, const lf_source *source, int n_ctx, int n_seqs, lf_dtype kv_dtype,
                             lf_error *err)
{
    const lf_config *c = &source->config;
    lf_kv_shape shape = {.n_layers = c->n_layers, .n_kv_heads = c->n_kv_heads};
    size_t weights, page, kv, n_pages;
    if (!lf_kv_layout_init(&shape.layout, kv_dtype, c->head_dim))
        return lf_fail(err, LF_EINVAL, "KV dtype: found %s, supported are f32, f16, bf16, q8_0",
                       lf_dtype_name(kv_dtype));
    const size_t pages_each = ((size_t)n_ctx + LF_PAGE_POS - 1) / LF_PAGE_POS;
    if (!lf_model_plan_bytes(source, -1, &weights) || !lf_kv_page_bytes(&shape, &page) ||
        !lf_mul_size(pages_each, (size_t)n_seqs, &n_pages) || !lf_mul_size(page, n_pages, &kv) ||
        kv > SIZE_MAX / 4)
        return lf_fail(err, LF_ELIMIT, "%s: the memory of %d sequences of %d positions overflows",
                       source->path, n_seqs, n_ctx);
    const size_t buffers = lf_forward_plan_bytes(c, &shape.layout, 1, BUFFER_ROWS, BUFFER_LOGITS);
    *out = json_pack("{s:i, s:i, s:s, s:I, s:I, s:I, s:I, s:I}", "n_ctx", n_ctx, "n_seqs", n_seqs, "kv_type",
                     lf_dtype_name(kv_dtype), "weights", (json_int_t)weights, "kv_per_position",
                     (json_int_t)(page / LF_PAGE_POS), "kv", (json_int_t)kv, "buffers", (json_int_t)buffers,
                     "total", (json_int_t)(weights + kv + buffers));
    return LF_OK;
}

lf_status lf_inspect(const char *model_path, int n_ctx, int n_seqs, lf_dtype kv_dtype, char **json,
                     lf_error *err)
{
    lf_status status = LF_OK;
    lf_source source = {0};
    json_t *root = NULL, *memory = NULL;
    *json = NULL;
    if (n_ctx < 0 || n_seqs < 1) {
        status = lf_fail(err, LF_EINVAL,
                         "inspect: found %d positions of %d sequences, expected 0 or more of 1 or more",
                         n_ctx, n_seqs);
        goto done;
    }
    LF_TRY(lf_source_open(&source, model_path, err));
    LF_TRY(memory_json(&memory, &source, n_ctx ? n_ctx : source.config.n_ctx_max, n_seqs, kv_dtype, err));
    root = json_pack("{s:s, s:s, s:o, s:O, s:o, s:o}", "path", model_path, "form",
                     source.form == LF_NAMES_HF ? "safetensors" : "gguf", "config",
                     config_json(&source.config), "memory", memory, "tokenizer", tokenizer_json(&source),
                     "tensors", tensors_json(&source));
    if (root && source.gguf) {
        (void)json_object_set_new(root, "gguf_version", json_integer(lf_gguf_version(source.gguf)));
        (void)json_object_set_new(root, "metadata", metadata_json(source.gguf));
    }
    *json = root ? json_dumps(root, JSON_COMPACT) : NULL;
    if (!*json) status = lf_fail_memory(err, "a description", 0);
done:
    json_decref(root);
    json_decref(memory);
    lf_source_close(&source);
    return status;
}

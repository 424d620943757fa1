#include "model/source.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void lf_weight_shape(const lf_config *c, lf_weight weight, int64_t *n_out, int64_t *n_in)
{
    const int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
    const int64_t shapes[LF_W_COUNT][2] = {
        [LF_W_TOKEN_EMBD] = {c->n_vocab, c->dim},
        [LF_W_OUTPUT_NORM] = {1, c->dim},
        [LF_W_OUTPUT] = {c->n_vocab, c->dim},
        [LF_W_ROPE_FREQS] = {1, c->head_dim / 2},
        [LF_W_ATTN_NORM] = {1, c->dim},
        [LF_W_Q] = {q, c->dim},
        [LF_W_K] = {kv, c->dim},
        [LF_W_V] = {kv, c->dim},
        [LF_W_Q_BIAS] = {1, q},
        [LF_W_K_BIAS] = {1, kv},
        [LF_W_V_BIAS] = {1, kv},
        [LF_W_Q_NORM] = {1, c->head_dim},
        [LF_W_K_NORM] = {1, c->head_dim},
        [LF_W_ATTN_OUTPUT] = {c->dim, q},
        [LF_W_FFN_NORM] = {1, c->dim},
        [LF_W_GATE] = {c->ffn_dim, c->dim},
        [LF_W_UP] = {c->ffn_dim, c->dim},
        [LF_W_DOWN] = {c->dim, c->ffn_dim},
    };
    *n_out = shapes[weight][0];
    *n_in = shapes[weight][1];
}

bool lf_weight_is_matrix(lf_weight weight)
{
    switch (weight) {
    case LF_W_TOKEN_EMBD:
    case LF_W_OUTPUT:
    case LF_W_Q:
    case LF_W_K:
    case LF_W_V:
    case LF_W_ATTN_OUTPUT:
    case LF_W_GATE:
    case LF_W_UP:
    case LF_W_DOWN: return true;
    default: return false;
    }
}

bool lf_weight_expected(const lf_config *c, lf_weight weight)
{
    switch (weight) {
    case LF_W_OUTPUT: return !c->tied;
    case LF_W_ROPE_FREQS: return false; /* optional: llama3 scaling in GGUF form */
    case LF_W_Q_BIAS:
    case LF_W_K_BIAS:
    case LF_W_V_BIAS: return c->qkv_bias;
    case LF_W_Q_NORM:
    case LF_W_K_NORM: return c->qk_norm;
    default: return true;
    }
}

const lf_tensor_info *lf_source_find(const lf_source *s, lf_weight weight, int i_layer)
{
    char name[LF_WEIGHT_NAME_MAX];
    if (weight == LF_W_OUTPUT && s->config.tied)
        return NULL; /* a tied model's own copy, if any, is not used */
    lf_weight_name(name, weight, i_layer, s->form);
    return s->form == LF_NAMES_GGUF ? lf_gguf_find_tensor(s->gguf, name) : lf_safetensors_find(s->st, name);
}

size_t lf_source_n_tensors(const lf_source *s)
{
    return s->form == LF_NAMES_GGUF ? lf_gguf_n_tensors(s->gguf) : lf_safetensors_n_tensors(s->st);
}

const lf_tensor_info *lf_source_tensor_at(const lf_source *s, size_t i)
{
    return s->form == LF_NAMES_GGUF ? lf_gguf_tensor_at(s->gguf, i) : lf_safetensors_tensor_at(s->st, i);
}

int64_t lf_source_row(const lf_source *s, lf_weight weight, int64_t i_out)
{
    const bool rotated = weight == LF_W_Q || weight == LF_W_K || weight == LF_W_Q_BIAS ||
                         weight == LF_W_K_BIAS;
    if (!rotated || s->form != LF_NAMES_GGUF || s->config.arch != LF_ARCH_LLAMA) return i_out;
    const int64_t head_dim = s->config.head_dim, half = head_dim / 2;
    const int64_t i = i_out % head_dim;
    return i_out - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

/* ---- checks ---- */

static void describe_shape(char out[64], const lf_tensor_info *t)
{
    int n = snprintf(out, 64, "(");
    for (int i = 0; i < t->n_dims && n < 60; i++)
        n += snprintf(out + n, (size_t)(64 - n), i ? ", %lld" : "%lld", (long long)t->dims[i]);
    if (n < 63) (void)snprintf(out + n, (size_t)(64 - n), ")");
}

static lf_status check_tensor(const lf_source *s, lf_weight weight, const lf_tensor_info *t, lf_error *err)
{
    char found[64];
    int64_t n_out, n_in;
    lf_weight_shape(&s->config, weight, &n_out, &n_in);
    if (!t->supported)
        return lf_fail(
            err, LF_EUNSUPPORTED,
            "%s: tensor %s: found type %s, supported are f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k",
            s->path, t->name, t->type_name);
    const bool matrix = lf_weight_is_matrix(weight);
    const bool fits = matrix ? t->n_dims == 2 && t->dims[0] == n_out && t->dims[1] == n_in
                             : t->n_dims == 1 && t->dims[0] == n_in;
    if (fits) return LF_OK;
    describe_shape(found, t);
    if (matrix)
        return lf_fail(err, LF_EFORMAT, "%s: tensor %s: found shape %s, expected (%lld, %lld)", s->path,
                       t->name, found, (long long)n_out, (long long)n_in);
    return lf_fail(err, LF_EFORMAT, "%s: tensor %s: found shape %s, expected (%lld)", s->path, t->name, found,
                   (long long)n_in);
}

static lf_status check_weight(const lf_source *s, lf_weight weight, int i_layer, size_t *n_known,
                              lf_error *err)
{
    const lf_tensor_info *t = lf_source_find(s, weight, i_layer);
    if (t) {
        ++*n_known;
        return check_tensor(s, weight, t, err);
    }
    if (!lf_weight_expected(&s->config, weight)) return LF_OK;
    char name[LF_WEIGHT_NAME_MAX];
    lf_weight_name(name, weight, i_layer, s->form);
    return lf_fail(err, LF_EFORMAT, "%s: tensor %s is missing", s->path, name);
}

/* Tensors that carry nothing a forward pass needs: the tied copy of the output, and rotation tables that old
 * checkpoints store. */
static bool is_redundant(const char *name)
{
    const char *suffix = ".rotary_emb.inv_freq";
    const size_t n = strlen(name), n_suffix = strlen(suffix);
    if (n >= n_suffix && strcmp(name + n - n_suffix, suffix) == 0) return true;
    return strcmp(name, "lm_head.weight") == 0 || strcmp(name, "output.weight") == 0;
}

static bool is_known(const lf_source *s, const char *tensor)
{
    char name[LF_WEIGHT_NAME_MAX];
    for (int w = 0; w < LF_W_FIRST_OF_LAYER; w++) {
        lf_weight_name(name, (lf_weight)w, 0, s->form);
        if (strcmp(tensor, name) == 0) return true;
    }
    int layer = 0, consumed = 0;
    if (sscanf(tensor, s->form == LF_NAMES_GGUF ? "blk.%6d.%n" : "model.layers.%6d.%n", &layer, &consumed) !=
            1 ||
        consumed == 0 || layer < 0 || layer >= s->config.n_layers)
        return false;
    for (int w = LF_W_FIRST_OF_LAYER; w < LF_W_COUNT; w++) {
        lf_weight_name(name, (lf_weight)w, layer, s->form);
        if (strcmp(tensor, name) == 0) return true;
    }
    return false;
}

static lf_status check_tensors(const lf_source *s, lf_error *err)
{
    lf_status status = LF_OK;
    size_t n_known = 0;
    for (int w = 0; w < LF_W_FIRST_OF_LAYER; w++) LF_TRY(check_weight(s, (lf_weight)w, 0, &n_known, err));
    for (int i = 0; i < s->config.n_layers; i++)
        for (int w = LF_W_FIRST_OF_LAYER; w < LF_W_COUNT; w++)
            LF_TRY(check_weight(s, (lf_weight)w, i, &n_known, err));
    if (n_known == lf_source_n_tensors(s)) goto done;
    for (size_t i = 0; i < lf_source_n_tensors(s); i++) {
        const char *name = lf_source_tensor_at(s, i)->name;
        if (is_redundant(name) || is_known(s, name)) continue;
        status = lf_fail(err, LF_EUNSUPPORTED, "%s: tensor %s: not part of a supported architecture (%s)",
                         s->path, name, lf_arch_name(s->config.arch));
        break;
    }
done:
    return status;
}

/* ---- opening ---- */

static lf_status open_dir(lf_source *s, lf_error *err)
{
    lf_status status = LF_OK;
    s->form = LF_NAMES_HF;
    LF_TRY(lf_config_from_dir(&s->config, s->path, err));
    LF_TRY(lf_safetensors_open_dir(&s->st, s->path, err));
    s->config.qkv_bias = lf_source_find(s, LF_W_Q_BIAS, 0) != NULL;
    s->config.qk_norm = lf_source_find(s, LF_W_Q_NORM, 0) != NULL;
done:
    return status;
}

static lf_status open_file(lf_source *s, lf_error *err)
{
    lf_status status = LF_OK;
    s->form = LF_NAMES_GGUF;
    LF_TRY(lf_gguf_open(&s->gguf, s->path, err));
    LF_TRY(lf_config_from_gguf(&s->config, s->gguf, err));
done:
    return status;
}

lf_status lf_source_open(lf_source *s, const char *path, lf_error *err)
{
    lf_status status = LF_OK;
    struct stat st;
    *s = (lf_source){0};
    if (stat(path, &st) != 0)
        return lf_fail(err, LF_EIO, "%s: cannot open the model: %s", path, strerror(errno));
    s->path = lf_strndup(path, strlen(path));
    if (!s->path) return lf_fail_memory(err, "a path", strlen(path));
    LF_TRY(S_ISDIR(st.st_mode) ? open_dir(s, err) : open_file(s, err));
    LF_TRY(check_tensors(s, err));
done:
    if (status != LF_OK) lf_source_close(s);
    return status;
}

void lf_source_close(lf_source *s)
{
    lf_gguf_close(s->gguf);
    lf_safetensors_close(s->st);
    free(s->path);
    *s = (lf_source){0};
}

#include "model/config.h"

#include "base/mem.h"
#include "file/json.h"
#include "kernel/kv_tile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Named limits: far above any real model, low enough that sizes computed from them cannot surprise. */
enum { LAYERS_MAX = 1024, DIM_MAX = 1 << 20, HEADS_MAX = 4096, VOCAB_MAX = 1 << 22, CTX_MAX = 1 << 26 };

static const char *const arch_names[LF_ARCH_COUNT] = {"llama", "qwen2", "qwen3"};

const char *lf_arch_name(lf_arch arch)
{
    return arch_names[arch];
}

/* ---- checks shared by both sources ---- */

typedef struct int_field {
    const char *key;
    int64_t value;
    int64_t max;
    int *out;
} int_field;

static lf_status check_ints(const int_field *fields, size_t n, const char *file, lf_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (fields[i].value < 1 || fields[i].value > fields[i].max)
            return lf_fail(err, LF_EFORMAT, "%s: %s: found %lld, expected 1 to %lld", file, fields[i].key,
                           (long long)fields[i].value, (long long)fields[i].max);
        *fields[i].out = (int)fields[i].value;
    }
    return LF_OK;
}

static lf_status check_config(const lf_config *c, const char *file, lf_error *err)
{
    if (c->n_heads % c->n_kv_heads != 0)
        return lf_fail(err, LF_EFORMAT, "%s: %d attention heads do not divide into %d key-value heads", file,
                       c->n_heads, c->n_kv_heads);
    if (c->n_heads / c->n_kv_heads > LF_GROUP_MAX)
        return lf_fail(err, LF_EUNSUPPORTED,
                       "%s: found %d attention heads for each key-value head, supported are 1 to %d", file,
                       c->n_heads / c->n_kv_heads, LF_GROUP_MAX);
    if (c->head_dim % 2 != 0)
        return lf_fail(err, LF_EUNSUPPORTED, "%s: head dimension: found %d, expected an even number", file,
                       c->head_dim);
    if (!(c->norm_eps > 0.0f && c->norm_eps < 1.0f))
        return lf_fail(err, LF_EFORMAT, "%s: RMS norm epsilon: found %g, expected between 0 and 1", file,
                       (double)c->norm_eps);
    if (!(c->rope_base >= 1.0 && c->rope_base <= 1e12))
        return lf_fail(err, LF_EFORMAT, "%s: rotary base: found %g, expected 1 to 1e12", file, c->rope_base);
    if (c->rope_scaling != LF_ROPE_PLAIN && !(c->rope_factor >= 1.0 && c->rope_factor <= 1e6))
        return lf_fail(err, LF_EFORMAT, "%s: rotary scaling factor: found %g, expected 1 to 1e6", file,
                       c->rope_factor);
    if (c->rope_scaling == LF_ROPE_LLAMA3 &&
        !(c->rope_low_freq > 0 && c->rope_high_freq > c->rope_low_freq && c->rope_n_ctx_original > 0))
        return lf_fail(
            err, LF_EFORMAT,
            "%s: llama3 rotary scaling: found low %g, high %g, original context %d, expected 0 < low < high "
            "and a positive context",
            file, c->rope_low_freq, c->rope_high_freq, c->rope_n_ctx_original);
    return LF_OK;
}

/* ---- config.json ---- */

static lf_status arch_from_model_type(lf_arch *out, const char *type, const char *file, lf_error *err)
{
    static const struct {
        const char *type;
        lf_arch arch;
    } known[] = {
        {"llama", LF_ARCH_LLAMA}, {"mistral", LF_ARCH_LLAMA}, {"yi", LF_ARCH_LLAMA},
        {"qwen2", LF_ARCH_QWEN2}, {"qwen3", LF_ARCH_QWEN3},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(type, known[i].type) == 0) {
            *out = known[i].arch;
            return LF_OK;
        }
    }
    return lf_fail(err, LF_EUNSUPPORTED,
                   "%s: model_type: found \"%s\", supported are llama, mistral, yi, qwen2, qwen3", file,
                   type);
}

/* rope_scaling, or rope_parameters as newer transformers write it (which also moves rope_theta inside). */
static lf_status read_rope_json(lf_config *c, const json_t *root, const char *file, lf_error *err)
{
    lf_status status = LF_OK;
    const json_t *scaling = json_object_get(root, "rope_scaling");
    const json_t *parameters = json_object_get(root, "rope_parameters");
    const char *type = "default";
    int64_t original = c->n_ctx_max;
    LF_TRY(lf_json_get_float(root, file, "rope_theta", false, &c->rope_base, err));
    if (json_is_object(parameters)) {
        LF_TRY(lf_json_get_float(parameters, file, "rope_theta", false, &c->rope_base, err));
        if (!json_is_object(scaling)) scaling = parameters;
    }
    if (!json_is_object(scaling)) goto done;
    LF_TRY(lf_json_get_string(scaling, file, "type", false, &type, err));
    LF_TRY(lf_json_get_string(scaling, file, "rope_type", false, &type, err));
    if (strcmp(type, "default") == 0) goto done;
    if (strcmp(type, "linear") != 0 && strcmp(type, "llama3") != 0) {
        status = lf_fail(err, LF_EUNSUPPORTED,
                         "%s: rope_scaling type: found \"%s\", supported are default, linear, llama3", file,
                         type);
        goto done;
    }
    LF_TRY(lf_json_get_float(scaling, file, "factor", true, &c->rope_factor, err));
    c->rope_scaling = LF_ROPE_LINEAR;
    if (strcmp(type, "linear") == 0) goto done;
    c->rope_scaling = LF_ROPE_LLAMA3;
    LF_TRY(lf_json_get_float(scaling, file, "low_freq_factor", true, &c->rope_low_freq, err));
    LF_TRY(lf_json_get_float(scaling, file, "high_freq_factor", true, &c->rope_high_freq, err));
    LF_TRY(lf_json_get_int(scaling, file, "original_max_position_embeddings", false, &original, err));
    if (original < 1 || original > CTX_MAX) {
        status = lf_fail(err, LF_EFORMAT,
                         "%s: original_max_position_embeddings: found %lld, expected 1 to %d", file,
                         (long long)original, CTX_MAX);
        goto done;
    }
    c->rope_n_ctx_original = (int)original;
done:
    return status;
}

/* Keys whose other values would change the arithmetic. */
static lf_status refuse_unknown_json(const json_t *root, const char *file, lf_error *err)
{
    lf_status status = LF_OK;
    const char *act = "silu";
    bool mlp_bias = false;
    double partial = 1.0;
    int64_t pretraining_tp = 1, n_experts = 0;
    LF_TRY(lf_json_get_string(root, file, "hidden_act", false, &act, err));
    LF_TRY(lf_json_get_bool(root, file, "mlp_bias", false, &mlp_bias, err));
    LF_TRY(lf_json_get_float(root, file, "partial_rotary_factor", false, &partial, err));
    LF_TRY(lf_json_get_int(root, file, "pretraining_tp", false, &pretraining_tp, err));
    LF_TRY(lf_json_get_int(root, file, "num_experts", false, &n_experts, err));
    (void)pretraining_tp; /* changes only how transformers splits its products */
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        status = lf_fail(err, LF_EUNSUPPORTED, "%s: hidden_act: found \"%s\", supported is silu", file, act);
    else if (mlp_bias)
        status = lf_fail(err, LF_EUNSUPPORTED, "%s: mlp_bias: found true, supported is false", file);
    else if (partial != 1.0)
        status = lf_fail(err, LF_EUNSUPPORTED, "%s: partial_rotary_factor: found %g, supported is 1", file,
                         partial);
    else if (n_experts > 1)
        status = lf_fail(err, LF_EUNSUPPORTED, "%s: num_experts: found %lld, supported are dense models",
                         file, (long long)n_experts);
done:
    return status;
}

static lf_status read_window_json(lf_config *c, const json_t *root, const char *file, lf_error *err)
{
    lf_status status = LF_OK;
    int64_t window = 0;
    bool use = true; /* Mistral has no switch; Qwen2 has one and leaves it off */
    LF_TRY(lf_json_get_int(root, file, "sliding_window", false, &window, err));
    LF_TRY(lf_json_get_bool(root, file, "use_sliding_window", false, &use, err));
    if (window < 0 || window > CTX_MAX)
        status = lf_fail(err, LF_EFORMAT, "%s: sliding_window: found %lld, expected 0 to %d", file,
                         (long long)window, CTX_MAX);
    else
        c->sliding_window = use ? (int)window : 0;
done:
    return status;
}

static lf_status read_json(lf_config *c, const json_t *root, const char *file, lf_error *err)
{
    lf_status status = LF_OK;
    const char *type = NULL;
    bool attention_bias = false;
    double eps = 1e-6;
    int64_t layers = 0, dim = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab = 0, ctx = 2048;
    LF_TRY(lf_json_get_string(root, file, "model_type", true, &type, err));
    LF_TRY(arch_from_model_type(&c->arch, type, file, err));
    LF_TRY(refuse_unknown_json(root, file, err));
    LF_TRY(lf_json_get_int(root, file, "num_hidden_layers", true, &layers, err));
    LF_TRY(lf_json_get_int(root, file, "hidden_size", true, &dim, err));
    LF_TRY(lf_json_get_int(root, file, "num_attention_heads", true, &heads, err));
    kv_heads = heads;
    LF_TRY(lf_json_get_int(root, file, "num_key_value_heads", false, &kv_heads, err));
    if (heads > 0) head_dim = dim / heads;
    if (c->arch == LF_ARCH_QWEN3) head_dim = 128; /* transformers' default for it */
    LF_TRY(lf_json_get_int(root, file, "head_dim", false, &head_dim, err));
    LF_TRY(lf_json_get_int(root, file, "intermediate_size", true, &ffn, err));
    LF_TRY(lf_json_get_int(root, file, "vocab_size", true, &vocab, err));
    LF_TRY(lf_json_get_int(root, file, "max_position_embeddings", false, &ctx, err));
    const int_field fields[] = {
        {"num_hidden_layers", layers, LAYERS_MAX, &c->n_layers},
        {"hidden_size", dim, DIM_MAX, &c->dim},
        {"num_attention_heads", heads, HEADS_MAX, &c->n_heads},
        {"num_key_value_heads", kv_heads, HEADS_MAX, &c->n_kv_heads},
        {"head_dim", head_dim, LF_HEAD_DIM_MAX, &c->head_dim},
        {"intermediate_size", ffn, DIM_MAX, &c->ffn_dim},
        {"vocab_size", vocab, VOCAB_MAX, &c->n_vocab},
        {"max_position_embeddings", ctx, CTX_MAX, &c->n_ctx_max},
    };
    LF_TRY(check_ints(fields, sizeof fields / sizeof *fields, file, err));
    LF_TRY(lf_json_get_float(root, file, "rms_norm_eps", false, &eps, err));
    c->norm_eps = (float)eps;
    LF_TRY(read_rope_json(c, root, file, err));
    LF_TRY(read_window_json(c, root, file, err));
    LF_TRY(lf_json_get_bool(root, file, "tie_word_embeddings", false, &c->tied, err));
    LF_TRY(lf_json_get_bool(root, file, "attention_bias", false, &attention_bias, err));
    c->qkv_bias = c->arch == LF_ARCH_QWEN2 || attention_bias;
    c->qk_norm = c->arch == LF_ARCH_QWEN3;
    LF_TRY(check_config(c, file, err));
done:
    return status;
}

lf_status lf_config_from_json(lf_config *out, const char *path, lf_error *err)
{
    json_t *root = NULL;
    *out = (lf_config){.rope_base = 10000.0, .rope_factor = 1.0};
    lf_status status = lf_json_load(&root, path, err);
    if (status == LF_OK) status = read_json(out, root, path, err);
    json_decref(root);
    return status;
}

lf_status lf_config_from_dir(lf_config *out, const char *dir, lf_error *err)
{
    lf_bytes path = {0};
    if (!lf_bytes_printf(&path, "%s/config.json", dir)) return lf_fail_memory(err, "a path", strlen(dir));
    const lf_status status = lf_config_from_json(out, path.data, err);
    lf_bytes_free(&path);
    return status;
}

/* ---- GGUF ---- */

enum { KEY_MAX = 96 };

static const char *arch_key(char key[KEY_MAX], const lf_config *c, const char *suffix)
{
    (void)snprintf(key, KEY_MAX, "%s.%s", lf_arch_name(c->arch), suffix);
    return key;
}

static lf_status arch_from_gguf(lf_arch *out, const lf_gguf *g, lf_error *err)
{
    char *name = NULL;
    lf_status status = lf_gguf_get_string(g, "general.architecture", true, &name, err);
    if (status != LF_OK) return status;
    int i = 0;
    while (i < LF_ARCH_COUNT && strcmp(name, arch_names[i]) != 0) i++;
    if (i == LF_ARCH_COUNT)
        status = lf_fail(err, LF_EUNSUPPORTED,
                         "%s: general.architecture: found \"%s\", supported are llama, qwen2, qwen3",
                         lf_gguf_name(g), name);
    else
        *out = (lf_arch)i;
    free(name);
    return status;
}

static lf_status read_rope_gguf(lf_config *c, const lf_gguf *g, lf_error *err)
{
    lf_status status = LF_OK;
    char key[KEY_MAX];
    char *type = NULL;
    LF_TRY(lf_gguf_get_float(g, arch_key(key, c, "rope.freq_base"), false, &c->rope_base, err));
    LF_TRY(lf_gguf_get_float(g, arch_key(key, c, "rope.scale_linear"), false, &c->rope_factor, err));
    LF_TRY(lf_gguf_get_float(g, arch_key(key, c, "rope.scaling.factor"), false, &c->rope_factor, err));
    LF_TRY(lf_gguf_get_string(g, arch_key(key, c, "rope.scaling.type"), false, &type, err));
    if (type && strcmp(type, "linear") != 0 && strcmp(type, "none") != 0) {
        status = lf_fail(err, LF_EUNSUPPORTED, "%s: %s: found \"%s\", supported are none, linear",
                         lf_gguf_name(g), key, type);
        goto done;
    }
    if (type && strcmp(type, "none") == 0) c->rope_factor = 1.0;
    if (c->rope_factor != 1.0) c->rope_scaling = LF_ROPE_LINEAR;
    int64_t rotated = c->head_dim;
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "rope.dimension_count"), false, &rotated, err));
    if (rotated != c->head_dim)
        status = lf_fail(err, LF_EUNSUPPORTED, "%s: %s: found %lld, supported is the head dimension, %d",
                         lf_gguf_name(g), key, (long long)rotated, c->head_dim);
done:
    free(type);
    return status;
}

/* The vocabulary is the embedding's first dimension: the metadata key is optional and older files lack it. */
static lf_status vocab_from_gguf(int64_t *out, const lf_gguf *g, lf_error *err)
{
    const lf_tensor_info *embd = lf_gguf_find_tensor(g, "token_embd.weight");
    if (!embd) return lf_fail(err, LF_EFORMAT, "%s: tensor token_embd.weight is missing", lf_gguf_name(g));
    *out = embd->dims[0];
    return LF_OK;
}

lf_status lf_config_from_gguf(lf_config *c, const lf_gguf *g, lf_error *err)
{
    lf_status status = LF_OK;
    char key[KEY_MAX];
    int64_t layers = 0, dim = 0, heads = 0, kv_heads = 0, head_dim = 0, v_dim = 0, ffn = 0, vocab = 0,
            ctx = 0, experts = 0;
    int64_t window = 0;
    double eps = 0;
    *c = (lf_config){.rope_base = 10000.0, .rope_factor = 1.0};
    LF_TRY(arch_from_gguf(&c->arch, g, err));
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "expert_count"), false, &experts, err));
    if (experts > 0) {
        status = lf_fail(err, LF_EUNSUPPORTED, "%s: %s: found %lld, supported are dense models",
                         lf_gguf_name(g), key, (long long)experts);
        goto done;
    }
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "block_count"), true, &layers, err));
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "embedding_length"), true, &dim, err));
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "attention.head_count"), true, &heads, err));
    kv_heads = heads;
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "attention.head_count_kv"), false, &kv_heads, err));
    if (heads > 0) head_dim = dim / heads;
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "attention.key_length"), false, &head_dim, err));
    v_dim = head_dim;
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "attention.value_length"), false, &v_dim, err));
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "feed_forward_length"), true, &ffn, err));
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "context_length"), true, &ctx, err));
    LF_TRY(vocab_from_gguf(&vocab, g, err));
    const int_field fields[] = {
        {"block_count", layers, LAYERS_MAX, &c->n_layers},
        {"embedding_length", dim, DIM_MAX, &c->dim},
        {"attention.head_count", heads, HEADS_MAX, &c->n_heads},
        {"attention.head_count_kv", kv_heads, HEADS_MAX, &c->n_kv_heads},
        {"attention.key_length", head_dim, LF_HEAD_DIM_MAX, &c->head_dim},
        {"feed_forward_length", ffn, DIM_MAX, &c->ffn_dim},
        {"vocabulary (rows of token_embd.weight)", vocab, VOCAB_MAX, &c->n_vocab},
        {"context_length", ctx, CTX_MAX, &c->n_ctx_max},
    };
    LF_TRY(check_ints(fields, sizeof fields / sizeof *fields, lf_gguf_name(g), err));
    if (v_dim != head_dim) {
        status = lf_fail(err, LF_EUNSUPPORTED,
                         "%s: attention.value_length: found %lld, supported is attention.key_length, %lld",
                         lf_gguf_name(g), (long long)v_dim, (long long)head_dim);
        goto done;
    }
    LF_TRY(lf_gguf_get_float(g, arch_key(key, c, "attention.layer_norm_rms_epsilon"), true, &eps, err));
    c->norm_eps = (float)eps;
    LF_TRY(read_rope_gguf(c, g, err));
    LF_TRY(lf_gguf_get_int(g, arch_key(key, c, "attention.sliding_window"), false, &window, err));
    if (window > 0 && window <= CTX_MAX) c->sliding_window = (int)window;
    c->tied = lf_gguf_find_tensor(g, "output.weight") == NULL;
    c->qkv_bias = lf_gguf_find_tensor(g, "blk.0.attn_q.bias") != NULL;
    c->qk_norm = lf_gguf_find_tensor(g, "blk.0.attn_q_norm.weight") != NULL;
    LF_TRY(check_config(c, lf_gguf_name(g), err));
done:
    return status;
}

/* ---- rotation ---- */

/* transformers, _compute_llama3_parameters: long wavelengths are divided by factor, short ones kept, those between
 * blended by where they stand. */
static float llama3_freq(float freq, const lf_config *c)
{
    const double original = c->rope_n_ctx_original;
    const float wavelength = (float)(2.0 * M_PI) / freq;
    if (wavelength < (float)(original / c->rope_high_freq)) return freq;
    if (wavelength > (float)(original / c->rope_low_freq)) return freq / (float)c->rope_factor;
    const float smooth = ((float)original / wavelength - (float)c->rope_low_freq) /
                         (float)(c->rope_high_freq - c->rope_low_freq);
    return (1.0f - smooth) * freq / (float)c->rope_factor + smooth * freq;
}

void lf_config_rope_freqs(float *freqs, const lf_config *c, const float *divisors)
{
    for (int i = 0; i < c->head_dim / 2; i++) {
        const float freq = (float)(1.0 / pow(c->rope_base, 2.0 * i / c->head_dim));
        if (divisors)
            freqs[i] = freq / divisors[i];
        else if (c->rope_scaling == LF_ROPE_LLAMA3)
            freqs[i] = llama3_freq(freq, c);
        else
            freqs[i] = freq;
        if (c->rope_scaling == LF_ROPE_LINEAR) freqs[i] /= (float)c->rope_factor;
    }
}

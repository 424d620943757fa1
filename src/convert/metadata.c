/* The metadata that every model has, under the keys and in the types of llama.cpp's converter. */
#include "convert/convert_int.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 96, QUANTIZATION_VERSION = 2 };

void lf_out_set_file_type(lf_gguf_writer *w, lf_dtype dtype)
{
    static const int file_types[LF_DTYPE_COUNT] = {[LF_DTYPE_F32] = 0,
                                                   [LF_DTYPE_F16] = 1,
                                                   [LF_DTYPE_BF16] = 32,
                                                   [LF_DTYPE_Q8_0] = 7,
                                                   [LF_DTYPE_Q4_0] = 2,
                                                   [LF_DTYPE_Q4_K] = 14 /* Q4_K_S */,
                                                   [LF_DTYPE_Q5_K] = 16 /* Q5_K_S */,
                                                   [LF_DTYPE_Q6_K] = 18};
    lf_gguf_set_int(w, LF_OUT_FILE_TYPE_KEY, LF_GGUF_U32, file_types[dtype]);
    lf_gguf_set_int(w, LF_OUT_QUANTIZATION_VERSION_KEY, LF_GGUF_U32, QUANTIZATION_VERSION);
}

static void set_int(lf_gguf_writer *w, const lf_config *c, const char *suffix, int value)
{
    char key[KEY_MAX];
    (void)snprintf(key, sizeof key, "%s.%s", lf_arch_name(c->arch), suffix);
    lf_gguf_set_int(w, key, LF_GGUF_U32, value);
}

static void set_float(lf_gguf_writer *w, const lf_config *c, const char *suffix, double value)
{
    char key[KEY_MAX];
    (void)snprintf(key, sizeof key, "%s.%s", lf_arch_name(c->arch), suffix);
    lf_gguf_set_float(w, key, LF_GGUF_F32, value);
}

static void set_string(lf_gguf_writer *w, const char *key, const char *value)
{
    lf_gguf_set_string(w, key, value, strlen(value));
}

/* llama3 scaling has no keys: it is the tensor rope_freqs.weight. */
static void set_rope(lf_gguf_writer *w, const lf_config *c)
{
    char key[KEY_MAX];
    set_int(w, c, "rope.dimension_count", c->head_dim);
    set_float(w, c, "rope.freq_base", c->rope_base);
    if (c->rope_scaling != LF_ROPE_LINEAR) return;
    (void)snprintf(key, sizeof key, "%s.rope.scaling.type", lf_arch_name(c->arch));
    set_string(w, key, "linear");
    set_float(w, c, "rope.scaling.factor", c->rope_factor);
}

static void set_hyper_parameters(lf_gguf_writer *w, const lf_config *c)
{
    set_int(w, c, "block_count", c->n_layers);
    set_int(w, c, "context_length", c->n_ctx_max);
    set_int(w, c, "embedding_length", c->dim);
    set_int(w, c, "feed_forward_length", c->ffn_dim);
    set_int(w, c, "attention.head_count", c->n_heads);
    set_int(w, c, "attention.head_count_kv", c->n_kv_heads);
    set_float(w, c, "attention.layer_norm_rms_epsilon", (double)c->norm_eps);
    if (c->n_heads * c->head_dim != c->dim) {
        set_int(w, c, "attention.key_length", c->head_dim);
        set_int(w, c, "attention.value_length", c->head_dim);
    }
    if (c->sliding_window > 0) set_int(w, c, "attention.sliding_window", c->sliding_window);
    set_int(w, c, "vocab_size", c->n_vocab);
    set_rope(w, c);
}

/* The last component of the path, without links and dots. */
static lf_status set_name(lf_gguf_writer *w, const char *path, lf_error *err)
{
    char *whole = realpath(path, NULL);
    if (!whole && errno == ENOMEM) return lf_fail_memory(err, "a path", strlen(path));
    if (!whole) return lf_fail(err, LF_EIO, "%s: cannot find its full name: %s", path, strerror(errno));
    set_string(w, "general.name", strrchr(whole, '/') + 1);
    free(whole);
    return LF_OK;
}

lf_status lf_out_set_config(lf_gguf_writer *w, const lf_config *c, const char *path, lf_dtype file_type,
                            lf_error *err)
{
    set_string(w, "general.architecture", lf_arch_name(c->arch));
    set_string(w, "general.type", "model");
    const lf_status status = set_name(w, path, err);
    if (status != LF_OK) return status;
    set_hyper_parameters(w, c);
    lf_out_set_file_type(w, file_type);
    return LF_OK;
}

lf_status lf_out_set_tokenizer(lf_gguf_writer *w, const lf_tokenizer *t, const char *path, int n_vocab,
                               lf_error *err)
{
    if (lf_tokenizer_n_vocab(t) > n_vocab)
        return lf_fail(err, LF_EFORMAT, "%s: the tokenizer has %d tokens, the embedding %d rows", path,
                       lf_tokenizer_n_vocab(t), n_vocab);
    return lf_tokenizer_write_gguf(t, w, n_vocab, err);
}

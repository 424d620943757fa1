#include "random_model.h"

#include "base/mem.h"
#include "model/names.h"
#include "model/source.h"
#include "tensor/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct builder {
    const lf_random_model *m;
    lf_gguf_writer *w;
    uint64_t rng;
    lf_error *err;
} builder;

/* splitmix64, as a float in [-1, 1) */
static float uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (float)((int32_t)(z >> 40) - (1 << 23)) * 0x1p-23f;
}

static void set_metadata(lf_gguf_writer *w, const lf_config *c)
{
    char key[96];
    const char *arch = lf_arch_name(c->arch);
    const struct {
        const char *suffix;
        int64_t value;
    } ints[] = {
        {"block_count", c->n_layers},
        {"embedding_length", c->dim},
        {"feed_forward_length", c->ffn_dim},
        {"context_length", c->n_ctx_max},
        {"vocab_size", c->n_vocab},
        {"attention.head_count", c->n_heads},
        {"attention.head_count_kv", c->n_kv_heads},
        {"attention.key_length", c->head_dim},
        {"attention.value_length", c->head_dim},
        {"rope.dimension_count", c->head_dim},
    };
    lf_gguf_set_string(w, "general.architecture", arch, strlen(arch));
    lf_gguf_set_string(w, "general.name", "random", strlen("random"));
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        (void)snprintf(key, sizeof key, "%s.%s", arch, ints[i].suffix);
        lf_gguf_set_int(w, key, LF_GGUF_U32, ints[i].value);
    }
    (void)snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    lf_gguf_set_float(w, key, LF_GGUF_F32, (double)c->norm_eps);
    (void)snprintf(key, sizeof key, "%s.rope.freq_base", arch);
    lf_gguf_set_float(w, key, LF_GGUF_F32, c->rope_base);
    lf_gguf_set_string(w, "tokenizer.ggml.model", "no_vocab", strlen("no_vocab"));
}

static void add_weight(builder *b, lf_weight weight, int i_layer)
{
    char name[LF_WEIGHT_NAME_MAX];
    int64_t dims[2];
    lf_weight_name(name, weight, i_layer, LF_NAMES_GGUF);
    lf_weight_shape(&b->m->config, weight, &dims[0], &dims[1]);
    if (lf_weight_is_matrix(weight))
        lf_gguf_add_tensor(b->w, name, b->m->dtype, 2, dims);
    else
        lf_gguf_add_tensor(b->w, name, LF_DTYPE_F32, 1, &dims[1]);
}

static lf_status write_weight(builder *b, lf_weight weight)
{
    int64_t n_out, n_in;
    lf_status status = LF_OK;
    const bool matrix = lf_weight_is_matrix(weight);
    const bool bias = weight == LF_W_Q_BIAS || weight == LF_W_K_BIAS || weight == LF_W_V_BIAS;
    lf_weight_shape(&b->m->config, weight, &n_out, &n_in);
    const lf_dtype dtype = matrix ? b->m->dtype : LF_DTYPE_F32;
    const int64_t n_distinct = b->m->distinct_rows > 0 && b->m->distinct_rows < n_out ? b->m->distinct_rows
                                                                                      : n_out;
    size_t row_bytes;
    if (!lf_dtype_row_bytes(dtype, (size_t)n_in, &row_bytes))
        return lf_fail(b->err, LF_EINVAL, "random model: rows of %lld do not fit the blocks of %s",
                       (long long)n_in, lf_dtype_of(dtype)->name);
    float *row = malloc((size_t)n_in * sizeof *row);
    uint8_t *stored = malloc((size_t)n_distinct * row_bytes);
    if (!row || !stored) {
        status = lf_fail_memory(b->err, "a random matrix", (size_t)n_distinct * row_bytes);
        goto done;
    }
    const float scale = matrix ? sqrtf(3.0f / (float)n_in) : 0.1f, offset = matrix || bias ? 0.0f : 1.0f;
    for (int64_t r = 0; r < n_distinct; r++) {
        for (int64_t i = 0; i < n_in; i++) row[i] = offset + scale * uniform(&b->rng);
        lf_quantize_row(stored + (size_t)r * row_bytes, row, dtype, (size_t)n_in);
    }
    for (int64_t r = 0; r < n_out; r += n_distinct) {
        const int64_t n = n_out - r < n_distinct ? n_out - r : n_distinct;
        LF_TRY(lf_gguf_write_data(b->w, stored, (size_t)n * row_bytes, b->err));
    }
done:
    free(row);
    free(stored);
    return status;
}

/* Declares, or writes, every weight of the model, in the order of the file. */
static lf_status for_each_weight(builder *b, bool write)
{
    lf_status status = LF_OK;
    for (int i = -1; i < b->m->config.n_layers; i++) {
        const int first = i < 0 ? 0 : LF_W_FIRST_OF_LAYER, end = i < 0 ? LF_W_FIRST_OF_LAYER : LF_W_COUNT;
        for (int w = first; w < end; w++) {
            if (!lf_weight_expected(&b->m->config, (lf_weight)w)) continue;
            if (write)
                LF_TRY(write_weight(b, (lf_weight)w));
            else
                add_weight(b, (lf_weight)w, i);
        }
    }
done:
    return status;
}

lf_status lf_random_model_write(const char *path, const lf_random_model *m, lf_error *err)
{
    lf_status status = LF_OK;
    builder b = {.m = m, .rng = m->seed, .err = err};
    LF_TRY(lf_gguf_writer_open(&b.w, path, err));
    set_metadata(b.w, &m->config);
    (void)for_each_weight(&b, false);
    LF_TRY(lf_gguf_writer_begin(b.w, err));
    LF_TRY(for_each_weight(&b, true));
    LF_TRY(lf_gguf_writer_finish(b.w, err));
done:
    lf_gguf_writer_close(b.w);
    return status;
}

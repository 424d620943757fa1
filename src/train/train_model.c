#include "train/train_model.h"

#include "base/threads.h"
#include "convert/convert_int.h"
#include "train/data_hash.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const double ROPE_BASE_DEFAULT = 10000.0;
static const float NORM_EPS_DEFAULT = 1e-5f;

/* ---- tokenizer ---- */

static lf_status open_model_tokenizer(lf_tokenizer **out, const char *path, lf_error *err)
{
    struct stat st;
    lf_gguf *gguf = NULL;
    if (stat(path, &st) != 0) return lf_fail(err, LF_EIO, "%s: cannot open: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return lf_tokenizer_from_dir(out, path, err);
    lf_status status = lf_gguf_open(&gguf, path, err);
    if (status == LF_OK) status = lf_tokenizer_from_gguf(out, gguf, err);
    lf_gguf_close(gguf);
    return status;
}

static bool is_same_piece(const lf_tokenizer *a, const lf_tokenizer *b, int32_t id)
{
    size_t a_len, b_len;
    const char *a_piece = lf_tokenizer_piece(a, id, &a_len), *b_piece = lf_tokenizer_piece(b, id, &b_len);
    const bool is_special = lf_tokenizer_kind(a, id) != LF_TOKEN_NORMAL &&
                            lf_tokenizer_kind(b, id) != LF_TOKEN_NORMAL;
    return is_special || (a_len == b_len && memcmp(a_piece, b_piece, a_len) == 0);
}

/* A model's embeddings mean the pieces that it was trained with, so a model that has a tokenizer takes no
 * other. File forms differ in how they spell special tokens, and in how many unused ones they list at the
 * end: ordinary tokens decide. */
static lf_status check_tokenizer(const lf_train_model *m, const char *model_path, lf_error *err)
{
    lf_status status = LF_OK;
    lf_tokenizer *own = NULL;
    if (open_model_tokenizer(&own, model_path, NULL) != LF_OK) return LF_OK; /* it has none */
    const int32_t n_own = lf_tokenizer_n_vocab(own), n_given = lf_tokenizer_n_vocab(m->tokenizer);
    for (int32_t id = 0; status == LF_OK && id < n_own && id < n_given; id++)
        if (!is_same_piece(own, m->tokenizer, id))
            status = lf_fail(err, LF_EINVAL, "%s: found another token %d than in %s, expected its tokenizer",
                             m->tokenizer_path, (int)id, model_path);
    lf_tokenizer_free(own);
    return status;
}

lf_status lf_train_model_open_tokenizer(lf_train_model *out, const lf_train_params *p, lf_error *err)
{
    out->tokenizer_path = p->tokenizer_path ? p->tokenizer_path : p->model_path;
    if (!p->tokenizer_path) return open_model_tokenizer(&out->tokenizer, p->model_path, err);
    const lf_status status = lf_tokenizer_from_file(&out->tokenizer, p->tokenizer_path, err);
    return status == LF_OK && p->model_path ? check_tokenizer(out, p->model_path, err) : status;
}

/* ---- weights ---- */

static lf_status config_of_shape(lf_config *out, const lf_train_params *p, int n_vocab, lf_error *err)
{
    const lf_train_shape *s = &p->shape;
    const int head_dim = s->head_dim ? s->head_dim : s->n_heads > 0 ? s->dim / s->n_heads : 0;
    const int smallest[] = {s->dim, s->n_layers, s->n_heads, s->n_kv_heads, s->ffn_dim, head_dim};
    for (size_t i = 0; i < sizeof smallest / sizeof *smallest; i++)
        if (smallest[i] < 1 || smallest[i] > 1 << 20)
            return lf_fail(err, LF_EINVAL, "shape of the model: found %d, expected sizes from 1 to %d",
                           smallest[i], 1 << 20);
    if (head_dim % 2 != 0 || (!s->head_dim && s->dim % s->n_heads != 0))
        return lf_fail(err, LF_EINVAL,
                       "shape of the model: found dim %d for %d heads, expected heads of an even size",
                       s->dim, s->n_heads);
    if (s->n_heads % s->n_kv_heads != 0 || s->n_heads / s->n_kv_heads > LF_GROUP_MAX)
        return lf_fail(err, LF_EINVAL,
                       "shape of the model: found %d heads and %d KV heads, expected 1 to %d for each",
                       s->n_heads, s->n_kv_heads, LF_GROUP_MAX);
    *out = (lf_config){.arch = LF_ARCH_LLAMA,
                       .n_layers = s->n_layers,
                       .dim = s->dim,
                       .n_heads = s->n_heads,
                       .n_kv_heads = s->n_kv_heads,
                       .head_dim = head_dim,
                       .ffn_dim = s->ffn_dim,
                       .n_vocab = n_vocab,
                       .norm_eps = NORM_EPS_DEFAULT,
                       .rope_base = ROPE_BASE_DEFAULT,
                       .rope_factor = 1.0,
                       .tied = s->tied};
    return LF_OK;
}

static lf_status check_vocabulary(const lf_train_model *m, const lf_config *c, lf_error *err)
{
    const int n_tokens = lf_tokenizer_n_vocab(m->tokenizer);
    if (n_tokens <= c->n_vocab) return LF_OK;
    return lf_fail(err, LF_EINVAL, "%s: found a tokenizer of %d tokens, expected at most the %d of the model",
                   m->tokenizer_path, n_tokens, c->n_vocab);
}

/* What the run changes in a model's config. */
static void apply_params(lf_config *c, const lf_train_params *p)
{
    if (c->n_ctx_max < p->context) c->n_ctx_max = p->context;
    if (p->rope_base > 0.0) c->rope_base = p->rope_base;
}

static lf_status load_weights(lf_train_model *m, const lf_train_params *p, lf_error *err)
{
    lf_status status = LF_OK;
    lf_source source = {0};
    LF_TRY(lf_source_open(&source, p->model_path, err));
    lf_config config = source.config;
    LF_TRY(check_vocabulary(m, &config, err));
    apply_params(&config, p);
    LF_TRY(lf_params_create(&m->params, &config, err));
    status = lf_params_load(&m->params, &source, err);
done:
    lf_source_close(&source);
    return status;
}

static lf_status make_weights(lf_train_model *m, const lf_train_params *p, lf_error *err)
{
    lf_config config;
    lf_status status = config_of_shape(&config, p, lf_tokenizer_n_vocab(m->tokenizer), err);
    if (status != LF_OK) return status;
    apply_params(&config, p);
    status = lf_params_create(&m->params, &config, err);
    if (status == LF_OK) lf_params_init_random(&m->params, p->seed);
    return status;
}

lf_status lf_train_model_open_weights(lf_train_model *m, const lf_train_params *p, lf_error *err)
{
    lf_data_hash hash = {0};
    const lf_status status = p->model_path ? load_weights(m, p, err) : make_weights(m, p, err);
    if (status != LF_OK) return status;
    lf_data_hash_add(&hash, m->params.data, m->params.n * sizeof *m->params.data);
    m->start_hash = lf_data_hash_value(&hash);
    return LF_OK;
}

void lf_train_model_close(lf_train_model *m)
{
    lf_params_free(&m->params);
    lf_tokenizer_free(m->tokenizer);
    *m = (lf_train_model){0};
}

/* ---- export ---- */

lf_status lf_train_model_check_output(const lf_train_model *m, lf_error *err)
{
    lf_gguf_writer *writer = NULL;
    lf_status status = lf_gguf_writer_open(&writer, m->tokenizer_path,
                                           err); /* nothing is written before it is finished */
    if (status == LF_OK)
        status = lf_out_set_tokenizer(writer, m->tokenizer, m->tokenizer_path,
                                      lf_tokenizer_n_vocab(m->tokenizer), err);
    lf_gguf_writer_close(writer);
    return status;
}

lf_status lf_train_model_export(const lf_train_model *m, const char *path, const char *name, lf_dtype dtype,
                                int n_threads, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_params *p = &m->params;
    const lf_convert_params convert = {
        .input_path = name, .output_path = path, .dtype = (int)dtype, .n_threads = n_threads};
    lf_gguf_writer *writer = NULL;
    float *rope_freqs = NULL;
    lf_out_plan plan = {.config = &p->config, .dtype = (int)dtype, .half_split = true};
    const float *divisors = p->rope_divisors;
    if (!divisors) {
        LF_TRY(lf_out_make_rope_freqs(&rope_freqs, &p->config, err));
        divisors = rope_freqs;
    }
    if (divisors) LF_TRY(lf_out_plan_add(&plan, LF_W_ROPE_FREQS, 0, divisors, LF_DTYPE_F32, err));
    for (int i = 0; i < p->n_list; i++)
        LF_TRY(lf_out_plan_add(&plan, p->list[i].weight, p->list[i].i_layer, p->data + p->list[i].offset,
                               LF_DTYPE_F32, err));
    LF_TRY(lf_gguf_writer_open(&writer, path, err));
    LF_TRY(lf_out_set_config(writer, &p->config, name, dtype, err));
    LF_TRY(lf_out_set_tokenizer(writer, m->tokenizer, m->tokenizer_path, p->config.n_vocab, err));
    status = lf_out_write(writer, &plan, &convert, err);
done:
    lf_gguf_writer_close(writer);
    lf_out_plan_free(&plan);
    free(rope_freqs);
    return status;
}

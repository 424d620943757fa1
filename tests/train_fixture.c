#include "train_fixture.h"

#include "base/cpu.h"

#include <stdlib.h>
#include <string.h>

/* GQA */
static lf_config base_config(void)
{
    return (lf_config){.arch = LF_ARCH_LLAMA,
                       .n_layers = 2,
                       .dim = 32,
                       .n_heads = 4,
                       .n_kv_heads = 2,
                       .head_dim = 16,
                       .ffn_dim = 48,
                       .n_vocab = 50,
                       .n_ctx_max = 512,
                       .norm_eps = 1e-5f,
                       .rope_base = 10000.0};
}

lf_config variant_config(variant v)
{
    lf_config c = base_config();
    switch (v) {
    case VARIANT_TIED:
        c.n_kv_heads = 4;
        c.tied = true;
        c.rope_scaling = LF_ROPE_LINEAR;
        c.rope_factor = 4.0;
        break;
    case VARIANT_BIAS:
        c.arch = LF_ARCH_QWEN2;
        c.qkv_bias = true;
        c.dim = 30;
        c.n_heads = 3;
        c.n_kv_heads = 1;
        c.head_dim = 10;
        c.ffn_dim = 37;
        break;
    case VARIANT_QK_NORM:
        c.arch = LF_ARCH_QWEN3;
        c.qk_norm = true;
        c.tied = true;
        c.n_heads = 2;
        c.n_kv_heads = 1;
        c.head_dim = 72;
        c.norm_eps = 1e-6f;
        break;
    default: break;
    }
    return c;
}

bool can_bf16(void)
{
    return lf_cpu_flags() & LF_CPU_AVX512;
}

void make_params(lf_params *p, const lf_config *config, uint64_t seed)
{
    lf_error err;
    assert_ok(lf_params_create(p, config, &err), &err);
    for (int i = 0; i < p->n_list; i++) {
        const lf_param *w = &p->list[i];
        const bool is_norm = w->weight == LF_W_OUTPUT_NORM || w->weight == LF_W_ATTN_NORM ||
                             w->weight == LF_W_FFN_NORM || w->weight == LF_W_Q_NORM ||
                             w->weight == LF_W_K_NORM;
        for (int64_t j = 0; j < w->n_out * w->n_in; j++)
            p->data[w->offset + (size_t)j] = (is_norm ? 1.0f : 0.0f) + 0.3f * rng_uniform(&seed);
    }
}

static void take_arrays(batch *b, int n)
{
    const size_t count = (size_t)n;
    *b = (batch){.token = calloc(count, sizeof(int32_t)),
                 .pos = calloc(count, sizeof(int32_t)),
                 .first = calloc(count, sizeof(int32_t)),
                 .first_end = calloc(count, sizeof(int32_t)),
                 .own = calloc(count, sizeof(int32_t)),
                 .target = calloc(count, sizeof(int32_t)),
                 .weight = calloc(count, sizeof(float))};
}

static void point_to_arrays(batch *b, int n, bool has_ranges)
{
    b->rows = (lf_train_rows){.n = n, .token = b->token, .pos = b->pos, .own = b->own};
    if (has_ranges) {
        b->rows.first = b->first;
        b->rows.first_end = b->first_end;
    }
    b->ce = (lf_cross_entropy){.target = b->target, .weight = b->weight, .scale = 1.0 / n};
}

void make_batch(batch *b, int n, int n_vocab, pattern sight, uint64_t seed)
{
    take_arrays(b, n);
    const int third = n / 3, half = n / 2, block = 7;
    for (int i = 0; i < n; i++) {
        b->token[i] = (int32_t)(rng_next(&seed) % (uint64_t)n_vocab);
        b->target[i] = rng_next(&seed) % 5 == 0 ? -1 : (int32_t)(rng_next(&seed) % (uint64_t)n_vocab);
        b->weight[i] = 1.0f + 0.5f * rng_uniform(&seed);
        b->pos[i] = i;
        if (sight == PATTERN_PACKED) {
            b->own[i] = i < third ? 0 : i < third + 5 ? third : third + 5;
            b->pos[i] = i - b->own[i];
        }
        if (sight == PATTERN_RANGES && i >= half) {
            b->own[i] = half + (i - half) / block * block;
            b->first[i] = 1;
            b->first_end[i] = (b->own[i] - half) * half / n + 2;
            b->pos[i] = b->first_end[i] + i - b->own[i];
        }
    }
    point_to_arrays(b, n, sight == PATTERN_RANGES);
}

void load_batch(batch *b, const float **results, char **golden, const char *path)
{
    size_t size;
    int32_t head[2];
    *golden = read_file(golden_path(path), &size);
    memcpy(head, *golden, sizeof head);
    const int n = head[0];
    take_arrays(b, n);
    int32_t *const arrays[] = {
        b->token, b->pos, b->first, b->first_end, b->own, b->target, (int32_t *)b->weight};
    const int32_t *from = (const int32_t *)(const void *)*golden + 2;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++, from += n)
        memcpy(arrays[i], from, (size_t)n * sizeof *from);
    *results = (const float *)from;
    point_to_arrays(b, n, head[1] != 0);
}

void free_batch(batch *b)
{
    free(b->token);
    free(b->pos);
    free(b->first);
    free(b->first_end);
    free(b->own);
    free(b->target);
    free(b->weight);
}

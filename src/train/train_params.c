/* Parameters of lf_train: defaults, checks, and what of them a checkpoint must agree with. */
#include "train/train.h"

#include "base/threads.h"

#include <math.h>
#include <string.h>

enum { MICRO_DEFAULT = 4096, CONTEXT_MAX = 1 << 17, ROWS_MAX = 1 << 24 };

void lf_train_params_init(lf_train_params *params)
{
    *params = (lf_train_params){.size = sizeof *params,
                                .dtype = LF_DTYPE_BF16,
                                .separator = "<|endoftext|>",
                                .prompt_template = "{prompt}",
                                .response_field = "response",
                                .context = 1024,
                                .batch_tokens = 16384,
                                .schedule = LF_TRAIN_COSINE,
                                .lr = 1e-3,
                                .lr_end = 0.1,
                                .decay_share = 0.2,
                                .warmup_steps = 100,
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .eps = 1e-8,
                                .weight_decay = 0.1,
                                .clip = 1.0,
                                .valid_every = 250,
                                .valid_tokens = 131072,
                                .sample_prompt = "",
                                .sample_tokens = 100,
                                .checkpoint_minutes = 10.0};
}

typedef struct range {
    const char *name;
    double value, min, max;
} range;

static lf_status check_ranges(const lf_train_params *p, lf_error *err)
{
    const range ranges[] = {
        {"context", p->context, 2, CONTEXT_MAX},
        {"batch_tokens", p->batch_tokens, 2, ROWS_MAX},
        {"micro_rows", p->micro_rows, 0, ROWS_MAX},
        {"n_steps", (double)p->n_steps, 0, 0x1p40},
        {"n_tokens", (double)p->n_tokens, 0, 0x1p50},
        {"warmup_steps", (double)p->warmup_steps, 0, 0x1p40},
        {"schedule", p->schedule, LF_TRAIN_COSINE, LF_TRAIN_CONSTANT},
        {"lr", p->lr, 0, 1e30},
        {"lr_end", p->lr_end, 0, 1},
        {"decay_share", p->decay_share, 0, 1},
        {"beta1", p->beta1, 0, 1},
        {"beta2", p->beta2, 0, 1},
        {"eps", p->eps, 0, 1},
        {"weight_decay", p->weight_decay, 0, 1e6},
        {"clip", p->clip, 0, 1e30},
        {"rope_base", p->rope_base, 0, 1e12},
        {"lora_rank", p->lora_rank, 0, 1 << 14},
        {"lora_alpha", p->lora_alpha, 0, 1e6},
        {"hold_out", p->hold_out, 0, 0.9},
        {"valid_every", (double)p->valid_every, 0, 0x1p40},
        {"valid_tokens", (double)p->valid_tokens, 1, 0x1p40},
        {"sample_every", (double)p->sample_every, 0, 0x1p40},
        {"sample_tokens", p->sample_tokens, 1, CONTEXT_MAX},
        {"checkpoint_minutes", p->checkpoint_minutes, 0, 1e9},
        {"n_threads", p->n_threads, 0, LF_THREADS_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        const range *r = &ranges[i];
        if (!(r->value >= r->min && r->value <= r->max))
            return lf_fail(err, LF_EINVAL, "training: %s: found %g, expected %g to %g", r->name, r->value,
                           r->min, r->max);
    }
    return LF_OK;
}

lf_status lf_train_inputs_check(const lf_train_params *p, lf_error *err)
{
    if (p->n_data < 1 || !p->data)
        return lf_fail(err, LF_EINVAL, "training: found no data, expected one input or more");
    if (p->n_valid > 0 && p->hold_out > 0.0)
        return lf_fail(err, LF_EINVAL,
                       "training: found both validation inputs and hold_out, expected one of them");
    for (int i = 0; i < p->n_data; i++)
        if (!(p->data[i].weight > 0.0 && p->data[i].weight < 1e6))
            return lf_fail(err, LF_EINVAL, "%s: found weight %g, expected a number above 0", p->data[i].path,
                           p->data[i].weight);
    return LF_OK;
}

static lf_status check_choices(const lf_train_params *p, lf_error *err)
{
    if (!p->out_dir) return lf_fail(err, LF_EINVAL, "training: out_dir is NULL, expected the run's folder");
    if (!p->model_path && !p->tokenizer_path)
        return lf_fail(err, LF_EINVAL,
                       "training: found neither a model nor a tokenizer, expected one of them");
    if (!p->separator || !p->prompt_template || !p->response_field || !p->sample_prompt)
        return lf_fail(err, LF_EINVAL,
                       "training: found a text that is NULL (lf_train_params_init sets them)");
    if (p->dtype != LF_DTYPE_F32 && p->dtype != LF_DTYPE_F16 && p->dtype != LF_DTYPE_BF16 &&
        p->dtype != LF_DTYPE_Q8_0)
        return lf_fail(err, LF_EINVAL, "training: found output type %d, expected f32, f16, bf16 or q8_0",
                       p->dtype);
    if (p->export_only && !p->resume)
        return lf_fail(err, LF_EINVAL, "training: found export_only without resume, expected both");
    if (p->n_steps == 0 && p->n_tokens == 0 && !p->prepare_only && !p->export_only)
        return lf_fail(err, LF_EINVAL, "training: found neither n_steps nor n_tokens, expected one of them");
    return LF_OK;
}

lf_status lf_train_params_check(lf_train_params *out, const lf_train_params *params, lf_error *err)
{
    lf_status status = LF_OK;
    if (params->size != sizeof *params)
        return lf_fail(err, LF_EINVAL,
                       "training parameters: found size %zu, expected %zu (lf_train_params_init sets it)",
                       params->size, sizeof *params);
    if (params->result && params->result->size != sizeof *params->result)
        return lf_fail(err, LF_EINVAL, "training result: found size %zu, expected %zu", params->result->size,
                       sizeof *params->result);
    *out = *params;
    LF_TRY(check_ranges(params, err));
    LF_TRY(check_choices(params, err));
    if (out->n_threads == 0) out->n_threads = lf_threads_processors();
    if (out->lora_rank > 0 && out->lora_alpha == 0.0) out->lora_alpha = 2.0 * out->lora_rank;
    if (out->micro_rows == 0) out->micro_rows = out->context > MICRO_DEFAULT ? out->context : MICRO_DEFAULT;
    if (out->micro_rows < out->context)
        status = lf_fail(err, LF_EINVAL, "training: found micro_rows %d, expected at least the context, %d",
                         out->micro_rows, out->context);
    if (out->micro_rows > out->batch_tokens && out->batch_tokens >= out->context)
        out->micro_rows = out->batch_tokens;
    const int n_micro = (out->batch_tokens + out->micro_rows - 1) / out->micro_rows;
    out->batch_tokens = n_micro * out->micro_rows;
    if (out->n_steps == 0) out->n_steps = (out->n_tokens + out->batch_tokens - 1) / out->batch_tokens;
done:
    return status;
}

/* ---- identity ---- */

/* 64 bits as JSON, whose integers are signed. */
static json_t *hash_json(uint64_t hash)
{
    return json_sprintf("%016llx", (unsigned long long)hash);
}

static json_t *inputs_json(const lf_train_params *p, const lf_train_files *files)
{
    json_t *list = json_array();
    for (int i = 0; list && i < p->n_data; i++)
        if (json_array_append_new(list,
                                  json_pack("[of]", hash_json(files->list[i].body_hash), p->data[i].weight)))
            return json_decref(list), NULL;
    return list;
}

json_t *lf_train_identity(const lf_train_params *p, const lf_train_files *files, const lf_train_model *model)
{
    const lf_config *c = &model->params.config;
    const lf_token_info tokens = lf_data_token_info(model->tokenizer);
    return json_pack(
        "{s:o, s:o, s:o, s:f, s:o, s:i, s:i, s:i, s:I, s:f, s:s, s:i, s:f}", "shape",
        json_sprintf("%s: dim %d, %d layers, %d heads, %d KV heads of %d, ffn %d, vocabulary %d%s",
                     lf_arch_name(c->arch), c->dim, c->n_layers, c->n_heads, c->n_kv_heads, c->head_dim,
                     c->ffn_dim, c->n_vocab, c->tied ? ", tied" : ""),
        "tokenizer", hash_json(tokens.vocab_hash), "weights at the start", hash_json(model->start_hash),
        "rope base", c->rope_base, "data", inputs_json(p, files), "context", p->context, "tokens of a step",
        p->batch_tokens, "rows of a micro-batch", p->micro_rows, "seed", (json_int_t)p->seed,
        "held-out share", p->hold_out, "products", p->f32 ? "f32" : "bf16", "LoRA rank", p->lora_rank,
        "LoRA alpha", p->lora_alpha);
}

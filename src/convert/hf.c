/* Hugging Face folder -> GGUF. The two conventions differ in the order of Q and K rows (architecture llama: half-split
 * there, adjacent pairs here), in llama3 rotary scaling (keys there, a tensor of divisors here) and in names. */
#include "convert/convert_int.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* *out = whether the folder has any of the files that lf_tokenizer_from_dir starts from. */
static lf_status has_tokenizer(bool *out, const char *dir, lf_error *err)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json"};
    *out = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lf_bytes path = {0};
        if (!lf_bytes_printf(&path, "%s/%s", dir, names[i]))
            return lf_fail_memory(err, "a path", strlen(dir));
        *out = *out || access(path.data, F_OK) == 0;
        lf_bytes_free(&path);
    }
    return LF_OK;
}

/* A folder without a tokenizer becomes a GGUF without one, which runs on token ids. */
static lf_status set_tokenizer(lf_gguf_writer *w, const lf_source *source, lf_error *err)
{
    lf_status status = LF_OK;
    lf_tokenizer *t = NULL;
    bool has = false;
    LF_TRY(has_tokenizer(&has, source->path, err));
    if (!has) goto done;
    LF_TRY(lf_tokenizer_from_dir(&t, source->path, err));
    LF_TRY(lf_out_set_tokenizer(w, t, source->path, source->config.n_vocab, err));
done:
    lf_tokenizer_free(t);
    return status;
}

/* What a frequency of llama3 scaling is divided by: 1 for short wavelengths, the factor for long ones, a blend between.
 * In the steps of llama.cpp's converter, which are float32. */
static float llama3_divisor(float freq, const lf_config *c)
{
    const double original = c->rope_n_ctx_original;
    const float wavelength = (float)(2.0 * M_PI) / freq;
    if (wavelength < (float)(original / c->rope_high_freq)) return 1.0f;
    if (wavelength > (float)(original / c->rope_low_freq)) return (float)c->rope_factor;
    const float smooth = ((float)original / wavelength - (float)c->rope_low_freq) /
                         (float)(c->rope_high_freq - c->rope_low_freq);
    return 1.0f / ((1.0f - smooth) / (float)c->rope_factor + smooth);
}

lf_status lf_out_make_rope_freqs(float **out, const lf_config *c, lf_error *err)
{
    *out = NULL;
    if (c->rope_scaling != LF_ROPE_LLAMA3) return LF_OK;
    const size_t n = (size_t)c->head_dim / 2;
    lf_config unscaled = *c;
    unscaled.rope_scaling = LF_ROPE_PLAIN;
    float *freqs = malloc(n * sizeof *freqs);
    if (!freqs) return lf_fail_memory(err, "rotary factors", n * sizeof *freqs);
    lf_config_rope_freqs(freqs, &unscaled, NULL);
    for (size_t i = 0; i < n; i++) freqs[i] = llama3_divisor(freqs[i], c);
    *out = freqs;
    return LF_OK;
}

lf_status lf_convert_hf(const lf_convert_params *params, lf_error *err)
{
    lf_status status = LF_OK;
    lf_source source = {0};
    lf_gguf_writer *writer = NULL;
    float *rope_freqs = NULL;
    lf_out_plan plan = {.config = &source.config, .dtype = params->dtype, .half_split = true};
    LF_TRY(lf_source_open(&source, params->input_path, err));
    LF_TRY(lf_out_make_rope_freqs(&rope_freqs, &source.config, err));
    if (rope_freqs) LF_TRY(lf_out_plan_add(&plan, LF_W_ROPE_FREQS, 0, rope_freqs, LF_DTYPE_F32, err));
    LF_TRY(lf_out_plan_add_source(&plan, &source, err));

    const lf_dtype file_type = params->dtype >= 0 ? (lf_dtype)params->dtype
                                                  : lf_source_find(&source, LF_W_GATE, 0)->dtype;
    LF_TRY(lf_gguf_writer_open(&writer, params->output_path, err));
    LF_TRY(lf_out_set_config(writer, &source.config, params->input_path, file_type, err));
    LF_TRY(set_tokenizer(writer, &source, err));
    LF_TRY(lf_out_write(writer, &plan, params, err));
done:
    lf_gguf_writer_close(writer);
    lf_out_plan_free(&plan);
    free(rope_freqs);
    lf_source_close(&source);
    return status;
}

/* GGUF -> GGUF with other element types. Every key is kept but the two that describe the types. */
#include "convert/convert_int.h"

#include <string.h>

static void copy_metadata(lf_gguf_writer *w, const lf_gguf *from, lf_dtype dtype)
{
    for (size_t i = 0; i < lf_gguf_n_values(from); i++) {
        const lf_gguf_value *v = lf_gguf_value_at(from, i);
        if (strcmp(v->key, LF_OUT_FILE_TYPE_KEY) != 0 && strcmp(v->key, LF_OUT_QUANTIZATION_VERSION_KEY) != 0)
            lf_gguf_set_value(w, v);
    }
    lf_out_set_file_type(w, dtype);
}

lf_status lf_quantize_gguf(const lf_convert_params *params, lf_error *err)
{
    lf_status status = LF_OK;
    lf_source source = {0};
    lf_gguf_writer *writer = NULL;
    lf_out_plan plan = {.config = &source.config, .dtype = params->dtype};
    LF_TRY(lf_source_open(&source, params->input_path, err));
    if (source.form != LF_NAMES_GGUF) {
        status = lf_fail(err, LF_EINVAL, "%s: found a folder, expected a GGUF file", params->input_path);
        goto done;
    }
    LF_TRY(lf_out_plan_add_source(&plan, &source, err));
    LF_TRY(lf_gguf_writer_open(&writer, params->output_path, err));
    copy_metadata(writer, source.gguf, (lf_dtype)params->dtype);
    LF_TRY(lf_out_write(writer, &plan, params, err));
done:
    lf_gguf_writer_close(writer);
    lf_out_plan_free(&plan);
    lf_source_close(&source);
    return status;
}

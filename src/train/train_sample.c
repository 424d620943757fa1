#include "train/train_sample.h"

#include <stdlib.h>
#include <string.h>

static lf_status generate(lf_bytes *out, lf_engine *engine, const lf_train_sample *s, lf_error *err)
{
    lf_status status = LF_OK;
    lf_request *request = NULL;
    int32_t *ids = NULL;
    lf_request_params params;
    size_t len;
    lf_request_params_init(&params);
    LF_TRY(lf_tokenize(engine, s->prompt, strlen(s->prompt), true, false, &ids, &params.n_ids, err));
    params.ids = ids;
    params.n_predict = s->n_predict;
    params.temperature = s->temperature;
    params.seed = s->seed;
    LF_TRY(lf_request_submit(&request, engine, &params, err));
    LF_TRY(lf_request_wait(request, err));
    const char *text = lf_request_text(request, &len);
    if (!lf_bytes_append(out, s->prompt, strlen(s->prompt)) || !lf_bytes_append(out, text, len))
        status = lf_fail_memory(err, "a sample text", len);
done:
    lf_request_free(request);
    free(ids);
    return status;
}

lf_status lf_train_sample_text(lf_bytes *out, const lf_train_sample *s, lf_error *err)
{
    lf_engine *engine = NULL;
    lf_engine_params params;
    lf_engine_params_init(&params);
    params.model_path = s->model_path;
    params.n_threads = s->n_threads;
    lf_status status = lf_engine_open(&engine, &params, err);
    if (status == LF_OK) status = generate(out, engine, s, err);
    lf_engine_close(engine);
    return status;
}

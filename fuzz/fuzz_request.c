/* Bodies of completions and chats, as lookfar serve reads them: whatever the bytes, they become a call or an error. The first byte
 * chooses. */
#include "../app/serve/call.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_call(const serve_call *call)
{
    assert(call->n >= 1 && call->n_prompts >= 1 && call->n * call->n_prompts <= SERVE_CHOICES_MAX);
    assert(call->params.n_stop >= 0 && call->params.n_stop <= LF_STOP_LIMIT);
    for (int i = 0; i < call->params.n_stop; i++) assert(strlen(call->params.stop[i]) > 0);
    assert(call->params.n_bias >= 0 && call->params.n_bias <= SERVE_BIAS_MAX);
    assert(call->params.n_top >= 0 && call->params.n_top <= LF_TOP_LIMIT);
    for (int i = 0; !call->is_chat && i < call->n_prompts; i++) {
        serve_error e;
        size_t n;
        if (json_is_array(call->prompts[i])) free(serve_parse_ids(call->prompts[i], "prompt", &n, &e));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const lf_request_params defaults = {.size = sizeof defaults, .n_predict = -1, .proposer = "auto"};
    serve_error e;
    serve_call call;
    if (size == 0) return 0;
    if (serve_call_parse(&call, data[0] & 1, (const char *)data + 1, size - 1, &defaults, &e)) {
        check_call(&call);
        serve_call_free(&call);
        return 0;
    }
    assert(e.status >= 400 && e.type);
    json_t *json = serve_error_json(&e);
    assert(json);
    json_decref(json);
    return 0;
}

/* safetensors files: whatever the bytes, the parser refuses them or gives a set whose every tensor can be read. */
#include "file/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink; /* keeps the reads */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lf_safetensors *s = NULL;
    lf_error err;
    if (lf_safetensors_parse(&s, data, size, "fuzz.safetensors", &err) != LF_OK) return 0;
    for (size_t i = 0; i < lf_safetensors_n_tensors(s); i++) {
        const lf_tensor_info *t = lf_safetensors_tensor_at(s, i);
        const uint8_t *bytes = t->data;
        if (lf_safetensors_find(s, t->name) != t) abort();
        sink += strlen(t->type_name);
        for (size_t k = 0; k < t->bytes; k++) sink += bytes[k];
    }
    lf_safetensors_close(s);
    return 0;
}

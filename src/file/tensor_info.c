/* What the parsers of both model formats do with their tensor records. */
#include "file/tensor_info.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

bool lf_tensor_copy_names(lf_tensor_info *t, const char *name, size_t len, const char *type_name)
{
    /* One block: the name, NUL, the type's name, NUL. */
    const size_t type_bytes = strlen(type_name) + 1;
    size_t bytes;
    if (!lf_add_size(len, type_bytes + 1, &bytes)) return false;
    char *block = malloc(bytes);
    if (!block) return false;
    memcpy(block, name, len);
    block[len] = '\0';
    memcpy(block + len + 1, type_name, type_bytes);
    t->name = block;
    t->type_name = block + len + 1;
    return true;
}

void lf_tensor_free_names(lf_tensor_info *t)
{
    free((void *)(uintptr_t)t->name);
    t->name = t->type_name = NULL;
}

static int compare_places(const void *a, const void *b)
{
    const lf_tensor_info *x = *(const lf_tensor_info *const *)a, *y = *(const lf_tensor_info *const *)b;
    const uintptr_t from_x = (uintptr_t)x->data, from_y = (uintptr_t)y->data;
    return (from_x > from_y) - (from_x < from_y);
}

lf_status lf_tensor_check_overlap(const lf_tensor_info *tensors, size_t n, const char *file, lf_error *err)
{
    size_t bytes, n_placed = 0;
    if (n == 0) return LF_OK;
    if (!lf_mul_size(n, sizeof(const lf_tensor_info *), &bytes))
        return lf_fail_memory(err, "tensor order", SIZE_MAX);
    const lf_tensor_info **placed = malloc(bytes); /* (n_placed), by place */
    if (!placed) return lf_fail_memory(err, "tensor order", bytes);
    for (size_t i = 0; i < n; i++)
        if (tensors[i].bytes > 0) placed[n_placed++] = &tensors[i];
    qsort(placed, n_placed, sizeof *placed, compare_places);

    lf_status status = LF_OK;
    for (size_t i = 1; i < n_placed && status == LF_OK; i++) {
        const lf_tensor_info *a = placed[i - 1], *b = placed[i];
        const size_t apart = (uintptr_t)b->data - (uintptr_t)a->data;
        if (apart < a->bytes)
            status = lf_fail(err, LF_EFORMAT,
                             "%s: tensor '%.100s' begins %zu bytes into the %zu bytes of tensor '%.100s', "
                             "expected no overlap",
                             file, b->name, apart, a->bytes, a->name);
    }
    free(placed);
    return status;
}

/* safetensors: u64 header length, a JSON header {name: {dtype, shape, data_offsets}}, then the data. One file, or a
 * folder with model.safetensors, or with model.safetensors.index.json and its shards. */
#ifndef LF_FILE_SAFETENSORS_H
#define LF_FILE_SAFETENSORS_H

#include "base/status.h"
#include "file/tensor_info.h"

typedef struct lf_safetensors lf_safetensors;

/* Parses one buffer that must outlive the object; `name` is what errors call it. */
lf_status lf_safetensors_parse(lf_safetensors **out, const void *data, size_t size, const char *name,
                               lf_error *err);

/* Opens every safetensors file of a model folder as one set of tensors. A tensor that the index promises and no shard
 * holds, one name in two shards, or a shard name with a '/' is LF_EFORMAT. */
lf_status lf_safetensors_open_dir(lf_safetensors **out, const char *dir, lf_error *err);
void lf_safetensors_close(lf_safetensors *s); /* NULL is fine */

size_t lf_safetensors_n_tensors(const lf_safetensors *s);
const lf_tensor_info *lf_safetensors_tensor_at(const lf_safetensors *s, size_t i);
const lf_tensor_info *lf_safetensors_find(const lf_safetensors *s, const char *name); /* NULL when absent */

#endif

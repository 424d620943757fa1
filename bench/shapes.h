/* The models that `lookfar bench` measures: shapes with random weights that it writes itself, or files. */
#ifndef LF_BENCH_SHAPES_H
#define LF_BENCH_SHAPES_H

#include "bench.h"
#include "model/config.h"

/* The shape of a name ("110m", "1.1b"), or NULL. */
const lf_config *bench_shape_find(const char *name);

/* Where the GGUF of a shape lies in dir: out has room for `size` bytes, LF_EINVAL when that is too few. */
lf_status bench_shape_path(char *out, size_t size, const char *dir, const char *name, lf_dtype dtype,
                           lf_error *err);

/* Writes it there unless it is there. Makes the folder, not its parents. */
lf_status bench_shape_write(const char *path, const char *dir, const lf_config *shape, lf_dtype dtype,
                            lf_error *err);

/* Calls fn for the file of every model of the options: those of the shapes, in each dtype, are written first where they are not
 * there yet. LF_EINVAL for a model that is neither a shape nor there. */
typedef lf_status bench_file_fn(void *cookie, const char *model, const char *path, lf_error *err);
lf_status bench_each_file(const bench_options *options, const bench_hooks *hooks, bench_file_fn *fn,
                          void *cookie, lf_error *err);

#endif

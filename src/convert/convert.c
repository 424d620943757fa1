/* lookfar.h's converters: checks the parameters, fills in defaults, and picks the converter by what the input is. */
#include "convert/convert.h"

#include "base/threads.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

void lf_convert_params_init(lf_convert_params *params)
{
    *params = (lf_convert_params){.size = sizeof *params, .dtype = -1};
}

static lf_status check_params(const lf_convert_params *p, int dtype_min, lf_error *err)
{
    if (p->size != sizeof *p)
        return lf_fail(err, LF_EINVAL,
                       "convert parameters: found size %zu, expected %zu (lf_convert_params_init sets it)",
                       p->size, sizeof *p);
    if (p->result && p->result->size != sizeof *p->result)
        return lf_fail(err, LF_EINVAL, "convert result: found size %zu, expected %zu", p->result->size,
                       sizeof *p->result);
    if (!p->input_path || !p->output_path)
        return lf_fail(err, LF_EINVAL, "convert parameters: %s is NULL",
                       p->input_path ? "output_path" : "input_path");
    if (p->dtype < dtype_min || p->dtype >= LF_DTYPE_COUNT)
        return lf_fail(err, LF_EINVAL, "type of the matrices: found %d, expected %d to %d", p->dtype,
                       dtype_min, LF_DTYPE_COUNT - 1);
    if (p->n_threads < 0 || p->n_threads > LF_THREADS_MAX)
        return lf_fail(err, LF_EINVAL, "threads: found %d, expected 0 to %d", p->n_threads, LF_THREADS_MAX);
    return LF_OK;
}

static lf_convert_params with_threads(const lf_convert_params *p)
{
    lf_convert_params full = *p;
    if (full.n_threads == 0) full.n_threads = lf_threads_processors();
    return full;
}

lf_status lf_convert(const lf_convert_params *params, lf_error *err)
{
    struct stat st;
    const lf_status status = check_params(params, -1, err);
    if (status != LF_OK) return status;
    if (stat(params->input_path, &st) != 0)
        return lf_fail(err, LF_EIO, "%s: cannot open: %s", params->input_path, strerror(errno));
    const lf_convert_params full = with_threads(params);
    return S_ISDIR(st.st_mode) ? lf_convert_hf(&full, err) : lf_convert_llama2c(&full, err);
}

lf_status lf_quantize(const lf_convert_params *params, lf_error *err)
{
    const lf_status status = check_params(params, 0, err);
    if (status != LF_OK) return status;
    const lf_convert_params full = with_threads(params);
    return lf_quantize_gguf(&full, err);
}

#include "convert_fixture.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *family_path(const char *family)
{
    char path[64];
    (void)snprintf(path, sizeof path, "families/%s", family);
    return golden_path(path);
}

void copy_family(const char *family, const char *from, const char *to)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    (void)mkdir(in_temp("model"), 0777);
    for (size_t i = 0; i < 2; i++) {
        char source[128], target[128];
        size_t size;
        (void)snprintf(source, sizeof source, "families/%s/%s", family, names[i]);
        (void)snprintf(target, sizeof target, "model/%s", names[i]);
        char *data = read_file(golden_path(source), &size);
        if (i == 0) {
            lf_bytes edited = {0};
            const char *at = strstr(data, from);
            assert_non_null(at);
            assert_true(lf_bytes_printf(&edited, "%.*s%s%s", (int)(at - data), data, to, at + strlen(from)));
            write_file(in_temp(target), edited.data, edited.len);
            lf_bytes_free(&edited);
        } else {
            write_file(in_temp(target), data, size);
        }
        free(data);
    }
}

lf_convert_params params_for(const char *in, const char *out, int dtype)
{
    lf_convert_params p;
    lf_convert_params_init(&p);
    p.input_path = in;
    p.output_path = out;
    p.dtype = dtype;
    return p;
}

void convert(const char *in, const char *out, int dtype)
{
    const lf_convert_params p = params_for(in, out, dtype);
    lf_error err;
    assert_ok(lf_convert(&p, &err), &err);
}

void assert_fails(lf_status (*call)(const lf_convert_params *, lf_error *), const lf_convert_params *p,
                  lf_status status, const char *expected)
{
    lf_error err = {0};
    const int n_files = count_temp_files();
    const lf_status found = call(p, &err);
    if (found != status || !strstr(err.text, expected))
        fail_msg("found %s: \"%s\", expected %s: \"%s\"", lf_status_name(found), err.text,
                 lf_status_name(status), expected);
    assert_int_equal(err.status, status);
    assert_int_equal(count_temp_files(), n_files);
}

/* ---- llama2.c models ---- */

const bin_shape tiny_shape = {16, 24, 2, 4, 2, 8, 4};
const bin_shape wide_shape = {256, 512, 1, 4, 2, -32, 8};
const bin_shape tall_shape = {256, 256, 1, 4, 2, 10000, 8};

size_t bin_floats(const bin_shape *s)
{
    const size_t dim = (size_t)s->dim, kv = dim / (size_t)s->n_heads * (size_t)s->n_kv_heads,
                 vocab = (size_t)abs(s->vocab),
                 layer = 2 * dim + 2 * dim * dim + 2 * kv * dim + 3 * dim * (size_t)s->ffn_dim;
    return vocab * dim * (s->vocab < 0 ? 2 : 1) + (size_t)s->n_layers * layer + dim +
           (size_t)s->seq_len * dim / (size_t)s->n_heads;
}

char *make_bin(const bin_shape *s, size_t *size)
{
    const size_t n = bin_floats(s);
    uint64_t rng = 11;
    *size = sizeof *s + n * sizeof(float);
    char *data = malloc(*size);
    assert_non_null(data);
    memcpy(data, s, sizeof *s);
    for (size_t i = 0; i < n; i++) {
        const float x = rng_uniform(&rng);
        memcpy(data + sizeof *s + i * sizeof x, &x, sizeof x);
    }
    return data;
}

const char *write_bin(const char *name, const bin_shape *s)
{
    size_t size;
    char *data = make_bin(s, &size);
    write_file(in_temp(name), data, size);
    free(data);
    return in_temp(name);
}

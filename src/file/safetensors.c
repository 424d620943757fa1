/* safetensors, as https://github.com/huggingface/safetensors describes the format.
 *
 *   u64 header_bytes | JSON header, padded with spaces | data
 *   header: {"name": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ..., "__metadata__": {..}}
 *
 * Offsets count from the start of the data. Each tensor must lie in the file, be as large as its type and shape say,
 * and share no byte with another; bytes that no tensor claims are tolerated. A set of tensors is the concatenation of
 * its shards' tensors, in the order in which the shards were opened, with one name index over all of them. */
#include "file/safetensors.h"

#include "base/map.h"
#include "base/mem.h"
#include "file/json.h"
#include "file/name_index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER_BYTES_MAX ((size_t)100 << 20) /* the limit of the reference implementation */
#define LENGTH_BYTES     sizeof(uint64_t)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian and read in place");

typedef struct shard {
    lf_map map;
    size_t i_first, n_tensors; /* its range of the set's tensors */
} shard;

struct lf_safetensors {
    lf_tensor_info *tensors; /* (n_tensors) */
    lf_named *by_name;       /* (n_tensors), sorted */
    size_t n_tensors;
    shard *shards; /* (n_shards); none when parsed from a buffer */
    size_t n_shards;
};

/* The element types of the format; those below a byte are packed. */
static const struct element_type {
    const char *name;
    unsigned bits;
} element_types[] = {
    {"F32", 32},    {"F16", 16},    {"BF16", 16},   {"F64", 64},    {"I64", 64}, {"I32", 32}, {"I16", 16},
    {"I8", 8},      {"U64", 64},    {"U32", 32},    {"U16", 16},    {"U8", 8},   {"BOOL", 8}, {"F8_E5M2", 8},
    {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},   {"C64", 64},
};

static const struct element_type *find_element_type(const char *name)
{
    for (size_t i = 0; i < sizeof element_types / sizeof *element_types; i++)
        if (strcmp(element_types[i].name, name) == 0) return &element_types[i];
    return NULL;
}

/* One tensor record of the header of `file`, whose data is data[0..data_bytes). */
typedef struct record {
    const char *file, *name;
    const json_t *fields;
    const uint8_t *data;
    size_t data_bytes;
    lf_error *err;
} record;

static lf_status parse_shape(const record *r, lf_tensor_info *t, size_t *n_elements)
{
    const json_t *shape = json_object_get(r->fields, "shape");
    const size_t n_dims = json_array_size(shape);
    if (!json_is_array(shape))
        return lf_fail(r->err, LF_EFORMAT,
                       "%s: tensor '%.100s': found no shape, expected a list of dimensions", r->file,
                       r->name);
    if (n_dims > LF_TENSOR_DIMS_MAX)
        return lf_fail(r->err, LF_EUNSUPPORTED,
                       "%s: tensor '%.100s': found %zu dimensions, expected at most %d", r->file, r->name,
                       n_dims, LF_TENSOR_DIMS_MAX);
    t->n_dims = (int)n_dims;
    *n_elements = 1;
    for (size_t i = 0; i < LF_TENSOR_DIMS_MAX; i++) t->dims[i] = 1;
    for (size_t i = 0; i < n_dims; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return lf_fail(r->err, LF_EFORMAT,
                           "%s: tensor '%.100s': dimension %zu of the shape is not an integer >= 0", r->file,
                           r->name, i);
        t->dims[i] = json_integer_value(dim);
        if (!lf_mul_size(*n_elements, (size_t)t->dims[i], n_elements))
            return lf_fail(r->err, LF_EFORMAT, "%s: tensor '%.100s': the product of the shape overflows",
                           r->file, r->name);
    }
    return LF_OK;
}

static lf_status parse_offsets(const record *r, lf_tensor_info *t)
{
    const json_t *offsets = json_object_get(r->fields, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return lf_fail(r->err, LF_EFORMAT, "%s: tensor '%.100s': found no data_offsets [begin, end]", r->file,
                       r->name);
    const int64_t begin = json_integer_value(from), end = json_integer_value(to);
    if (begin < 0 || end < begin || (uint64_t)end > r->data_bytes)
        return lf_fail(
            r->err, LF_EFORMAT,
            "%s: tensor '%.100s': found data_offsets [%lld, %lld], expected a range within the %zu "
            "bytes of data in the file",
            r->file, r->name, (long long)begin, (long long)end, r->data_bytes);
    t->data = r->data + begin;
    t->bytes = (size_t)(end - begin);
    return LF_OK;
}

static lf_status parse_tensor(const record *r, lf_tensor_info *t)
{
    const char *type_name = json_string_value(json_object_get(r->fields, "dtype"));
    if (!type_name)
        return lf_fail(r->err, LF_EFORMAT, "%s: tensor '%.100s': found no dtype, expected a string", r->file,
                       r->name);
    if (!lf_tensor_copy_names(t, r->name, strlen(r->name), type_name))
        return lf_fail_memory(r->err, "tensor name", strlen(r->name) + strlen(type_name) + 2);
    size_t n_elements, bits;
    lf_status status = parse_shape(r, t, &n_elements);
    if (status == LF_OK) status = parse_offsets(r, t);
    if (status != LF_OK) return status;

    const struct element_type *type = find_element_type(type_name);
    if (!type) return LF_OK; /* a type of the future: listed, and refused when a model needs it */
    t->supported = lf_dtype_from_name(type_name, &t->dtype);
    if (!lf_mul_size(n_elements, type->bits, &bits) || bits % 8 != 0 || bits / 8 != t->bytes)
        return lf_fail(r->err, LF_EFORMAT,
                       "%s: tensor '%.100s': found %zu bytes of data, expected %zu elements of %s", r->file,
                       r->name, t->bytes, n_elements, type_name);
    return LF_OK;
}

/* Makes room for n more tensors. */
static lf_status reserve_tensors(lf_safetensors *s, size_t n, lf_error *err)
{
    size_t total, bytes;
    if (!lf_add_size(s->n_tensors, n, &total) || !lf_mul_size(total, sizeof *s->tensors, &bytes))
        return lf_fail_memory(err, "tensor list", SIZE_MAX);
    if (n == 0) return LF_OK;
    lf_tensor_info *grown = realloc(s->tensors, bytes);
    if (!grown) return lf_fail_memory(err, "tensor list", bytes);
    s->tensors = grown;
    return LF_OK;
}

/* Adds the tensors of one file. */
static lf_status add_file(lf_safetensors *s, const uint8_t *data, size_t size, const char *file,
                          lf_error *err)
{
    lf_status status = LF_OK;
    json_t *header = NULL;
    const size_t i_first = s->n_tensors;
    uint64_t header_bytes;
    if (size < LENGTH_BYTES)
        return lf_fail(err, LF_EFORMAT, "%s: found %zu bytes, expected a header length of 8", file, size);
    memcpy(&header_bytes, data, sizeof header_bytes);
    if (header_bytes > size - LENGTH_BYTES || header_bytes > HEADER_BYTES_MAX)
        return lf_fail(err, LF_EFORMAT,
                       "%s: found a header length of %llu, expected at most %zu (the file has %zu bytes)",
                       file, (unsigned long long)header_bytes, HEADER_BYTES_MAX, size);
    LF_TRY(lf_json_parse(&header, (const char *)data + LENGTH_BYTES, (size_t)header_bytes, file, err));
    if (!json_is_object(header)) {
        status = lf_fail(err, LF_EFORMAT, "%s: found a header that is not a JSON object", file);
        goto done;
    }
    LF_TRY(reserve_tensors(s, json_object_size(header), err));

    record r = {.file = file, .err = err, .data = data + LENGTH_BYTES + header_bytes};
    r.data_bytes = size - LENGTH_BYTES - (size_t)header_bytes;
    const char *name;
    json_t *fields;
    json_object_foreach(header, name, fields)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        r.name = name;
        r.fields = fields;
        lf_tensor_info *t = &s->tensors[s->n_tensors++];
        *t = (lf_tensor_info){0};
        LF_TRY(parse_tensor(&r, t));
    }
    if (s->n_tensors > i_first)
        LF_TRY(lf_tensor_check_overlap(&s->tensors[i_first], s->n_tensors - i_first, file, err));
done:
    json_decref(header);
    return status;
}

/* Builds the name index once all files are in. */
static lf_status index_names(lf_safetensors *s, const char *name, lf_error *err)
{
    if (s->n_tensors == 0) return LF_OK;
    s->by_name = calloc(s->n_tensors, sizeof *s->by_name);
    if (!s->by_name) return lf_fail_memory(err, "tensor names", s->n_tensors * sizeof *s->by_name);
    for (size_t i = 0; i < s->n_tensors; i++) s->by_name[i] = (lf_named){.name = s->tensors[i].name, .i = i};
    const lf_named *twice = lf_names_sort(s->by_name, s->n_tensors);
    if (twice)
        return lf_fail(err, LF_EFORMAT, "%s: found tensor '%.100s' in two shards, expected it in one", name,
                       twice->name);
    return LF_OK;
}

lf_status lf_safetensors_parse(lf_safetensors **out, const void *data, size_t size, const char *name,
                               lf_error *err)
{
    lf_status status = LF_OK;
    lf_safetensors *s = calloc(1, sizeof *s);
    if (!s) return lf_fail_memory(err, "safetensors", sizeof *s);
    LF_TRY(add_file(s, data, size, name, err));
    LF_TRY(index_names(s, name, err));
    *out = s;
    s = NULL;
done:
    lf_safetensors_close(s);
    return status;
}

/* ---- folders ---- */

/* Maps dir/file_name as the set's next shard, for which there is room, and adds its tensors. */
static lf_status open_shard(lf_safetensors *s, const char *dir, const char *file_name, lf_error *err)
{
    lf_status status = LF_OK;
    lf_bytes path = {0};
    shard *sh = &s->shards[s->n_shards];
    if (!lf_bytes_printf(&path, "%s/%s", dir, file_name)) {
        status = lf_fail_memory(err, "path of a shard", strlen(dir) + strlen(file_name) + 2);
        goto done;
    }
    LF_TRY(lf_map_open(&sh->map, path.data, err));
    s->n_shards++;
    sh->i_first = s->n_tensors;
    LF_TRY(add_file(s, sh->map.data, sh->map.size, path.data, err));
    sh->n_tensors = s->n_tensors - sh->i_first;
done:
    lf_bytes_free(&path);
    return status;
}

static lf_status check_shard_name(const char *index_path, const char *tensor, const json_t *value,
                                  lf_error *err)
{
    const char *file_name = json_string_value(value);
    if (!file_name || file_name[0] == '\0' || strchr(file_name, '/'))
        return lf_fail(
            err, LF_EFORMAT,
            "%s: tensor '%.100s': found shard '%.100s', expected the name of a file beside the index",
            index_path, tensor, file_name ? file_name : "(not a string)");
    return LF_OK;
}

/* Opens every shard that weight_map names, once each; `names` (n_shards, sorted) tells the shards apart. */
static lf_status open_shards(lf_safetensors *s, const char *dir, const char *index_path, json_t *weight_map,
                             lf_named *names, lf_error *err)
{
    lf_status status = LF_OK;
    size_t n = 0;
    const char *tensor;
    json_t *value;
    json_object_foreach(weight_map, tensor, value)
    {
        LF_TRY(check_shard_name(index_path, tensor, value, err));
        names[n++] = (lf_named){.name = json_string_value(value)};
    }
    (void)lf_names_sort(names, n);
    for (size_t k = 0; k < n; k++) {
        if (s->n_shards > 0 && strcmp(names[s->n_shards - 1].name, names[k].name) == 0) continue;
        names[s->n_shards].name = names[k].name;
        names[s->n_shards].i = s->n_shards;
        LF_TRY(open_shard(s, dir, names[k].name, err));
    }
done:
    return status;
}

/* Each tensor of weight_map must be in the shard that it names. */
static lf_status check_promises(const lf_safetensors *s, const char *index_path, json_t *weight_map,
                                const lf_named *names, lf_error *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(weight_map, tensor, value)
    {
        const lf_named *found = lf_names_find(s->by_name, s->n_tensors, tensor);
        const shard *sh = &s->shards[lf_names_find(names, s->n_shards, json_string_value(value))->i];
        if (!found || found->i < sh->i_first || found->i - sh->i_first >= sh->n_tensors)
            return lf_fail(err, LF_EFORMAT, "%s: found no tensor '%.100s' in %.100s, expected it there",
                           index_path, tensor, json_string_value(value));
    }
    return LF_OK;
}

static lf_status open_sharded(lf_safetensors *s, const char *dir, const char *index_path, lf_error *err)
{
    lf_status status = LF_OK;
    json_t *index = NULL;
    lf_named *names = NULL;
    LF_TRY(lf_json_load(&index, index_path, err));
    json_t *weight_map = json_object_get(index, "weight_map");
    const size_t n = json_object_size(weight_map);
    if (n == 0) {
        status = lf_fail(err, LF_EFORMAT, "%s: found no weight_map, expected an object of tensor: file",
                         index_path);
        goto done;
    }
    names = calloc(n, sizeof *names);
    s->shards = calloc(n, sizeof *s->shards);
    if (!names || !s->shards) {
        status = lf_fail_memory(err, "shard list", n * (sizeof *names + sizeof *s->shards));
        goto done;
    }
    LF_TRY(open_shards(s, dir, index_path, weight_map, names, err));
    LF_TRY(index_names(s, index_path, err));
    LF_TRY(check_promises(s, index_path, weight_map, names, err));
done:
    free(names);
    json_decref(index);
    return status;
}

static lf_status open_single(lf_safetensors *s, const char *dir, const char *file_name, lf_error *err)
{
    s->shards = calloc(1, sizeof *s->shards);
    if (!s->shards) return lf_fail_memory(err, "shard list", sizeof *s->shards);
    const lf_status status = open_shard(s, dir, file_name, err);
    return status == LF_OK ? index_names(s, dir, err) : status;
}

lf_status lf_safetensors_open_dir(lf_safetensors **out, const char *dir, lf_error *err)
{
    static const char single[] = "model.safetensors", index[] = "model.safetensors.index.json";
    lf_status status = LF_OK;
    lf_bytes single_path = {0}, index_path = {0};
    lf_safetensors *s = calloc(1, sizeof *s);
    if (!s || !lf_bytes_printf(&single_path, "%s/%s", dir, single) ||
        !lf_bytes_printf(&index_path, "%s/%s", dir, index)) {
        status = lf_fail_memory(err, "safetensors", sizeof *s);
        goto done;
    }
    if (access(single_path.data, F_OK) == 0)
        LF_TRY(open_single(s, dir, single, err));
    else if (access(index_path.data, F_OK) == 0)
        LF_TRY(open_sharded(s, dir, index_path.data, err));
    else {
        status = lf_fail(err, LF_EIO, "%s: found neither %s nor %s", dir, single, index);
        goto done;
    }
    *out = s;
    s = NULL;
done:
    lf_bytes_free(&index_path);
    lf_bytes_free(&single_path);
    lf_safetensors_close(s);
    return status;
}

void lf_safetensors_close(lf_safetensors *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n_tensors; i++) lf_tensor_free_names(&s->tensors[i]);
    for (size_t i = 0; i < s->n_shards; i++) lf_map_close(&s->shards[i].map);
    free(s->by_name);
    free(s->tensors);
    free(s->shards);
    free(s);
}

/* ---- look-ups ---- */

size_t lf_safetensors_n_tensors(const lf_safetensors *s)
{
    return s->n_tensors;
}

const lf_tensor_info *lf_safetensors_tensor_at(const lf_safetensors *s, size_t i)
{
    assert(i < s->n_tensors);
    return &s->tensors[i];
}

const lf_tensor_info *lf_safetensors_find(const lf_safetensors *s, const char *name)
{
    const lf_named *found = lf_names_find(s->by_name, s->n_tensors, name);
    return found ? &s->tensors[found->i] : NULL;
}

/* file/gguf: writing. Round trips byte for byte, the promises about the temporary file, and each way to fail. */
#include "testing.h"

#include "file_tools.h"
#include "oom.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a disk that misbehaves ---- */

/* What write, which is replaced here for everything in this program, does to a file: in normal life nothing special. */
static struct {
    bool is_faulty; /* interrupted every other time, and short otherwise */
    bool is_interrupted;
    size_t bytes_left; /* on the disk */
} disk = {.bytes_left = SIZE_MAX};

__attribute__((visibility("default"))) ssize_t write(int fd, const void *data, size_t n)
{
    if (disk.is_faulty) {
        disk.is_interrupted = !disk.is_interrupted;
        if (disk.is_interrupted) {
            errno = EINTR;
            return -1;
        }
        if (n > 7) n = 7;
    }
    if (n > 0 && disk.bytes_left == 0) {
        errno = ENOSPC;
        return -1;
    }
    if (n > disk.bytes_left) n = disk.bytes_left;
    disk.bytes_left -= n;
    return (ssize_t)syscall(SYS_write, fd, data, n);
}

/* A folder for one test, and a path in it with its temporary neighbour. */
typedef struct place {
    char *dir, path[600], temp_path[600];
} place;

static place make_place(void)
{
    place p = {.dir = make_temp_dir()};
    (void)snprintf(p.path, sizeof p.path, "%s/m.gguf", p.dir);
    (void)snprintf(p.temp_path, sizeof p.temp_path, "%s/m.gguf.tmp", p.dir);
    return p;
}

static void remove_place(place *p)
{
    remove_tree(p->dir);
    free(p->dir);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static const int64_t matrix_dims[] = {3, 64}, vector_dims[] = {5};
enum { MATRIX_BYTES = 3 * 2 * 34, VECTOR_BYTES = 20 }; /* q8_0 and f32 */

static void declare_two_tensors(lf_gguf_writer *w)
{
    lf_gguf_add_tensor(w, "vector", LF_DTYPE_F32, 1, vector_dims);
    lf_gguf_add_tensor(w, "matrix", LF_DTYPE_Q8_0, 2, matrix_dims);
}

/* ---- what is written ---- */

/* Every value type, set by its own setter. */
static void set_all(lf_gguf_writer *w)
{
    const uint8_t bools[] = {1, 0, 1};
    const double doubles[] = {1e-300, -2.5};
    const int16_t shorts[] = {-1, 32767, -32768};
    const char *const strings[] = {"one", "", "th\0ree"};
    const size_t lens[] = {3, 0, 6};
    lf_gguf_set_int(w, "i.u8", LF_GGUF_U8, 255);
    lf_gguf_set_int(w, "i.i8", LF_GGUF_I8, -128);
    lf_gguf_set_int(w, "i.u16", LF_GGUF_U16, 65535);
    lf_gguf_set_int(w, "i.i16", LF_GGUF_I16, -32768);
    lf_gguf_set_int(w, "i.u32", LF_GGUF_U32, 4294967295);
    lf_gguf_set_int(w, "i.i32", LF_GGUF_I32, INT32_MIN);
    lf_gguf_set_int(w, "i.u64", LF_GGUF_U64, INT64_MAX);
    lf_gguf_set_int(w, "i.i64", LF_GGUF_I64, INT64_MIN);
    lf_gguf_set_float(w, "f.f32", LF_GGUF_F32, 1e-5);
    lf_gguf_set_float(w, "f.f64", LF_GGUF_F64, 1e-5);
    lf_gguf_set_bool(w, "b.yes", true);
    lf_gguf_set_bool(w, "b.no", false);
    lf_gguf_set_string(w, "s", "text \xff", 6);
    lf_gguf_set_string(w, "s.empty", "", 0);
    lf_gguf_set_array(w, "a.bools", LF_GGUF_BOOL, bools, 3);
    lf_gguf_set_array(w, "a.doubles", LF_GGUF_F64, doubles, 2);
    lf_gguf_set_array(w, "a.shorts", LF_GGUF_I16, shorts, 3);
    lf_gguf_set_array(w, "a.none", LF_GGUF_U32, NULL, 0);
    lf_gguf_set_strings(w, "a.strings", strings, lens, 3);
    lf_gguf_set_strings(w, "a.nostrings", NULL, NULL, 0);
}

static void check_all(const lf_gguf *g)
{
    const struct {
        const char *key;
        lf_gguf_type type;
        int64_t value;
    } ints[] = {
        {"general.alignment", LF_GGUF_U32, 32},
        {"i.u8", LF_GGUF_U8, 255},
        {"i.i8", LF_GGUF_I8, -128},
        {"i.u16", LF_GGUF_U16, 65535},
        {"i.i16", LF_GGUF_I16, -32768},
        {"i.u32", LF_GGUF_U32, 4294967295},
        {"i.i32", LF_GGUF_I32, INT32_MIN},
        {"i.u64", LF_GGUF_U64, INT64_MAX},
        {"i.i64", LF_GGUF_I64, INT64_MIN},
    };
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        int64_t value = 0;
        assert_int_equal(lf_gguf_get_int(g, ints[i].key, true, &value, NULL), LF_OK);
        assert_true(value == ints[i].value);
        assert_int_equal(lf_gguf_find(g, ints[i].key)->type, ints[i].type);
    }
    assert_true(lf_gguf_find(g, "f.f32")->f == (double)1e-5f);
    assert_int_equal(lf_gguf_find(g, "f.f32")->type, LF_GGUF_F32);
    assert_true(lf_gguf_find(g, "f.f64")->f == 1e-5);
    assert_true(lf_gguf_find(g, "b.yes")->u == 1 && lf_gguf_find(g, "b.no")->u == 0);
    assert_int_equal(lf_gguf_find(g, "s")->len, 6);
    assert_memory_equal(lf_gguf_find(g, "s")->str, "text \xff", 6);
    assert_int_equal(lf_gguf_find(g, "s.empty")->len, 0);
    assert_int_equal(lf_gguf_array_int(lf_gguf_find(g, "a.bools"), 2), 1);
    assert_true(lf_gguf_array_float(lf_gguf_find(g, "a.doubles"), 0) == 1e-300);
    assert_int_equal(lf_gguf_array_int(lf_gguf_find(g, "a.shorts"), 2), -32768);
    assert_int_equal(lf_gguf_find(g, "a.none")->count, 0);
    assert_int_equal(lf_gguf_find(g, "a.nostrings")->item_type, LF_GGUF_STRING);
    const lf_gguf_value *strings = lf_gguf_find(g, "a.strings");
    const uint8_t *cursor = strings->items;
    const char *str;
    size_t len;
    for (size_t i = 0; i < 3; i++) lf_gguf_array_next_string(&cursor, &str, &len);
    assert_int_equal(len, 6);
    assert_memory_equal(str, "th\0ree", 6);
}

static void test_writes_what_it_reads(void **state)
{
    (void)state;
    place p = make_place();
    lf_error err;
    lf_gguf_writer *w;
    lf_gguf *g;
    uint8_t data[MATRIX_BYTES];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7 + 1);
    assert_ok(lf_gguf_writer_open(&w, p.path, &err), &err);
    set_all(w);
    declare_two_tensors(w);
    assert_ok(lf_gguf_writer_begin(w, &err), &err);
    assert_true(exists(p.temp_path) && !exists(p.path));
    assert_ok(lf_gguf_write_data(w, data, VECTOR_BYTES, &err), &err);
    for (size_t i = 0; i < MATRIX_BYTES;
         i += 17) /* in pieces; the last is shorter where 17 does not divide */
        assert_ok(lf_gguf_write_data(w, data + i, MATRIX_BYTES - i < 17 ? MATRIX_BYTES - i : 17, &err), &err);
    assert_ok(lf_gguf_writer_finish(w, &err), &err);
    assert_true(exists(p.path) && !exists(p.temp_path));
    write_file(p.temp_path, "", 1); /* from here on the name is somebody else's */
    lf_gguf_writer_close(w);
    assert_true(exists(p.temp_path));

    assert_ok(lf_gguf_open(&g, p.path, &err), &err);
    assert_int_equal(lf_gguf_version(g), 3);
    assert_int_equal(lf_gguf_n_values(g), 21);
    check_all(g);
    const lf_tensor_info *t = lf_gguf_find_tensor(g, "vector");
    assert_int_equal(t->bytes, VECTOR_BYTES);
    assert_memory_equal(t->data, data, VECTOR_BYTES);
    t = lf_gguf_find_tensor(g, "matrix");
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 3);
    assert_int_equal(t->dims[1], 64);
    assert_memory_equal(t->data, data, MATRIX_BYTES);
    assert_int_equal((uintptr_t)t->data % 32, 0);
    lf_gguf_close(g);
    size_t size;
    free(read_file(p.path, &size));
    assert_int_equal(size % 32, 0); /* the last tensor is padded too */
    remove_place(&p);
}

/* Writes a copy of g, values and tensors, to path. */
static void copy_gguf(const lf_gguf *g, const char *path)
{
    lf_error err;
    lf_gguf_writer *w;
    assert_ok(lf_gguf_writer_open(&w, path, &err), &err);
    for (size_t i = 0; i < lf_gguf_n_values(g); i++) lf_gguf_set_value(w, lf_gguf_value_at(g, i));
    for (size_t i = 0; i < lf_gguf_n_tensors(g); i++) {
        const lf_tensor_info *t = lf_gguf_tensor_at(g, i);
        if (t->supported) lf_gguf_add_tensor(w, t->name, t->dtype, t->n_dims, t->dims);
    }
    assert_ok(lf_gguf_writer_begin(w, &err), &err);
    for (size_t i = 0; i < lf_gguf_n_tensors(g); i++) {
        const lf_tensor_info *t = lf_gguf_tensor_at(g, i);
        if (t->supported) assert_ok(lf_gguf_write_data(w, t->data, t->bytes, &err), &err);
    }
    assert_ok(lf_gguf_writer_finish(w, &err), &err);
    lf_gguf_writer_close(w);
}

/* A copy holds the same values and tensors, except for the alignment, and the copy of a copy is the same file. */
static void check_copies(const lf_gguf *g)
{
    place p = make_place();
    lf_error err;
    lf_gguf *copied;
    char again_path[640];
    (void)snprintf(again_path, sizeof again_path, "%s.again", p.path);
    copy_gguf(g, p.path);
    assert_ok(lf_gguf_open(&copied, p.path, &err), &err);
    copy_gguf(copied, again_path);

    lf_bytes text = dump_gguf(g), copied_text = dump_gguf(copied);
    for (char *line = strtok(copied_text.data, "\n"); line; line = strtok(NULL, "\n"))
        if (!strstr(line, "key general.alignment ") && !strstr(text.data, line)) fail_msg("new: %s", line);
    const bool had_alignment = lf_gguf_find(g, "general.alignment") != NULL;
    assert_int_equal(lf_gguf_n_values(copied), lf_gguf_n_values(g) + !had_alignment);

    size_t size, size_again;
    char *data = read_file(p.path, &size), *data_again = read_file(again_path, &size_again);
    assert_int_equal(size, size_again);
    assert_memory_equal(data, data_again, size);
    free(data);
    free(data_again);
    lf_bytes_free(&text);
    lf_bytes_free(&copied_text);
    lf_gguf_close(copied);
    remove_place(&p);
}

static void test_copies_every_type(void **state)
{
    (void)state;
    lf_bytes f = {0};
    lf_error err;
    lf_gguf *g;
    (void)put_small_file(&f);
    assert_ok(lf_gguf_parse(&g, f.data, f.len, "x.gguf", &err), &err);
    check_copies(g);
    lf_gguf_close(g);
    lf_bytes_free(&f);
}

static void test_copies_a_real_model(void **state)
{
    (void)state;
    lf_error err;
    lf_gguf *g;
    assert_ok(lf_gguf_open(&g, require_data("gguf/llama-2-tiny-random.gguf"), &err), &err);
    check_copies(g);
    lf_gguf_close(g);
}

static void test_writes_a_file_without_tensors(void **state)
{
    (void)state;
    place p = make_place();
    lf_error err;
    lf_gguf_writer *w;
    lf_gguf *g;
    assert_ok(lf_gguf_writer_open(&w, p.path, &err), &err);
    assert_ok(lf_gguf_writer_begin(w, &err), &err);
    assert_ok(lf_gguf_writer_finish(w, &err), &err);
    lf_gguf_writer_close(w);
    assert_ok(lf_gguf_open(&g, p.path, &err), &err);
    assert_int_equal(lf_gguf_n_tensors(g), 0);
    lf_gguf_close(g);
    remove_place(&p);
}

/* ---- bad requests ---- */

static void set_twice(lf_gguf_writer *w)
{
    lf_gguf_set_bool(w, "k", true);
    lf_gguf_set_string(w, "k", "x", 1);
}

static void set_too_large(lf_gguf_writer *w)
{
    lf_gguf_set_int(w, "k", LF_GGUF_U8, 256);
    lf_gguf_set_int(w, "l", LF_GGUF_U8, 257); /* the first failure is the one to report */
}

static void set_negative(lf_gguf_writer *w)
{
    lf_gguf_set_int(w, "k", LF_GGUF_U64, -1);
}

static void set_too_small(lf_gguf_writer *w)
{
    lf_gguf_set_int(w, "k", LF_GGUF_I16, -32769);
}

static void set_nameless(lf_gguf_writer *w)
{
    lf_gguf_set_bool(w, "", true);
}

static void set_control_character(lf_gguf_writer *w)
{
    lf_gguf_set_bool(w, "a\nb", true);
}

static void add_twice(lf_gguf_writer *w)
{
    lf_gguf_add_tensor(w, "t", LF_DTYPE_F32, 1, vector_dims);
    lf_gguf_add_tensor(w, "t", LF_DTYPE_F16, 1, vector_dims);
}

static void add_long_name(lf_gguf_writer *w)
{
    char name[65];
    memset(name, 'n', 64);
    name[64] = '\0';
    lf_gguf_add_tensor(w, name + 1, LF_DTYPE_F32, 1, vector_dims); /* 63 bytes are fine */
    lf_gguf_add_tensor(w, name, LF_DTYPE_F32, 1, vector_dims);
}

static void add_half_blocks(lf_gguf_writer *w)
{
    lf_gguf_add_tensor(w, "t", LF_DTYPE_Q8_0, 2, (int64_t[]){2, 48});
}

static void add_no_rows(lf_gguf_writer *w)
{
    lf_gguf_add_tensor(w, "t", LF_DTYPE_F32, 2, (int64_t[]){0, 8});
}

static void add_too_much(lf_gguf_writer *w)
{
    lf_gguf_add_tensor(w, "t", LF_DTYPE_F32, 3, (int64_t[]){1 << 21, 1 << 21, 1 << 20});
}

static void add_too_much_in_all(lf_gguf_writer *w)
{
    const char *const names[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 4; i++)
        lf_gguf_add_tensor(w, names[i], LF_DTYPE_F32, 1, (int64_t[]){INT64_C(1) << 61});
}

static void test_begin_reports_bad_requests(void **state)
{
    (void)state;
    const struct {
        void (*request)(lf_gguf_writer *w);
        const char *text;
    } cases[] = {
        {set_twice, "key 'k': set twice, expected once"},
        {set_too_large, "key 'k': found 256, expected a value that fits uint8"},
        {set_negative, "key 'k': found -1, expected a value that fits uint64"},
        {set_too_small, "key 'k': found -32769, expected a value that fits int16"},
        {set_nameless, "key '': expected 1 to 65535 bytes without control characters"},
        {set_control_character, "expected 1 to 65535 bytes without control characters"},
        {add_twice, "tensor 't': set twice, expected once"},
        {add_long_name, "expected a name of 1 to 63 bytes"},
        {add_half_blocks,
         "tensor 't': expected dimensions of at least 1 whose rows are whole blocks of q8_0"},
        {add_no_rows, "tensor 't': expected dimensions of at least 1"},
        {add_too_much, "tensor 't': expected dimensions of at least 1"},
        {add_too_much_in_all, "tensor 'b': expected dimensions of at least 1"},
    };
    place p = make_place();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lf_error err = {0};
        lf_gguf_writer *w;
        assert_ok(lf_gguf_writer_open(&w, p.path, &err), &err);
        cases[i].request(w);
        assert_int_equal(lf_gguf_writer_begin(w, &err), LF_EINVAL);
        assert_int_equal(err.status, LF_EINVAL);
        if (!strstr(err.text, cases[i].text)) fail_msg("'%s' lacks '%s'", err.text, cases[i].text);
        assert_ptr_equal(strstr(err.text, p.path), err.text);
        assert_int_equal(lf_gguf_write_data(w, "", 0, &err), LF_EINVAL);
        assert_int_equal(lf_gguf_writer_finish(w, &err), LF_EINVAL);
        lf_gguf_writer_close(w);
        assert_true(!exists(p.path) && !exists(p.temp_path));
    }
    remove_place(&p);
}

static void test_data_must_match_the_tensors(void **state)
{
    (void)state;
    const uint8_t data[MATRIX_BYTES] = {0};
    const struct {
        size_t vector_bytes, matrix_bytes, more_bytes;
        const char *text;
    } cases[] = {
        {VECTOR_BYTES, MATRIX_BYTES - 1, 0, "tensor 'matrix': found 203 bytes of data, expected 204"},
        {VECTOR_BYTES - 4, 0, 0, "tensor 'vector': found 16 bytes of data, expected 20"},
        {VECTOR_BYTES + 1, 0, 0, "tensor 'vector': found 21 more bytes of data, expected at most 20"},
        {VECTOR_BYTES, MATRIX_BYTES, 1, "found 1 more bytes of data, expected none after the last tensor"},
    };
    place p = make_place();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lf_error err = {0};
        lf_gguf_writer *w;
        assert_ok(lf_gguf_writer_open(&w, p.path, &err), &err);
        declare_two_tensors(w);
        assert_ok(lf_gguf_writer_begin(w, &err), &err);
        lf_status status = lf_gguf_write_data(w, data, cases[i].vector_bytes, &err);
        if (status == LF_OK && cases[i].matrix_bytes > 0)
            status = lf_gguf_write_data(w, data, cases[i].matrix_bytes, &err);
        if (status == LF_OK && cases[i].more_bytes > 0)
            status = lf_gguf_write_data(w, data, cases[i].more_bytes, &err);
        if (status == LF_OK) status = lf_gguf_writer_finish(w, &err);
        assert_int_equal(status, LF_EINVAL);
        if (!strstr(err.text, cases[i].text)) fail_msg("'%s' lacks '%s'", err.text, cases[i].text);
        assert_int_equal(lf_gguf_writer_finish(w, NULL), LF_EINVAL);
        lf_gguf_writer_close(w);
        assert_true(!exists(p.path) && !exists(p.temp_path));
    }
    remove_place(&p);
}

/* ---- bad disks ---- */

/* Writes a small file to path; the status of the first step that fails. */
static lf_status write_two_tensors(const char *path, lf_error *err)
{
    static uint8_t data[MATRIX_BYTES];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)i;
    lf_gguf_writer *w = NULL;
    lf_status status = lf_gguf_writer_open(&w, path, err);
    if (status == LF_OK) {
        set_all(w);
        declare_two_tensors(w);
        status = lf_gguf_writer_begin(w, err);
    }
    if (status == LF_OK) status = lf_gguf_write_data(w, data, VECTOR_BYTES, err);
    if (status == LF_OK) status = lf_gguf_write_data(w, data, MATRIX_BYTES, err);
    if (status == LF_OK) status = lf_gguf_writer_finish(w, err);
    lf_gguf_writer_close(w);
    return status;
}

static void test_unwritable_places(void **state)
{
    (void)state;
    place p = make_place();
    lf_error err;
    char path[700], temp_path[720], victim_path[700];
    (void)snprintf(victim_path, sizeof victim_path, "%s/victim", p.dir);
    (void)snprintf(path, sizeof path, "%s/absent/m.gguf", p.dir);
    assert_error(write_two_tensors(path, &err), LF_EIO, &err,
                 "m.gguf.tmp: cannot create: No such file or directory");

    assert_int_equal(mkdir(p.path, 0777), 0); /* a folder has the name */
    assert_error(write_two_tensors(p.path, &err), LF_EIO, &err,
                 "m.gguf: cannot rename the finished file to this: Is a directory");
    assert_false(exists(p.temp_path));

    (void)snprintf(path, sizeof path, "%s/n.gguf", p.dir);
    (void)snprintf(temp_path, sizeof temp_path, "%s.tmp", path);
    write_file(victim_path, "mine", 4);
    assert_int_equal(symlink(victim_path, temp_path), 0); /* a link planted where the temporary file goes */
    assert_error(write_two_tensors(path, &err), LF_EIO, &err, "n.gguf.tmp: cannot create: ");
    char *victim = read_file(victim_path, NULL);
    assert_string_equal(victim, "mine");
    free(victim);

    if (geteuid() != 0) { /* root writes anywhere */
        assert_int_equal(chmod(p.dir, 0555), 0);
        (void)snprintf(path, sizeof path, "%s/o.gguf", p.dir);
        assert_error(write_two_tensors(path, &err), LF_EIO, &err,
                     "o.gguf.tmp: cannot create: Permission denied");
        assert_int_equal(chmod(p.dir, 0777), 0);
    }
    remove_place(&p);
}

static void test_full_disk(void **state)
{
    (void)state;
    place p = make_place();
    lf_error err;
    size_t size;
    assert_ok(write_two_tensors(p.path, &err), &err);
    free(read_file(p.path, &size));
    assert_int_equal(remove(p.path), 0);
    const int free_fd = dup(STDIN_FILENO);
    assert_int_equal(close(free_fd), 0);
    for (size_t room = 0; room < size; room += 7) {
        disk.bytes_left = room;
        const lf_status status = write_two_tensors(p.path, &err);
        disk.bytes_left = SIZE_MAX;
        assert_error(status, LF_EIO, &err, "m.gguf.tmp: cannot write: No space left on device");
        assert_true(!exists(p.path) && !exists(p.temp_path));
    }
    assert_int_equal(dup(STDIN_FILENO), free_fd); /* every file was closed */
    assert_int_equal(close(free_fd), 0);
    remove_place(&p);
}

static void test_short_and_interrupted_writes(void **state)
{
    (void)state;
    place p = make_place();
    lf_error err;
    size_t size, faulty_size;
    assert_ok(write_two_tensors(p.path, &err), &err);
    char *data = read_file(p.path, &size);
    disk.is_faulty = true;
    const lf_status status = write_two_tensors(p.path, &err);
    disk.is_faulty = false;
    assert_ok(status, &err);
    char *faulty_data = read_file(p.path, &faulty_size);
    assert_int_equal(faulty_size, size);
    assert_memory_equal(faulty_data, data, size);
    free(data);
    free(faulty_data);
    remove_place(&p);
}

/* Killed in the middle, a writer leaves the old file as it was; the next one takes over what it left. */
static void test_killed_writer_leaves_the_old_file(void **state)
{
    (void)state;
    place p = make_place();
    lf_error err;
    write_file(p.path, "old", 3);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        lf_gguf_writer *w;
        const uint8_t data[VECTOR_BYTES] = {0};
        if (lf_gguf_writer_open(&w, p.path, NULL) == LF_OK) {
            declare_two_tensors(w);
            if (lf_gguf_writer_begin(w, NULL) == LF_OK &&
                lf_gguf_write_data(w, data, VECTOR_BYTES, NULL) == LF_OK)
                (void)raise(SIGKILL);
        }
        _exit(1);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    char *data = read_file(p.path, NULL);
    assert_string_equal(data, "old");
    free(data);
    assert_true(exists(p.temp_path));

    lf_gguf *g;
    assert_ok(write_two_tensors(p.path, &err), &err);
    assert_false(exists(p.temp_path));
    assert_ok(lf_gguf_open(&g, p.path, &err), &err);
    lf_gguf_close(g);
    remove_place(&p);
}

static void test_every_allocation_can_fail(void **state)
{
    (void)state;
    oom_require();
    place p = make_place();
    lf_error err;
    for (long n = 1;; n++) {
        const long live = oom_live();
        oom_fail_at(n);
        const lf_status status = write_two_tensors(p.path, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        assert_int_equal(oom_live(), live);
        assert_false(exists(p.temp_path));
        if (all_succeeded) {
            assert_ok(status, &err);
            assert_true(n > 21);
            break;
        }
        if (status == LF_OK) { /* sorting and syncing the folder do without memory */
            assert_int_equal(remove(p.path), 0);
        } else {
            assert_error(status, LF_ENOMEM, &err, "out of memory");
            assert_false(exists(p.path));
        }
    }
    remove_place(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_what_it_reads),
        cmocka_unit_test(test_copies_every_type),
        cmocka_unit_test(test_copies_a_real_model),
        cmocka_unit_test(test_writes_a_file_without_tensors),
        cmocka_unit_test(test_begin_reports_bad_requests),
        cmocka_unit_test(test_data_must_match_the_tensors),
        cmocka_unit_test(test_unwritable_places),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_short_and_interrupted_writes),
        cmocka_unit_test(test_killed_writer_leaves_the_old_file),
        cmocka_unit_test(test_every_allocation_can_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "testing.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *join(const char *folder, const char *relative)
{
    static char ring[4][1024];
    static unsigned next;
    char *path = ring[next++ % 4];
    (void)snprintf(path, sizeof ring[0], "%s/%s", folder, relative);
    return path;
}

const char *data_path(const char *relative)
{
    const char *folder = getenv("LOOKFAR_DATA");
    return join(folder ? folder : "../shared/data", relative);
}

const char *require_data(const char *relative)
{
    const char *path = data_path(relative);
    if (access(path, R_OK) != 0) {
        print_message("skipped: %s is not there (LOOKFAR_DATA names the folder of real data)\n", path);
        skip();
    }
    return path;
}

const char *golden_path(const char *relative)
{
    const char *folder = getenv("LOOKFAR_TESTS");
    char name[512];
    (void)snprintf(name, sizeof name, "golden/%s", relative);
    return join(folder ? folder : "tests", name);
}

char *make_temp_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *path = strdup(join(base ? base : "/tmp", "lookfar-test-XXXXXX"));
    assert_non_null(path);
    assert_non_null(mkdtemp(path));
    return path;
}

static char *temp; /* of enter_temp */

int enter_temp(void **state)
{
    (void)state;
    temp = make_temp_dir();
    return 0;
}

int leave_temp(void **state)
{
    (void)state;
    remove_tree(temp);
    free(temp);
    return 0;
}

const char *in_temp(const char *name)
{
    static char ring[16][512];
    static unsigned next;
    char *path = ring[next++ % 16];
    (void)snprintf(path, sizeof ring[0], "%s/%s", temp, name);
    return path;
}

int count_temp_files(void)
{
    DIR *d = opendir(temp);
    int n = -2; /* . and .. */
    assert_non_null(d);
    while (readdir(d)) n++;
    (void)closedir(d);
    return n;
}

void find_program(char *out, size_t size)
{
    const char *given = getenv("LOOKFAR_BIN");
    char self[1024] = "";
    if (given) {
        (void)snprintf(out, size, "%s", given);
        return;
    }
    out[0] = '\0';
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return;
    for (int up = 0; up < 2 && strrchr(self, '/'); up++) *strrchr(self, '/') = '\0';
    (void)snprintf(out, size, "%s/lookfar", self); /* build/tests/test_x -> build/lookfar */
    if (access(out, X_OK) != 0) out[0] = '\0';
}

const char *require_program(void)
{
    static char path[1024];
    find_program(path, sizeof path);
    if (path[0] == '\0') {
        print_message("skipped: the program is not built (LOOKFAR_BIN names it)\n");
        skip();
    }
    return path;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

void remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

char *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot open", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const long n = ftell(f);
    rewind(f);
    char *data = malloc((size_t)n + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)n, f), (size_t)n);
    data[n] = '\0';
    (void)fclose(f);
    if (size) *size = (size_t)n;
    return data;
}

void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f) fail_msg("%s: cannot create", path);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

uint64_t rng_next(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

float rng_uniform(uint64_t *state)
{
    return (float)((int32_t)(rng_next(state) >> 40) - (1 << 23)) * 0x1p-23f;
}

void expect_same_file(const char *a, const char *b)
{
    size_t a_size, b_size;
    char *a_data = read_file(a, &a_size), *b_data = read_file(b, &b_size);
    assert_int_equal(a_size, b_size);
    assert_memory_equal(a_data, b_data, a_size);
    free(a_data);
    free(b_data);
}

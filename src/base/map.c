#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

lf_status lf_map_open(lf_map *out, const char *path, lf_error *err)
{
    lf_status status = LF_OK;
    struct stat st;
    *out = (lf_map){0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lf_fail(err, LF_EIO, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) {
        status = lf_fail(err, LF_EIO, "%s: cannot stat: %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(st.st_mode)) {
        status = lf_fail(err, LF_EIO, "%s: found %s, expected a regular file", path,
                         S_ISDIR(st.st_mode) ? "a directory" : "a special file");
        goto done;
    }
    if (st.st_size == 0) {
        status = lf_fail(err, LF_EIO, "%s: the file is empty", path);
        goto done;
    }
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
        status = lf_fail(err, LF_EIO, "%s: cannot map %lld bytes: %s", path, (long long)st.st_size,
                         strerror(errno));
        goto done;
    }
    *out = (lf_map){.data = data, .size = (size_t)st.st_size};
done:
    (void)close(fd);
    return status;
}

void lf_map_close(lf_map *map)
{
    if (map->data) (void)munmap((void *)(uintptr_t)map->data, map->size);
    *map = (lf_map){0};
}

void lf_map_forget(const void *data, size_t n)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)data + page - 1) / page * page,
                    end = ((uintptr_t)data + n) / page * page;
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* a hint: a refusal costs memory only */
}

#include "train/data_out.h"

#include "base/folder.h"
#include "base/mem.h"
#include "train/data_hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20 };

struct lf_data_out {
    char *path;
    lf_bytes temp_path;
    int fd; /* -1: not open */
    bool has_temp_file;
    lf_data_hash hash;
    size_t header_bytes, n_buffer;
    uint8_t buffer[BUFFER_BYTES];
};

static lf_status fail_io(const char *path, const char *what, lf_error *err)
{
    return lf_fail(err, LF_EIO, "%s: cannot %s: %s", path, what, strerror(errno));
}

static lf_status flush(lf_data_out *o, lf_error *err)
{
    for (size_t done = 0; done < o->n_buffer;) {
        const ssize_t n = write(o->fd, o->buffer + done, o->n_buffer - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_io(o->temp_path.data, "write", err);
        done += (size_t)n;
    }
    o->n_buffer = 0;
    return LF_OK;
}

lf_status lf_data_out_open(lf_data_out **out, const char *path, size_t header_bytes, lf_error *err)
{
    lf_status status = LF_OK;
    lf_data_out *o = malloc(sizeof *o);
    if (!o) return lf_fail_memory(err, "an output file", sizeof *o);
    o->temp_path = (lf_bytes){0};
    o->fd = -1;
    o->has_temp_file = false;
    o->hash = (lf_data_hash){0};
    o->header_bytes = header_bytes;
    o->n_buffer = 0;
    o->path = lf_strndup(path, strlen(path));
    if (!o->path || !lf_bytes_printf(&o->temp_path, "%s.tmp", path)) {
        status = lf_fail_memory(err, "a path", strlen(path));
        goto done;
    }
    o->fd = open(o->temp_path.data, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (o->fd < 0) {
        status = fail_io(o->temp_path.data, "create", err);
        goto done;
    }
    o->has_temp_file = true;
    if (lseek(o->fd, (off_t)header_bytes, SEEK_SET) < 0) {
        status = fail_io(o->temp_path.data, "seek", err);
        goto done;
    }
    *out = o;
    o = NULL;
done:
    lf_data_out_close(o);
    return status;
}

lf_status lf_data_out_write(lf_data_out *o, const void *data, size_t bytes, lf_error *err)
{
    lf_status status = LF_OK;
    const uint8_t *p = data;
    lf_data_hash_add(&o->hash, data, bytes);
    while (bytes > 0) {
        const size_t room = BUFFER_BYTES - o->n_buffer, n = bytes < room ? bytes : room;
        memcpy(o->buffer + o->n_buffer, p, n);
        o->n_buffer += n;
        p += n;
        bytes -= n;
        if (o->n_buffer == BUFFER_BYTES) LF_TRY(flush(o, err));
    }
done:
    return status;
}

uint64_t lf_data_out_hash(const lf_data_out *o)
{
    return lf_data_hash_value(&o->hash);
}

uint64_t lf_data_out_size(const lf_data_out *o)
{
    return o->hash.n_bytes;
}

lf_status lf_data_out_finish(lf_data_out *o, const void *header, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(flush(o, err));
    if (pwrite(o->fd, header, o->header_bytes, 0) != (ssize_t)o->header_bytes || fsync(o->fd) != 0) {
        status = fail_io(o->temp_path.data, "write", err);
        goto done;
    }
    const int closed = close(o->fd);
    o->fd = -1;
    if (closed != 0 || rename(o->temp_path.data, o->path) != 0) {
        status = fail_io(o->path, "put the finished file there", err);
        goto done;
    }
    o->has_temp_file = false;
    lf_folder_sync(o->path);
done:
    return status;
}

void lf_data_out_close(lf_data_out *o)
{
    if (!o) return;
    if (o->fd >= 0) (void)close(o->fd);
    if (o->has_temp_file) (void)unlink(o->temp_path.data);
    lf_bytes_free(&o->temp_path);
    free(o->path);
    free(o);
}

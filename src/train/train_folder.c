#include "train/train_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static lf_status fail_io(const char *path, const char *what, lf_error *err)
{
    return lf_fail(err, LF_EIO, "%s: cannot %s: %s", path, what, strerror(errno));
}

/* Makes the folder and those above it. */
static lf_status make_folders(const char *path, lf_error *err)
{
    char prefix[LF_TRAIN_PATH_MAX];
    (void)snprintf(prefix, sizeof prefix, "%s", path);
    for (char *slash = prefix; slash;) {
        slash = strchr(slash + 1, '/');
        if (slash) *slash = '\0';
        if (mkdir(prefix, 0777) != 0 && errno != EEXIST) return fail_io(prefix, "make this folder", err);
        if (slash) *slash = '/';
    }
    return LF_OK;
}

const char *lf_train_folder_file(char *out, const lf_train_folder *f, const char *name)
{
    (void)snprintf(out, LF_TRAIN_PATH_MAX, "%s/%s", f->path, name);
    return out;
}

lf_status lf_train_folder_open(lf_train_folder *out, const char *path, lf_error *err)
{
    lf_status status = LF_OK;
    char file[LF_TRAIN_PATH_MAX];
    lf_train_folder f = {0};
    if (path[0] == '\0' || strlen(path) >= sizeof f.path)
        return lf_fail(err, LF_EINVAL, "the run's folder: found a path of %zu bytes, expected 1 to %zu",
                       strlen(path), sizeof f.path - 1);
    (void)snprintf(f.path, sizeof f.path, "%s", path);
    LF_TRY(make_folders(lf_train_folder_file(file, &f, "data"), err));
    const int lock = open(lf_train_folder_file(file, &f, "lock"), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
                          0666);
    if (lock < 0) {
        status = fail_io(file, "open", err);
        goto done;
    }
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        status = errno == EWOULDBLOCK ? lf_fail(err, LF_EIO, "%s: another run is using this folder", path)
                                      : fail_io(file, "lock", err);
        (void)close(lock);
        goto done;
    }
    f.lock = lock;
    *out = f;
done:
    return status;
}

void lf_train_folder_close(lf_train_folder *f)
{
    if (f->log) (void)fclose(f->log);
    if (f->lock > 0) (void)close(f->lock);
    *f = (lf_train_folder){0};
}

lf_status lf_train_folder_open_log(lf_train_folder *f, int64_t keep, lf_error *err)
{
    lf_status status = LF_OK;
    char file[LF_TRAIN_PATH_MAX];
    struct stat st;
    const int fd = open(lf_train_folder_file(file, f, "log.jsonl"),
                        O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0 || fstat(fd, &st) != 0) {
        status = fail_io(file, "open", err);
        goto done;
    }
    if (st.st_size < keep) {
        status = lf_fail(err, LF_EFORMAT,
                         "%s: found %lld bytes, expected at least the %lld that the checkpoint knows", file,
                         (long long)st.st_size, (long long)keep);
        goto done;
    }
    if (ftruncate(fd, (off_t)keep) != 0 || !(f->log = fdopen(fd, "ab"))) status = fail_io(file, "open", err);
done:
    if (status != LF_OK && fd >= 0) (void)close(fd);
    return status;
}

static lf_status fail_log(const lf_train_folder *f, lf_error *err)
{
    char file[LF_TRAIN_PATH_MAX];
    return fail_io(lf_train_folder_file(file, f, "log.jsonl"), "write", err);
}

lf_status lf_train_folder_log(lf_train_folder *f, json_t *object, lf_error *err)
{
    if (!object) return lf_fail_memory(err, "a line of the log", 0);
    const bool ok = json_dumpf(object, f->log, JSON_COMPACT | JSON_REAL_PRECISION(8)) == 0 &&
                    fputc('\n', f->log) != EOF && fflush(f->log) == 0;
    json_decref(object);
    return ok ? LF_OK : fail_log(f, err);
}

lf_status lf_train_folder_sync_log(lf_train_folder *f, int64_t *bytes, lf_error *err)
{
    struct stat st;
    if (fflush(f->log) != 0 || fsync(fileno(f->log)) != 0 || fstat(fileno(f->log), &st) != 0)
        return fail_log(f, err);
    *bytes = st.st_size;
    return LF_OK;
}

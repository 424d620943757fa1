/* Writing trajectory files. A record goes to the file in one piece, behind those that are there; opening a
 * file again cuts off what a crash left of the last one. */
#include "base/folder.h"
#include "base/mem.h"
#include "train/data_hash.h"
#include "train/trajectory_int.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct lf_trajectory_writer {
    char *path;
    int fd; /* locked; -1: not open */
    lf_trajectory_info info;
    int64_t n_records;
    lf_bytes buffer; /* of the record at hand */
};

static lf_status fail_io(const char *path, const char *what, lf_error *err)
{
    return lf_fail(err, LF_EIO, "%s: cannot %s: %s", path, what, strerror(errno));
}

static lf_status write_all(const lf_trajectory_writer *w, const void *data, size_t bytes, lf_error *err)
{
    const uint8_t *at = data;
    while (bytes > 0) {
        const ssize_t n = write(w->fd, at, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_io(w->path, "write", err);
        at += n;
        bytes -= (size_t)n;
    }
    return LF_OK;
}

/* ---- opening ---- */

/* Everything must be the same; the error says what is not. */
static lf_status check_same(const lf_trajectory_info *found, const lf_trajectory_info *expected,
                            const char *path, lf_error *err)
{
    const struct {
        const char *name;
        double found, expected;
    } numbers[] = {{"prompts", (double)found->n_prompts, (double)expected->n_prompts},
                   {"tokens of a block", found->n, expected->n},
                   {"vocabulary", found->n_vocab, expected->n_vocab},
                   {"fill", found->fill, expected->fill},
                   {"temperature", (double)found->temperature, (double)expected->temperature},
                   {"top_p", (double)found->top_p, (double)expected->top_p},
                   {"min_p", (double)found->min_p, (double)expected->min_p},
                   {"top_k", found->top_k, expected->top_k},
                   {"max_tokens", found->max_tokens, expected->max_tokens},
                   {"augment", (double)found->augment, (double)expected->augment},
                   {"repeat_tokens", found->repeat_tokens, expected->repeat_tokens},
                   {"repeat_sentences", found->repeat_sentences, expected->repeat_sentences}};
    const struct {
        const char *name;
        uint64_t found, expected;
    } hashes[] = {{"vocabulary", found->vocab_hash, expected->vocab_hash},
                  {"model", found->model_hash, expected->model_hash},
                  {"prompts", found->prompts_hash, expected->prompts_hash},
                  {"seed", found->seed, expected->seed}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].found != numbers[i].expected)
            return lf_fail(err, LF_EINVAL,
                           "%s: trajectories of another collection: %s: found %.9g, expected %.9g", path,
                           numbers[i].name, numbers[i].found, numbers[i].expected);
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++)
        if (hashes[i].found != hashes[i].expected)
            return lf_fail(err, LF_EINVAL, "%s: trajectories of another %s: found %016llx, expected %016llx",
                           path, hashes[i].name, (unsigned long long)hashes[i].found,
                           (unsigned long long)hashes[i].expected);
    return LF_OK;
}

/* A file without a whole header: one that is new, or whose collection ended at once. Anything else is not
 * ours to replace. */
static lf_status begin_file(lf_trajectory_writer *w, size_t size, lf_error *err)
{
    const lf_trajectory_header h = lf_trajectory_pack(&w->info);
    uint8_t there[sizeof h];
    assert(size < sizeof h);
    if (pread(w->fd, there, size, 0) != (ssize_t)size) return fail_io(w->path, "read", err);
    if (memcmp(there, &h, size) != 0)
        return lf_fail(err, LF_EFORMAT, "%s: found %zu bytes that are no trajectory file", w->path, size);
    if (ftruncate(w->fd, 0) != 0) return fail_io(w->path, "begin", err);
    const lf_status status = write_all(w, &h, sizeof h, err);
    if (status == LF_OK) lf_folder_sync(w->path);
    return status;
}

/* Checks what is there and cuts off what is left of a last record. */
static lf_status continue_file(lf_trajectory_writer *w, lf_error *err)
{
    lf_status status = LF_OK;
    lf_trajectory_file f = {0};
    lf_map map = {0};
    LF_TRY(lf_map_open(&map, w->path, err));
    const size_t size = map.size;
    LF_TRY(lf_trajectory_scan(&f, map.data, size, true, w->path, err));
    LF_TRY(check_same(&f.info, &w->info, w->path, err));
    w->n_records = f.n_records;
    if (f.torn_bytes > 0 && ftruncate(w->fd, (off_t)(size - f.torn_bytes)) != 0)
        status = fail_io(w->path, "cut off a torn record", err);
done:
    lf_trajectory_file_close(&f);
    lf_map_close(&map);
    return status;
}

lf_status lf_trajectory_writer_open(lf_trajectory_writer **out, int64_t *n_records, const char *path,
                                    const lf_trajectory_info *info, lf_error *err)
{
    lf_status status = LF_OK;
    struct stat st;
    lf_trajectory_writer *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return lf_fail_memory(err, "a trajectory file", sizeof *w);
    *w = (lf_trajectory_writer){.fd = -1, .info = *info, .path = lf_strndup(path, strlen(path))};
    if (!w->path) {
        status = lf_fail_memory(err, "a path", strlen(path));
        goto done;
    }
    w->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (w->fd < 0 || fstat(w->fd, &st) != 0) {
        status = fail_io(path, "open", err);
        goto done;
    }
    if (flock(w->fd, LOCK_EX | LOCK_NB) != 0) {
        status = errno == EWOULDBLOCK ? lf_fail(err, LF_EIO, "%s: another collection is writing it", path)
                                      : fail_io(path, "lock", err);
        goto done;
    }
    if (fstat(w->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status = lf_fail(err, LF_EIO, "%s: expected a regular file", path);
        goto done;
    }
    LF_TRY(st.st_size < LF_TRAJECTORY_HEADER ? begin_file(w, (size_t)st.st_size, err)
                                             : continue_file(w, err));
    *n_records = w->n_records;
    *out = w;
    w = NULL;
done:
    lf_trajectory_writer_close(w);
    return status;
}

/* ---- records ---- */

static bool append_ids(lf_bytes *out, const int32_t *ids, size_t n)
{
    return lf_bytes_append(out, ids, n * sizeof *ids);
}

lf_status lf_trajectory_writer_add(lf_trajectory_writer *w, const lf_trajectory *t,
                                   const lf_trajectory_note *note, lf_error *err)
{
    static const uint8_t zeros[8];
    size_t body_bytes, n_states = 0;
    assert(note->i_prompt == w->n_records && (t != NULL) == (note->drop == LF_TRAJECTORY_KEPT));
    assert(!t || (t->n == w->info.n && t->n_output == note->n_output));
    for (int b = 0; t && b < t->n_blocks; b++) n_states += (size_t)t->n_states[b];
    lf_trajectory_head h = {.mark = LF_TRAJECTORY_MARK,
                            .drop = (uint32_t)note->drop,
                            .i_prompt = (uint64_t)note->i_prompt,
                            .n_prompt = t ? (uint32_t)t->n_prompt : 0,
                            .n_blocks = t ? (uint32_t)t->n_blocks : 0,
                            .n_states = (uint32_t)n_states,
                            .n_output = (uint32_t)note->n_output,
                            .passes = (uint32_t)note->passes,
                            .stationary = (uint32_t)note->stationary,
                            .fast_forwarded = note->fast_forwarded};
    if (n_states > INT32_MAX || !lf_trajectory_body_bytes(&h, w->info.n, &body_bytes))
        return lf_fail(err, LF_ELIMIT, "%s: record %lld: found %zu states, expected at most %d", w->path,
                       (long long)note->i_prompt, n_states, INT32_MAX);
    w->buffer.len = 0;
    bool fits = lf_bytes_append(&w->buffer, &h, sizeof h);
    if (t)
        fits = fits && append_ids(&w->buffer, t->prompt, (size_t)t->n_prompt) &&
               append_ids(&w->buffer, t->n_states, (size_t)t->n_blocks) &&
               append_ids(&w->buffer, t->states, n_states * (size_t)t->n);
    fits = fits && lf_bytes_append(&w->buffer, zeros, sizeof h + body_bytes - w->buffer.len);
    if (!fits) return lf_fail_memory(err, "a trajectory", body_bytes);
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, w->buffer.data + sizeof h, body_bytes);
    h.body_hash = lf_data_hash_value(&hash);
    h.head_hash = lf_trajectory_hash_head(&h);
    memcpy(w->buffer.data, &h, sizeof h);
    const lf_status status = write_all(w, w->buffer.data, w->buffer.len, err);
    if (status == LF_OK) w->n_records++;
    return status;
}

lf_status lf_trajectory_writer_sync(lf_trajectory_writer *w, lf_error *err)
{
    return fdatasync(w->fd) == 0 ? LF_OK : fail_io(w->path, "write", err);
}

void lf_trajectory_writer_close(lf_trajectory_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) (void)close(w->fd);
    lf_bytes_free(&w->buffer);
    free(w->path);
    free(w);
}

/* Trajectory files: whatever the bytes, they are refused or every trajectory can be read. With the first byte odd the checksums of
 * the rest are mended first, so that what lies behind them is reached. */
#include "train/trajectory_count.h"

#include "train/data_hash.h"
#include "train/trajectory_int.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink; /* keeps the reads */

static uint64_t hash_bytes(const void *data, size_t n)
{
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, data, n);
    return lf_data_hash_value(&hash);
}

static void mend(uint8_t *file, size_t size)
{
    lf_trajectory_header h;
    lf_trajectory_head r;
    if (size < sizeof h) return;
    memcpy(&h, file, sizeof h);
    memcpy(h.magic, LF_TRAJECTORY_MAGIC, sizeof h.magic);
    h.version = LF_TRAJECTORY_VERSION;
    h.header_hash = hash_bytes(&h, offsetof(lf_trajectory_header, header_hash));
    memcpy(file, &h, sizeof h);
    uint64_t i = 0;
    for (size_t at = sizeof h, bytes; at < size && size - at >= sizeof r; at += sizeof r + bytes, i++) {
        memcpy(&r, file + at, sizeof r);
        r.mark = LF_TRAJECTORY_MARK;
        r.i_prompt = i;
        if (!lf_trajectory_body_bytes(&r, (int)(h.n & 0xFFFF), &bytes) || bytes > size - at - sizeof r)
            return;
        r.body_hash = hash_bytes(file + at + sizeof r, bytes);
        r.head_hash = lf_trajectory_hash_head(&r);
        memcpy(file + at, &r, sizeof r);
    }
}

static void read_trajectory(const lf_trajectory_file *f, int64_t i)
{
    const lf_trajectory t = lf_trajectory_file_get(f, i);
    const lf_trajectory_note note = lf_trajectory_file_note(f, i);
    const int32_t *state = t.states;
    if (note.n_output != t.n_output || note.drop != LF_TRAJECTORY_KEPT) abort();
    for (int k = 0; k < t.n_prompt; k++) sink += (uint64_t)t.prompt[k];
    for (int b = 0; b < t.n_blocks; b++)
        for (int k = 0; k < t.n_states[b] * t.n; k++) sink += (uint64_t)*state++;
    sink += (uint64_t)lf_count_trajectory(&t).stationary;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lf_trajectory_file f;
    lf_error err;
    if (size < 1) return 0;
    uint8_t *file = aligned_alloc(8, (size + 7) / 8 * 8);
    if (!file) abort();
    memcpy(file, data + 1, size - 1);
    if (data[0] & 1) mend(file, size - 1);
    if (lf_trajectory_file_parse(&f, file, size - 1, "fuzz", &err) == LF_OK) {
        for (int64_t i = 0; i < f.n; i++) read_trajectory(&f, i);
        lf_trajectory_file_close(&f);
    }
    free(file);
    return 0;
}

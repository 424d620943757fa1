#include "kernel/act.h"

enum { LINE = 64, Q8_PAD = 64 };

static size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

lf_act lf_act_for(lf_dtype dtype)
{
    switch (dtype) {
    case LF_DTYPE_F32:
    case LF_DTYPE_F16: return LF_ACT_F32;
    case LF_DTYPE_BF16: return LF_ACT_BF16;
    default: return LF_ACT_Q8;
    }
}

/* Byte offsets of the arrays of a q8 row, and of its end. */
typedef struct q8_offsets {
    size_t d, ds, start, sum, end;
} q8_offsets;

static q8_offsets q8_layout(int n)
{
    const size_t n64 = round_up((size_t)n, Q8_PAD), scales_bytes = round_up(n64 / 32 * sizeof(float), LINE);
    q8_offsets at = {.d = n64};
    at.ds = at.d + scales_bytes;
    at.start = at.ds + scales_bytes;
    at.sum = at.start + scales_bytes; /* as many bytes: int32_t */
    at.end = at.sum + round_up(n64 / 16 * sizeof(int32_t), LINE);
    return at;
}

size_t lf_act_row_bytes(lf_act act, int n)
{
    switch (act) {
    case LF_ACT_F32: return round_up((size_t)n * sizeof(float), LINE);
    case LF_ACT_BF16: return round_up((size_t)n * sizeof(uint16_t), LINE);
    default: return q8_layout(n).end;
    }
}

lf_act_q8 lf_act_q8_at(const void *row, int n)
{
    const q8_offsets at = q8_layout(n);
    uint8_t *base = (uint8_t *)row; /* read-only or not is the caller's affair: one view serves both */
    return (lf_act_q8){.q = (void *)base,
                       .d = (void *)(base + at.d),
                       .ds = (void *)(base + at.ds),
                       .start = (void *)(base + at.start),
                       .sum = (void *)(base + at.sum)};
}

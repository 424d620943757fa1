/* Attention kernels for any processor: lanes are four of the compiler's vectors. */
#include "kernel/exp.h"
#include "kernel/x86/simd.h"

#include <stdint.h>
#include <string.h>

typedef float quarter __attribute__((vector_size(16)));

typedef struct lanes {
    quarter part[4];
} lanes;

static inline lanes lanes_set(float x)
{
    const quarter q = {x, x, x, x};
    return (lanes){{q, q, q, q}};
}

static inline lanes lanes_load(const void *p)
{
    lanes x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline void lanes_store(float *p, lanes x)
{
    memcpy(p, &x, sizeof x);
}

static inline lanes lanes_add(lanes a, lanes b)
{
    UNROLL (i, 4) a.part[i] += b.part[i];
    return a;
}

static inline lanes lanes_sub(lanes a, lanes b)
{
    UNROLL (i, 4) a.part[i] -= b.part[i];
    return a;
}

static inline lanes lanes_mul(lanes a, lanes b)
{
    UNROLL (i, 4) a.part[i] *= b.part[i];
    return a;
}

static inline lanes lanes_dot(lanes a, lanes b, lanes acc)
{
    return lanes_add(acc, lanes_mul(a, b));
}

static inline lanes lanes_max(lanes a, lanes b)
{
    for (int i = 0; i < 16; i++) {
        const float x = a.part[i / 4][i % 4], y = b.part[i / 4][i % 4];
        a.part[i / 4][i % 4] = x > y ? x : y;
    }
    return a;
}

static inline lanes lanes_exp(lanes x)
{
    for (int i = 0; i < 16; i++) x.part[i / 4][i % 4] = exp_spec(x.part[i / 4][i % 4]);
    return x;
}

static inline float lanes_fold_sum(lanes x)
{
    const quarter sum = x.part[0] + x.part[1] + x.part[2] + x.part[3];
    return sum[0] + sum[1] + sum[2] + sum[3];
}

static inline float lanes_fold_max(lanes x)
{
    float max = x.part[0][0];
    for (int i = 1; i < 16; i++) max = x.part[i / 4][i % 4] > max ? x.part[i / 4][i % 4] : max;
    return max;
}

#define CELL_VALUES         1
#define BLOCK_ROWS          2
#define BLOCK_LANES         1
#define LF_ATTENTION_KERNEL lf_attention_portable
#include "train/attention_body.h"

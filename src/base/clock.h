#ifndef LF_BASE_CLOCK_H
#define LF_BASE_CLOCK_H

#include <stdint.h>

/* Monotonic time in nanoseconds, from an arbitrary start. */
int64_t lf_clock_ns(void);

#endif

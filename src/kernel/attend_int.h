/* What the attend kernels of all levels share: how many queries the fast ones take together, and with it the
 * scratch that a caller provides. */
#ifndef LF_KERNEL_ATTEND_INT_H
#define LF_KERNEL_ATTEND_INT_H

enum {
    ATTEND_GROUP = 12, /* queries whose scores of one block are held at a time */
    ATTEND_ROWS = 6,   /* queries whose sums of p v are held at a time */
};

#endif

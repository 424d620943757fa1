/* Markdown tables for people: columns that line up, and numbers of three or four digits that mean something. */
#ifndef LF_BENCH_TABLE_H
#define LF_BENCH_TABLE_H

#include "bench.h"

#include <stdio.h>

/* One column: its title and its width; text is aligned to the left, numbers to the right. */
typedef struct bench_column {
    const char *title;
    int width;
    bool is_text;
    bool of_peer; /* left out of a table without a peer */
} bench_column;

enum { BENCH_CELL_MAX = BENCH_NAME_MAX, BENCH_COLUMNS_MAX = 16 };

/* The two lines of the head, and the line of a row: cells (n), in the order of columns (n), those left out included. */
void bench_table_head(FILE *f, const bench_column *columns, int n, bool has_peer);
void bench_table_row(FILE *f, const bench_column *columns, char (*cells)[BENCH_CELL_MAX], int n,
                     bool has_peer);

/* Cells. A number that is not finite is "-"; a spread is "median (min-max)". */
void bench_cell_text(char *out, const char *text);
void bench_cell_count(char *out, int value);
void bench_cell_number(char *out, double value);
void bench_cell_spread(char *out, double median, double min, double max);

#endif

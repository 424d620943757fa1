#include "table.h"

#include <math.h>

void bench_table_head(FILE *f, const bench_column *columns, int n, bool has_peer)
{
    for (int i = 0; i < n; i++)
        if (has_peer || !columns[i].of_peer)
            (void)fprintf(f, "| %*s ", columns[i].is_text ? -columns[i].width : columns[i].width,
                          columns[i].title);
    (void)fprintf(f, "|\n");
    for (int i = 0; i < n; i++)
        if (has_peer || !columns[i].of_peer)
            (void)fprintf(f, "|%s%.*s%s", columns[i].is_text ? ":" : "-", columns[i].width,
                          "----------------------------------------", columns[i].is_text ? "-" : ":");
    (void)fprintf(f, "|\n");
}

void bench_table_row(FILE *f, const bench_column *columns, char (*cells)[BENCH_CELL_MAX], int n,
                     bool has_peer)
{
    for (int i = 0; i < n; i++)
        if (has_peer || !columns[i].of_peer)
            (void)fprintf(f, "| %*s ", columns[i].is_text ? -columns[i].width : columns[i].width, cells[i]);
    (void)fprintf(f, "|\n");
    (void)fflush(f);
}

void bench_cell_text(char *out, const char *text)
{
    (void)snprintf(out, BENCH_CELL_MAX, "%s", text);
}

void bench_cell_count(char *out, int value)
{
    (void)snprintf(out, BENCH_CELL_MAX, "%d", value);
}

void bench_cell_number(char *out, double value)
{
    if (isfinite(value))
        (void)snprintf(out, BENCH_CELL_MAX, "%.*f", value < 10 ? 2 : value < 1000 ? 1 : 0, value);
    else
        (void)snprintf(out, BENCH_CELL_MAX, "-");
}

void bench_cell_spread(char *out, double median, double min, double max)
{
    char m[BENCH_CELL_MAX], lo[BENCH_CELL_MAX], hi[BENCH_CELL_MAX];
    bench_cell_number(m, median);
    bench_cell_number(lo, min);
    bench_cell_number(hi, max);
    (void)snprintf(out, BENCH_CELL_MAX, "%.20s (%.20s-%.20s)", m, lo, hi);
}

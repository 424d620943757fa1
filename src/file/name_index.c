#include "file/name_index.h"

#include <stdlib.h>
#include <string.h>

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const lf_named *)a)->name, ((const lf_named *)b)->name);
}

static int compare_entries(const void *a, const void *b)
{
    const size_t i = ((const lf_named *)a)->i, j = ((const lf_named *)b)->i;
    const int order = compare_names(a, b);
    return order != 0 ? order : (i > j) - (i < j);
}

const lf_named *lf_names_sort(lf_named *entries, size_t n)
{
    if (n == 0) return NULL;
    qsort(entries, n, sizeof *entries, compare_entries);
    for (size_t k = 1; k < n; k++)
        if (strcmp(entries[k - 1].name, entries[k].name) == 0) return &entries[k - 1];
    return NULL;
}

const lf_named *lf_names_find(const lf_named *entries, size_t n, const char *name)
{
    const lf_named key = {.name = name};
    return n == 0 ? NULL : bsearch(&key, entries, n, sizeof *entries, compare_names);
}

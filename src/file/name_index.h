/* Look-up by name: entries sorted by name and searched by halving. Unlike a hash table it needs no seed to stay fast
 * when a hostile file chooses the names, and it shows duplicates side by side. */
#ifndef LF_FILE_NAME_INDEX_H
#define LF_FILE_NAME_INDEX_H

#include <stddef.h>

typedef struct lf_named {
    const char *name; /* NUL-terminated, outlives the index */
    size_t i;         /* position in the caller's array */
} lf_named;

/* Sorts entries (n) by name, equal names by i; returns the first of two entries with one name (the second follows it),
 * or NULL when all names differ. */
const lf_named *lf_names_sort(lf_named *entries, size_t n);

/* The entry of that name in sorted entries (n), or NULL. */
const lf_named *lf_names_find(const lf_named *entries, size_t n, const char *name);

#endif

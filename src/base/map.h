/* A file mapped read-only. The parsers of file/ work on the bytes of such a mapping (or of any buffer). */
#ifndef LF_BASE_MAP_H
#define LF_BASE_MAP_H

#include "base/status.h"

#include <stdint.h>

typedef struct lf_map {
    const uint8_t *data; /* (size), owned by the map; NULL after close */
    size_t size;
} lf_map;

/* Maps the regular file at path. LF_EIO when it cannot be opened, is not a regular file, or is empty. */
lf_status lf_map_open(lf_map *out, const char *path, lf_error *err);

/* Unmaps; a zeroed or closed map is fine. */
void lf_map_close(lf_map *map);

/* Gives back the memory that holds the whole pages of data[0..n), a part of a map, as if it had not been read; reading it again reads
 * the file. For who has copied it elsewhere. */
void lf_map_forget(const void *data, size_t n);

#endif

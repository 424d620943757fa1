/* JSON lines: an object a line, whose string fields fill templates. */
#ifndef LF_TRAIN_DATA_JSONL_H
#define LF_TRAIN_DATA_JSONL_H

#include "base/mem.h"
#include "file/json.h"

enum { LF_JSONL_NAME_MAX = 512 };

typedef struct lf_jsonl_line {
    json_t *object;
    char name[LF_JSONL_NAME_MAX]; /* what errors call it: "PATH: line 7" */
    const char *next;             /* where the line behind it begins */
} lf_jsonl_line;

/* Another result than LF_OK ends the reading. */
typedef lf_status lf_jsonl_fn(void *cookie, const lf_jsonl_line *line, lf_error *err);

/* Calls fn for each line of data (size) that is not blank. LF_EFORMAT, naming the line, for one that is no
 * object. */
lf_status lf_jsonl_each(const char *path, const char *data, size_t size, lf_jsonl_fn *fn, void *cookie,
                        lf_error *err);

/* out = the template with its {field}s filled in. A brace that no name and brace follow stands for itself. */
lf_status lf_jsonl_fill(lf_bytes *out, const lf_jsonl_line *line, const char *template, lf_error *err);

#endif

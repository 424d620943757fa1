/* The prompts of a JSON-lines file as token ids, each as a request would have it: bos where the tokenizer
 * puts one, then the template's text. All are held in memory: an id takes four bytes. */
#ifndef LF_TRAIN_PROMPTS_H
#define LF_TRAIN_PROMPTS_H

#include "token/tokenizer.h"

typedef struct lf_prompts {
    lf_ids ids; /* of all prompts */
    size_t n;
    size_t *offsets; /* (n + 1) prompt i is ids [offsets[i], offsets[i + 1]) */
    size_t room;
    uint64_t hash; /* of all of it */
} lf_prompts;

/* The first n_max prompts of the file; 0: all. LF_EFORMAT for a line without the template's fields, for an
 * empty prompt, and for a file without prompts. */
lf_status lf_prompts_read(lf_prompts *out, const char *path, const char *template, int64_t n_max,
                          const lf_tokenizer *tokenizer, lf_error *err);
void lf_prompts_free(lf_prompts *p); /* a zeroed one is fine */

#endif

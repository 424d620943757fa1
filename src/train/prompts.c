#include "train/prompts.h"

#include "base/map.h"
#include "train/data_hash.h"
#include "train/data_jsonl.h"

#include <stdlib.h>

typedef struct reading {
    lf_prompts *prompts;
    const lf_tokenizer *tokenizer;
    const char *template;
    int64_t n_max;
    lf_bytes text; /* of the line at hand */
} reading;

static bool add_offset(lf_prompts *p)
{
    if (p->n + 1 >= p->room) {
        const size_t room = p->room ? 2 * p->room : 256;
        size_t *offsets = realloc(p->offsets, room * sizeof *offsets);
        if (!offsets) return false;
        p->offsets = offsets;
        p->room = room;
    }
    p->offsets[p->n + 1] = p->ids.len;
    p->n++;
    return true;
}

static lf_status add_prompt(void *cookie, const lf_jsonl_line *line, lf_error *err)
{
    lf_status status = LF_OK;
    reading *r = cookie;
    lf_prompts *p = r->prompts;
    const size_t before = p->ids.len;
    if (r->n_max > 0 && (int64_t)p->n >= r->n_max) return LF_OK;
    LF_TRY(lf_jsonl_fill(&r->text, line, r->template, err));
    if (lf_tokenizer_adds_bos(r->tokenizer) && !lf_ids_push(&p->ids, lf_tokenizer_bos(r->tokenizer))) {
        status = lf_fail_memory(err, "prompts", p->ids.len * sizeof *p->ids.data);
        goto done;
    }
    LF_TRY(lf_tokenizer_encode(r->tokenizer, r->text.data ? r->text.data : "", r->text.len, false, &p->ids,
                               err));
    if (p->ids.len == before)
        status = lf_fail(err, LF_EFORMAT, "%s: found an empty prompt", line->name);
    else if (p->ids.len - before > INT32_MAX)
        status = lf_fail(err, LF_ELIMIT, "%s: found a prompt of %zu tokens, expected at most %d", line->name,
                         p->ids.len - before, INT32_MAX);
    else if (!add_offset(p))
        status = lf_fail_memory(err, "prompts", p->room * sizeof *p->offsets);
done:
    return status;
}

lf_status lf_prompts_read(lf_prompts *out, const char *path, const char *template, int64_t n_max,
                          const lf_tokenizer *tokenizer, lf_error *err)
{
    lf_status status = LF_OK;
    lf_map map = {0};
    lf_prompts p = {.offsets = calloc(2, sizeof *p.offsets), .room = 2};
    reading r = {.prompts = &p, .tokenizer = tokenizer, .template = template, .n_max = n_max};
    *out = (lf_prompts){0};
    if (!p.offsets) {
        status = lf_fail_memory(err, "prompts", 2 * sizeof *p.offsets);
        goto done;
    }
    LF_TRY(lf_map_open(&map, path, err));
    LF_TRY(lf_jsonl_each(path, (const char *)map.data, map.size, add_prompt, &r, err));
    if (p.n == 0) {
        status = lf_fail(err, LF_EFORMAT, "%s: found no prompt, expected some", path);
        goto done;
    }
    lf_data_hash hash = {0};
    lf_data_hash_add(&hash, p.offsets, (p.n + 1) * sizeof *p.offsets);
    lf_data_hash_add(&hash, p.ids.data, p.ids.len * sizeof *p.ids.data);
    p.hash = lf_data_hash_value(&hash);
    *out = p;
    p = (lf_prompts){0};
done:
    lf_map_close(&map);
    lf_bytes_free(&r.text);
    lf_prompts_free(&p);
    return status;
}

void lf_prompts_free(lf_prompts *p)
{
    lf_ids_free(&p->ids);
    free(p->offsets);
    *p = (lf_prompts){0};
}

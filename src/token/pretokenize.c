#include "token/pretokenize.h"

#include "token/utf8.h"

#include <stdlib.h>
#include <string.h>

#define PATTERN_LLAMA3                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PATTERN_QWEN2                                                                                        \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"      \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* The names that llama.cpp writes for the families lookfar runs. */
static const lf_gguf_pre gguf_pres[] = {
    {.names = {"gpt-2", "gpt2"}, .patterns = {LF_PATTERN_GPT2}},
    {.names = {"llama-bpe", "llama3", "llama-v3"},
     .patterns = {PATTERN_LLAMA3},
     .adds_bos = true,
     .whole_pieces = true},
    {.names = {"qwen2", "deepseek-r1-qwen"}, .patterns = {PATTERN_QWEN2}},
    {.names = {"smollm"}, .patterns = {"\\p{N}", LF_PATTERN_GPT2}},
    {.names = {"default"},
     .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|]+",
                  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)", "\\p{N}+",
                  "[0-9][0-9][0-9]"}},
};

static const struct {
    const char *pattern;
    lf_ascii_match *match;
} ascii_matches[] = {
    {LF_PATTERN_GPT2, lf_ascii_match_gpt2},
    {PATTERN_QWEN2, lf_ascii_match_qwen2},
    {PATTERN_LLAMA3, lf_ascii_match_llama3},
};

const lf_gguf_pre *lf_gguf_pre_find(const char *name)
{
    for (size_t i = 0; i < sizeof gguf_pres / sizeof *gguf_pres; i++)
        for (const char *const *known = gguf_pres[i].names; *known; known++)
            if (strcmp(*known, name) == 0) return &gguf_pres[i];
    return NULL;
}

const lf_gguf_pre *lf_gguf_pre_describing(const lf_pretokenizer *p)
{
    for (size_t i = 0; i < sizeof gguf_pres / sizeof *gguf_pres; i++) {
        int n = 0;
        while (n < p->n && gguf_pres[i].patterns[n] &&
               strcmp(p->stages[n].pattern, gguf_pres[i].patterns[n]) == 0)
            n++;
        if (n == p->n && !gguf_pres[i].patterns[n]) return &gguf_pres[i];
    }
    return NULL;
}

lf_status lf_pretokenizer_add(lf_pretokenizer *p, const char *pattern, bool drops_gaps, const char *file,
                              lf_error *err)
{
    if (p->n == LF_STAGES_MAX)
        return lf_fail(err, LF_ELIMIT, "%s: found more than %d pre-tokenizer stages, the limit", file,
                       LF_STAGES_MAX);
    lf_stage *stage = &p->stages[p->n];
    *stage = (lf_stage){.drops_gaps = drops_gaps};
    const lf_status status = lf_regex_compile(&stage->regex, pattern, file, err);
    if (status != LF_OK) return status;
    p->n++;
    stage->pattern = lf_strndup(pattern, strlen(pattern));
    if (!stage->pattern) return lf_fail_memory(err, "a pattern", strlen(pattern));
    for (size_t i = 0; i < sizeof ascii_matches / sizeof *ascii_matches; i++)
        if (strcmp(pattern, ascii_matches[i].pattern) == 0) stage->ascii = ascii_matches[i].match;
    return LF_OK;
}

lf_status lf_pretokenizer_add_named(lf_pretokenizer *p, const lf_gguf_pre *pre, const char *file,
                                    lf_error *err)
{
    for (const char *const *pattern = pre->patterns; *pattern; pattern++) {
        const lf_status status = lf_pretokenizer_add(p, *pattern, false, file, err);
        if (status != LF_OK) return status;
    }
    return LF_OK;
}

void lf_pretokenizer_free(lf_pretokenizer *p)
{
    for (int i = 0; i < p->n; i++) {
        lf_regex_free(p->stages[i].regex);
        free(p->stages[i].pattern);
    }
    *p = (lf_pretokenizer){0};
}

typedef struct cutter {
    const lf_pretokenizer *p;
    lf_regex_match *match;
    lf_each_piece *each;
    void *context;
    lf_error *err;
} cutter;

/* The first match of a stage at or after `from` that is not empty; *start = len when there is none. */
static lf_status next_match(const cutter *c, const lf_stage *stage, const char *text, size_t len, size_t from,
                            size_t *start, size_t *end)
{
    const size_t ascii = stage->ascii ? stage->ascii(text, len, from) : 0;
    if (ascii > 0) {
        *start = from;
        *end = from + ascii;
        return LF_OK;
    }
    lf_status status;
    do {
        status = lf_regex_find(stage->regex, c->match, text, len, from, start, end, c->err);
        if (status != LF_OK || *start < *end) break;
        if (*start < len) from = *start + lf_utf8_step(text + *start, len - *start);
    } while (*start < len);
    return status;
}

/* Cuts text by the stages from i_stage on; recursion is bounded by LF_STAGES_MAX. */
static lf_status cut(const cutter *c, int i_stage, const char *text, size_t len)
{
    if (i_stage == c->p->n) return c->each(c->context, text, len, c->err);
    const lf_stage *stage = &c->p->stages[i_stage];
    for (size_t at = 0; at < len;) {
        size_t start, end;
        lf_status status = next_match(c, stage, text, len, at, &start, &end);
        if (status == LF_OK && start > at && !stage->drops_gaps)
            status = cut(c, i_stage + 1, text + at, start - at);
        if (status == LF_OK && start < len) status = cut(c, i_stage + 1, text + start, end - start);
        if (status != LF_OK) return status;
        at = start < len ? end : len;
    }
    return LF_OK;
}

lf_status lf_pretokenizer_cut(const lf_pretokenizer *p, lf_regex_match *m, const char *text, size_t len,
                              lf_each_piece *each, void *context, lf_error *err)
{
    const cutter c = {.p = p, .match = m, .each = each, .context = context, .err = err};
    return len > 0 ? cut(&c, 0, text, len) : LF_OK;
}

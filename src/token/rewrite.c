#include "token/rewrite.h"

#include "token/utf8.h"

lf_status lf_rewrites_add(lf_rewrites *r, lf_rewrite_kind kind, const char *from, const char *to,
                          const char *name, lf_error *err)
{
    const size_t from_len = from ? strlen(from) : 0, to_len = to ? strlen(to) : 0;
    if (r->n == LF_REWRITES_MAX)
        return lf_fail(err, LF_ELIMIT, "%s: found more than %d normalizer steps, the limit", name,
                       LF_REWRITES_MAX);
    if (from_len > LF_REWRITE_STRING_BYTES_MAX || to_len > LF_REWRITE_STRING_BYTES_MAX)
        return lf_fail(err, LF_ELIMIT, "%s: found a normalizer string of %zu bytes, expected at most %d",
                       name, from_len > to_len ? from_len : to_len, LF_REWRITE_STRING_BYTES_MAX);
    lf_rewrite *step = &r->items[r->n++];
    *step = (lf_rewrite){.kind = kind, .from_len = (uint8_t)from_len, .to_len = (uint8_t)to_len};
    if (from_len) memcpy(step->from, from, from_len);
    if (to_len) memcpy(step->to, to, to_len);
    return LF_OK;
}

lf_status lf_rewrites_add_spaces(lf_rewrites *r, bool prefix, bool collapse, const char *name, lf_error *err)
{
    lf_status status = LF_OK;
    if (collapse) LF_TRY(lf_rewrites_add(r, LF_REWRITE_COLLAPSE_SPACES, NULL, NULL, name, err));
    if (prefix) LF_TRY(lf_rewrites_add(r, LF_REWRITE_PREPEND, NULL, LF_SPACE_SYMBOL, name, err));
    LF_TRY(lf_rewrites_add(r, LF_REWRITE_REPLACE, " ", LF_SPACE_SYMBOL, name, err));
    if (collapse) LF_TRY(lf_rewrites_add(r, LF_REWRITE_TRIM_END, LF_SPACE_SYMBOL, NULL, name, err));
done:
    return status;
}

bool lf_rewrites_have(const lf_rewrites *r, lf_rewrite_kind kind)
{
    for (int i = 0; i < r->n; i++)
        if (r->items[i].kind == kind) return true;
    return false;
}

static bool append_replaced(lf_bytes *out, const lf_rewrite *step, const char *text, size_t len)
{
    const char *end = text + len, *found;
    while (text < end && (found = memmem(text, (size_t)(end - text), step->from, step->from_len))) {
        if (!lf_bytes_append(out, text, (size_t)(found - text)) ||
            !lf_bytes_append(out, step->to, step->to_len))
            return false;
        text = found + step->from_len;
    }
    return lf_bytes_append(out, text, (size_t)(end - text));
}

static bool append_collapsed(lf_bytes *out, const char *text, size_t len)
{
    bool after_space = true;
    for (size_t i = 0; i < len;) {
        if (text[i] == ' ') {
            if (!after_space && !lf_bytes_append(out, " ", 1)) return false;
            after_space = true;
            i++;
            continue;
        }
        const char *space = memchr(text + i, ' ', len - i);
        const size_t word = space ? (size_t)(space - text) - i : len - i;
        if (!lf_bytes_append(out, text + i, word)) return false;
        after_space = false;
        i += word;
    }
    return true;
}

static bool append_well_formed(lf_bytes *out, const char *text, size_t len)
{
    while (len > 0) {
        const size_t valid = lf_utf8_valid_prefix(text, len);
        if (!lf_bytes_append(out, text, valid)) return false;
        if (valid == len) break;
        if (!lf_bytes_append(out, LF_REPLACEMENT_CHARACTER, strlen(LF_REPLACEMENT_CHARACTER))) return false;
        text += valid + 1;
        len -= valid + 1;
    }
    return true;
}

static bool starts_with(const char *text, size_t len, const char *prefix, size_t prefix_len)
{
    return len >= prefix_len && memcmp(text, prefix, prefix_len) == 0;
}

/* Whether the step leaves the text as it is. Often true, and cheaper to find out than a copy. */
static bool changes_nothing(const lf_rewrite *step, bool at_start, const char *text, size_t len)
{
    switch (step->kind) {
    case LF_REWRITE_NFC: return lf_nfc_is_inert(text, len);
    case LF_REWRITE_REPLACE:
    case LF_REWRITE_COLLAPSE_SPACES:
    case LF_REWRITE_PREPEND: return false;
    case LF_REWRITE_PREPEND_MISSING: return starts_with(text, len, step->to, step->to_len);
    case LF_REWRITE_PREPEND_FIRST: return !at_start || starts_with(text, len, step->to, step->to_len);
    case LF_REWRITE_TRIM_END: return true; /* needs no copy: lf_rewrites_apply shortens the text */
    case LF_REWRITE_ILL_FORMED: return lf_utf8_valid_prefix(text, len) == len;
    }
    return true;
}

static bool append_rewritten(lf_bytes *out, const lf_rewrite *step, const char *text, size_t len)
{
    switch (step->kind) {
    case LF_REWRITE_NFC: return lf_nfc_append(out, text, len);
    case LF_REWRITE_REPLACE: return append_replaced(out, step, text, len);
    case LF_REWRITE_COLLAPSE_SPACES: return append_collapsed(out, text, len);
    case LF_REWRITE_PREPEND:
    case LF_REWRITE_PREPEND_MISSING:
    case LF_REWRITE_PREPEND_FIRST:
        return lf_bytes_append(out, step->to, step->to_len) && lf_bytes_append(out, text, len);
    case LF_REWRITE_ILL_FORMED: return append_well_formed(out, text, len);
    case LF_REWRITE_TRIM_END: break;
    }
    return true;
}

lf_status lf_rewrites_apply(const lf_rewrites *r, bool at_start, const char **text, size_t *len,
                            lf_bytes buffers[2], lf_error *err)
{
    for (int i = 0; i<r->n && * len> 0; i++) {
        const lf_rewrite *step = &r->items[i];
        if (step->kind == LF_REWRITE_TRIM_END)
            while (*len >= step->from_len &&
                   memcmp(*text + *len - step->from_len, step->from, step->from_len) == 0)
                *len -= step->from_len;
        if (changes_nothing(step, at_start, *text, *len)) continue;
        lf_bytes *out = *text == buffers[0].data ? &buffers[1] : &buffers[0];
        out->len = 0;
        if (!append_rewritten(out, step, *text, *len)) return lf_fail_memory(err, "a normalised text", *len);
        *text = out->data;
        *len = out->len;
    }
    return LF_OK;
}

/* Pieces of JSON (schema_int.h), most of them written as regular expressions. */
#include "grammar/schema_int.h"

#include "grammar/pattern.h"

#include <stdlib.h>
#include <string.h>

#define HEX "[0-9a-fA-F]"
/* A character of a string: itself, escaped by a letter, or by its number: not 0, no half of a surrogate pair, or a whole one. */
#define UNICODE                                                                                              \
    "\\\\u(?:[1-9a-cA-CeEfF]" HEX "{3}|[dD][0-7]" HEX "{2}|0[1-9a-fA-F]" HEX "{2}|00[1-9a-fA-F]" HEX         \
    "|000[1-9a-fA-F]|[dD][89abAB]" HEX "{2}\\\\u[dD][c-fC-F]" HEX "{2})"
#define CHARACTER "(?:[^\"\\\\\\x00-\\x1F]|\\\\[\"\\\\/bfnrt]|" UNICODE ")"

static const char *const patterns[LF_JSON_N_PARTS] = {
    [LF_JSON_SPACE] = " ?",
    [LF_JSON_BREAK] = "(?: |\\n[ \\t]{0,32})?",
    [LF_JSON_STRING] = "\"" CHARACTER "*\"",
    [LF_JSON_CHARACTER] = CHARACTER,
    [LF_JSON_INTEGER] = "0|-?[1-9][0-9]{0,17}",
    [LF_JSON_NUMBER] = "-?(?:0|[1-9][0-9]{0,17})(?:\\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,2})?",
    [LF_JSON_BOOLEAN] = "true|false",
    [LF_JSON_NULL] = "null",
};

uint32_t lf_schema_literal(lf_schema *s, const char *text)
{
    return lf_exprs_add_literal(s->e, text, strlen(text));
}

lf_status lf_schema_pattern(lf_dfa *out, lf_schema *s, const char *pattern)
{
    return lf_pattern_compile(out, pattern, strlen(pattern), true, &s->work, s->err);
}

/* Any members or items between brackets: { BREAK (MEMBER ("," BREAK MEMBER)*)? BREAK }. */
static uint32_t bracketed(lf_schema *s, const char *open, uint32_t item, const char *close)
{
    const uint32_t space = s->parts[LF_JSON_BREAK],
                   more = lf_schema_sequence(s, lf_schema_literal(s, ","), space, item),
                   rest = lf_exprs_add_repeat(s->e, more, 0, LF_EXPR_UNBOUNDED),
                   end = lf_schema_literal(s, close), items = lf_schema_sequence(s, item, rest, space, end);
    return lf_schema_sequence(s, lf_schema_literal(s, open), space, lf_schema_choice(s, items, end));
}

/* Values, objects and arrays of anything are made of each other. */
static lf_status make_values(lf_schema *s)
{
    lf_status status = LF_OK;
    uint32_t ignored;
    for (lf_json_part part = 0; part < LF_JSON_OBJECT; part++) LF_TRY(lf_schema_part(&ignored, s, part));
    const uint32_t value = lf_exprs_add_rule(s->e), string = s->parts[LF_JSON_STRING],
                   colon = lf_schema_literal(s, ":"),
                   member = lf_schema_sequence(s, string, colon, s->parts[LF_JSON_SPACE], value),
                   object = bracketed(s, "{", member, "}"), array = bracketed(s, "[", value, "]");
    lf_exprs_set_rule(s->e, value,
                      lf_schema_choice(s, object, array, string, s->parts[LF_JSON_NUMBER],
                                       s->parts[LF_JSON_BOOLEAN], s->parts[LF_JSON_NULL]));
    s->parts[LF_JSON_VALUE] = value;
    s->parts[LF_JSON_OBJECT] = object;
    s->parts[LF_JSON_ARRAY] = array;
done:
    return status;
}

lf_status lf_schema_part(uint32_t *out, lf_schema *s, lf_json_part part)
{
    lf_status status = LF_OK;
    if (s->parts[part] == LF_EXPR_NOTHING && patterns[part]) {
        lf_dfa dfa;
        LF_TRY(lf_schema_pattern(&dfa, s, patterns[part]));
        s->parts[part] = lf_exprs_add_dfa(s->e, &dfa);
    } else if (s->parts[part] == LF_EXPR_NOTHING) {
        LF_TRY(make_values(s));
    }
    *out = s->parts[part];
done:
    return status;
}

lf_status lf_schema_values(uint32_t *out, lf_schema *s, const json_t *values)
{
    lf_status status = LF_OK;
    lf_nfa nfa;
    lf_dfa dfa;
    size_t i;
    const json_t *value;
    uint32_t start = LF_NFA_NOTHING;
    lf_nfa_init(&nfa);
    json_array_foreach(values, i, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        if (!text) LF_TRY(lf_schema_fail_memory(s));
        start = lf_nfa_add_split(&nfa, lf_nfa_add_text(&nfa, text, strlen(text), LF_NFA_ACCEPT), start);
        free(text);
    }
    LF_TRY(lf_dfa_from_nfa(&dfa, &nfa, start, &s->work, s->err));
    *out = lf_exprs_add_dfa(s->e, &dfa);
done:
    lf_nfa_free(&nfa);
    return status;
}

/* ---- content into strings ---- */

/* What a state reads of characters that must be escaped, behind the backslash. */
static uint32_t add_escapes(lf_nfa *nfa, const lf_dfa *d, uint16_t from, const uint32_t *nodes)
{
    static const char letters[] = "\"\\bfnrt", meant[] = "\"\\\b\f\n\r\t", lower[] = "0123456789abcdef",
                      upper[] = "0123456789ABCDEF";
    uint32_t begin = LF_NFA_NOTHING;
    for (int byte = 1; byte < 0x80; byte++) {
        const uint16_t next = lf_dfa_next(d, from, (uint8_t)byte);
        const char *named = memchr(meant, byte, sizeof meant - 1);
        if (next == LF_DFA_DEAD || (byte >= ' ' && !named)) continue;
        uint32_t node;
        if (named) {
            node = lf_nfa_add_text(nfa, &letters[named - meant], 1, nodes[next]);
        } else {
            const uint32_t digit = lf_nfa_add_split(nfa,
                                                    lf_nfa_add_text(nfa, &lower[byte % 16], 1, nodes[next]),
                                                    lf_nfa_add_text(nfa, &upper[byte % 16], 1, nodes[next]));
            node = lf_nfa_add_text(nfa, byte < 16 ? "u000" : "u001", 4, digit);
        }
        begin = lf_nfa_add_split(nfa, node, begin);
    }
    return begin;
}

/* What a state reads of characters that stand for themselves. */
static uint32_t add_plain(lf_nfa *nfa, const lf_dfa *d, uint16_t from, const uint32_t *nodes)
{
    uint32_t begin = LF_NFA_NOTHING;
    for (int lo = ' ', hi; lo < 256; lo = hi + 1) {
        const uint16_t next = lf_dfa_next(d, from, (uint8_t)lo);
        hi = lo;
        if (lo == '"' || lo == '\\' || next == LF_DFA_DEAD) continue;
        while (hi < 255 && hi + 1 != '"' && hi + 1 != '\\' && lf_dfa_next(d, from, (uint8_t)(hi + 1)) == next)
            hi++;
        begin = lf_nfa_add_split(nfa, lf_nfa_add_range(nfa, (uint8_t)lo, (uint8_t)hi, nodes[next]), begin);
    }
    return begin;
}

lf_status lf_schema_quoted(uint32_t *out, lf_schema *s, const lf_dfa *content)
{
    lf_status status = LF_OK;
    lf_nfa nfa;
    lf_dfa dfa;
    *out = LF_EXPR_NOTHING;
    if (content->n_states == 0) return LF_OK;
    uint32_t *nodes = malloc((size_t)content->n_states * sizeof *nodes); /* of the states */
    lf_nfa_init(&nfa);
    if (!nodes) LF_TRY(lf_schema_fail_memory(s));
    LF_TRY(lf_work_take(&s->work, (int64_t)content->n_states * 256, s->err));
    for (int i = 0; i < content->n_states; i++) nodes[i] = lf_nfa_add_loop(&nfa);
    for (int i = 0; i < content->n_states; i++) {
        const uint32_t end = content->accepts[i] ? lf_nfa_add_range(&nfa, '"', '"', LF_NFA_ACCEPT)
                                                 : LF_NFA_NOTHING;
        const uint32_t escapes = add_escapes(&nfa, content, (uint16_t)i, nodes);
        const uint32_t escaped = escapes == LF_NFA_NOTHING ? escapes
                                                           : lf_nfa_add_range(&nfa, '\\', '\\', escapes);
        lf_nfa_set_loop(&nfa, nodes[i], add_plain(&nfa, content, (uint16_t)i, nodes),
                        lf_nfa_add_split(&nfa, escaped, end));
    }
    LF_TRY(lf_dfa_from_nfa(&dfa, &nfa, lf_nfa_add_range(&nfa, '"', '"', nodes[0]), &s->work, s->err));
    *out = lf_exprs_add_dfa(s->e, &dfa);
done:
    lf_nfa_free(&nfa);
    free(nodes);
    return status;
}

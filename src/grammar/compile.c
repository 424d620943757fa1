/* The four kinds of grammar (lookfar.h). A JSON text may begin with a space, since models whose tokens do write one after most
 * prompts; it ends with its last character. */
#include "grammar/compile.h"

#include "grammar/pattern.h"
#include "grammar/schema_int.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 4 << 20 };

static lf_status compile_json(lf_exprs *e, uint32_t *root, const json_t *schema, lf_error *err)
{
    lf_schema s = {.e = e, .work = {LF_WORK_MAX}, .root = schema, .made = json_array(), .err = err};
    lf_status status = LF_OK;
    uint32_t space, value;
    if (!s.made) LF_TRY(lf_schema_fail_memory(&s));
    LF_TRY(lf_schema_part(&space, &s, LF_JSON_SPACE));
    if (schema)
        LF_TRY(lf_schema_compile(&value, &s, schema));
    else
        LF_TRY(lf_schema_part(&value, &s, LF_JSON_OBJECT));
    *root = lf_schema_sequence(&s, space, value);
done:
    json_decref(s.made);
    free(s.rules);
    lf_bytes_free(&s.path);
    return status;
}

static lf_status compile_pattern(lf_exprs *e, uint32_t *root, const char *text, size_t len, lf_error *err)
{
    lf_work work = {LF_WORK_MAX};
    lf_dfa dfa;
    const lf_status status = lf_pattern_compile(&dfa, text, len, true, &work, err);
    if (status == LF_OK) *root = lf_exprs_add_dfa(e, &dfa);
    return status;
}

static lf_status compile_choices(lf_exprs *e, uint32_t *root, const json_t *choices, lf_error *err)
{
    lf_work work = {LF_WORK_MAX};
    lf_nfa nfa;
    lf_dfa dfa;
    lf_status status = LF_OK;
    uint32_t start = LF_NFA_NOTHING;
    size_t i;
    const json_t *choice;
    lf_nfa_init(&nfa);
    if (json_array_size(choices) == 0)
        LF_TRY(lf_fail(err, LF_EINVAL, "choices: found none, expected a list of strings"));
    json_array_foreach(choices, i, choice)
    {
        if (json_string_length(choice) == 0)
            LF_TRY(
                lf_fail(err, LF_EINVAL, "choice %zu: found no string or an empty one, expected a text", i));
        const uint32_t text = lf_nfa_add_text(&nfa, json_string_value(choice), json_string_length(choice),
                                              LF_NFA_ACCEPT);
        start = lf_nfa_add_split(&nfa, text, start);
    }
    LF_TRY(lf_dfa_from_nfa(&dfa, &nfa, start, &work, err));
    *root = lf_exprs_add_dfa(e, &dfa);
done:
    lf_nfa_free(&nfa);
    return status;
}

lf_status lf_grammar_build(lf_exprs *out, lf_grammar_kind kind, const char *text, size_t len, lf_error *err)
{
    lf_status status = LF_OK;
    json_t *json = NULL;
    uint32_t root = LF_EXPR_NOTHING;
    *out = (lf_exprs){0};
    if (len > TEXT_BYTES_MAX)
        return lf_fail(err, LF_ELIMIT, "grammar: found %zu bytes, expected at most %d", len, TEXT_BYTES_MAX);
    LF_TRY(lf_exprs_init(out, err));
    switch (kind) {
    case LF_GRAMMAR_JSON_OBJECT: LF_TRY(compile_json(out, &root, NULL, err)); break;
    case LF_GRAMMAR_JSON_SCHEMA:
        LF_TRY(lf_json_parse(&json, text, len, "json schema", err));
        LF_TRY(compile_json(out, &root, json, err));
        break;
    case LF_GRAMMAR_REGEX: LF_TRY(compile_pattern(out, &root, text, len, err)); break;
    case LF_GRAMMAR_CHOICE:
        LF_TRY(lf_json_parse(&json, text, len, "choices", err));
        LF_TRY(compile_choices(out, &root, json, err));
        break;
    default: LF_TRY(lf_fail(err, LF_EINVAL, "grammar kind: found %d, expected 0 to 3", (int)kind));
    }
    LF_TRY(lf_exprs_finish(out, root, err));
done:
    json_decref(json);
    return status;
}

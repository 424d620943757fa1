/* Arrays of a schema: prefixItems, items, minItems, maxItems. */
#include "grammar/schema_int.h"

#include <string.h>

/* Compiles the schema of an item. */
static lf_status compile_item(uint32_t *out, lf_schema *s, const json_t *schema, const char *keyword,
                              int index)
{
    const size_t len = s->path.len;
    lf_status status = LF_OK;
    LF_TRY(lf_schema_push_path(s, keyword));
    if (index >= 0) LF_TRY(lf_schema_push_index(s, (size_t)index));
    LF_TRY(lf_schema_compile(out, s, schema));
    s->path.len = len;
done:
    return status;
}

static uint32_t less(uint32_t n, uint32_t by)
{
    return n == LF_EXPR_UNBOUNDED ? n : n > by ? n - by : 0;
}

/* From the last to the first: what follows item i is made before it.
 *
 *     [ BREAK (ITEM0 after0 | "]")      after(i) = "," BREAK ITEM(i+1) after(i+1)  |  BREAK "]"
 *
 * where "]" is only there once there are enough. Behind the last prefix item, after is a repetition. */
static lf_status compile_items(uint32_t *out, lf_schema *s, const json_t *prefix, uint32_t item, uint32_t min,
                               uint32_t max)
{
    lf_status status = LF_OK;
    uint32_t space, n_prefix = (uint32_t)json_array_size(prefix);
    LF_TRY(lf_schema_part(&space, s, LF_JSON_BREAK));
    if (n_prefix > max) n_prefix = max;
    const uint32_t comma = lf_schema_sequence(s, lf_schema_literal(s, ","), space),
                   bracket = lf_schema_literal(s, "]"), end = lf_schema_sequence(s, space, bracket);
    const uint32_t n_fixed = n_prefix > 0 ? n_prefix : 1; /* written out: the first has no comma */
    uint32_t after = end;
    if (max > n_fixed) {
        const uint32_t more = lf_schema_sequence(s, comma, item);
        after = lf_schema_sequence(s, lf_exprs_add_repeat(s->e, more, less(min, n_fixed), less(max, n_fixed)),
                                   end);
    }
    for (uint32_t i = n_fixed; i-- > 0 && max > 0;) {
        uint32_t this = item;
        if (i < n_prefix) LF_TRY(compile_item(&this, s, json_array_get(prefix, i), "prefixItems", (int)i));
        after = lf_schema_sequence(s, i > 0 ? comma : LF_EXPR_EMPTY, this, after);
        if (min <= i) after = lf_schema_choice(s, after, i > 0 ? end : bracket);
    }
    *out = lf_schema_sequence(s, lf_schema_literal(s, "["), space, max > 0 ? after : bracket);
done:
    return status;
}

lf_status lf_schema_array(uint32_t *out, lf_schema *s, const json_t *schema)
{
    const json_t *prefix = json_object_get(schema, "prefixItems"), *items = json_object_get(schema, "items");
    uint32_t min = 0, max = LF_EXPR_UNBOUNDED, item = LF_EXPR_NOTHING;
    lf_status status = LF_OK;
    *out = LF_EXPR_NOTHING;
    if (prefix && !json_is_array(prefix))
        return lf_schema_fail(s, LF_EINVAL, "prefixItems: found no list, expected schemas");
    if (json_is_array(items))
        return lf_schema_fail(s, LF_EUNSUPPORTED,
                              "items: found a list, expected a schema (lists are prefixItems)");
    LF_TRY(lf_schema_count(&min, s, schema, "minItems"));
    LF_TRY(lf_schema_count(&max, s, schema, "maxItems"));
    s->depth++;
    if (items)
        LF_TRY(compile_item(&item, s, items, "items", -1));
    else if (!prefix)
        LF_TRY(lf_schema_part(&item, s, LF_JSON_VALUE));
    if (min <= max) LF_TRY(compile_items(out, s, prefix, item, min, max));
    s->depth--;
done:
    return status;
}

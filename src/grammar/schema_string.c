/* Strings of a schema: minLength, maxLength, pattern, format. */
#include "grammar/schema_int.h"

#include "grammar/pattern.h"

#include <string.h>

/* RFC 3339 dates that exist, from the year 1. */
#define YEAR  "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
#define LEAP  "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define DAY28 "(?:0[1-9]|1[0-9]|2[0-8])"
#define DATE                                                                                                 \
    "(?:" YEAR "-(?:(?:0[1-9]|1[0-2])-" DAY28 "|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)|" LEAP   \
    "-02-29)"
#define TIME                                                                                                 \
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL   "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define BYTE    "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define HEX     "[0-9a-fA-F]"
#define URICHAR "(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%" HEX "{2})"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "T" TIME},
    {"uuid", HEX "{8}-" HEX "{4}-" HEX "{4}-" HEX "{4}-" HEX "{12}"},
    {"email", "[A-Za-z0-9_+-]{1,30}(?:\\.[A-Za-z0-9_+-]{1,30})?@" LABEL "(?:\\." LABEL "){1,3}"},
    {"hostname", LABEL "(?:\\." LABEL "){0,3}"},
    {"ipv4", BYTE "(?:\\." BYTE "){3}"},
    {"ipv6", HEX "{1,4}(?::" HEX "{1,4}){7}"},
    {"uri", "[A-Za-z][A-Za-z0-9+.-]*:" URICHAR "+(?:#" URICHAR "*)?"},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

/* Replaces *content, if there is one, by what it and another automaton (taken over) accept. */
static lf_status narrow(lf_dfa *content, lf_schema *s, lf_dfa *other)
{
    lf_dfa both;
    lf_status status = LF_OK;
    if (content->n_classes == 0) { /* none yet */
        *content = *other;
        *other = (lf_dfa){0};
        return LF_OK;
    }
    status = lf_dfa_intersect(&both, content, other, false, &s->work, s->err);
    lf_dfa_free(other);
    if (status != LF_OK) return status;
    lf_dfa_free(content);
    *content = both;
    return LF_OK;
}

static lf_status apply_pattern(lf_dfa *content, lf_schema *s, const json_t *pattern)
{
    lf_dfa dfa;
    lf_error why;
    if (!json_is_string(pattern))
        return lf_schema_fail(s, LF_EINVAL, "pattern: found no string, expected a regular expression");
    const lf_status status = lf_pattern_compile(&dfa, json_string_value(pattern), json_string_length(pattern),
                                                false, &s->work, &why);
    if (status != LF_OK) return lf_schema_fail(s, status, "pattern: %s", why.text);
    return narrow(content, s, &dfa);
}

static lf_status apply_format(lf_dfa *content, lf_schema *s, const json_t *format)
{
    const char *name = json_string_value(format);
    lf_dfa dfa;
    for (size_t i = 0; name && i < N_FORMATS; i++) {
        if (strcmp(formats[i].name, name) != 0) continue;
        const lf_status status = lf_schema_pattern(&dfa, s, formats[i].pattern);
        return status == LF_OK ? narrow(content, s, &dfa) : status;
    }
    return lf_schema_fail(
        s, LF_EUNSUPPORTED,
        "format: found %.40s, expected date, time, date-time, uuid, email, hostname, ipv4, ipv6 or uri",
        name ? name : "no string");
}

static lf_status apply_length(lf_dfa *content, lf_schema *s, uint32_t min, uint32_t max)
{
    char pattern[80], upper[16] = "";
    lf_dfa dfa;
    if (min > LF_PATTERN_REPEAT_MAX || (max != LF_EXPR_UNBOUNDED && max > LF_PATTERN_REPEAT_MAX))
        return lf_schema_fail(s, LF_EUNSUPPORTED,
                              "minLength, maxLength: found more than %d with pattern or format",
                              LF_PATTERN_REPEAT_MAX);
    if (max != LF_EXPR_UNBOUNDED) (void)snprintf(upper, sizeof upper, "%u", max);
    (void)snprintf(pattern, sizeof pattern, "[\\x00-\\u{10FFFF}]{%u,%s}", min, upper);
    const lf_status status = lf_schema_pattern(&dfa, s, pattern);
    return status == LF_OK ? narrow(content, s, &dfa) : status;
}

/* Strings whose characters are only counted: by the machine, so that long ones need no automaton. */
static lf_status counted(uint32_t *out, lf_schema *s, uint32_t min, uint32_t max)
{
    uint32_t character;
    const lf_status status = lf_schema_part(&character, s, LF_JSON_CHARACTER);
    const uint32_t quote = lf_schema_literal(s, "\"");
    *out = lf_schema_sequence(s, quote, lf_exprs_add_repeat(s->e, character, min, max), quote);
    return status;
}

lf_status lf_schema_string(uint32_t *out, lf_schema *s, const json_t *schema)
{
    const json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    uint32_t min = 0, max = LF_EXPR_UNBOUNDED;
    lf_dfa content = {0};
    lf_status status = LF_OK;
    *out = LF_EXPR_NOTHING;
    LF_TRY(lf_schema_count(&min, s, schema, "minLength"));
    LF_TRY(lf_schema_count(&max, s, schema, "maxLength"));
    if (min > max) return LF_OK;
    if (pattern) LF_TRY(apply_pattern(&content, s, pattern));
    if (format) LF_TRY(apply_format(&content, s, format));
    const bool is_counted = min > 0 || max != LF_EXPR_UNBOUNDED;
    if (pattern || format) {
        if (is_counted) LF_TRY(apply_length(&content, s, min, max));
        status = lf_schema_quoted(out, s, &content);
    } else {
        status = is_counted ? counted(out, s, min, max) : lf_schema_part(out, s, LF_JSON_STRING);
    }
done:
    lf_dfa_free(&content);
    return status;
}

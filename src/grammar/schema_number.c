/* Numbers of a schema between bounds.
 *
 * A bound is written as a plain decimal, and the decimals on one side of it are a regular language: those with more digits before
 * the point, or with the same and a greater one at the first place that differs, and so on. Bounded numbers have at most 15
 * digits, so that no two of them are one double and comparing digits is comparing values. Bounds themselves are what the shortest
 * decimals of their doubles say. */
#include "grammar/schema_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WHOLE_DIGITS_MAX = 18, FRACTION_DIGITS_MAX = 40, BOUND_DIGITS_MAX = 400, DIGITS_MAX = 15 };

/* |value|, as digits before and behind the point, without zeros that say nothing. */
typedef struct decimal {
    bool is_set, is_negative, is_exclusive;
    char whole[BOUND_DIGITS_MAX + 1], fraction[BOUND_DIGITS_MAX + 1];
} decimal;

static bool is_zero(const decimal *d)
{
    return strcmp(d->whole, "0") == 0 && d->fraction[0] == '\0';
}

/* A positive double by its shortest decimal: digits d.ddd and a power of ten, written out. */
static void expand(decimal *d, double value)
{
    char text[40], digits[24] = "";
    int n_digits = 0, precision = 15;
    do {
        (void)snprintf(text, sizeof text, "%.*e", precision - 1, value);
    } while (strtod(text, NULL) != value && ++precision <= 17);
    const char *e = strchr(text, 'e');
    for (const char *c = text; c < e; c++)
        if (*c >= '0' && *c <= '9') digits[n_digits++] = *c;
    while (n_digits > 1 && digits[n_digits - 1] == '0') n_digits--;
    const int point = 1 + (int)strtol(e + 1, NULL, 10); /* digits before it */
    int n_whole = 0, n_fraction = 0;
    for (int i = 0; i < point; i++) d->whole[n_whole++] = i < n_digits ? digits[i] : '0';
    if (n_whole == 0) d->whole[n_whole++] = '0';
    for (int i = point; i < 0; i++) d->fraction[n_fraction++] = '0';
    for (int i = point > 0 ? point : 0; i < n_digits; i++) d->fraction[n_fraction++] = digits[i];
    d->whole[n_whole] = d->fraction[n_fraction] = '\0';
}

static lf_status read_bound(decimal *d, lf_schema *s, const json_t *value, const char *keyword,
                            bool exclusive)
{
    *d = (decimal){.is_set = true, .is_exclusive = exclusive};
    if (!json_is_number(value))
        return lf_schema_fail(s, LF_EINVAL, "%s: found no number, expected one", keyword);
    if (json_is_integer(value)) {
        const json_int_t n = json_integer_value(value);
        d->is_negative = n < 0;
        (void)snprintf(d->whole, sizeof d->whole, "%llu",
                       d->is_negative ? -(unsigned long long)n : (unsigned long long)n);
        return LF_OK;
    }
    const double x = json_real_value(value);
    d->is_negative = x < 0;
    if (x == 0)
        d->whole[0] = '0';
    else
        expand(d, fabs(x));
    if (strlen(d->fraction) > FRACTION_DIGITS_MAX)
        return lf_schema_fail(s, LF_EUNSUPPORTED, "%s: found %g, expected at most %d digits behind the point",
                              keyword, x, FRACTION_DIGITS_MAX);
    return LF_OK;
}

/* -1, 0, 1 as |a| is less than, equal to or more than |b|. */
static int compare_magnitudes(const decimal *a, const decimal *b)
{
    const size_t na = strlen(a->whole), nb = strlen(b->whole);
    if (na != nb) return na < nb ? -1 : 1;
    const int whole = strcmp(a->whole, b->whole);
    return whole ? whole : strcmp(a->fraction, b->fraction); /* without zeros at the end */
}

static int compare_decimals(const decimal *a, const decimal *b)
{
    const bool minus_a = a->is_negative && !is_zero(a), minus_b = b->is_negative && !is_zero(b);
    if (minus_a != minus_b) return minus_a ? -1 : 1;
    return minus_a ? compare_magnitudes(b, a) : compare_magnitudes(a, b);
}

/* The bound of a side: "minimum" and "exclusiveMinimum", whichever is narrower; as draft 4 has it, the latter may be true. */
static lf_status read_side(decimal *d, lf_schema *s, const json_t *schema, bool upper)
{
    const char *plain = upper ? "maximum" : "minimum",
               *strict = upper ? "exclusiveMaximum" : "exclusiveMinimum";
    const json_t *p = json_object_get(schema, plain), *x = json_object_get(schema, strict);
    lf_status status = LF_OK;
    decimal other;
    *d = (decimal){0};
    if (p) LF_TRY(read_bound(d, s, p, plain, json_is_true(x)));
    if (!x || json_is_boolean(x)) return LF_OK;
    LF_TRY(read_bound(&other, s, x, strict, true));
    const int order = d->is_set ? compare_decimals(&other, d) : 0;
    if (!d->is_set || order == 0 || (order < 0) == upper) *d = other;
done:
    return status;
}

/* ---- magnitudes on one side of a bound, as a regular expression ---- */

static bool append(lf_bytes *out, const char *text, size_t n)
{
    return lf_bytes_append(out, text, n);
}

/* "|prefix[lo-hi]tail" */
static bool append_digit(lf_bytes *out, const char *before, const char *prefix, int n_prefix, char lo,
                         char hi, const char *tail)
{
    return lo > hi || lf_bytes_printf(out, "|%s%.*s[%c-%c]%s", before, n_prefix, prefix, lo, hi, tail);
}

/* Decimals above the bound, or from it on. Numbers of digits and leading zeros are for what this is intersected with. */
static bool write_above(lf_bytes *out, const decimal *d, bool exclusive)
{
    static const char any[] = "(?:\\.[0-9]+)?";
    const int n_whole = (int)strlen(d->whole), n_fraction = (int)strlen(d->fraction);
    char tail[64], before[sizeof d->whole + 2];
    bool ok = lf_bytes_printf(out, "[1-9][0-9]{%d,}%s", n_whole, any);
    for (int i = 0; ok && i < n_whole; i++) {
        (void)snprintf(tail, sizeof tail, "[0-9]{%d}%s", n_whole - 1 - i, any);
        ok = append_digit(out, "", d->whole, i, (char)(d->whole[i] + 1), '9', tail);
    }
    (void)snprintf(before, sizeof before, "%s\\.", d->whole);
    for (int i = 0; ok && i < n_fraction; i++)
        ok = append_digit(out, before, d->fraction, i, (char)(d->fraction[i] + 1), '9', "[0-9]*");
    if (exclusive) return ok && lf_bytes_printf(out, "|%s%s[0-9]*[1-9][0-9]*", before, d->fraction);
    return ok && (n_fraction > 0 ? lf_bytes_printf(out, "|%s%s[0-9]*", before, d->fraction)
                                 : lf_bytes_printf(out, "|%s%s", d->whole, any));
}

/* Decimals below the bound, or up to it. */
static bool write_below(lf_bytes *out, const decimal *d, bool exclusive)
{
    static const char any[] = "(?:\\.[0-9]+)?";
    const int n_whole = (int)strlen(d->whole), n_fraction = (int)strlen(d->fraction);
    char tail[64], before[sizeof d->whole + 2];
    bool ok = n_whole < 2 || lf_bytes_printf(out, "[0-9]{1,%d}%s", n_whole - 1, any);
    for (int i = 0; ok && i < n_whole; i++) {
        (void)snprintf(tail, sizeof tail, "[0-9]{%d}%s", n_whole - 1 - i, any);
        ok = append_digit(out, "", d->whole, i, i == 0 && n_whole > 1 ? '1' : '0', (char)(d->whole[i] - 1),
                          tail);
    }
    (void)snprintf(before, sizeof before, "%s\\.", d->whole);
    for (int i = 0; ok && i < n_fraction; i++) {
        ok = append_digit(out, before, d->fraction, i, '0', (char)(d->fraction[i] - 1), "[0-9]*");
        /* what ends where the bound goes on is below it */
        ok = ok && (i == 0 ? lf_bytes_printf(out, "|%s", d->whole)
                           : lf_bytes_printf(out, "|%s%.*s", before, i, d->fraction));
    }
    if (exclusive || !ok) return ok;
    return n_fraction > 0 ? lf_bytes_printf(out, "|%s%s0*", before, d->fraction)
                          : lf_bytes_printf(out, "|%s(?:\\.0+)?", d->whole);
}

/* ---- ranges ---- */

/* Magnitudes from 0 on: of integers, or of decimals with DIGITS_MAX digits. */
static lf_status all_magnitudes(lf_dfa *out, lf_schema *s, bool integer)
{
    lf_bytes text = {0};
    lf_status status = LF_OK;
    bool ok = integer ? lf_bytes_printf(&text, "0|[1-9][0-9]{0,%d}", WHOLE_DIGITS_MAX - 1)
                      : lf_bytes_printf(&text, "0|[1-9][0-9]{0,%d}", DIGITS_MAX - 1);
    for (int n = 1; ok && !integer && n < DIGITS_MAX; n++)
        ok = lf_bytes_printf(&text, "|(?:0|[1-9][0-9]{0,%d})\\.[0-9]{1,%d}", n - 1, DIGITS_MAX - n);
    status = ok ? lf_schema_pattern(out, s, text.data) : lf_schema_fail_memory(s);
    lf_bytes_free(&text);
    return status;
}

/* Leaves in *d what is on one side of a bound. */
static lf_status bound_magnitudes(lf_dfa *d, lf_schema *s, const decimal *bound, bool exclusive, bool above)
{
    lf_bytes text = {0};
    lf_dfa side, both;
    lf_status status = LF_OK;
    if (strlen(bound->whole) > WHOLE_DIGITS_MAX) { /* beyond all numbers that there are here */
        if (above) d->n_states = 0;
        return LF_OK;
    }
    if (!append(&text, "", 0) || !(above ? write_above : write_below)(&text, bound, exclusive))
        LF_TRY(lf_schema_fail_memory(s));
    LF_TRY(lf_schema_pattern(&side, s, text.data[0] == '|' ? text.data + 1 : text.data));
    status = lf_dfa_intersect(&both, d, &side, false, &s->work, s->err);
    lf_dfa_free(&side);
    if (status != LF_OK) goto done;
    lf_dfa_free(d);
    *d = both;
done:
    lf_bytes_free(&text);
    return status;
}

/* Magnitudes between the bounds near zero and far from it, each of which may be NULL. */
static lf_status range_of_magnitudes(uint32_t *out, lf_schema *s, bool integer, const decimal *near_bound,
                                     bool near_exclusive, const decimal *far_bound)
{
    lf_dfa d;
    lf_status status = LF_OK;
    LF_TRY(all_magnitudes(&d, s, integer));
    if (near_bound) status = bound_magnitudes(&d, s, near_bound, near_exclusive, true);
    if (status == LF_OK && far_bound)
        status = bound_magnitudes(&d, s, far_bound, far_bound->is_exclusive, false);
    if (status == LF_OK)
        *out = lf_exprs_add_dfa(s->e, &d);
    else
        lf_dfa_free(&d);
done:
    return status;
}

lf_status lf_schema_number(uint32_t *out, lf_schema *s, const json_t *schema, bool integer)
{
    static const decimal zero = {.is_set = true, .whole = "0"};
    decimal min, max;
    uint32_t positive = LF_EXPR_NOTHING, negative = LF_EXPR_NOTHING;
    lf_status status = LF_OK;
    *out = LF_EXPR_NOTHING;
    LF_TRY(read_side(&min, s, schema, false));
    LF_TRY(read_side(&max, s, schema, true));
    if (!min.is_set && !max.is_set) return lf_schema_part(out, s, integer ? LF_JSON_INTEGER : LF_JSON_NUMBER);
    if (min.is_set && max.is_set && compare_decimals(&min, &max) > 0) return LF_OK;
    /* zero belongs to the positive ones, without a sign */
    if (!max.is_set || !max.is_negative || is_zero(&max)) {
        const bool from_min = min.is_set && (!min.is_negative || is_zero(&min));
        LF_TRY(range_of_magnitudes(&positive, s, integer, from_min ? &min : NULL, min.is_exclusive,
                                   max.is_set ? &max : NULL));
    }
    if (!min.is_set || (min.is_negative && !is_zero(&min))) {
        const bool to_max = max.is_set && max.is_negative && !is_zero(&max);
        LF_TRY(range_of_magnitudes(&negative, s, integer, to_max ? &max : &zero,
                                   to_max ? max.is_exclusive : true, min.is_set ? &min : NULL));
        negative = lf_schema_sequence(s, lf_schema_literal(s, "-"), negative);
    }
    *out = lf_schema_choice(s, positive, negative);
done:
    return status;
}

/* Tests: what stands after `is`. */
#include "jinja/jinja_int.h"

#include <math.h>
#include <string.h>

/* A test of the value alone, as a function of v. */
#define PLAIN(name, expression)                                                                              \
    static value name(render *r, value v, const value *a, const call_args *args)                             \
    {                                                                                                        \
        (void)r, (void)a, (void)args;                                                                        \
        return value_bool(expression);                                                                       \
    }

PLAIN(test_defined, v.kind != J_UNDEFINED)
PLAIN(test_undefined, v.kind == J_UNDEFINED)
PLAIN(test_none, v.kind == J_NONE)
PLAIN(test_boolean, v.kind == J_BOOL)
PLAIN(test_true, v.kind == J_BOOL && v.as.truth)
PLAIN(test_false, v.kind == J_BOOL && !v.as.truth)
PLAIN(test_integer, v.kind == J_INT)
PLAIN(test_float, v.kind == J_FLOAT)
PLAIN(test_number, value_is_number(&v))
PLAIN(test_string, v.kind == J_STRING)
PLAIN(test_mapping, v.kind == J_DICT)
PLAIN(test_callable, v.kind == J_MACRO || v.kind == J_METHOD || v.kind == J_FUNCTION)
PLAIN(test_sequence, v.kind == J_STRING || v.kind == J_LIST || v.kind == J_TUPLE || v.kind == J_RANGE ||
                         v.kind == J_DICT || v.kind == J_UNDEFINED)
PLAIN(test_iterable,
      value_is_seq(&v) || v.kind == J_STRING || v.kind == J_DICT || v.kind == J_UNDEFINED || v.kind == J_LOOP)

/* A test with one argument, b. */
#define AGAINST(name, expression)                                                                            \
    static value name(render *r, value v, const value *a, const call_args *args)                             \
    {                                                                                                        \
        const value *b = &a[0];                                                                              \
        (void)args;                                                                                          \
        return value_bool(expression);                                                                       \
    }

AGAINST(test_equal, lf_value_equal(r, &v, b))
AGAINST(test_different, !lf_value_equal(r, &v, b))
AGAINST(test_greater, lf_value_compare(r, &v, b) > 0)
AGAINST(test_greater_equal, lf_value_compare(r, &v, b) >= 0)
AGAINST(test_less, lf_value_compare(r, &v, b) < 0)
AGAINST(test_less_equal, lf_value_compare(r, &v, b) <= 0)
AGAINST(test_in, lf_value_contains(r, b, &v))

/* Python's `is`: lists and dicts that are one, not equal. Strings and numbers are taken by what they are. */
static value test_same(render *r, value v, const value *a, const call_args *args)
{
    (void)args;
    if (v.kind != a[0].kind) return value_bool(false);
    if (value_is_seq(&v)) return value_bool(v.as.seq == a[0].as.seq);
    return value_bool(v.kind == J_DICT ? v.as.dict == a[0].as.dict : lf_value_equal(r, &v, &a[0]));
}

static value remainder_is(render *r, const value *v, const value *divisor, int64_t rest)
{
    const bool integers = value_is_integer(v) && value_is_integer(divisor);
    if (!value_is_number(v) || !value_is_number(divisor) || value_number(divisor) == 0)
        return lf_render_fail(r, LF_EINVAL, "found %s, expected a number, and a divisor other than 0",
                              lf_value_type(v));
    if (integers && value_integer(divisor) == -1) return value_bool(rest == 0); /* INT64_MIN % -1 traps */
    const bool divides = integers ? value_integer(v) % value_integer(divisor) == 0
                                  : fmod(value_number(v), value_number(divisor)) == 0;
    if (rest == 0 || divides) return value_bool(divides == (rest == 0));
    return value_bool(integers || fabs(fmod(value_number(v), 2)) == 1);
}

static value test_odd(render *r, value v, const value *a, const call_args *args)
{
    (void)a, (void)args;
    return remainder_is(r, &v, &(value){.kind = J_INT, .as.i = 2}, 1);
}

static value test_even(render *r, value v, const value *a, const call_args *args)
{
    (void)a, (void)args;
    return remainder_is(r, &v, &(value){.kind = J_INT, .as.i = 2}, 0);
}

static value test_divisible(render *r, value v, const value *a, const call_args *args)
{
    (void)args;
    return remainder_is(r, &v, &a[0], 0);
}

static value test_lower(render *r, value v, const value *a, const call_args *args)
{
    (void)a, (void)args;
    return value_bool(lf_text_is_case(lf_value_text(r, &v), CASE_LOWER));
}

static value test_upper(render *r, value v, const value *a, const call_args *args)
{
    (void)a, (void)args;
    return value_bool(lf_text_is_case(lf_value_text(r, &v), CASE_UPPER));
}

static value test_filter(render *r, value v, const value *a, const call_args *args)
{
    (void)r, (void)a, (void)args;
    return value_bool(v.kind == J_STRING && lf_filter_find(v.as.s));
}

static value test_test(render *r, value v, const value *a, const call_args *args)
{
    (void)r, (void)a, (void)args;
    return value_bool(v.kind == J_STRING && lf_test_find(v.as.s));
}

#define ALONE(name, fn)                                                                                      \
    {                                                                                                        \
        {name, {NULL}, 0, false}, fn                                                                         \
    }
#define WITH(name, fn)                                                                                       \
    {                                                                                                        \
        {name, {"other"}, 1, false}, fn                                                                      \
    }

static const test tests[] = {
    ALONE("defined", test_defined),
    ALONE("undefined", test_undefined),
    ALONE("none", test_none),
    ALONE("boolean", test_boolean),
    ALONE("true", test_true),
    ALONE("false", test_false),
    ALONE("integer", test_integer),
    ALONE("float", test_float),
    ALONE("number", test_number),
    ALONE("string", test_string),
    ALONE("mapping", test_mapping),
    ALONE("sequence", test_sequence),
    ALONE("iterable", test_iterable),
    ALONE("callable", test_callable),
    ALONE("odd", test_odd),
    ALONE("even", test_even),
    ALONE("lower", test_lower),
    ALONE("upper", test_upper),
    ALONE("filter", test_filter),
    ALONE("test", test_test),
    WITH("divisibleby", test_divisible),
    WITH("sameas", test_same),
    WITH("in", test_in),
    WITH("eq", test_equal),
    WITH("equalto", test_equal),
    WITH("==", test_equal),
    WITH("ne", test_different),
    WITH("!=", test_different),
    WITH("gt", test_greater),
    WITH("greaterthan", test_greater),
    WITH(">", test_greater),
    WITH("ge", test_greater_equal),
    WITH(">=", test_greater_equal),
    WITH("lt", test_less),
    WITH("lessthan", test_less),
    WITH("<", test_less),
    WITH("le", test_less_equal),
    WITH("<=", test_less_equal),
};

const test *lf_test_find(str name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (str_equal((str){tests[i].signature.name, strlen(tests[i].signature.name)}, name))
            return &tests[i];
    return NULL;
}

const char *lf_test_names(void)
{
    return "defined, undefined, none, boolean, true, false, integer, float, number, string, mapping, sequence, "
           "iterable, callable, odd, even, lower, upper, filter, test, divisibleby, sameas, in, and comparisons";
}

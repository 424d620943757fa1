/* grammar/: which texts are of a grammar, and which grammars are refused: numbers between bounds, schemas
 * and formats by hand, regular expressions against PCRE2. */
#include "grammar_fixture.h"

#include "grammar/compile.h"
#include "grammar/grammar.h"
#include "grammar/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- schemas ---- */

/* Whether all of text is of a grammar. */
static bool accepts(const lf_exprs *exprs, const char *text)
{
    lf_error err;
    lf_machine *m;
    bool may_end;
    lf_bytes bytes = {.data = (char *)text, .len = strlen(text)};
    assert_ok(lf_machine_create(&m, exprs, &err), &err);
    const bool alive = is_alive(m, &bytes, &may_end);
    lf_machine_free(m);
    return alive && may_end;
}

static bool schema_accepts(const char *schema, const char *text)
{
    lf_error err;
    lf_exprs exprs;
    assert_ok(lf_grammar_build(&exprs, LF_GRAMMAR_JSON_SCHEMA, schema, strlen(schema), &err), &err);
    const bool accepted = accepts(&exprs, text);
    lf_exprs_free(&exprs);
    return accepted;
}

/* Numbers between bounds: exactly those, in the way that they are written. */
static void test_bounds_are_exact(void **state)
{
    (void)state;
    static const char *const bounds[][2] = {
        {"0", "9"},         {"-5", "120"},       {"99", "100"},  {"-1000", "-7"},
        {"0.5", "2.25"},    {"-0.25", "0.0625"}, {"10", "1e3"},  {"1e-3", "0.0021"},
        {"-12.5", "-12.5"}, {"-1e30", "17"},     {"3", "1e300"}, {"0.1", "0.3"},
    };
    uint64_t rng = 23;
    for (size_t b = 0; b < sizeof bounds / sizeof *bounds; b++)
        for (int form = 0; form < 4; form++) {
            lf_error err;
            lf_exprs exprs;
            char schema[200];
            const bool integer = form % 2, strict = form / 2;
            const double lo = strtod(bounds[b][0], NULL), hi = strtod(bounds[b][1], NULL);
            (void)snprintf(schema, sizeof schema, "{\"type\":\"%s\",\"%s\":%s,\"%s\":%s}",
                           integer ? "integer" : "number", strict ? "exclusiveMinimum" : "minimum",
                           bounds[b][0], strict ? "exclusiveMaximum" : "maximum", bounds[b][1]);
            const lf_status status = lf_grammar_build(&exprs, LF_GRAMMAR_JSON_SCHEMA, schema, strlen(schema),
                                                      &err);
            for (int i = 0; i < 60 && status == LF_OK; i++) {
                char text[40];
                const double near = rng_next(&rng) % 2 ? lo : hi;
                const int digits = integer ? 0 : (int)(rng_next(&rng) % 5);
                double x = fabs(near) > 1e9 ? (double)rng_uniform(&rng) * 1e6
                                            : near + (double)rng_uniform(&rng) * (i % 3 ? 0.3 : 30.0);
                if (i < 4) x = near;
                (void)snprintf(text, sizeof text, "%.*f", fabs(x) > 1e9 ? 0 : digits, x);
                x = strtod(text, NULL);
                if (strlen(text) > 15 || text[strcspn(text, "123456789")] == '\0') continue; /* no -0 */
                const bool inside = strict ? x > lo && x < hi : x >= lo && x <= hi;
                if (accepts(&exprs, text) != inside) fail_msg("%s: %s: expected %d", schema, text, inside);
            }
            lf_exprs_free(&exprs);
        }
    assert_true(schema_accepts("{\"type\":\"integer\",\"minimum\":0}", "0"));
    assert_false(schema_accepts("{\"type\":\"integer\",\"minimum\":0}", "-0"));
    assert_false(schema_accepts("{\"type\":\"integer\"}", "01"));
    assert_true(schema_accepts("{\"type\":\"number\"}", "-0.5e+10"));
}

static void test_what_a_schema_accepts(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *text;
        bool accepted;
    } cases[] = {
        {"{\"type\":\"object\"}", " {\"a\": [1, {}],\n  \"b\":null }", true},
        {"{\"type\":\"object\"}", "{\"a\" :1}", false},
        {"{\"type\":\"object\"}", "  {}", false},
        {"{\"type\":\"object\"}", "{} ", false},
        {"{\"properties\":{\"a\":{},\"b\":{}}}", "{\"b\":1}", true},
        {"{\"properties\":{\"a\":{},\"b\":{}}}", "{\"b\":1,\"a\":1}", false},
        {"{\"properties\":{\"a\":{},\"b\":{}}}", "{\"c\":1}", false},
        {"{\"properties\":{\"a\":{}},\"additionalProperties\":{\"type\":\"null\"}}",
         "{\"c\":null,\"d\": null}", true},
        {"{\"properties\":{\"a\":{}},\"additionalProperties\":{\"type\":\"null\"}}",
         "{\"c\":null,\"a\": null}", false},
        {"{\"properties\":{\"a\":{}},\"required\":[\"b\",\"a\"]}", "{\"a\":1,\"b\":2}", true},
        {"{\"properties\":{\"a\":{}},\"required\":[\"b\",\"a\"]}", "{\"a\":1}", false},
        {"{\"type\":\"string\"}", "\"a\\u00e9\\ud83d\\ude00/\\/\"", true},
        {"{\"type\":\"string\"}", "\"\\ud83d\"", false},
        {"{\"type\":\"string\"}", "\"\\u0000\"", false},
        {"{\"type\":\"string\"}", "\"a\tb\"", false},
        {"{\"type\":\"string\"}", "\"\xC3\"", false},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"\\ud83d\\ude00\xC3\xA9\"", true},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"\xC3\xA9\"", false},
        {"{\"type\":\"string\",\"pattern\":\"\\\"$\"}", "\"ab\\\"\"", true},
        {"{\"type\":\"string\",\"pattern\":\"\\\"$\"}", "\"ab\"", false},
        {"{\"type\":\"string\",\"pattern\":\"^\\\\s+$\"}", "\" \\n\\u000b\"", true},
        {"{\"type\":\"string\",\"format\":\"date\"}", "\"2000-02-29\"", true},
        {"{\"type\":\"string\",\"format\":\"date\"}", "\"1900-02-29\"", false},
        {"{\"type\":\"string\",\"format\":\"date\"}", "\"2023-04-31\"", false},
        {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"minItems\":1}", "[1]", true},
        {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"minItems\":1}", "[1,2,3]",
         false},
        {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1}],\"items\":{\"const\":2},\"maxItems\":3}",
         "[1,2,2]", true},
        {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1}],\"items\":{\"const\":2},\"maxItems\":3}",
         "[1,2,2,2]", false},
        {"{\"allOf\":[{\"properties\":{\"a\":{\"minimum\":3}}},{\"properties\":{\"a\":{\"type\":\"integer\",\"maximum\":4}},"
         "\"required\":[\"a\"]}]}",
         "{\"a\":4}", true},
        {"{\"allOf\":[{\"properties\":{\"a\":{\"minimum\":3}}},{\"properties\":{\"a\":{\"type\":\"integer\",\"maximum\":4}},"
         "\"required\":[\"a\"]}]}",
         "{\"a\":5}", false},
        {"{\"type\":\"object\",\"anyOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}],\"properties\":{\"a\":{},\"b\":{}}}",
         "{\"b\":1}", true},
        {"{\"type\":\"object\",\"anyOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}],\"properties\":{\"a\":{},\"b\":{}}}",
         "{}", false},
        {"{\"$ref\":\"#/$defs/a~1b\",\"$defs\":{\"a/b\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"maxItems\":2}}}",
         "[[],[[]]]", true},
        {"{\"allOf\":[{\"properties\":{\"a\":{}},\"additionalProperties\":{\"type\":\"null\"}},{\"properties\":{\"b\":{}}}]}",
         "{\"a\":1,\"b\":null}", true},
        {"{\"allOf\":[{\"properties\":{\"a\":{}},\"additionalProperties\":{\"type\":\"null\"}},{\"properties\":{\"b\":{}}}]}",
         "{\"a\":1,\"b\":2}", false},
        {"{\"allOf\":[{\"properties\":{\"a\":{}},\"additionalProperties\":false},{\"properties\":{\"b\":{}}}]}",
         "{\"b\":1}", false},
        {"{\"type\":[\"null\",\"integer\"],\"enum\":[1,\"1\",null,2.0]}", "2.0", true},
        {"{\"type\":[\"null\",\"integer\"],\"enum\":[1,\"1\",null,2.0]}", "\"1\"", false},
        {"{\"patternProperties\":{\"^x\":{\"const\":1},\"y$\":{\"type\":\"integer\"}}}", "{\"xa\":1,\"y\":5}",
         true},
        {"{\"patternProperties\":{\"^x\":{\"const\":1},\"y$\":{\"type\":\"integer\"}}}", "{\"z\":1}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (schema_accepts(cases[i].schema, cases[i].text) != cases[i].accepted)
            fail_msg("%s of %s: expected %d", cases[i].text, cases[i].schema, cases[i].accepted);
}

/* Every format by one that is well-formed, and one that is not. */
static void test_formats(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"time", "\"23:59:59.25+02:00\"", "\"24:00:00Z\""},
        {"date-time", "\"1985-04-12T23:20:50Z\"", "\"1985-04-12 23:20:50Z\""},
        {"uuid", "\"2eb8aa08-aa98-11ea-b4aa-73b441d16380\"", "\"2eb8aa08-aa98-11ea-b4aa73b441d16380\""},
        {"email", "\"joe.bloggs@example.com\"", "\"@example.com\""},
        {"hostname", "\"www.example-1.com\"", "\"-a.com\""},
        {"ipv4", "\"192.168.0.255\"", "\"256.1.1.1\""},
        {"ipv6", "\"2001:db8:0:0:0:0:0:1\"", "\"12345::\""},
        {"uri", "\"https://example.com/a?b=%20#c\"", "\"//no-scheme\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char schema[100];
        (void)snprintf(schema, sizeof schema, "{\"type\":\"string\",\"format\":\"%s\"}", cases[i][0]);
        assert_true(schema_accepts(schema, cases[i][1]));
        assert_false(schema_accepts(schema, cases[i][2]));
    }
}

/* ---- regular expressions ---- */

static void put(lf_bytes *out, const char *text)
{
    assert_true(lf_bytes_append(out, text, strlen(text)));
}

static void put_pattern(lf_bytes *out, int depth, uint64_t *rng)
{
    static const char *const atoms[] = {"a", "b",     "c",     "\\.",   ".",   "[ab]", "[^a]", "\\d",
                                        "é", "[a-é]", "\\x61", "\\x62", "\\w", "日",   "\\n",  "[^\\dé-]"},
                             *const repeats[] = {"",  "",    "",      "",     "*",  "+",
                                                 "?", "{2}", "{1,3}", "{2,}", "*?", "+?"};
    for (int n = 1 + (int)(rng_next(rng) % 3); n > 0; n--) {
        if (depth > 0 && rng_next(rng) % 3 == 0) {
            put(out, rng_next(rng) % 2 ? "(" : "(?:");
            put_pattern(out, depth - 1, rng);
            while (rng_next(rng) % 2) {
                put(out, "|");
                if (rng_next(rng) % 4) put_pattern(out, depth - 1, rng);
            }
            put(out, ")");
        } else {
            put(out, atoms[rng_next(rng) % (sizeof atoms / sizeof *atoms)]);
        }
        put(out, repeats[rng_next(rng) % (sizeof repeats / sizeof *repeats)]);
    }
}

/* PCRE2's opinion: whether all of text matches, and whether it can be gone on with. */
static void ask_pcre2(const char *pattern, const char *text, bool *whole, bool *alive)
{
    int code;
    PCRE2_SIZE at;
    lf_bytes framed = {0};
    assert_true(lf_bytes_printf(&framed, "\\A(?:%s)\\z", pattern));
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)framed.data, framed.len, PCRE2_UTF, &code, &at, NULL);
    assert_non_null(re);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(re, NULL);
    const size_t len = strlen(text);
    *whole = pcre2_match(re, (PCRE2_SPTR)text, len, 0, 0, data, NULL) >= 0;
    const int partial = pcre2_match(re, (PCRE2_SPTR)text, len, 0, PCRE2_PARTIAL_HARD, data, NULL);
    *alive = partial >= 0 || partial == PCRE2_ERROR_PARTIAL || len == 0; /* which it does not call partial */
    pcre2_match_data_free(data);
    pcre2_code_free(re);
    lf_bytes_free(&framed);
}

static void test_patterns_match_as_pcre2(void **state)
{
    (void)state;
    enum { N_PATTERNS = TESTS_SHORT ? 100 : 800 };
    static const char *const pieces[] = {"a", "b", "c", ".", "é", "日", "1", "\n", "d", " "};
    uint64_t rng = 41;
    int n_whole = 0, n_alive = 0, n = 0, n_refused = 0;
    for (int i = 0; i < N_PATTERNS; i++) {
        lf_bytes pattern = {0};
        lf_dfa dfa;
        lf_error err;
        lf_work work = {1 << 22}; /* few need more */
        put_pattern(&pattern, 2, &rng);
        const lf_status status = lf_pattern_compile(&dfa, pattern.data, pattern.len, true, &work, &err);
        if (status != LF_ELIMIT) assert_ok(status, &err);
        n_refused += status == LF_ELIMIT;
        for (int k = 0; k < 20 && status == LF_OK; k++) {
            lf_bytes text = {0};
            bool whole, alive;
            put(&text, "");
            for (int m = (int)(rng_next(&rng) % 7); m > 0; m--)
                put(&text, pieces[rng_next(&rng) % (k % 2 ? 3 : sizeof pieces / sizeof *pieces)]);
            ask_pcre2(pattern.data, text.data, &whole, &alive);
            uint16_t at = 0;
            for (size_t b = 0; b < text.len && at != LF_DFA_DEAD; b++)
                at = lf_dfa_next(&dfa, at, (uint8_t)text.data[b]);
            if (lf_dfa_accepts(&dfa, text.data, text.len) != whole || (at != LF_DFA_DEAD) != alive)
                fail_msg("/%s/ on \"%s\": expected %d, alive %d", pattern.data, text.data, whole, alive);
            n_whole += whole;
            n_alive += alive;
            n++;
            lf_bytes_free(&text);
        }
        lf_dfa_free(&dfa);
        lf_bytes_free(&pattern);
    }
    print_message("%d texts, %d match, %d can be gone on with\n", n, n_whole, n_alive);
    assert_true(n_refused < N_PATTERNS / 20);
    assert_true(n_whole > n / 40 && n_alive > n / 10 && n_alive < n);
}

/* ---- what is refused ---- */

static void check_refused(lf_grammar_kind kind, const char *text, size_t len, lf_status expected,
                          const char *fragment)
{
    lf_error err = {0};
    lf_exprs exprs;
    const lf_status status = lf_grammar_build(&exprs, kind, text, len, &err);
    lf_exprs_free(&exprs);
    if (status != expected || !strstr(err.text, fragment))
        fail_msg("%.200s: found %s: %s, expected %s: %s", text, lf_status_name(status), err.text,
                 lf_status_name(expected), fragment);
}

static void test_schemas_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *schema;
        lf_status status;
        const char *fragment;
    } cases[] = {
        {"{", LF_EFORMAT, "json schema: line 1"},
        {"3", LF_EFORMAT, "json schema: line 1"},
        {"[]", LF_EINVAL, "json schema: #: found no schema"},
        {"{\"properties\":{\"a/b\":{\"not\":{}}}}", LF_EUNSUPPORTED,
         "#/properties/a~1b: not is not supported"},
        {"{\"items\":{\"uniqueItems\":true}}", LF_EUNSUPPORTED, "#/items: uniqueItems is not supported"},
        {"{\"type\":\"integer\",\"multipleOf\":3}", LF_EUNSUPPORTED, "multipleOf is not supported"},
        {"{\"type\":\"text\"}", LF_EINVAL, "type: found text, expected object"},
        {"{\"minLength\":-1}", LF_EINVAL, "minLength: found"},
        {"{\"minimum\":\"a\"}", LF_EINVAL, "minimum: found no number"},
        {"{\"pattern\":\"(\"}", LF_EINVAL,
         "pattern: regular expression, byte 0: found a group without its end"},
        {"{\"format\":\"color\"}", LF_EUNSUPPORTED, "format: found color, expected date"},
        {"{\"$ref\":\"other.json\"}", LF_EUNSUPPORTED,
         "$ref: found \"other.json\", expected a place in this schema"},
        {"{\"$ref\":\"#/$defs/x\"}", LF_EUNSUPPORTED, "#/$defs/x"},
        {"{\"$ref\":\"#\"}", LF_EINVAL, "refers to itself"},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#\"}]}", LF_EINVAL, "refers to itself"},
        {"{\"$ref\":\"#\",\"type\":\"object\"}", LF_ELIMIT, "json schema"},
        {"{\"allOf\":[{\"$ref\":\"#\"},{\"type\":\"object\"}]}", LF_ELIMIT, "json schema"},
        {"{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", LF_EINVAL, "no text can satisfy"},
        {"{\"enum\":[]}", LF_EINVAL, "no text can satisfy"},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", LF_EINVAL, "no text can satisfy"},
        {"{\"type\":\"string\",\"pattern\":\"^a{3}$\",\"maxLength\":2}", LF_EINVAL, "no text can satisfy"},
        {"{\"enum\":[1],\"minimum\":0}", LF_EUNSUPPORTED, "enum and const are supported with type only"},
        {"{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", LF_EUNSUPPORTED,
         "allOf: found pattern twice"},
        {"{\"allOf\":[{\"prefixItems\":[{}]},{\"items\":{\"type\":\"null\"}}]}", LF_EUNSUPPORTED,
         "allOf: found items beside prefixItems"},
        {"{\"allOf\":[{\"patternProperties\":{\"^x\":{}}},{\"additionalProperties\":false}]}",
         LF_EUNSUPPORTED, "patternProperties with additionalProperties"},
        {"{\"items\":[{}]}", LF_EUNSUPPORTED, "items: found a list"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(LF_GRAMMAR_JSON_SCHEMA, cases[i].schema, strlen(cases[i].schema), cases[i].status,
                      cases[i].fragment);
    check_refused(LF_GRAMMAR_CHOICE, "[]", 2, LF_EINVAL, "choices: found none");
    check_refused(LF_GRAMMAR_CHOICE, "[\"a\",\"\"]", 8, LF_EINVAL,
                  "choice 1: found no string or an empty one");
    check_refused((lf_grammar_kind)9, "", 0, LF_EINVAL, "grammar kind: found 9");
}

static void test_patterns_that_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a(?=b)", "byte 1: found look-around"},
        {"(a)\\1", "byte 3: found a back reference"},
        {"*a", "byte 0: found a repetition"},
        {"a**", "byte 2: found a repetition of a repetition"},
        {"a{3,2}", "byte 1: found a repetition out of range"},
        {"a{1001}", "byte 1: found a repetition out of range"},
        {"[a", "byte 0: found a class without"},
        {"[]", "byte 1: found an empty class"},
        {"[z-a]", "byte 1: found a range that"},
        {"[[:alpha:]]", "byte 1: found a POSIX class"},
        {"a)", "byte 1: found a ) too many"},
        {"(a", "byte 0: found a group without its end"},
        {"a^b", "byte 1: found ^ or $ inside"},
        {"\\bx", "byte 0: found a back reference or an escape"},
        {"\\p{L}", "byte 0: found a back reference or an escape"},
        {"\\xZZ", "byte 2: found no code point"},
        {"\\ud800", "byte 2: found no code point"},
        {"a\\", "byte 1: found a backslash at the end"},
        {"\xFF", "byte 0: found bytes that are no UTF-8"},
        {"(?i)a", "byte 0: found look-around, a flag"},
        {"[^\\x00-\\u{10FFFF}]", "no text can satisfy"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(LF_GRAMMAR_REGEX, cases[i][0], strlen(cases[i][0]), LF_EINVAL, cases[i][1]);
}

/* Texts that would take exponential time or memory are refused, soon. */
static void test_explosions_are_refused(void **state)
{
    (void)state;
    lf_bytes text = {0};
    check_refused(LF_GRAMMAR_REGEX, "(?:a|b)*a(?:a|b){40}", 20, LF_ELIMIT, "a pattern needs more than");
    check_refused(LF_GRAMMAR_REGEX, "(((.{1000}){1000}){1000}){1000}", 31, LF_ELIMIT,
                  "a pattern needs more than");
    check_refused(LF_GRAMMAR_REGEX, "((((){1000}){1000}){1000}){1000}x", 33, LF_OK, "");
    for (int i = 0; i < 300; i++) put(&text, "(");
    check_refused(LF_GRAMMAR_REGEX, text.data, text.len, LF_ELIMIT, "groups nest deeper");
    text.len = 0;
    for (int i = 0; i < 300; i++) put(&text, "{\"items\":");
    put(&text, "{}");
    for (int i = 0; i < 300; i++) put(&text, "}");
    check_refused(LF_GRAMMAR_JSON_SCHEMA, text.data, text.len, LF_ELIMIT, "nests too deep");
    text.len = 0;
    put(&text, "{\"allOf\":["); /* 2^40 ways through */
    for (int i = 0; i < 40; i++)
        assert_true(lf_bytes_printf(
            &text, "%s{\"anyOf\":[{\"properties\":{\"a%d\":{}}},{\"properties\":{\"b%d\":{}}}]}",
            i ? "," : "", i, i));
    put(&text, "]}");
    check_refused(LF_GRAMMAR_JSON_SCHEMA, text.data, text.len, LF_ELIMIT, "alternatives");
    text.len = 0;
    put(&text, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{"); /* 2^30 ways by references: one rule each */
    for (int i = 0; i < 30; i++)
        assert_true(lf_bytes_printf(
            &text, "\"d%d\":{\"anyOf\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"}]},", i, i + 1,
            i + 1));
    put(&text, "\"d30\":{\"const\":1}}}");
    assert_true(schema_accepts(text.data, "1"));
    lf_bytes_free(&text);
}

/* Every allocation fails once. */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds_are_exact),
        cmocka_unit_test(test_what_a_schema_accepts),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_patterns_match_as_pcre2),
        cmocka_unit_test(test_schemas_that_are_refused),
        cmocka_unit_test(test_patterns_that_are_refused),
        cmocka_unit_test(test_explosions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

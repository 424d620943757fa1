/* src/jinja: every construct of the subset against what jinja2 made of it (tests/oracle/chat.py), the templates of real models over
 * generated conversations, what must be refused, limits, threads, and memory that fails at every allocation.
 *
 *     test_jinja --render     JSON lines {"template", "vars", "now"} to JSON lines {"text"} or {"error"}: for the oracle */
#include "testing.h"

#include "file/json.h"
#include "file_tools.h"
#include "jinja/jinja.h"
#include "oom.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- for the oracle ---- */

static json_t *answer(const json_t *question)
{
    lf_error err = {0};
    lf_jinja *t = NULL;
    lf_bytes text = {0};
    const json_t *source = json_object_get(question, "template");
    lf_status status = lf_jinja_compile(&t, json_string_value(source), json_string_length(source), "template",
                                        &err);
    if (status == LF_OK)
        status = lf_jinja_render(t, json_object_get(question, "vars"),
                                 json_integer_value(json_object_get(question, "now")), &text, &err);
    json_t *out = status == LF_OK ? json_pack("{s:s%}", "text", text.data ? text.data : "", text.len)
                                  : json_pack("{s:s}", "error", err.text);
    lf_bytes_free(&text);
    lf_jinja_free(t);
    return out;
}

static int serve(void)
{
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, stdin) > 0) {
        json_t *question = json_loads(line, 0, NULL), *out = answer(question);
        (void)json_dumpf(out, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(out);
        json_decref(question);
    }
    free(line);
    return fflush(stdout) != 0;
}

/* ---- helpers ---- */

static lf_status render(const char *source, const json_t *vars, lf_bytes *text, lf_error *err)
{
    lf_jinja *t = NULL;
    lf_status status = lf_jinja_compile(&t, source, strlen(source), "t", err);
    if (status == LF_OK) status = lf_jinja_render(t, vars, 0, text, err);
    lf_jinja_free(t);
    return status;
}

static void check(const char *source, const char *expected)
{
    lf_error err;
    lf_bytes text = {0};
    assert_ok(render(source, NULL, &text, &err), &err);
    assert_string_equal(text.data ? text.data : "", expected);
    lf_bytes_free(&text);
}

static void refuse(const char *source, lf_status status, const char *fragment)
{
    lf_error err = {0};
    lf_bytes text = {0};
    assert_error(render(source, NULL, &text, &err), status, &err, fragment);
    assert_int_equal(text.len, 0);
    assert_ptr_equal(strstr(err.text, "t: "), err.text);
    lf_bytes_free(&text);
}

static json_t *load(const char *path)
{
    lf_error err;
    json_t *root = NULL;
    assert_ok(lf_json_load(&root, path, &err), &err);
    return root;
}

/* ---- against jinja2 ---- */

static void test_constructs(void **state)
{
    (void)state;
    json_t *root = load(golden_path("chat/constructs.json")), *item;
    const json_t *vars = json_object_get(root, "vars");
    const int64_t now = json_integer_value(json_object_get(root, "now"));
    size_t i;
    json_array_foreach(json_object_get(root, "cases"), i, item)
    {
        lf_error err = {0};
        lf_bytes text = {0};
        lf_jinja *t = NULL;
        const json_t *expected = json_object_get(item, "text"), *source = json_object_get(item, "template");
        lf_status status = lf_jinja_compile(&t, json_string_value(source), json_string_length(source), "t",
                                            &err);
        if (status == LF_OK) status = lf_jinja_render(t, vars, now, &text, &err);
        if ((status == LF_OK) != json_is_string(expected))
            fail_msg("%s: %s", json_string_value(source), status == LF_OK ? text.data : err.text);
        if (status == LF_OK && (text.len != json_string_length(expected) ||
                                memcmp(text.data, json_string_value(expected), text.len) != 0))
            fail_msg("%s: found '%s', expected '%s'", json_string_value(source), text.data,
                     json_string_value(expected));
        lf_bytes_free(&text);
        lf_jinja_free(t);
    }
    assert_true(i > 200);
    json_decref(root);
}

static uint64_t hash(const lf_bytes *text)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < text->len; i++) h = (h ^ (uint8_t)text->data[i]) * UINT64_C(0x100000001B3);
    return h;
}

/* Every recorded conversation through a template. */
static void check_template(const char *name, const char *source, size_t len)
{
    lf_error err;
    lf_jinja *t;
    json_t *conversations = load(golden_path("chat/conversations.json")),
           *hashes = load(golden_path("chat/hashes.json"));
    json_t *expected = json_object_get(hashes, name), *vars;
    const json_t *constructs = load(golden_path("chat/constructs.json"));
    const int64_t now = json_integer_value(json_object_get(constructs, "now"));
    size_t i;
    assert_int_equal(json_array_size(expected), 200);
    assert_int_equal(json_array_size(conversations), 200);
    assert_ok(lf_jinja_compile(&t, source, len, name, &err), &err);
    json_array_foreach(conversations, i, vars)
    {
        char found[20] = "";
        lf_bytes text = {0};
        if (lf_jinja_render(t, vars, now, &text, &err) == LF_OK)
            (void)snprintf(found, sizeof found, "%016llx", (unsigned long long)hash(&text));
        if (strcmp(found, json_string_value(json_array_get(expected, i))) != 0)
            fail_msg("%s: conversation %zu: %s", name, i, *found ? text.data : err.text);
        lf_bytes_free(&text);
    }
    lf_jinja_free(t);
    json_decref((json_t *)constructs);
    json_decref(conversations);
    json_decref(hashes);
}

static void test_own_templates(void **state)
{
    (void)state;
    static const char *const names[] = {"blocks.jinja", "bracketed.jinja", "signatures.jinja",
                                        "thinking.jinja"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char relative[64];
        size_t size;
        (void)snprintf(relative, sizeof relative, "chat/%s", names[i]);
        char *source = read_file(golden_path(relative), &size);
        check_template(names[i], source, size);
        free(source);
    }
}

static void test_real_templates(void **state)
{
    (void)state;
    static const char *const names[] = {"llama3", "mistral", "qwen2.5"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char relative[64];
        (void)snprintf(relative, sizeof relative, "tokenizers/%s/tokenizer_config.json", names[i]);
        json_t *config = load(require_data(relative));
        const json_t *source = json_object_get(config, "chat_template");
        check_template(names[i], json_string_value(source), json_string_length(source));
        json_decref(config);
    }
}

/* ---- what is refused, and how it is said ---- */

static void test_says_what_is_beyond(void **state)
{
    (void)state;
    refuse("a\nb{% include 'x' %}", LF_EUNSUPPORTED,
           "line 2: found the statement 'include'; supported are if,");
    refuse("{{ x | xmlattr }}", LF_EUNSUPPORTED, "line 1: found the filter 'xmlattr'; supported are abs,");
    refuse("{{ 1 is escaped }}", LF_EUNSUPPORTED, "found the test 'escaped'; supported are defined,");
    refuse("{{ 'a'.center(3) }}", LF_EUNSUPPORTED, "the method 'center', which is not supported");
    refuse("{% for x in [] recursive %}{% endfor %}", LF_EUNSUPPORTED, "recursive");
    refuse("{{ dict(*x) }}", LF_EUNSUPPORTED, "'*'");
    refuse("{{ 0x10 }}", LF_EUNSUPPORTED, "decimal digits");
    refuse("{{ 12345678901234567890 }}", LF_EUNSUPPORTED, "64 bits");
    refuse("{{ 9223372036854775807 + 1 }}", LF_EUNSUPPORTED, "beyond 64 bits");
    refuse("{{ \xC3\xA9 }}", LF_EUNSUPPORTED, "0xc3");
    refuse("{{ '\\N{BULLET}' }}", LF_EUNSUPPORTED, "escape");
    refuse("{{ strftime_now('%E') }}", LF_EUNSUPPORTED, "strftime_now");
    refuse("\n\n{{ nothing.x }}", LF_EINVAL, "line 3: 'nothing' is undefined");
    refuse("{{ nothing + 'x' }}", LF_EINVAL, "'nothing' is undefined, expected an operand of '+'");
    refuse("{{ raise_exception('roles must alternate') }}", LF_EINVAL, "roles must alternate");
    refuse("{% if 1 %}\n", LF_EFORMAT,
           "found the end of the template, expected {% elif %} or {% else %} or {% endif %}");
    refuse("{{ 'a' + 1 }}", LF_EINVAL, "found a string and an integer");
}

static void test_takes_any_bytes_only_if_they_are_text(void **state)
{
    (void)state;
    lf_error err = {0};
    lf_jinja *t;
    assert_error(lf_jinja_compile(&t, "a\0b", 3, "t", &err), LF_EFORMAT, &err,
                 "byte 1: found what is not UTF-8");
    assert_error(lf_jinja_compile(&t, "\xC3", 1, "t", &err), LF_EFORMAT, &err, "byte 0");
    assert_error(lf_jinja_compile(&t, "x\xED\xA0\x80", 4, "t", &err), LF_EFORMAT, &err, "byte 1");
    assert_null(t);
}

/* ---- limits ---- */

static char *repeat(const char *head, const char *part, size_t n, const char *tail)
{
    lf_bytes all = {0};
    bool ok = lf_bytes_append(&all, head, strlen(head));
    for (size_t i = 0; ok && i < n; i++) ok = lf_bytes_append(&all, part, strlen(part));
    assert_true(ok && lf_bytes_append(&all, tail, strlen(tail)));
    return all.data;
}

static void refuse_repeated(const char *head, const char *part, size_t n, const char *tail, lf_status status,
                            const char *fragment)
{
    char *source = repeat(head, part, n, tail);
    refuse(source, status, fragment);
    free(source);
}

static void test_limits(void **state)
{
    (void)state;
    static const char *const nests[] = {"(", "[", "not ", "-", "{1:", "f(", "a[", "1 if 1 else ", "'x'~("};
    for (size_t i = 0; i < sizeof nests / sizeof *nests; i++)
        refuse_repeated("{{ ", nests[i], 20000, "1 }}", LF_ELIMIT, "in each other");
    refuse_repeated("", "{% if 1 %}", 50000, "", LF_ELIMIT, "in each other");
    refuse_repeated("{% if 1 %}", "{% elif 1 %}", 50000, "", LF_ELIMIT, "in each other");
    refuse_repeated("{{ 1", " + 1", 100000, " }}", LF_ELIMIT, "deeper than");
    refuse_repeated("{{ 1", "|abs", 100000, " }}", LF_ELIMIT, "deeper than");
    refuse_repeated("", "x", LF_JINJA_SOURCE_MAX + 1, "", LF_ELIMIT, "bytes");
    refuse("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", LF_ELIMIT, "deeper than");
    if (TESTS_SHORT) return; /* what follows uses the limits up */
    refuse("{% for a in range(99999) %}{% for b in range(999) %}{% endfor %}{% endfor %}", LF_ELIMIT,
           "takes more than");
    refuse("{{ 'x' * 1000000000 }}", LF_ELIMIT, "memory");
    refuse("{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
           LF_ELIMIT, "");
    refuse("{% set ns = namespace(s='x' * 99999) %}{% for i in range(99999) %}{{ ns.s }}{% endfor %}",
           LF_ELIMIT, "");
    refuse(
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        LF_ELIMIT, "deeper than");
    refuse(
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        LF_ELIMIT, "");
    refuse(
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.x + [] }}{{ [ns.x] == [[ns.x[0], ns.x[1]]] }}",
        LF_ELIMIT, "steps");
    refuse(
        "{% set ns = namespace(s='a' * 9999) %}{% for i in range(9) %}{% set ns.s = ns.s.replace('a', 'a' * 99) %}{% endfor %}",
        LF_ELIMIT, "");
}

static void test_names_are_limited(void **state)
{
    (void)state;
    lf_bytes all = {0};
    for (int i = 0; i < 5000; i++) assert_true(lf_bytes_printf(&all, "{{ name%d }}", i));
    refuse(all.data, LF_ELIMIT, "different names");
    lf_bytes_free(&all);
}

static void test_values_that_would_trap(void **state)
{
    (void)state;
    check("{% set least = -9223372036854775807 - 1 %}{{ least % -1 }}{{ least is divisibleby(-1) }}",
          "0True");
    refuse("{{ (-9223372036854775807 - 1) // -1 }}", LF_EUNSUPPORTED, "64 bits");
    refuse("{{ -(-9223372036854775807 - 1) }}", LF_EUNSUPPORTED, "64 bits");
    refuse("{{ (-9223372036854775807 - 1) | abs }}", LF_EINVAL, "abs");
    check("{{ [1, 2][-9223372036854775807 - 1:9223372036854775807:9223372036854775807] }}", "[1]");
    check("{{ 'abc'[::-9223372036854775807 - 1] }}{{ [1, 2][9223372036854775807] }}", "c");
    check("{{ range(9223372036854775806, 9223372036854775807) | list }}", "[9223372036854775806]");
    check("{{ 1e400 }} {{ -1e400 }} {{ 1e400 - 1e400 }} {{ 1e300 | int }} {{ 1e400 | int(3) }}",
          "inf -inf nan 0 3");
}

/* ---- memory that fails, threads ---- */

static const char all_kinds[] =
    "{% macro m(a, b='x') %}{{ a ~ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{% set ns = namespace(n=0) %}"
    "{% for p in [3, 1, 2] | sort if p > 0 %}{% set ns.n = ns.n + p %}{{ loop.index }}{{ m(p, 'y', 4, z=5) }}{% endfor %}"
    "{{ {'a': [1, 2.5, none], 'b': 'é'} | tojson(indent=2) }}{{ 'a b c'.split() | map('upper') | join('-') }}"
    "{% set t %}{{ 'text' | replace('t', 'TT') | indent }}{% endset %}{{ t }}{{ [1, {'k': 'v'}] | string }}{{ '%s' | format(1) }}";

static void test_memory_failures(void **state)
{
    (void)state;
    oom_require();
    lf_status status = LF_ENOMEM;
    for (long i = 1; status != LF_OK; i++) {
        lf_error err = {0};
        lf_bytes text = {0};
        const long live = oom_live();
        oom_fail_at(i);
        status = render(all_kinds, NULL, &text, &err);
        oom_off();
        if (status != LF_OK) assert_int_equal(status, LF_ENOMEM);
        lf_bytes_free(&text);
        assert_int_equal(oom_live(), live);
        assert_true(i < 10000);
    }
}

typedef struct job {
    const lf_jinja *t;
    uint64_t hash;
} job;

static void *render_many(void *cookie)
{
    job *j = cookie;
    for (int i = 0; i < 50; i++) {
        lf_bytes text = {0};
        if (lf_jinja_render(j->t, NULL, 0, &text, NULL) == LF_OK) j->hash = hash(&text);
        lf_bytes_free(&text);
    }
    return NULL;
}

static void test_threads_share_a_template(void **state)
{
    (void)state;
    lf_error err;
    lf_jinja *t;
    pthread_t threads[4];
    job jobs[4];
    assert_ok(lf_jinja_compile(&t, all_kinds, strlen(all_kinds), "t", &err), &err);
    for (int i = 0; i < 4; i++) {
        jobs[i] = (job){.t = t};
        assert_int_equal(pthread_create(&threads[i], NULL, render_many, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_true(jobs[i].hash == jobs[0].hash && jobs[i].hash != 0);
    }
    lf_jinja_free(t);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constructs),
        cmocka_unit_test(test_own_templates),
        cmocka_unit_test(test_real_templates),
        cmocka_unit_test(test_says_what_is_beyond),
        cmocka_unit_test(test_takes_any_bytes_only_if_they_are_text),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_names_are_limited),
        cmocka_unit_test(test_values_that_would_trap),
        cmocka_unit_test(test_memory_failures),
        cmocka_unit_test(test_threads_share_a_template),
    };
    if (argc > 1 && strcmp(argv[1], "--render") == 0) return serve();
    return cmocka_run_group_tests_name("jinja", tests, NULL, NULL);
}

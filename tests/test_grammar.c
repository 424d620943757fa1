/* grammar/: masks against brute force, and random outputs of schemas against a validator; states that are
 * forgotten; no memory. With LOOKFAR_GRAMMAR_TEXTS=FILE what the masks let through is written there, for
 * tests/oracle/grammar.py. */
#include "grammar_fixture.h"

#include "oom.h"
#include "schema_validator.h"

#include "file/json.h"
#include "grammar/compile.h"
#include "grammar/grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_OUTPUT = 1200, N_WORDS = 1024 };

/* ---- a vocabulary and walks through its masks ---- */

typedef struct vocabulary {
    lf_tokenizer *t;
    lf_token_bytes *bytes;
} vocabulary;

/* A small byte-level one, whose model has some rows more; or that of a path. */
static vocabulary open_vocabulary(const char *path)
{
    lf_error err;
    vocabulary v;
    assert_ok(lf_tokenizer_from_file(&v.t, path ? path : golden_path("token/byte-level.json"), &err), &err);
    assert_ok(lf_token_bytes_create(&v.bytes, v.t, lf_tokenizer_n_vocab(v.t) + 21, &err), &err);
    assert_true(v.bytes->n_vocab <= N_WORDS * 32);
    return v;
}

static void close_vocabulary(vocabulary *v)
{
    lf_token_bytes_free(v->bytes);
    lf_tokenizer_free(v->t);
}

static lf_grammar *must_compile(const vocabulary *v, lf_grammar_kind kind, const char *text)
{
    lf_error err;
    lf_grammar *g;
    assert_ok(lf_grammar_create(&g, v->bytes, kind, text, strlen(text), &err), &err);
    return g;
}

static lf_grammar_cursor *must_follow(lf_grammar *g, int n_prompt, int n_output)
{
    lf_error err;
    lf_grammar_cursor *c;
    assert_ok(lf_grammar_cursor_create(&c, g, n_prompt, n_output, &err), &err);
    return c;
}

static bool is_allowed(const uint32_t *mask, int32_t id)
{
    return mask[id / 32] >> (id % 32) & 1;
}

static void get_mask(uint32_t mask[N_WORDS], lf_grammar_cursor *c, const int32_t *history, int n)
{
    memset(mask, 0xFF, N_WORDS * sizeof *mask);
    lf_grammar_cursor_mask(c, history, n, mask);
}

/* How much a walk likes a token: at random, and later those that bring it to its end. */
static float taste(const vocabulary *v, int32_t id, bool hurry, uint64_t *rng)
{
    float likes = rng_uniform(rng);
    int len;
    if (!hurry) return likes;
    if (lf_tokenizer_is_eos(v->t, id)) return 10.0f;
    const uint8_t *bytes = lf_token_bytes_at(v->bytes, v->bytes->places[id], &len);
    for (int i = 0; i < len; i++) likes += strchr("\"}]", bytes[i]) ? 2.0f : bytes[i] <= ' ' ? -1.0f : 0.0f;
    return likes;
}

/* The allowed id that the walk likes best, or -1. */
static int32_t choose(const vocabulary *v, const uint32_t *mask, bool hurry, uint64_t *rng)
{
    int32_t best = -1;
    float most = 0;
    for (int32_t id = 0; id < v->bytes->n_vocab; id++) {
        if (!is_allowed(mask, id)) continue;
        const float likes = taste(v, id, hurry, rng);
        if (best < 0 || likes > most) {
            best = id;
            most = likes;
        }
    }
    return best;
}

/* Appends a random output to history and returns its length with it; *complete: it came to its end. */
static int walk(const vocabulary *v, lf_grammar_cursor *c, int32_t *history, int n_prompt, int n_free,
                int n_max, bool *complete, uint64_t *rng)
{
    int n = n_prompt;
    *complete = false;
    while (n < n_max && !*complete) {
        uint32_t mask[N_WORDS];
        get_mask(mask, c, history, n);
        const int32_t id = choose(v, mask, n - n_prompt > n_free, rng);
        if (id < 0) fail_msg("after %d tokens nothing is allowed", n - n_prompt);
        *complete = lf_tokenizer_is_eos(v->t, id);
        if (!*complete) history[n++] = id;
        *complete = *complete || lf_grammar_cursor_is_done(c, history, n);
    }
    return n;
}

static lf_bytes text_of(const vocabulary *v, const int32_t *ids, int n)
{
    lf_bytes text = {0};
    assert_true(lf_bytes_append(&text, "", 0));
    for (int i = 0; i < n; i++) {
        int len;
        const uint8_t *bytes = lf_token_bytes_at(v->bytes, v->bytes->places[ids[i]], &len);
        assert_true(lf_bytes_append(&text, bytes, (size_t)len));
    }
    return text;
}

/* ---- masks ---- */

static const struct {
    lf_grammar_kind kind;
    const char *text;
} samples[] = {
    {LF_GRAMMAR_JSON_OBJECT, ""},
    {LF_GRAMMAR_REGEX, "(?:[a-c]{2,4}|dé*|[^a-z0-9])+x?"},
    {LF_GRAMMAR_CHOICE, "[\"yes\", \"yes, but\", \"no\", \"日本\"]"},
    {LF_GRAMMAR_JSON_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"the\":{\"type\":\"string\",\"maxLength\":9},\"n\":{\"type\":\"integer\"},"
     "\"next\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}},\"required\":[\"n\"]}"},
    {LF_GRAMMAR_JSON_SCHEMA,
     "{\"anyOf\":[{\"type\":\"array\",\"items\":{\"type\":\"number\"},\"maxItems\":4},"
     "{\"type\":\"array\",\"items\":{\"type\":[\"integer\",\"string\"]}},{\"const\":\"é\\n\"}]}"},
};
enum { N_SAMPLES = sizeof samples / sizeof *samples };

static void test_masks_equal_brute_force(void **state)
{
    (void)state;
    vocabulary v = open_vocabulary(NULL);
    uint64_t rng = 3;
    for (int s = 0; s < N_SAMPLES; s++) {
        lf_error err;
        lf_exprs exprs;
        lf_machine *m;
        lf_grammar *g = must_compile(&v, samples[s].kind, samples[s].text);
        lf_grammar_cursor *c = must_follow(g, 0, N_OUTPUT);
        assert_ok(lf_grammar_build(&exprs, samples[s].kind, samples[s].text, strlen(samples[s].text), &err),
                  &err);
        assert_ok(lf_machine_create(&m, &exprs, &err), &err);
        for (int i = 0; i < 12; i++) {
            int32_t history[N_OUTPUT];
            uint32_t mask[N_WORDS];
            bool complete, may_end;
            const int n = (int)(rng_next(&rng) %
                                (unsigned)(1 + walk(&v, c, history, 0, 25, 60, &complete, &rng)));
            get_mask(mask, c, history, n);
            for (int32_t id = 0; id < v.bytes->n_vocab; id++) {
                lf_bytes text = text_of(&v, history, n);
                bool expected = v.bytes->places[id] >= 0;
                if (expected) {
                    int len;
                    const uint8_t *bytes = lf_token_bytes_at(v.bytes, v.bytes->places[id], &len);
                    assert_true(lf_bytes_append(&text, bytes, (size_t)len));
                    expected = is_alive(m, &text, &may_end);
                } else if (lf_tokenizer_is_eos(v.t, id)) {
                    (void)is_alive(m, &text, &may_end);
                    expected = may_end;
                }
                if (is_allowed(mask, id) != expected)
                    fail_msg("sample %d: token %d after \"%s\": expected %d", s, (int)id, text.data,
                             expected);
                lf_bytes_free(&text);
            }
        }
        lf_grammar_cursor_free(c);
        lf_grammar_free(g);
        lf_machine_free(m);
        lf_exprs_free(&exprs);
    }
    close_vocabulary(&v);
}

/* Cursors of one grammar, asked in turns about outputs that grow, are cut and go wrong, say what a new one
 * says. */
static void test_cursors_have_no_memory(void **state)
{
    (void)state;
    enum { N_CURSORS = 3, N_PROMPT = 4, N_TURNS = TESTS_SHORT ? 60 : 400 };
    vocabulary v = open_vocabulary(NULL);
    uint64_t rng = 5;
    for (int s = 0; s < N_SAMPLES; s++) {
        lf_grammar *g = must_compile(&v, samples[s].kind, samples[s].text);
        lf_grammar_cursor *cursors[N_CURSORS];
        int32_t histories[N_CURSORS][N_OUTPUT] = {0};
        int n[N_CURSORS];
        for (int i = 0; i < N_CURSORS; i++) {
            cursors[i] = must_follow(g, N_PROMPT, N_OUTPUT);
            n[i] = N_PROMPT;
        }
        for (int turn = 0; turn < N_TURNS; turn++) {
            const int i = (int)(rng_next(&rng) % N_CURSORS);
            uint32_t mask[N_WORDS], expected[N_WORDS];
            bool complete;
            if (rng_next(&rng) % 3 == 0)
                n[i] = N_PROMPT + (int)(rng_next(&rng) % (unsigned)(n[i] - N_PROMPT + 1));
            get_mask(mask, cursors[i], histories[i], n[i]);
            if (choose(&v, mask, false, &rng) >= 0)
                n[i] = walk(&v, cursors[i], histories[i], n[i], 5, n[i] + 6, &complete, &rng);
            if (rng_next(&rng) % 3 == 0) /* a candidate that is not checked, perhaps no text at all */
                histories[i][n[i]++] = (int32_t)(rng_next(&rng) % (unsigned)v.bytes->n_vocab);
            get_mask(mask, cursors[i], histories[i], n[i]);
            lf_grammar *fresh = must_compile(&v, samples[s].kind, samples[s].text);
            lf_grammar_cursor *c = must_follow(fresh, N_PROMPT, N_OUTPUT);
            get_mask(expected, c, histories[i], n[i]);
            if (memcmp(mask, expected, sizeof mask) != 0)
                fail_msg("sample %d, turn %d: masks differ", s, turn);
            lf_grammar_cursor_free(c);
            lf_grammar_free(fresh);
            if (n[i] > N_OUTPUT - 20) n[i] = N_PROMPT;
        }
        for (int i = 0; i < N_CURSORS; i++) lf_grammar_cursor_free(cursors[i]);
        lf_grammar_free(g);
    }
    close_vocabulary(&v);
}

/* More states than there is room for: they are forgotten and found again. */
static void test_states_are_forgotten_and_found_again(void **state)
{
    (void)state;
    enum { N_LONG = 3 * LF_STATES_MAX, N_EARLY = 30 };
    static const char schema[] =
        "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":9,\"maxLength\":9},"
        "\"minItems\":100000000}";
    vocabulary v = open_vocabulary(NULL);
    lf_grammar *g = must_compile(&v, LF_GRAMMAR_JSON_SCHEMA, schema);
    lf_grammar_cursor *a = must_follow(g, 0, N_LONG + 1), *b = must_follow(g, 0, N_LONG + 1);
    int32_t *history = calloc(N_LONG + 1, sizeof *history), by_byte[256];
    uint32_t mask[N_WORDS], other[N_WORDS];
    static uint32_t before[N_EARLY][N_WORDS];
    uint64_t rng = 8;
    bool complete;
    int n = 0;
    for (int32_t id = 0; id < v.bytes->n_vocab; id++) {
        int len = 0;
        if (v.bytes->places[id] < 0) continue;
        const uint8_t *bytes = lf_token_bytes_at(v.bytes, v.bytes->places[id], &len);
        if (len == 1) by_byte[bytes[0]] = id;
    }
    history[n++] = by_byte['['];
    while (n + 16 < N_LONG) {
        static const char item[] = "\"abcdefghi\",";
        for (const char *c = item; *c; c++) history[n++] = by_byte[(uint8_t)*c];
    }
    for (int i = 0; i < N_EARLY; i++) get_mask(before[i], b, history, i);
    get_mask(mask, a, history, n);
    get_mask(other, b, history, n - 12);
    assert_memory_equal(mask, other, sizeof mask);
    for (int i = N_EARLY - 1; i >= 0; i--) {
        get_mask(mask, a, history, n); /* over many epochs, and back */
        get_mask(other, a, history, i);
        assert_memory_equal(before[i], other, sizeof other);
    }
    get_mask(other, b, history, n);
    assert_memory_equal(mask, other, sizeof mask);
    n = walk(&v, a, history, n, 4, N_LONG, &complete,
             &rng); /* until the numbers of states move on in a mask */
    assert_false(complete);
    free(history);
    lf_grammar_cursor_free(a);
    lf_grammar_cursor_free(b);
    lf_grammar_free(g);
    close_vocabulary(&v);
}

/* A grammar whose every position is a new state, asked along an output that is cut back now and then. One
 * grammar has room for few masks; the other has other states already. So they forget at different moments,
 * and must agree at all. */
static void test_forgetting_changes_nothing(void **state)
{
    (void)state;
    enum { N_STEPS = TESTS_SHORT ? 1500 : 4000, N_WIDE = 1 << 20 };
    static const char schema[] =
        "{\"type\":\"array\",\"minItems\":9999,\"items\":{\"type\":\"array\",\"minItems\":3,\"maxItems\":7,\"items\":"
        "{\"anyOf\":[{\"type\":\"string\",\"minLength\":9,\"maxLength\":60},{\"type\":\"array\",\"items\":{\"$ref\":\"#/items\"}}]}}}";
    vocabulary v = open_vocabulary(NULL), wide = v;
    lf_error err;
    assert_ok(lf_token_bytes_create(&wide.bytes, v.t, N_WIDE, &err), &err);
    lf_grammar *a = must_compile(&wide, LF_GRAMMAR_JSON_SCHEMA, schema),
               *b = must_compile(&v, LF_GRAMMAR_JSON_SCHEMA, schema);
    lf_grammar_cursor *ca = must_follow(a, 0, N_STEPS), *cb = must_follow(b, 0, N_STEPS),
                      *other = must_follow(b, 0, 300);
    int32_t *history = calloc(N_STEPS, sizeof *history);
    uint32_t *mask = malloc(N_WIDE / 8), expected[N_WORDS];
    uint64_t rng = 61;
    bool complete;
    int n = walk(&v, other, history, 0, 300, 300, &complete, &rng);
    n = 0;
    for (int step = 0; step < N_STEPS; step++) {
        memset(mask, 0xFF, N_WIDE / 8);
        lf_grammar_cursor_mask(ca, history, n, mask);
        get_mask(expected, cb, history, n);
        if (memcmp(mask, expected, (size_t)v.bytes->n_vocab / 8) != 0)
            fail_msg("step %d, %d tokens", step, n);
        history[n++] = choose(&v, expected, false, &rng);
        if (rng_next(&rng) % 40 == 0) n -= (int)(rng_next(&rng) % (unsigned)(n / 2 + 1));
    }
    free(history);
    free(mask);
    lf_grammar_cursor_free(ca);
    lf_grammar_cursor_free(cb);
    lf_grammar_cursor_free(other);
    lf_grammar_free(a);
    lf_grammar_free(b);
    lf_token_bytes_free(wide.bytes);
    close_vocabulary(&v);
}

static void test_tokens_that_are_no_text(void **state)
{
    (void)state;
    vocabulary v = open_vocabulary(NULL);
    lf_grammar *g = must_compile(&v, LF_GRAMMAR_REGEX, "[\\x00-\\u{10FFFF}]*");
    lf_grammar_cursor *c = must_follow(g, 0, 8);
    uint32_t mask[N_WORDS];
    get_mask(mask, c, NULL, 0);
    int n_text = 0;
    for (int32_t id = 0; id < v.bytes->n_vocab; id++) {
        const lf_token_kind kind = lf_tokenizer_kind(v.t, id);
        const bool eos = lf_tokenizer_is_eos(v.t, id);
        n_text += is_allowed(mask, id);
        if (kind == LF_TOKEN_CONTROL || kind == LF_TOKEN_UNKNOWN || kind == LF_TOKEN_UNUSED)
            assert_int_equal(is_allowed(mask, id), eos); /* anything may end anywhere */
    }
    assert_true(n_text > 200);
    lf_grammar_cursor_free(c);
    lf_grammar_free(g);
    close_vocabulary(&v);
}

/* ---- schemas ---- */

static json_t *next_schema(FILE *f, char **line, size_t *cap)
{
    lf_error err;
    json_t *json = NULL;
    const ssize_t n = getline(line, cap, f);
    if (n > 0) assert_ok(lf_json_parse(&json, *line, (size_t)n, "schemas.jsonl", &err), &err);
    return json;
}

static void test_the_validator_agrees_with_the_reference(void **state)
{
    (void)state;
    FILE *f = fopen(golden_path("grammar/schemas.jsonl"), "r");
    char *line = NULL;
    size_t cap = 0, n_valid = 0, n = 0, i;
    json_t *recorded, *instance;
    assert_non_null(f);
    while ((recorded = next_schema(f, &line, &cap))) {
        const json_t *schema = json_object_get(recorded, "schema");
        json_array_foreach(json_object_get(recorded, "instances"), i, instance)
        {
            const bool valid = json_is_true(json_array_get(instance, 1));
            if (schema_allows(schema, schema, json_array_get(instance, 0)) != valid)
                fail_msg("instance %zu of %s", i, line);
            n_valid += valid;
            n++;
        }
        json_decref(recorded);
    }
    assert_true(n >= 1500 && n_valid > n / 5 && n_valid < n * 4 / 5);
    free(line);
    (void)fclose(f);
}

/* Random outputs of 500 schemas are valid. Those that are not at their end after a while are left out: few. */
static void test_outputs_satisfy_their_schemas(void **state)
{
    (void)state;
    enum { N_WALKS = TESTS_SHORT ? 1 : 2 };
    vocabulary v = open_vocabulary(NULL);
    FILE *f = fopen(golden_path("grammar/schemas.jsonl"), "r");
    const char *path = getenv("LOOKFAR_GRAMMAR_TEXTS");
    FILE *out = path ? fopen(path, "w") : NULL;
    char *line = NULL;
    size_t cap = 0;
    int n_schemas = 0, n_complete = 0, n_empty = 0;
    json_t *recorded;
    uint64_t rng = 17;
    assert_non_null(f);
    while ((recorded = next_schema(f, &line, &cap))) {
        lf_error err;
        lf_grammar *g;
        json_t *schema = json_object_get(recorded, "schema");
        char *text = json_dumps(schema, JSON_COMPACT);
        const lf_status status = lf_grammar_create(&g, v.bytes, LF_GRAMMAR_JSON_SCHEMA, text, strlen(text),
                                                   &err);
        if (status != LF_OK && !strstr(err.text, "no text can satisfy")) fail_msg("%s: %s", err.text, text);
        n_empty += status != LF_OK;
        for (int i = 0; status == LF_OK && i < N_WALKS; i++) {
            int32_t history[N_OUTPUT];
            bool complete;
            lf_grammar_cursor *c = must_follow(g, 0, N_OUTPUT);
            lf_bytes said = text_of(&v, history, walk(&v, c, history, 0, 60 * i, N_OUTPUT, &complete, &rng));
            if (complete) {
                json_t *value = json_loads(said.data, JSON_DECODE_ANY, NULL);
                if (!value || !schema_allows(schema, schema, value))
                    fail_msg("%s\nis not of\n%s", said.data, text);
                json_t *made = json_pack("{s:i, s:s}", "schema", n_schemas, "text", said.data);
                assert_non_null(made);
                if (out) assert_true(json_dumpf(made, out, JSON_COMPACT) == 0 && fputc('\n', out) != EOF);
                json_decref(made);
                json_decref(value);
                n_complete++;
            }
            lf_bytes_free(&said);
            lf_grammar_cursor_free(c);
        }
        lf_grammar_free(g);
        free(text);
        json_decref(recorded);
        n_schemas++;
    }
    print_message("%d schemas, %d without a value, %d complete texts\n", n_schemas, n_empty, n_complete);
    assert_true(n_schemas == 500 && n_empty < 25 && n_complete > N_WALKS * 450);
    free(line);
    (void)fclose(f);
    if (out) (void)fclose(out);
    close_vocabulary(&v);
}

static void test_no_memory(void **state)
{
    (void)state;
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"^x+$\"},"
        "\"b\":{\"type\":\"integer\",\"minimum\":3},\"c\":{\"$ref\":\"#\"}},"
        "\"additionalProperties\":{\"enum\":[1,\"y\"]}}";
    oom_require();
    vocabulary v = open_vocabulary(NULL);
    for (long n = 1;; n += TESTS_SHORT ? 11 : 1) {
        lf_error err;
        lf_grammar *g = NULL;
        lf_grammar_cursor *c = NULL;
        const long live = oom_live();
        oom_fail_at(n);
        lf_status status = lf_grammar_create(&g, v.bytes, LF_GRAMMAR_JSON_SCHEMA, schema, strlen(schema),
                                             &err);
        if (status == LF_OK) status = lf_grammar_cursor_create(&c, g, 0, 10, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        if (status != LF_OK && status != LF_ENOMEM) fail_msg("allocation %ld: %s", n, err.text);
        assert_int_equal(status == LF_OK, all_succeeded);
        lf_grammar_cursor_free(c);
        lf_grammar_free(g);
        assert_int_equal(oom_live(), live);
        if (all_succeeded) break;
    }
    close_vocabulary(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks_equal_brute_force),
        cmocka_unit_test(test_cursors_have_no_memory),
        cmocka_unit_test(test_states_are_forgotten_and_found_again),
        cmocka_unit_test(test_forgetting_changes_nothing),
        cmocka_unit_test(test_tokens_that_are_no_text),
        cmocka_unit_test(test_the_validator_agrees_with_the_reference),
        cmocka_unit_test(test_outputs_satisfy_their_schemas),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

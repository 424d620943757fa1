/* What `lookfar eval` is made of: the records against those of the recipe, each score against values by hand, SQL that must not do
 * harm, and whole evaluations of a small model. */
#include "testing.h"

#include "../app/eval.h"
#include "../app/sha256.h"
#include "file_tools.h"

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void expect_near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-9)) fail_msg("found %.12g, expected %.12g", found, expected);
}

static void hex_digest(char out[65], const void *data, size_t n)
{
    uint8_t digest[32];
    app_sha256(digest, data, n);
    for (int i = 0; i < 32; i++) (void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

/* The examples of FIPS 180-2, and every length around a block's end against itself in the longer text. */
static void test_sha256(void **state)
{
    (void)state;
    char hex[65], million[1000];
    static char a[1000000];
    hex_digest(hex, "", 0);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hex_digest(hex, "abc", 3);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hex_digest(hex, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(a, 'a', sizeof a);
    hex_digest(hex, a, sizeof a);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    memset(million, 'a', sizeof million);
    hex_digest(hex, million, 63);
    assert_string_equal(hex, "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34");
    hex_digest(hex, million, 64);
    assert_string_equal(hex, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
}

/* ---- records ---- */

static void add_string(lf_bytes *b, const char *s)
{
    if (s) assert_true(lf_bytes_append(b, s, strlen(s) + 1));
}

/* The same records as the recipe's, byte for byte. */
static void test_records_are_the_recipes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        eval_domain domain;
        const char *split;
    } splits[] = {
        {"sql.valid", EVAL_SPIDER, "valid"},    {"sql.dev", EVAL_SPIDER, "dev"},
        {"python.valid", EVAL_PYTHON, "valid"}, {"gsm8k.valid", EVAL_GSM8K, "valid"},
        {"gsm8k.test", EVAL_GSM8K, "test"},     {"stories.valid", EVAL_STORIES, "valid"},
    };
    char data[512], line[256], hex[65];
    (void)snprintf(data, sizeof data, "%s", require_data("spider"));
    data[strlen(data) - strlen("/spider")] = '\0';
    FILE *golden = fopen(golden_path("eval/splits.txt"), "r");
    assert_non_null(golden);
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        eval_set set;
        lf_error err;
        lf_bytes all = {0};
        char expected[256];
        assert_ok(eval_load(&set, splits[i].domain, splits[i].split, data, &err), &err);
        for (size_t k = 0; k < set.n; k++) {
            add_string(&all, set.records[k].prompt);
            add_string(&all, set.records[k].response);
            add_string(&all, set.records[k].db_id);
            add_string(&all, set.records[k].query);
        }
        hex_digest(hex, all.data, all.len);
        (void)snprintf(expected, sizeof expected, "%s %zu %s\n", splits[i].name, set.n, hex);
        assert_non_null(fgets(line, sizeof line, golden));
        assert_string_equal(line, expected);
        lf_bytes_free(&all);
        eval_free_set(&set);
    }
    (void)fclose(golden);
}

static void expect_sql(const char *query, const char *expected)
{
    lf_bytes out = {0};
    assert_true(eval_normalise_sql(&out, query));
    assert_string_equal(out.data, expected);
    lf_bytes_free(&out);
}

static void test_normalised_sql(void **state)
{
    (void)state;
    expect_sql("select  count(*)\tfrom singer ;; ", "SELECT COUNT(*) FROM singer");
    expect_sql("a ; ;", "a;"); /* as the recipe does */
    expect_sql("SELECT T1.name , max ( age ) FROM a AS T1", "SELECT T1.name, MAX(age) FROM a AS T1");
    expect_sql("select a from b where c>=1.5 and d!=\"x  y\"",
               "SELECT a FROM b WHERE c >= 1.5 AND d != \"x  y\"");
    expect_sql("a in (1,2)", "a IN (1, 2)");
    expect_sql("'it", "' it");
    expect_sql("\xC2\xA0x\xE2\x80\x89= \xC3\xA9", "x = \xC3\xA9");
    expect_sql("1.a <>-2.", "1.a <> - 2.");
    expect_sql("  ;", "");
}

static void expect_code(const char *text, const char *expected)
{
    lf_bytes out = {0};
    assert_true(eval_clean_code(&out, text));
    assert_string_equal(out.data, expected);
    lf_bytes_free(&out);
}

static void test_clean_code(void **state)
{
    (void)state;
    expect_code("\r\n\n  a \r\n\t\r\n\tb\t\r\n\n", "  a\n\n    b");
    expect_code("a\n\n\n b", "a\n\n\n b");
    expect_code("", "");
    expect_code(" \n\t\n", "");
    expect_code("x\xC2\xA0\ny\xC3", "x\ny\xC3");
}

/* Files of our own, with what can be wrong in them. */
static void write_text(const char *name, const char *text)
{
    write_file(in_temp(name), text, strlen(text));
}

static void test_refused_data(void **state)
{
    (void)state;
    eval_set set;
    lf_error err = {0};
    const char *dir = in_temp(".");
    assert_error(eval_load(&set, EVAL_GSM8K, "dev", dir, &err), LF_EINVAL, &err,
                 "found \"dev\", expected valid or test");
    assert_error(eval_load(&set, EVAL_STORIES, "test", dir, &err), LF_EINVAL, &err, "expected valid");
    assert_error(eval_load(&set, EVAL_GSM8K, "valid", dir, &err), LF_EIO, &err, "gsm8k/train.jsonl");
    assert_error(eval_load(&set, EVAL_SPIDER, "valid", dir, &err), LF_EIO, &err, "tables.json");
    assert_error(eval_load(&set, EVAL_STORIES, "valid", dir, &err), LF_EIO, &err, "stories");
    assert_int_equal(mkdir(in_temp("gsm8k"), 0777) | mkdir(in_temp("spider"), 0777), 0);
    write_text("gsm8k/test.jsonl", "{\"question\": \"q\", \"answer\": \"a\"}\n{\"question\": 3}\n");
    assert_error(eval_load(&set, EVAL_GSM8K, "test", dir, &err), LF_EFORMAT, &err, "question");
    write_text("gsm8k/test.jsonl", "{\"question\": \"q\", \"answer\": \"a\"}\nnothing\n");
    assert_error(eval_load(&set, EVAL_GSM8K, "test", dir, &err), LF_EFORMAT, &err, "line 2");
    write_text("gsm8k/test.jsonl", "{}\n");
    assert_error(eval_load(&set, EVAL_GSM8K, "test", dir, &err), LF_EFORMAT, &err, "question");
    write_text("spider/tables.json", "[{\"db_id\": \"a\", \"table_names_original\": [\"t\"], "
                                     "\"column_names_original\": [[-1, \"*\"], [0, \"x\"]], "
                                     "\"foreign_keys\": [[1, 7]]}]");
    write_text("spider/dev.jsonl", "{\"db_id\": \"b\", \"question\": \"q\", \"query\": \"s\"}\n");
    assert_error(eval_load(&set, EVAL_SPIDER, "dev", dir, &err), LF_EFORMAT, &err, "which tables.json lacks");
    write_text("spider/dev.jsonl", "{\"db_id\": \"a\", \"question\": \"q\", \"query\": \"s\"}\n");
    assert_error(eval_load(&set, EVAL_SPIDER, "dev", dir, &err), LF_ENOMEM, &err, "");
}

static void test_thinning(void **state)
{
    (void)state;
    eval_set set = {.records = calloc(10, sizeof *set.records), .n = 10};
    assert_non_null(set.records);
    for (size_t i = 0; i < 10; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "%zu", i);
        set.records[i].prompt = lf_strndup(name, strlen(name));
    }
    eval_thin_out(&set, 20);
    assert_int_equal(set.n, 10);
    eval_thin_out(&set, 4);
    assert_int_equal(set.n, 4);
    static const char *const kept[] = {"0", "2", "5", "7"};
    for (size_t i = 0; i < 4; i++) assert_string_equal(set.records[i].prompt, kept[i]);
    eval_free_set(&set);
}

/* ---- scores ---- */

static void test_same_sql(void **state)
{
    (void)state;
    expect_near(eval_same_sql("select Name from T where a='X'", "SELECT name FROM t WHERE a = \"X\""), 1);
    expect_near(eval_same_sql("select name from t where a='x'", "SELECT name FROM t WHERE a = 'X'"), 0);
    expect_near(eval_same_sql("select name from t", "select name from t where a"), 0);
    expect_near(eval_same_sql("", ";"), 1);
}

static void test_same_number(void **state)
{
    (void)state;
    expect_near(eval_same_number("so\n#### 1,234", "#### 1234"), 1);
    expect_near(eval_same_number("#### $18.00\nQuestion", "#### 18"), 1);
    expect_near(eval_same_number("#### 18.", "#### 18"), 1);
    expect_near(eval_same_number("#### 17\n#### 18", "#### 18"), 1);
    expect_near(eval_same_number("#### 18 dollars", "#### 18"), 0);
    expect_near(eval_same_number("the answer is 18", "#### 18"), 0);
    expect_near(eval_same_number("####", "#### 18"), 0);
    expect_near(eval_same_number("#### nan", "#### nan"), 0);
    expect_near(eval_same_number("#### 180", "#### 18"), 0);
    expect_near(eval_same_number("#### -3", "#### -3"), 1);
}

static void test_edit_similarity(void **state)
{
    (void)state;
    expect_near(eval_edit_similarity("a = b_1 + 2", "a=b_1+2"), 1);
    expect_near(eval_edit_similarity("a = b + 2", "a = c + 2"), 0.8);
    expect_near(eval_edit_similarity("a b c", "b c d e"), 0.25); /* one removed, two added */
    expect_near(eval_edit_similarity("", "a b"), 0);
    expect_near(eval_edit_similarity("", " "), 1);
}

static void test_rouge_l(void **state)
{
    (void)state;
    expect_near(eval_rouge_l("The cat sat.", "the CAT sat"), 1);
    /* "police the gunman": 3 of 4 words of each side in order (Lin, 2004, section 3) */
    expect_near(eval_rouge_l("police kill the gunman", "police killed the gunman"), 0.75);
    expect_near(eval_rouge_l("the gunman kill police", "police killed the gunman"), 0.5);
    expect_near(eval_rouge_l("", "a"), 0);
    expect_near(eval_rouge_l("...", ""), 1);
}

/* The first example of Papineni et al., 2002: "the" seven times against a text with two counts as 2 of 7. */
static void test_bleu(void **state)
{
    (void)state;
    eval_bleu b = {0};
    assert_true(eval_add_bleu(&b, "the the the the the the the", "the cat is on the mat"));
    expect_near(b.matched[0], 2);
    expect_near(b.found[0], 7);
    expect_near(b.matched[1], 0);
    expect_near(b.found[3], 4);
    expect_near(eval_bleu_score(&b), 0);
    b = (eval_bleu){0};
    assert_true(eval_add_bleu(&b, "a b c d e", "a b c d e"));
    expect_near(eval_bleu_score(&b), 1);
    /* 5 of 6, 4 of 5, 3 of 4 and 2 of 3; the reference is as long */
    b = (eval_bleu){0};
    assert_true(eval_add_bleu(&b, "a b c d e x", "a b c d e f"));
    expect_near(eval_bleu_score(&b), pow(5.0 / 6 * 4 / 5 * 3 / 4 * 2 / 3, 0.25));
    /* all right, but 4 of 6 tokens: exp(1 - 6 / 4) */
    b = (eval_bleu){0};
    assert_true(eval_add_bleu(&b, "a b c d", "a b c d e f"));
    expect_near(eval_bleu_score(&b), exp(-0.5));
}

static void test_python_parses(void **state)
{
    (void)state;
    static const char *const texts[] = {"def f(x):\n    return x + 1", "def f(x) return", "",
                                        "import os; os.abort()",       "'; echo 1",       "\xFF"};
    static const bool expected[] = {true, false, true, true, false, false};
    bool parses[6];
    if (!eval_python_parses(parses, texts, 6)) {
        print_message("skipped: no python3\n");
        skip();
    }
    for (int i = 0; i < 6; i++)
        if (parses[i] != expected[i]) fail_msg("\"%s\": expected %d", texts[i], expected[i]);
}

/* ---- SQL ---- */

static void make_database(const char *path)
{
    sqlite3 *db;
    char *text = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    const int result = sqlite3_exec(
        db,
        "CREATE TABLE t (id INTEGER, name TEXT, x REAL);"
        "INSERT INTO t VALUES (1, 'Ann', 1.0), (2, 'Bob', 2.5), (3, 'anna', NULL), (4, 'Ann', 4);",
        NULL, NULL, &text);
    if (result != SQLITE_OK) fail_msg("%s", text);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void expect_rows(const char *output, const char *reference, eval_sql expected)
{
    const eval_sql found = eval_same_rows(in_temp("a b%.sqlite"), output, reference);
    if (found != expected) fail_msg("%s: found %d, expected %d", output, (int)found, (int)expected);
}

static void test_same_rows(void **state)
{
    (void)state;
    make_database(in_temp("a b%.sqlite"));
    expect_rows("SELECT name FROM t WHERE id = 1", "SELECT name FROM t WHERE x = 1", EVAL_SQL_SAME);
    expect_rows("SELECT id FROM t ORDER BY id DESC", "SELECT id FROM t", EVAL_SQL_SAME);
    expect_rows("SELECT id FROM t ORDER BY id DESC", "SELECT id FROM t ORDER BY id", EVAL_SQL_DIFFERENT);
    expect_rows("SELECT count(*) FROM t", "SELECT 4.0", EVAL_SQL_SAME);
    expect_rows("SELECT '4'", "SELECT 4", EVAL_SQL_DIFFERENT);
    expect_rows("SELECT NULL", "SELECT ''", EVAL_SQL_DIFFERENT);
    expect_rows("SELECT name FROM t", "SELECT DISTINCT name FROM t", EVAL_SQL_DIFFERENT);
    expect_rows("SELECT 'a', 'b'", "SELECT 'a|t1:b'", EVAL_SQL_DIFFERENT);
    expect_rows("SELECT avg(x) FROM t", "SELECT 2.5", EVAL_SQL_SAME);
    expect_rows("SELECT id FROM t WHERE name LIKE 'aN%'", "SELECT 1 UNION SELECT 3 UNION SELECT 4",
                EVAL_SQL_SAME);
    expect_rows("SELECT id FROM t WHERE name LIKE '_nn'", "SELECT 1 UNION SELECT 4", EVAL_SQL_SAME);
    expect_rows("SELECT id FROM t WHERE name LIKE '%n%a'", "SELECT 3", EVAL_SQL_SAME);
    expect_rows("SELECT id FROM t WHERE name NOT LIKE '%'", "SELECT 1 WHERE 0", EVAL_SQL_SAME);
    expect_rows("SELECT x FROM nowhere", "SELECT 1", EVAL_SQL_FAILED);
    expect_rows("SELECT 1", "SELECT x FROM nowhere", EVAL_SQL_UNKNOWN);
    expect_rows("", "SELECT 1", EVAL_SQL_FAILED);
    expect_rows("SELECT 1; ;\n", "SELECT 1", EVAL_SQL_SAME);
    assert_int_equal(eval_same_rows(in_temp("none.sqlite"), "SELECT 1", "SELECT 1 FROM t"), EVAL_SQL_UNKNOWN);
}

/* Whatever a model says, it writes nothing, opens nothing, and comes to an end. */
static void test_harmful_sql(void **state)
{
    (void)state;
    static const char *const harmful[] = {
        "DROP TABLE t",
        "DELETE FROM t",
        "INSERT INTO t VALUES (9, 'x', 0)",
        "CREATE TABLE u (a)",
        "CREATE TEMP TABLE u AS SELECT * FROM t",
        "SELECT 1; DROP TABLE t",
        "ATTACH 'attached.sqlite' AS other",
        "PRAGMA journal_mode = DELETE",
        "VACUUM INTO 'copy.sqlite'",
        "SELECT load_extension('libc.so.6')",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c",
        "SELECT hex(zeroblob(1000000000))",
        "SELECT count(*) FROM t a, t b, t c, t d, t e, t f, t g, t h, t i, t j, t k, t l, t m, t n, t o",
        "SELECT replace(hex(zeroblob(8000)), '0', hex(zeroblob(8000)))",
        "SELECT name GLOB '*a*a*a*a*a*a*a*a*b' FROM t",
        "SELECT name LIKE '%' ESCAPE 'x' FROM t",
    };
    size_t before_size, after_size;
    make_database(in_temp("a b%.sqlite"));
    char *before = read_file(in_temp("a b%.sqlite"), &before_size);
    for (size_t i = 0; i < sizeof harmful / sizeof *harmful; i++)
        expect_rows(harmful[i], "SELECT 1", EVAL_SQL_FAILED);
    /* each of these takes exponential time where LIKE goes back to every % */
    expect_rows("SELECT hex(zeroblob(5000)) LIKE '%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%1'", "SELECT 0",
                EVAL_SQL_SAME);
    char *after = read_file(in_temp("a b%.sqlite"), &after_size);
    assert_int_equal(after_size, before_size);
    assert_memory_equal(after, before, before_size);
    assert_int_equal(count_temp_files(), 1);
    free(before);
    free(after);
}

/* ---- whole evaluations ---- */

static bool stop_at_two(void *cookie, size_t done, size_t total)
{
    (void)total;
    *(size_t *)cookie = done;
    return done < 2;
}

static void test_evaluation(void **state)
{
    (void)state;
    lf_engine *model, *teacher;
    lf_engine_params p;
    lf_error err;
    eval_result result, again;
    size_t n_long = 0, n_done = 0;
    lf_engine_params_init(&p);
    p.model_path = require_data("models/hf/stories260K");
    eval_set set = {.records = calloc(4, sizeof *set.records), .n = 4};
    p.n_threads = 1;
    p.n_candidates = 15;
    p.n_ctx = 200;
    assert_ok(lf_engine_open(&model, &p, &err), &err);
    p.model_path = require_data("models/hf/llama2xs-281K");
    assert_ok(lf_engine_open(&teacher, &p, &err), &err);
    for (size_t i = 0; i < 4; i++) {
        lf_bytes text = {0};
        assert_true(
            lf_bytes_printf(&text, "Once upon a time, there was a %s", i % 2 ? "cat" : "little girl"));
        for (int k = 0; i == 2 && k < 300; k++) assert_true(lf_bytes_printf(&text, " cat"));
        set.records[i] = (eval_record){.prompt = text.data, .response = lf_strndup(" and a dog.", 11)};
    }
    assert_ok(eval_drop_long(&set, &n_long, model, &err), &err);
    assert_int_equal(n_long, 1);
    assert_int_equal(set.n, 3);
    assert_string_equal(set.records[2].prompt, "Once upon a time, there was a cat");
    const eval_params params = {.domain = EVAL_STORIES,
                                .split = "valid",
                                .data_dir = "",
                                .sizes = {4, 16},
                                .n_sizes = 2,
                                .max_tokens = 40};
    assert_ok(eval_run(&result, model, teacher, &set, &params, &err), &err);
    assert_int_equal(result.n, 3);
    assert_int_equal(result.n_arms, 4);
    for (int k = 0; k < 8; k++) {
        const eval_arm *arms = k < 4 ? result.arms : result.teacher_arms, *arm = &arms[k % 4];
        assert_int_equal(arm->size, k % 4 == 0   ? EVAL_PLAIN
                                    : k % 4 == 3 ? EVAL_AUTO
                                                 : params.sizes[k % 4 - 1]);
        assert_true(arm->identical);
        assert_int_equal(arm->output_tokens, 3 * 40);
        assert_int_equal(arm->scores.n, 1);
        assert_string_equal(arm->scores.names[0], "rouge_l");
        expect_near(arm->scores.values[0], arms[0].scores.values[0]);
        assert_in_range(arm->passes, 40, 3 * 40 - (arm->size > 0));
        assert_true(arm->size == EVAL_AUTO ? arm->fast_forwarded == 0 : arm->fast_forwarded >= 1);
    }
    assert_int_equal(result.arms[0].passes, 3 * 40);
    assert_true(result.loss > 0 && result.loss < result.loss_teacher + 10);
    assert_true(result.agreement < 1 && result.first_difference < 40);
    /* a model is its own best pupil */
    assert_ok(eval_run(&again, model, model, &set, &params, &err), &err);
    expect_near(again.loss, result.loss);
    expect_near(again.loss_teacher, result.loss);
    expect_near(again.agreement, 1);
    expect_near(again.same_outputs, 1);
    expect_near(again.first_difference, 40);
    eval_params stopping = params;
    stopping.on_progress = stop_at_two;
    stopping.cookie = &n_done;
    assert_error(eval_run(&again, model, NULL, &set, &stopping, &err), LF_ECANCELED, &err, "2 of 3");
    assert_int_equal(n_done, 2);
    eval_free_set(&set);
    lf_engine_close(teacher);
    lf_engine_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_records_are_the_recipes),
        cmocka_unit_test(test_normalised_sql),
        cmocka_unit_test(test_clean_code),
        cmocka_unit_test_setup_teardown(test_refused_data, enter_temp, leave_temp),
        cmocka_unit_test(test_thinning),
        cmocka_unit_test(test_same_sql),
        cmocka_unit_test(test_same_number),
        cmocka_unit_test(test_edit_similarity),
        cmocka_unit_test(test_rouge_l),
        cmocka_unit_test(test_bleu),
        cmocka_unit_test(test_python_parses),
        cmocka_unit_test_setup_teardown(test_same_rows, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_harmful_sql, enter_temp, leave_temp),
        cmocka_unit_test(test_evaluation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

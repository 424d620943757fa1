/* Lists on the command line, and the names of tests. */
#include "bench.h"

#include "tensor/dtype.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds item to the list `out`; false when it is not what the list holds. */
typedef bool add_item_fn(void *out, const char *item, const void *limits);

static lf_status parse_list(void *out, const char *text, add_item_fn *add, const void *limits,
                            const char *expected, lf_error *err)
{
    int n = 0;
    for (const char *begin = text;; n++) {
        const size_t len = strcspn(begin, ",");
        char item[BENCH_NAME_MAX];
        if (len >= sizeof item)
            return lf_fail(err, LF_EINVAL, "found an item of %zu bytes, expected at most %zu", len,
                           sizeof item - 1);
        memcpy(item, begin, len);
        item[len] = '\0';
        if (n == BENCH_LIST_MAX)
            return lf_fail(err, LF_EINVAL, "found more than %d items, expected at most that many",
                           BENCH_LIST_MAX);
        if (len == 0 || !add(out, item, limits))
            return lf_fail(err, LF_EINVAL, "found \"%s\", expected %s", item, expected);
        if (begin[len] == '\0') return LF_OK;
        begin += len + 1;
    }
}

/* A number that is nothing but digits. */
static bool parse_number(int *out, const char *text, int min, int max)
{
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || value < min || value > max)
        return false;
    *out = (int)value;
    return true;
}

static bool add_int(void *out, const char *item, const void *limits)
{
    bench_ints *list = out;
    const int *min_max = limits;
    return parse_number(&list->v[list->n++], item, min_max[0], min_max[1]);
}

lf_status bench_parse_ints(bench_ints *out, const char *text, int min, int max, lf_error *err)
{
    char expected[80];
    const int min_max[] = {min, max};
    *out = (bench_ints){0};
    (void)snprintf(expected, sizeof expected, "whole numbers from %d to %d", min, max);
    return parse_list(out, text, add_int, min_max, expected, err);
}

static bool add_dtype(void *out, const char *item, const void *limits)
{
    (void)limits;
    bench_ints *list = out;
    lf_dtype dtype;
    if (!lf_dtype_from_name(item, &dtype)) return false;
    list->v[list->n++] = (int)dtype;
    return true;
}

lf_status bench_parse_dtypes(bench_ints *out, const char *text, lf_error *err)
{
    *out = (bench_ints){0};
    return parse_list(out, text, add_dtype, NULL, "f32, f16, bf16, q8_0, q4_0, q4_k, q5_k or q6_k", err);
}

static const char *const kind_names[] = {[BENCH_PP] = "pp", [BENCH_TG] = "tg",     [BENCH_TP] = "tp",
                                         [BENCH_TR] = "tr", [BENCH_ROWS] = "rows", [BENCH_VIEW] = "view"};

static bool add_test(void *out, const char *item, const void *limits)
{
    (void)limits;
    bench_tests *list = out;
    bench_test *test = &list->v[list->n++];
    for (test->kind = BENCH_PP; test->kind <= BENCH_TR; test->kind++)
        if (strncmp(item, kind_names[test->kind], 2) == 0)
            return parse_number(&test->n, item + 2, 1, BENCH_N_MAX);
    return false;
}

lf_status bench_parse_tests(bench_tests *out, const char *text, lf_error *err)
{
    *out = (bench_tests){0};
    return parse_list(out, text, add_test, NULL, "ppN, tgN, tpN or trN, N from 1 to 65536", err);
}

static bool add_name(void *out, const char *item, const void *limits)
{
    (void)limits;
    bench_names *list = out;
    (void)snprintf(list->v[list->n++], BENCH_NAME_MAX, "%s", item);
    return true;
}

lf_status bench_parse_names(bench_names *out, const char *text, lf_error *err)
{
    *out = (bench_names){0};
    return parse_list(out, text, add_name, NULL, "a name", err);
}

static bool add_choice(void *out, const char *item, const void *limits)
{
    bench_ints *list = out;
    const char *const *choices = limits;
    for (int i = 0; choices[i]; i++) {
        if (strcmp(item, choices[i]) != 0) continue;
        list->v[list->n++] = i;
        return true;
    }
    return false;
}

lf_status bench_parse_choices(bench_ints *out, const char *text, const char *const *choices, lf_error *err)
{
    char expected[80] = "";
    size_t len = 0;
    *out = (bench_ints){0};
    for (int i = 0; choices[i] && len < sizeof expected; i++)
        len += (size_t)snprintf(expected + len, sizeof expected - len, "%s%s", i ? " or " : "", choices[i]);
    return parse_list(out, text, add_choice, choices, expected, err);
}

void bench_test_name(char *out, const bench_test *test)
{
    (void)snprintf(out, BENCH_TEST_NAME_MAX, "%s%d", kind_names[test->kind], test->n);
}

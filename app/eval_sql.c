/* Execution accuracy: an output and its reference run on the same database, and their rows are compared.
 *
 * The output is whatever a model said. Its database is opened read-only and immutable, an authorizer lets it read tables and call
 * functions and nothing else (no ATTACH, no PRAGMA, no writing of any kind), and a query ends that takes too many steps, rows,
 * bytes or seconds. Steps and rows end it in the same place each time; seconds are for what hides much work in a step. LIKE is our
 * own, since SQLite's takes exponential time for some patterns. Only the first statement counts, and it must be the only one. */
#include "eval.h"

#include "base/clock.h"

#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROWS_MAX = 100000,
    BYTES_MAX = 64 << 20,  /* of all rows */
    HEAP_MAX = 256 << 20,  /* of SQLite */
    STEP_OPS = 200,        /* of its machine between two looks at steps and time */
    STEPS_MAX = 100000,    /* looks */
    LENGTH_MAX = 16 << 10, /* of a value or a row */
    SQL_MAX = 16 << 10,
};
static const int64_t TIME_MAX_NS = INT64_C(10) * 1000 * 1000 * 1000;

/* The rows of a query as text, one string each. */
typedef struct rows {
    char **list; /* (n) owned */
    size_t n, room, bytes;
} rows;

/* What a query has taken. */
typedef struct effort {
    int n_steps;
    int64_t start_ns;
} effort;

static void free_rows(rows *r)
{
    for (size_t i = 0; i < r->n; i++) free(r->list[i]);
    free(r->list);
    *r = (rows){0};
}

/* ---- the fence ---- */

static int authorize(void *cookie, int action, const char *a, const char *name, const char *c, const char *d)
{
    (void)cookie, (void)a, (void)c, (void)d;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE: return SQLITE_OK;
    case SQLITE_FUNCTION: return name && strcasecmp(name, "glob") == 0 ? SQLITE_DENY : SQLITE_OK;
    default: return SQLITE_DENY;
    }
}

static int count_steps(void *cookie)
{
    effort *e = cookie;
    return ++e->n_steps > STEPS_MAX || lf_clock_ns() - e->start_ns > TIME_MAX_NS;
}

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* % is any text, _ any code point. Going back to the last % is enough, so the time is the product of the lengths at most. */
static bool matches_like(const char *pattern, const char *text)
{
    const char *last = NULL, *from = NULL; /* behind the last %, and where what follows it is tried */
    while (*text) {
        if (*pattern == '%') {
            last = ++pattern;
            from = text;
        } else if (*pattern && (*pattern == '_' || lower(*pattern) == lower(*text))) {
            const bool any = *pattern++ == '_';
            text++;
            while (any && ((unsigned char)*text & 0xC0) == 0x80) text++;
        } else if (last) {
            pattern = last;
            text = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '%') pattern++;
    return *pattern == '\0';
}

/* LIKE's arguments are the pattern and the text. */
static void call_like(sqlite3_context *context, int n, sqlite3_value **values)
{
    const char *pattern = (const char *)sqlite3_value_text(values[0]),
               *text = (const char *)sqlite3_value_text(values[1]);
    (void)n;
    if (pattern && text) sqlite3_result_int(context, matches_like(pattern, text));
}

static void refuse_escape(sqlite3_context *context, int n, sqlite3_value **values)
{
    (void)n, (void)values;
    sqlite3_result_error(context, "LIKE with ESCAPE is not supported", -1);
}

/* path as a URI, in which only letters, digits and a few others stand for themselves. */
static bool make_uri(lf_bytes *out, const char *path)
{
    bool ok = lf_bytes_append(out, "file:", 5);
    for (; *path && ok; path++) {
        const unsigned char c = (unsigned char)*path;
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                           strchr("/._-", c);
        ok = plain ? lf_bytes_append(out, path, 1) : lf_bytes_printf(out, "%%%02X", c);
    }
    return ok && lf_bytes_printf(out, "?mode=ro&immutable=1");
}

static sqlite3 *open_database(const char *path, effort *e)
{
    lf_bytes uri = {0};
    sqlite3 *db = NULL;
    const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
    if (!make_uri(&uri, path) || sqlite3_open_v2(uri.data, &db, flags, NULL) != SQLITE_OK) {
        (void)sqlite3_close(db);
        db = NULL;
    }
    lf_bytes_free(&uri);
    if (!db) return NULL;
    (void)sqlite3_hard_heap_limit64(HEAP_MAX);
    (void)sqlite3_exec(db, "PRAGMA temp_store = MEMORY", NULL, NULL, NULL); /* sorting writes no files */
    (void)sqlite3_create_function(db, "like", 2, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL, call_like, NULL,
                                  NULL);
    (void)sqlite3_create_function(db, "like", 3, SQLITE_UTF8, NULL, refuse_escape, NULL, NULL);
    (void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, LENGTH_MAX);
    (void)sqlite3_limit(db, SQLITE_LIMIT_SQL_LENGTH, SQL_MAX);
    (void)sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    (void)sqlite3_set_authorizer(db, authorize, NULL);
    sqlite3_progress_handler(db, STEP_OPS, count_steps, e);
    return db;
}

/* ---- rows ---- */

/* A value with its kind in front; whole reals are integers. */
static bool add_value(lf_bytes *out, sqlite3_stmt *s, int column)
{
    const double real = sqlite3_column_double(s, column);
    const char *text;
    switch (sqlite3_column_type(s, column)) {
    case SQLITE_NULL: return lf_bytes_append(out, "n|", 2);
    case SQLITE_INTEGER: return lf_bytes_printf(out, "#%lld|", (long long)sqlite3_column_int64(s, column));
    case SQLITE_FLOAT:
        return real == rint(real) && fabs(real) < 1e15 ? lf_bytes_printf(out, "#%.0f|", real)
                                                       : lf_bytes_printf(out, "#%.10g|", real);
    default:
        text = (const char *)sqlite3_column_text(s, column);
        return text && lf_bytes_printf(out, "t%d:", sqlite3_column_bytes(s, column)) &&
               lf_bytes_append(out, text, (size_t)sqlite3_column_bytes(s, column)) &&
               lf_bytes_append(out, "|", 1);
    }
}

/* false: no memory, or more than the limits. */
static bool add_row(rows *r, sqlite3_stmt *s)
{
    lf_bytes text = {0};
    if (r->n == r->room) {
        const size_t room = r->room ? 2 * r->room : 64;
        char **list = realloc(r->list, room * sizeof *list);
        if (!list) return false;
        r->list = list;
        r->room = room;
    }
    bool ok = lf_bytes_append(&text, "", 0);
    for (int i = 0; i < sqlite3_column_count(s) && ok; i++) ok = add_value(&text, s, i);
    if (!ok) {
        lf_bytes_free(&text);
        return false;
    }
    r->bytes += text.len;
    r->list[r->n++] = text.data;
    return r->n <= ROWS_MAX && r->bytes <= BYTES_MAX;
}

/* Whether there is nothing but white space and semicolons. */
static bool is_blank_sql(const char *text)
{
    return text[strspn(text, " \t\r\n;")] == '\0';
}

static bool run_query(rows *out, const char *path, const char *query)
{
    effort e = {.start_ns = lf_clock_ns()};
    int result = SQLITE_ERROR;
    const char *rest = "";
    sqlite3_stmt *s = NULL;
    sqlite3 *db = open_database(path, &e);
    *out = (rows){0};
    if (!db) return false;
    if (sqlite3_prepare_v2(db, query, -1, &s, &rest) == SQLITE_OK && s && is_blank_sql(rest)) {
        while ((result = sqlite3_step(s)) == SQLITE_ROW)
            if (!add_row(out, s)) break;
    }
    (void)sqlite3_finalize(s);
    (void)sqlite3_close(db);
    if (result != SQLITE_DONE) free_rows(out);
    return result == SQLITE_DONE;
}

static int compare_rows(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool has_order(const char *query)
{
    return strcasestr(query, "order by") != NULL;
}

eval_sql eval_same_rows(const char *database_path, const char *output, const char *reference)
{
    rows a = {0}, b = {0};
    eval_sql result = EVAL_SQL_UNKNOWN;
    if (!run_query(&b, database_path, reference)) goto done;
    result = EVAL_SQL_FAILED;
    if (!run_query(&a, database_path, output)) goto done;
    if (!has_order(reference)) {
        if (a.n > 1) qsort(a.list, a.n, sizeof *a.list, compare_rows);
        if (b.n > 1) qsort(b.list, b.n, sizeof *b.list, compare_rows);
    }
    result = a.n == b.n ? EVAL_SQL_SAME : EVAL_SQL_DIFFERENT;
    for (size_t i = 0; i < a.n && result == EVAL_SQL_SAME; i++)
        if (strcmp(a.list[i], b.list[i]) != 0) result = EVAL_SQL_DIFFERENT;
done:
    free_rows(&a);
    free_rows(&b);
    return result;
}

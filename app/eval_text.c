/* Texts in the form that recipes/scribe_data.py gives them: what it does with Python's strings, done with UTF-8. */
#include "eval.h"

#include <string.h>

uint32_t eval_next_char(const char *text, size_t n, size_t *bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    const size_t want = s[0] < 0xC0 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    uint32_t c = want == 1 ? s[0] : s[0] & (0x7Fu >> want);
    *bytes = 1;
    if (want > n) return s[0];
    for (size_t i = 1; i < want; i++) {
        if ((s[i] & 0xC0) != 0x80) return s[0];
        c = c << 6 | (s[i] & 0x3F);
    }
    *bytes = want;
    return c;
}

bool eval_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

/* ---- SQL ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The bytes of the token at text (n > 0), which is no space. */
static size_t sql_token(const char *text, size_t n)
{
    size_t len = 1, bytes;
    if (text[0] == '\'' || text[0] == '"') {
        const char *end = memchr(text + 1, text[0], n - 1);
        return end ? (size_t)(end - text) + 1 : 1;
    }
    if (is_letter(text[0])) {
        while (len < n && (is_letter(text[len]) || is_digit(text[len]))) len++;
        return len;
    }
    if (is_digit(text[0])) {
        while (len < n && is_digit(text[len])) len++;
        if (len + 1 < n && text[len] == '.' && is_digit(text[len + 1])) {
            len += 2;
            while (len < n && is_digit(text[len])) len++;
        }
        return len;
    }
    if (n > 1 && strchr("<>!", text[0]) &&
        (text[1] == '=' || (text[0] == '<' && text[1] == '>'))) /* <= >= != <> */
        return 2;
    (void)eval_next_char(text, n, &bytes);
    return bytes;
}

static void raise_case(char *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(text[i] >= 'a' && text[i] <= 'z' ? text[i] - 'a' + 'A' : text[i]);
    out[len] = '\0';
}

/* The keyword that a token is, in upper case in out (16 bytes); false for any other token. */
static bool find_keyword(char *out, const char *text, size_t len)
{
    static const char *const keywords[] = {
        "SELECT",   "FROM",   "WHERE", "GROUP", "BY",   "HAVING", "ORDER",   "LIMIT", "JOIN",      "ON",
        "AS",       "AND",    "OR",    "NOT",   "IN",   "LIKE",   "BETWEEN", "UNION", "INTERSECT", "EXCEPT",
        "DISTINCT", "COUNT",  "SUM",   "AVG",   "MIN",  "MAX",    "ASC",     "DESC",  "LEFT",      "INNER",
        "OUTER",    "EXISTS", "IS",    "NULL",  "CASE", "WHEN",   "THEN",    "ELSE",  "END"};
    if (len >= 16) return false;
    raise_case(out, text, len);
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strcmp(out, keywords[i]) == 0) return true;
    return false;
}

static bool is_function(const char *keyword)
{
    static const char *const functions[] = {"COUNT", "SUM", "AVG", "MIN", "MAX"};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(keyword, functions[i]) == 0) return true;
    return false;
}

/* The bytes of text without white space at its end, or also without semicolons. */
static size_t trimmed_end(const char *text, size_t n)
{
    while (n > 0) {
        size_t at = n - 1, bytes;
        while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80) at--;
        if (!eval_is_space(eval_next_char(text + at, n - at, &bytes)) || at + bytes != n) break;
        n = at;
    }
    return n;
}

eval_token eval_strip(const char *text, size_t n)
{
    size_t bytes;
    n = trimmed_end(text, n);
    while (n > 0 && eval_is_space(eval_next_char(text, n, &bytes))) text += bytes, n -= bytes;
    return (eval_token){text, n};
}

static size_t sql_length(const char *query)
{
    size_t n = trimmed_end(query, strlen(query));
    while (n > 0 && query[n - 1] == ';') n--;
    return trimmed_end(query, n);
}

bool eval_normalise_sql(lf_bytes *out, const char *query)
{
    const size_t n = sql_length(query);
    char keyword[16];
    char previous = '\0'; /* the last token, if it is of one character */
    bool after_function = false;
    out->len = 0;
    for (size_t at = 0, len; at < n; at += len) {
        if (eval_is_space(eval_next_char(query + at, n - at, &len))) continue;
        const char *token = query + at;
        len = sql_token(token, n - at);
        const char first = len == 1 ? token[0] : '\0';
        const bool is_keyword = find_keyword(keyword, token, len);
        const bool joins = out->len == 0 || previous == '(' || previous == '.' ||
                           (first && strchr("),.;", first)) || (first == '(' && after_function);
        if (!joins && !lf_bytes_append(out, " ", 1)) return false;
        if (!lf_bytes_append(out, is_keyword ? keyword : token, len)) return false;
        previous = first;
        after_function = is_keyword && is_function(keyword);
    }
    return lf_bytes_append(out, "", 0);
}

/* ---- code ---- */

bool eval_clean_code(lf_bytes *out, const char *text)
{
    size_t n_lines = 0; /* empty ones that wait for another line */
    out->len = 0;
    for (const char *line = text; *line;) {
        const size_t len = strcspn(line, "\n"), n = trimmed_end(line, len);
        for (; n > 0 && out->len > 0 && n_lines > 0; n_lines--)
            if (!lf_bytes_append(out, "\n", 1)) return false;
        for (size_t i = 0; i < n; i++)
            if (!(line[i] == '\t' ? lf_bytes_append(out, "    ", 4) : lf_bytes_append(out, line + i, 1)))
                return false;
        n_lines = out->len > 0 ? n_lines + 1 : 0;
        line += len + (line[len] == '\n');
    }
    return lf_bytes_append(out, "", 0);
}

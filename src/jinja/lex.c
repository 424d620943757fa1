/* Template text to tokens, as jinja2's lexer cuts it (jinja2 3.1, lexer.py) with trim_blocks and lstrip_blocks:
 *
 *   {{ }}  {% %}  {# #}      a "-" inside removes white space on that side; a "+" keeps it
 *   lstrip_blocks            spaces from the start of the line to a {% or {# that comes first on it are removed
 *   trim_blocks              the end of the line after a %} or #} is removed
 *   {% raw %} ... {% endraw %}   is text
 *
 * Inside tags, an end counts only when every bracket is closed. */
#include "jinja/jinja_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { BRACKETS_MAX = LF_JINJA_DEPTH_MAX };

typedef struct lexer {
    const char *s;
    size_t n, at;
    int line;
    bool line_starting; /* the last tag took the end of its line, or there was none */
    tokens *out;
    arena *mem;
    char brackets[BRACKETS_MAX]; /* (n_brackets) the closing ones that are due */
    size_t n_brackets;
    const char *name;
    lf_error *err;
} lexer;

#define LEX_FAIL(x, ...) lex_fail(x, LF_EFORMAT, __VA_ARGS__)

__attribute__((format(printf, 3, 4))) static lf_status lex_fail(const lexer *x, lf_status status,
                                                                const char *fmt, ...)
{
    char text[200];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return lf_fail(x->err, status, "%s: line %d: %s", x->name, x->line, text);
}

static lf_status add(lexer *x, token t)
{
    tokens *out = x->out;
    if (out->n == out->cap) {
        const size_t cap = out->cap ? 2 * out->cap : 256;
        token *items = realloc(out->items, cap * sizeof *items);
        if (!items) return lf_fail_memory(x->err, "a template", cap * sizeof *items);
        out->items = items;
        out->cap = cap;
    }
    t.line = x->line;
    out->items[out->n++] = t;
    return LF_OK;
}

static bool looking_at(const lexer *x, const char *what)
{
    const size_t n = strlen(what);
    return x->n - x->at >= n && memcmp(x->s + x->at, what, n) == 0;
}

static void advance(lexer *x, size_t n)
{
    for (; n > 0; n--) x->line += x->s[x->at++] == '\n';
}

static void skip_space(lexer *x)
{
    const str s = {x->s, x->n};
    size_t end = x->at;
    while (end < x->n) {
        size_t next = end;
        if (!lf_text_is_space(lf_text_next(s, &next))) break;
        end = next;
    }
    advance(x, end - x->at);
}

/* ---- text between tags ---- */

/* What remains of the text before a tag: sign is the one in the tag ('-', '+' or 0). */
static str trim_before(const lexer *x, str text, char sign, bool is_print)
{
    if (sign == '-') return lf_text_strip(text, NULL, SIDE_RIGHT);
    if (sign == '+' || is_print) return text;
    const char *newline = text.n ? memrchr(text.p, '\n', text.n) : NULL;
    if (!newline && !x->line_starting) return text;
    const size_t start = newline ? (size_t)(newline - text.p) + 1 : 0;
    const str tail = {text.p + start, text.n - start};
    return lf_text_strip(tail, NULL, SIDE_BOTH).n ? text : (str){text.p, start};
}

static lf_status add_text(lexer *x, str text)
{
    return text.n ? add(x, (token){.kind = T_TEXT, .text = text}) : LF_OK;
}

/* Takes "-%}" with the white space after it, "+%}", or "%}" with the end of the line. Ends of prints keep theirs. */
static bool take_end(lexer *x, const char *end, bool is_print)
{
    const size_t start = x->at;
    const bool minus = x->s[x->at] == '-', plus = !is_print && x->s[x->at] == '+';
    if (minus || plus) x->at++;
    if (!looking_at(x, end)) {
        x->at = start;
        return false;
    }
    x->at += 2;
    if (minus)
        skip_space(x);
    else if (!plus && !is_print && x->at < x->n && x->s[x->at] == '\n')
        advance(x, 1);
    x->line_starting = x->s[x->at - 1] == '\n';
    return true;
}

/* The sign after the two characters of a beginning, which it moves past. */
static char take_begin(lexer *x)
{
    x->at += 2;
    if (x->at == x->n || (x->s[x->at] != '-' && x->s[x->at] != '+')) return 0;
    return x->s[x->at++];
}

/* Whether a block that begins here is `word` alone; then moves to its end, past the word. */
static bool take_word(lexer *x, const char *word)
{
    const size_t at = x->at;
    const int line = x->line;
    skip_space(x);
    if (looking_at(x, word)) {
        x->at += strlen(word);
        skip_space(x);
        if (looking_at(x, "%}") || looking_at(x, "-%}") || looking_at(x, "+%}")) return true;
    }
    x->at = at;
    x->line = line;
    return false;
}

static lf_status lex_comment(lexer *x)
{
    for (; x->at < x->n; advance(x, 1))
        if (take_end(x, "#}", false)) return LF_OK;
    return LEX_FAIL(x, "found no #} that ends a comment");
}

static lf_status lex_raw(lexer *x)
{
    if (!take_end(x, "%}", true)) return LEX_FAIL(x, "found '+', expected the end of {%% raw %%}");
    const size_t start = x->at;
    for (; x->at < x->n; advance(x, 1)) {
        if (!looking_at(x, "{%")) continue;
        const str text = {x->s + start, x->at - start};
        const size_t begin = x->at;
        const char sign = take_begin(x);
        if (take_word(x, "endraw")) {
            const lf_status status = add_text(x, trim_before(x, text, sign, false));
            (void)take_end(x, "%}", false);
            return status;
        }
        x->at = begin;
    }
    return LEX_FAIL(x, "found no {%% endraw %%}");
}

/* ---- inside tags ---- */

static bool is_word(char c)
{
    return c == '_' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t count_digits(const lexer *x, size_t at)
{
    size_t n = 0;
    while (at + n < x->n && is_digit(x->s[at + n])) n++;
    return n;
}

/* digits, or digits[.digits][e[+-]digits]; after a dot only digits: `a.0.1` */
static lf_status lex_number(lexer *x)
{
    char text[64];
    const bool after_dot = x->at > 0 && x->s[x->at - 1] == '.';
    bool is_float = false;
    size_t end = x->at + count_digits(x, x->at), n;
    if (!after_dot && end < x->n && x->s[end] == '.' && (n = count_digits(x, end + 1)) > 0) {
        end += 1 + n;
        is_float = true;
    }
    if (!after_dot && end < x->n && (x->s[end] | 0x20) == 'e') {
        const size_t sign = end + 1 < x->n && (x->s[end + 1] == '+' || x->s[end + 1] == '-');
        if ((n = count_digits(x, end + 1 + sign)) > 0) {
            end += 1 + sign + n;
            is_float = true;
        }
    }
    const size_t len = end - x->at;
    if ((end < x->n && is_word(x->s[end])) || (!is_float && len > 1 && x->s[x->at] == '0') ||
        len >= sizeof text)
        return lex_fail(x, LF_EUNSUPPORTED,
                        "found a number that begins with '%.*s', expected decimal digits without '_' or "
                        "leading zeros",
                        (int)(len < 20 ? len + 1 : 20), x->s + x->at);
    memcpy(text, x->s + x->at, len);
    text[len] = '\0';
    errno = 0;
    token t = {.kind = is_float ? T_FLOAT : T_INT};
    if (is_float)
        t.f = strtod(text, NULL);
    else
        t.i = strtoll(text, NULL, 10);
    if (!is_float && errno == ERANGE)
        return lex_fail(x, LF_EUNSUPPORTED, "found %s, expected an integer of at most 64 bits", text);
    const lf_status status = add(x, t);
    x->at = end;
    return status;
}

/* "\x41", "\u00e9", "\U0001f600" or "\101" at s: the code point, and *n the characters; -1 for what is none of them. */
static int32_t read_escape(const char *s, size_t size, size_t *n)
{
    const size_t digits = s[1] == 'x' ? 2 : s[1] == 'u' ? 4 : s[1] == 'U' ? 8 : 0;
    uint32_t cp = 0;
    if (digits) {
        if (size < 2 + digits) return -1;
        for (size_t i = 2; i < 2 + digits; i++) {
            const char c = s[i], lower = (char)(c | 0x20);
            if (!is_digit(c) && !(lower >= 'a' && lower <= 'f')) return -1;
            cp = cp << 4 | (uint32_t)(is_digit(c) ? c - '0' : lower - 'a' + 10);
        }
        *n = 2 + digits;
    } else {
        *n = 1;
        while (*n < size && *n < 4 && s[*n] >= '0' && s[*n] < '8') cp = cp << 3 | (uint32_t)(s[(*n)++] - '0');
    }
    return utf8proc_codepoint_valid((utf8proc_int32_t)cp) ? (int32_t)cp : -1;
}

/* The characters that an escape stands for, to out; returns how many of s it takes, 0: none that Python knows in a template. */
static size_t unescape(const char *s, size_t size, char *out, size_t *len)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *simple = strchr(from, s[1]);
    size_t n = 2;
    if (s[1] == '\n') return n; /* the line goes on */
    if (simple) {
        out[(*len)++] = to[simple - from];
    } else if (strchr("xuU01234567", s[1])) {
        const int32_t cp = read_escape(s, size, &n);
        if (cp < 0) return 0;
        *len += (size_t)utf8proc_encode_char(cp, (utf8proc_uint8_t *)out + *len);
    } else if (s[1] == 'N' || (unsigned char)s[1] >= 0x80) { /* by name; and a quirk of Python's */
        return 0;
    } else {
        out[(*len)++] = '\\'; /* Python keeps what it does not know */
        out[(*len)++] = s[1];
    }
    return n;
}

static lf_status lex_string(lexer *x)
{
    const char quote = x->s[x->at];
    const size_t start = x->at + 1;
    size_t end = start, len = 0;
    while (end < x->n && x->s[end] != quote) end += x->s[end] == '\\' && end + 1 < x->n ? 2 : 1;
    if (end >= x->n) return LEX_FAIL(x, "found no %c that ends a string", quote);
    char *text = lf_arena_alloc(x->mem, end - start + 1); /* no escape is shorter than what it stands for */
    if (!text) return lf_fail_memory(x->err, "a template", end - start);
    for (size_t i = start, step; i < end; i += step) {
        step = 1;
        if (x->s[i] != '\\')
            text[len++] = x->s[i];
        else if ((step = unescape(x->s + i, end - i, text, &len)) == 0)
            return lex_fail(
                x, LF_EUNSUPPORTED,
                "found the escape '\\%c' in a string, expected \\n, \\t, \\x41, \\u00e9 and the like",
                x->s[i + 1] >= ' ' && x->s[i + 1] <= '~' ? x->s[i + 1] : '?');
    }
    const lf_status status = add(x, (token){.kind = T_STRING, .text = {text, len}});
    advance(x, end + 1 - x->at);
    return status;
}

static lf_status keep_balance(lexer *x, int op)
{
    const char closing = op == '(' ? ')' : op == '[' ? ']' : op == '{' ? '}' : 0;
    if (closing) {
        if (x->n_brackets == BRACKETS_MAX)
            return lex_fail(x, LF_ELIMIT, "found brackets in each other, expected at most %d", BRACKETS_MAX);
        x->brackets[x->n_brackets++] = closing;
    } else if (op == ')' || op == ']' || op == '}') {
        if (x->n_brackets == 0) return LEX_FAIL(x, "found '%c', expected no closing bracket", op);
        if (x->brackets[--x->n_brackets] != op)
            return LEX_FAIL(x, "found '%c', expected '%c'", op, x->brackets[x->n_brackets]);
    }
    return LF_OK;
}

static lf_status lex_operator(lexer *x)
{
    static const struct {
        char text[3];
        int op;
    } doubles[] = {{"==", OP_EQ}, {"!=", OP_NE},       {">=", OP_GE},
                   {"<=", OP_LE}, {"//", OP_FLOORDIV}, {"**", OP_POW}};
    const char c = x->s[x->at];
    int op = 0;
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        if (looking_at(x, doubles[i].text)) op = doubles[i].op;
    const size_t n = op ? 2 : 1;
    if (!op && c && strchr("+-/*%~[](){}><=.:|,", c)) op = c;
    if (!op)
        return c > ' ' && c <= '~'
                   ? LEX_FAIL(x, "found '%c', which nothing in Jinja begins with", c)
                   : lex_fail(
                         x, LF_EUNSUPPORTED,
                         "found the byte 0x%02x in a tag, expected names of ASCII letters, digits and '_'",
                         (unsigned)(unsigned char)c);
    lf_status status = keep_balance(x, op);
    if (status == LF_OK) status = add(x, (token){.kind = T_OP, .op = op});
    x->at += n;
    return status;
}

static lf_status lex_name(lexer *x)
{
    const size_t start = x->at;
    while (x->at < x->n && is_word(x->s[x->at])) x->at++;
    return add(x, (token){.kind = T_NAME, .text = {x->s + start, x->at - start}});
}

static lf_status lex_tag(lexer *x, bool is_print)
{
    const char *end = is_print ? "}}" : "%}";
    lf_status status = add(x, (token){.kind = is_print ? T_PRINT_BEGIN : T_BLOCK_BEGIN});
    x->n_brackets = 0;
    while (status == LF_OK) {
        skip_space(x);
        if (x->at == x->n) return LEX_FAIL(x, "found the end of the template, expected %s", end);
        const int line = x->line;
        if (x->n_brackets == 0 && take_end(x, end, is_print)) {
            status = add(x, (token){.kind = is_print ? T_PRINT_END : T_BLOCK_END});
            x->out->items[x->out->n - 1].line = line;
            break;
        }
        const char c = x->s[x->at];
        if (is_digit(c))
            status = lex_number(x);
        else if (is_word(c))
            status = lex_name(x);
        else if (c == '\'' || c == '"')
            status = lex_string(x);
        else
            status = lex_operator(x);
    }
    return status;
}

/* The next "{%", "{{" or "{#"; n when there is none. */
static size_t find_begin(const lexer *x)
{
    for (size_t i = x->at; i + 1 < x->n; i++) {
        const char *brace = memchr(x->s + i, '{', x->n - 1 - i);
        if (!brace) break;
        i = (size_t)(brace - x->s);
        if (strchr("%{#", brace[1]) && brace[1]) return i;
    }
    return x->n;
}

lf_status lf_jinja_lex(tokens *out, arena *mem, str source, const char *name, lf_error *err)
{
    lexer x = {.s = source.p,
               .n = source.n,
               .line = 1,
               .line_starting = true,
               .out = out,
               .mem = mem,
               .name = name,
               .err = err};
    lf_status status = LF_OK;
    while (status == LF_OK && x.at < x.n) {
        str text = {x.s + x.at, find_begin(&x) - x.at};
        const size_t begin = x.at + text.n;
        if (begin == x.n) {
            status = add_text(&x, text);
            break;
        }
        const char kind = x.s[begin + 1];
        const size_t sign_at = begin + 2;
        const char sign = sign_at < x.n && (x.s[sign_at] == '-' || x.s[sign_at] == '+') ? x.s[sign_at] : 0;
        status = add_text(&x, trim_before(&x, text, sign, kind == '{'));
        advance(&x, text.n);
        (void)take_begin(&x);
        if (status != LF_OK) break;
        if (kind == '#')
            status = lex_comment(&x);
        else if (kind == '%' && take_word(&x, "raw"))
            status = lex_raw(&x);
        else
            status = lex_tag(&x, kind == '{');
    }
    return status == LF_OK ? add(&x, (token){.kind = T_EOF}) : status;
}

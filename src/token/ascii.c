/* The three patterns that nearly every model uses, by hand, for ASCII: several times as fast as a regular expression.
 *
 * A function answers only when every byte that could matter is ASCII: the match itself and the byte that ends it. In
 * all other cases it answers 0 and PCRE2 decides, so the two can be compared, and are, on any text. The alternatives
 * are tried in the order of the pattern. */
#include "token/pretokenize.h"

#include <string.h>

typedef enum class {
    OTHER,   /* [^\s\p{L}\p{N}] */
    LETTER,  /* \p{L} */
    DIGIT,   /* \p{N} */
    SPACE,   /* \s but not a newline */
    NEWLINE, /* [\r\n] */
    HIGH,    /* part of a code point beyond ASCII: anything */
    END,     /* of the text */
} class;

static class class_at(const char *text, size_t len, size_t i)
{
    if (i >= len) return END;
    const unsigned char c = (unsigned char)text[i];
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') return LETTER;
    if (c == ' ') return SPACE;
    if (c >= 0x80) return HIGH;
    if (c >= '0' && c <= '9') return DIGIT;
    if (c == '\n' || c == '\r') return NEWLINE;
    return c == '\t' || c == '\v' || c == '\f' ? SPACE : OTHER;
}

static size_t run_end(const char *text, size_t len, size_t i, class of)
{
    while (class_at(text, len, i) == of) i++;
    return i;
}

/* 's 't 're 've 'm 'll 'd after the apostrophe at i: the length with it, or 0. */
static size_t contraction(const char *text, size_t len, size_t i, bool any_case)
{
    if (text[i] != '\'' || i + 1 >= len) return 0;
    const char fold = any_case ? 0x20 : 0;
    const char a = (char)(text[i + 1] | fold), b = i + 2 < len ? (char)(text[i + 2] | fold) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ for a run of white space that ends at `end`: all of it at the end of the text, else without its last
 * character if it has two. */
static size_t spaces(size_t len, size_t at, size_t end)
{
    return end == len || end - at == 1 ? end - at : end - at - 1;
}

/* The end of the run of white space at i, and in *after_newline the end of its last newline, or 0. */
static size_t white_end(const char *text, size_t len, size_t i, size_t *after_newline)
{
    *after_newline = 0;
    for (;; i++) {
        const class c = class_at(text, len, i);
        if (c == NEWLINE)
            *after_newline = i + 1;
        else if (c != SPACE)
            return i;
    }
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
size_t lf_ascii_match_gpt2(const char *text, size_t len, size_t at)
{
    const size_t short_form = contraction(text, len, at, false);
    if (short_form) return short_form;
    const size_t start = at + (text[at] == ' ');
    const class c = class_at(text, len, start);
    if (c == HIGH) return 0;
    size_t end, after_newline;
    if (c == LETTER || c == DIGIT || c == OTHER) {
        end = run_end(text, len, start, c);
        return class_at(text, len, end) == HIGH ? 0 : end - at;
    }
    end = white_end(text, len, at, &after_newline);
    return class_at(text, len, end) == HIGH ? 0 : spaces(len, at, end);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits_max}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
 * \s+(?!\S)|\s+ */
static size_t match_llama3(const char *text, size_t len, size_t at, size_t digits_max)
{
    const class first = class_at(text, len, at), second = class_at(text, len, at + 1);
    if (first == HIGH) return 0;
    const size_t short_form = contraction(text, len, at, true);
    if (short_form) return short_form;
    if (first == DIGIT) {
        const size_t limit = len - at < digits_max ? len : at + digits_max;
        const size_t end = run_end(text, limit, at, DIGIT);
        return end < limit && class_at(text, len, end) == HIGH ? 0 : end - at;
    }
    if (first != NEWLINE && first != LETTER && second == HIGH) return 0;
    if (first == LETTER || (first != NEWLINE && second == LETTER)) {
        const size_t end = run_end(text, len, at + 1, LETTER);
        return class_at(text, len, end) == HIGH ? 0 : end - at;
    }
    if (first == OTHER || (text[at] == ' ' && second == OTHER)) {
        const size_t end = run_end(text, len, at + 1, OTHER);
        if (class_at(text, len, end) == HIGH) return 0;
        return run_end(text, len, end, NEWLINE) - at;
    }
    size_t after_newline;
    const size_t end = white_end(text, len, at, &after_newline);
    if (class_at(text, len, end) == HIGH) return 0;
    return after_newline ? after_newline - at : spaces(len, at, end);
}

size_t lf_ascii_match_qwen2(const char *text, size_t len, size_t at)
{
    return match_llama3(text, len, at, 1);
}

size_t lf_ascii_match_llama3(const char *text, size_t len, size_t at)
{
    return match_llama3(text, len, at, 3);
}

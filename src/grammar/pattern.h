/* Regular expressions into automata: the part of the syntax that ECMAScript (JSON Schema's "pattern"), PCRE2 and Python share
 * and that is regular.
 *
 *     a  \.  \n \t \r \f \v \0  \xHH  \uHHHH  \u{H...}      a character
 *     .                                                     any but \n, \r, U+2028 and U+2029
 *     [abc] [^a-z]  \d \w \s \D \W \S                       classes; \d, \w and \s are ASCII
 *     (...) (?:...) (?<name>...)  a|b                       groups, alternatives
 *     * + ? {n} {n,} {n,m}, and each with ? behind it       repetition, n and m up to 1,000; lazy ones are like the others
 *     ^ $                                                   first and last in one of the outermost alternatives
 *
 * Where the references differ, less is accepted: \S holds no white space of Unicode, which \s does not hold either. Anything else
 * (look-around, back references, flags, \b, \p{...}, possessive repetition) is refused by name. */
#ifndef LF_GRAMMAR_PATTERN_H
#define LF_GRAMMAR_PATTERN_H

#include "grammar/dfa.h"

enum { LF_PATTERN_BYTES_MAX = 1 << 16, LF_PATTERN_REPEAT_MAX = 1000, LF_PATTERN_DEPTH_MAX = 100 };

/* The texts (UTF-8) that the expression matches. whole: it matches all of the text; otherwise anywhere in it, as JSON Schema says.
 * Errors begin with "regular expression, byte N:". */
lf_status lf_pattern_compile(lf_dfa *out, const char *pattern, size_t len, bool whole, lf_work *work,
                             lf_error *err);

#endif

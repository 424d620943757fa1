/* The regular expressions of pre-tokenisers, by PCRE2.
 *
 * The patterns of tokenizer.json and tiktoken are written for other libraries (Oniguruma, fancy-regex), so each is
 * translated: only what means the same everywhere is let through, and the classes are spelled out where PCRE2 differs
 * (its \s holds U+180E) or knows an older Unicode than the references, which are at version 16. */
#ifndef LF_TOKEN_REGEX_H
#define LF_TOKEN_REGEX_H

#include "base/mem.h"
#include "base/status.h"

typedef struct lf_regex lf_regex;             /* immutable */
typedef struct lf_regex_match lf_regex_match; /* one matcher's scratch, for any lf_regex */

enum { LF_REGEX_BYTES_MAX = 4096 }; /* of a pattern; real ones have some 200 */

/* LF_EUNSUPPORTED for a construct that is not translated, LF_EFORMAT for a pattern that does not compile. `name` is the
 * file that errors name. */
lf_status lf_regex_compile(lf_regex **out, const char *pattern, const char *name, lf_error *err);
void lf_regex_free(lf_regex *r);

/* The translated pattern, for tests: appended to out. */
lf_status lf_regex_translate(lf_bytes *out, const char *pattern, const char *name, lf_error *err);

lf_status lf_regex_match_new(lf_regex_match **out, lf_error *err);
void lf_regex_match_free(lf_regex_match *m);

/* The first match at or after `from` in well-formed text: *start and *end, or *start = len when there is none.
 * LF_ELIMIT when the pattern needs more steps or memory on this text than is sensible. */
lf_status lf_regex_find(const lf_regex *r, lf_regex_match *m, const char *text, size_t len, size_t from,
                        size_t *start, size_t *end, lf_error *err);

#endif

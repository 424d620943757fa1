/* Jinja templates: a subset of jinja2 3.1 that chat templates are written in, as transformers sets it up (trim_blocks and
 * lstrip_blocks on, no escaping, the sandbox's refusals, `tojson`, `raise_exception`, `strftime_now`, `generation`, `break` and
 * `continue`). docs/MODELS.md lists it; what is beyond it is LF_EUNSUPPORTED, naming the line and the construct.
 *
 * Templates and what they are given come from strangers: source, nesting, steps, memory and output have limits, and rendering has no
 * effect but its output. A compiled template never changes, so that threads can render it at the same time. */
#ifndef LF_JINJA_JINJA_H
#define LF_JINJA_JINJA_H

#include "base/mem.h"
#include "base/status.h"

#include <jansson.h>

typedef struct lf_jinja lf_jinja;

enum {
    LF_JINJA_SOURCE_MAX = 1 << 20, /* bytes of a template */
    LF_JINJA_NAMES_MAX = 1 << 12,  /* different names in it */
    LF_JINJA_DEPTH_MAX = 500,      /* expressions and blocks in each other, calls included; lists in lists */
    LF_JINJA_STEPS_MAX = 20000000, /* of one rendering: expressions, items, and 64 bytes of text each */
    LF_JINJA_RANGE_MAX = 100000,   /* items of a range(), as in jinja2's sandbox */
    LF_JINJA_OUTPUT_MAX = 1 << 26, /* bytes written by one rendering, what is captured on the way included */
    LF_JINJA_MEMORY_MAX = 1 << 28  /* bytes that one rendering may hold */
};

/* Compiles text[0..len), UTF-8; `name` is what errors call it ("chat template: line 3: ..."). LF_EFORMAT: not a template;
 * LF_EUNSUPPORTED: beyond the subset; LF_ELIMIT; LF_ENOMEM. */
lf_status lf_jinja_compile(lf_jinja **out, const char *text, size_t len, const char *name, lf_error *err);
void lf_jinja_free(lf_jinja *t); /* NULL is fine */

/* Appends to out what the template makes of the members of object vars. now is what strftime_now shows, in seconds since 1970, UTC.
 * LF_EINVAL: the template refuses what it was given, by raise_exception or because an operation does not fit a value;
 * LF_EUNSUPPORTED; LF_ELIMIT; LF_ENOMEM. out is then as it was. */
lf_status lf_jinja_render(const lf_jinja *t, const json_t *vars, int64_t now, lf_bytes *out, lf_error *err);

#endif

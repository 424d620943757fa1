/* From the text of a grammar to expressions. */
#ifndef LF_GRAMMAR_COMPILE_H
#define LF_GRAMMAR_COMPILE_H

#include "grammar/expr.h"

/* Builds a grammar of any kind; out is the caller's to free, failing or not. */
lf_status lf_grammar_build(lf_exprs *out, lf_grammar_kind kind, const char *text, size_t len, lf_error *err);

#endif

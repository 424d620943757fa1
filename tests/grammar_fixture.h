/* Texts through the automaton of a grammar, for the tests of grammar/. */
#ifndef LF_TESTS_GRAMMAR_FIXTURE_H
#define LF_TESTS_GRAMMAR_FIXTURE_H

#include "testing.h"

#include "base/mem.h"
#include "grammar/machine.h"

/* Runs all bytes of an output from the start; whether the grammar can go on after them. */
bool is_alive(lf_machine *m, const lf_bytes *text, bool *may_end);

#endif

/* Whether a JSON value satisfies a schema: a small validator that shares nothing with src/grammar. It knows what the recorded
 * schemas have, formats excepted, and agrees with the reference's opinion on the recorded instances. */
#ifndef LF_TESTS_SCHEMA_VALIDATOR_H
#define LF_TESTS_SCHEMA_VALIDATOR_H

#include <jansson.h>
#include <stdbool.h>

bool schema_allows(const json_t *root, const json_t *schema, const json_t *value);

#endif

/* Reproducible texts that are hard on tokenizers: 20,000 of them are compared with the reference libraries, whose ids
 * are recorded as one hash for every 500 texts. tests/oracle/token_strings.py makes the same texts; both read their
 * tables from tests/golden/token/strings.json. */
#ifndef LF_TESTS_TOKEN_STRINGS_H
#define LF_TESTS_TOKEN_STRINGS_H

#include "base/mem.h"

enum { TOKEN_STRINGS = 20000, TOKEN_STRINGS_PER_HASH = 500 };

typedef struct token_strings token_strings;

token_strings *token_strings_open(void); /* fails the test without its tables */
void token_strings_close(token_strings *s);

/* out = text i. corrupt: with bytes changed, so that most are not UTF-8. */
void token_strings_get(const token_strings *s, uint64_t i, bool corrupt, lf_bytes *out);

/* FNV-1a over the count of ids and the ids, as little-endian 32-bit numbers; start from TOKEN_HASH_START. */
#define TOKEN_HASH_START UINT64_C(0xCBF29CE484222325)
uint64_t token_hash(uint64_t hash, const int32_t *ids, size_t n);

#endif

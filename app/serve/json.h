/* JSON without memory: a value that could not be made is NULL, and whatever it should have gone into becomes NULL, too, as json_pack
 * does. So an answer is whole or is not there, and one look at the end tells which. */
#ifndef LF_SERVE_JSON_H
#define LF_SERVE_JSON_H

#include <jansson.h>

/* How JSON is written: nine digits tell every float from its neighbours. */
#define SERVE_DUMP_FLAGS (JSON_COMPACT | JSON_REAL_PRECISION(9))

/* Puts a new reference at the end of *list, or under a key of *object. */
void serve_json_push(json_t **list, json_t *item);
void serve_json_set(json_t **object, const char *key, json_t *value);

#endif

/* JSON by Jansson, with the errors that lookfar's files need. */
#ifndef LF_FILE_JSON_H
#define LF_FILE_JSON_H

#include "base/status.h"

#include <jansson.h>

/* Parses a whole buffer (UTF-8, no duplicate keys, nothing after the value), or a whole file. Errors name the file,
 * line and column. *out is owned by the caller: json_decref. */
lf_status lf_json_parse(json_t **out, const char *data, size_t size, const char *name, lf_error *err);
lf_status lf_json_load(json_t **out, const char *path, lf_error *err);

/* Typed members of an object. An absent or null member leaves *out alone, which makes the caller's initial value the
 * default, unless it is `required`. A member of another type is LF_EFORMAT: file, key, found, expected. Strings are
 * borrowed from the object. */
lf_status lf_json_get_int(const json_t *object, const char *name, const char *key, bool required,
                          int64_t *out, lf_error *err);
lf_status lf_json_get_float(const json_t *object, const char *name, const char *key, bool required,
                            double *out, lf_error *err);
lf_status lf_json_get_bool(const json_t *object, const char *name, const char *key, bool required, bool *out,
                           lf_error *err);
lf_status lf_json_get_string(const json_t *object, const char *name, const char *key, bool required,
                             const char **out, lf_error *err);

#endif

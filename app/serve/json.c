#include "json.h"

static void lose(json_t **value)
{
    json_decref(*value);
    *value = NULL;
}

void serve_json_push(json_t **list, json_t *item)
{
    if (json_array_append_new(*list, item) != 0) lose(list);
}

void serve_json_set(json_t **object, const char *key, json_t *value)
{
    if (json_object_set_new(*object, key, value) != 0) lose(object);
}

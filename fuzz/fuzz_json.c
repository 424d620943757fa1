/* JSON texts, read as a config.json is: whatever the bytes, they are refused or each member can be asked for as each
 * type. */
#include "file/json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink; /* keeps the reads */

static void read_members(json_t *object, int depth)
{
    const char *key;
    json_t *member;
    lf_error err;
    json_object_foreach(object, key, member)
    {
        int64_t i = 0;
        double f = 0;
        bool b = false;
        const char *s = NULL;
        if (lf_json_get_int(object, "fuzz.json", key, true, &i, &err) == LF_OK) sink += (uint64_t)i;
        if (lf_json_get_float(object, "fuzz.json", key, false, &f, &err) == LF_OK) sink += f > 0;
        if (lf_json_get_bool(object, "fuzz.json", key, true, &b, &err) == LF_OK) sink += b;
        if (lf_json_get_string(object, "fuzz.json", key, true, &s, &err) == LF_OK) sink += strlen(s);
        if (json_is_object(member) && depth < 4)
            read_members(member, depth + 1); /* rope_scaling and the like */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *root = NULL;
    lf_error err;
    int64_t hidden_size = 0;
    if (lf_json_parse(&root, (const char *)data, size, "fuzz.json", &err) != LF_OK) return 0;
    (void)lf_json_get_int(root, "fuzz.json", "hidden_size", true, &hidden_size, &err);
    read_members(root, 0);
    json_decref(root);
    return 0;
}

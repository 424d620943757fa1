/* Cost profiles (lf_engine_get_profile) in the user's cache folder: $XDG_CACHE_HOME/lookfar, or ~/.cache/lookfar. A file is named by
 * a hash of its profile's key, and holds the key, which the engine compares; it is replaced whole. */
#include "app.h"

#include "base/mem.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROFILE_BYTES_MAX = 1 << 14 };

/* FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t hash_key(const char *key)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *key; key++) hash = (hash ^ (uint8_t)*key) * 0x100000001b3u;
    return hash;
}

/* The folder of the user's caches, as the XDG base directory specification has it: a relative path counts as none. */
static bool find_cache(lf_bytes *out)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0] == '/') return lf_bytes_printf(out, "%s", cache);
    return home && home[0] == '/' && lf_bytes_printf(out, "%s/.cache", home);
}

/* Where the profile of a key is; makes the folders on the way. False: there is no such place. */
static bool find_file(lf_bytes *out, const char *key)
{
    if (!find_cache(out)) return false;
    (void)mkdir(out->data, 0700); /* an unwritable place shows when the file is opened */
    if (!lf_bytes_printf(out, "/lookfar")) return false;
    (void)mkdir(out->data, 0700);
    return lf_bytes_printf(out, "/profile-%016llx", (unsigned long long)hash_key(key));
}

static bool load(lf_engine *engine, const char *path)
{
    char text[PROFILE_BYTES_MAX];
    FILE *f = fopen(path, "r");
    if (!f) return false;
    const size_t n = fread(text, 1, sizeof text - 1, f);
    const bool whole = !ferror(f) && n < sizeof text - 1;
    (void)fclose(f);
    text[n] = '\0';
    return whole && lf_engine_set_profile(engine, text);
}

static void keep(const char *text, const char *path)
{
    lf_bytes temp = {0};
    if (!lf_bytes_printf(&temp, "%s.%ld", path, (long)getpid())) return;
    FILE *f = fopen(temp.data, "w");
    if (f) {
        const bool written = fputs(text, f) >= 0;
        if (fclose(f) != 0 || !written || rename(temp.data, path) != 0) (void)remove(temp.data);
    }
    lf_bytes_free(&temp);
}

lf_status app_prepare_profile(lf_engine *engine, bool quiet, lf_error *err)
{
    lf_engine_info info = {.size = sizeof info};
    lf_bytes path = {0};
    char *text = NULL;
    app_progress progress;
    lf_status status = LF_OK;
    lf_engine_get_info(engine, &info);
    const bool has_place = find_file(&path, info.profile_key);
    if (has_place && load(engine, path.data)) goto done;
    app_progress_start(&progress, "measuring what passes cost", quiet);
    app_progress_draw(&progress, 0.0);
    status = lf_engine_get_profile(engine, &text, err);
    app_progress_clear(&progress);
    if (status == LF_OK && has_place) keep(text, path.data);
done:
    free(text);
    lf_bytes_free(&path);
    return status;
}

#include "chunk.h"

#include <stdio.h>
#include <string.h>

static int append(const char *text, size_t n, void *cookie)
{
    return lf_bytes_append(cookie, text, n) ? 0 : -1;
}

/* The place of the mark: strings in JSON have no quotes, so that nothing else looks like it. NULL: there is none. */
static char *find_mark(const lf_bytes *event, const char *key)
{
    char member[64];
    (void)snprintf(member, sizeof member, "\"%s\":\"" SERVE_CHUNK_MARK "\"", key);
    char *found = event->data ? strstr(event->data, member) : NULL;
    return found ? found + strlen(member) - strlen(SERVE_CHUNK_MARK "\"") : NULL;
}

bool serve_chunk_make(serve_chunk *out, json_t *object, const char *key, size_t dump_flags)
{
    lf_bytes *event = &out->event;
    *out = (serve_chunk){0};
    const bool ok = lf_bytes_append(event, "data: ", 6) && object &&
                    json_dump_callback(object, append, event, dump_flags) == 0 &&
                    lf_bytes_append(event, "\n\n", 2);
    json_decref(object);
    char *mark = ok ? find_mark(event, key) : NULL;
    if (!mark) {
        serve_chunk_free(out);
        return false;
    }
    const size_t n_mark = strlen(SERVE_CHUNK_MARK);
    out->gap = (size_t)(mark - event->data);
    event->len -= n_mark;
    memmove(mark, mark + n_mark, event->len - out->gap + 1);
    return true;
}

void serve_chunk_free(serve_chunk *chunk)
{
    lf_bytes_free(&chunk->event);
}

/* ---- texts ---- */

static bool needs_escape(char c)
{
    return (unsigned char)c < 0x20 || c == '"' || c == '\\';
}

static bool append_escape(lf_bytes *out, char c)
{
    static const char shorts[] = "\"\"\\\\\nn\tt\rr"; /* pairs */
    for (const char *at = shorts; *at; at += 2)
        if (*at == c) return lf_bytes_append(out, (const char[]){'\\', at[1]}, 2);
    return lf_bytes_printf(out, "\\u%04x", (unsigned)(unsigned char)c);
}

bool serve_chunk_write(lf_bytes *out, const serve_chunk *chunk, const char *text, size_t len)
{
    const lf_bytes *event = &chunk->event;
    bool ok = lf_bytes_append(out, event->data, chunk->gap);
    for (size_t i = 0; ok && i < len;) {
        size_t n = 0;
        while (i + n < len && !needs_escape(text[i + n])) n++;
        ok = lf_bytes_append(out, text + i, n);
        i += n;
        if (ok && i < len) ok = append_escape(out, text[i++]);
    }
    return ok && lf_bytes_append(out, event->data + chunk->gap, event->len - chunk->gap);
}

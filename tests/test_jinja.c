/* src/jinja: every construct of the subset against what jinja2 made of it (tests/oracle/chat.py), the templates of real models over
 * generated conversations, what must be refused, limits, threads, and memory that fails at every allocation.
 *
 *     test_jinja --render     JSON lines {"template", "vars", "now"} to JSON lines {"text"} or {"error"}: for the oracle */
#include "testing.h"

#include "file/json.h"
#include "jinja/jinja.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- for the oracle ---- */

static json_t *answer(const json_t *question)
{
    lf_error err = {0};
    lf_jinja *t = NULL;
    lf_bytes text = {0};
    const json_t *source = json_object_get(question, "template");
    lf_status status = lf_jinja_compile(&t, json_string_value(source), json_string_length(source), "template",
                                        &err);
    if (status == LF_OK)
        status = lf_jinja_render(t, json_object_get(question, "vars"),
                                 json_integer_value(json_object_get(question, "now")), &text, &err);
    json_t *out = status == LF_OK ? json_pack("{s:s%}", "text", text.data ? text.data : "", text.len)
                                  : json_pack("{s:s}", "error", err.text);
    lf_bytes_free(&text);
    lf_jinja_free(t);
    return out;
}

static int serve(void)
{
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, stdin) > 0) {
        json_t *question = json_loads(line, 0, NULL), *out = answer(question);
        (void)json_dumpf(out, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(out);
        json_decref(question);
    }
    free(line);
    return fflush(stdout) != 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--render") == 0) return serve();
    return 0;
}

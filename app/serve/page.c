#include "page.h"

#include <string.h>

/* The assembler puts the files in; the Makefile knows that this object depends on them. */
#define EMBED(symbol, path)                                                                                  \
    __asm__(".section .rodata\n"                                                                             \
            ".global page_" #symbol "\npage_" #symbol ":\n.incbin \"app/serve/page/" path "\"\n"             \
            ".global page_" #symbol "_end\npage_" #symbol "_end:\n.byte 0\n.previous\n");                    \
    extern const char page_##symbol[], page_##symbol##_end[]

EMBED(html, "index.html");
EMBED(css, "style.css");
EMBED(js, "app.js");

void serve_handle_page(serve_exchange *x)
{
    static const struct {
        const char *path, *type, *begin, *end;
    } files[] = {{"/", "text/html; charset=utf-8", page_html, page_html_end},
                 {"/style.css", "text/css; charset=utf-8", page_css, page_css_end},
                 {"/app.js", "text/javascript; charset=utf-8", page_js, page_js_end}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (strcmp(x->path, files[i].path) != 0) continue;
        x->is_page = true;
        if (!lf_bytes_append(&x->out, files[i].begin, (size_t)(files[i].end - files[i].begin)))
            serve_answer_lost(x);
        serve_answer_text(x, files[i].type);
    }
}

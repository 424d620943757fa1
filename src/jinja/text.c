/* Text as Python's str has it: well-formed UTF-8, counted in code points. Upper and lower case are Unicode's simple mappings, one
 * code point for one, and no letter's case depends on its neighbours: there Python does more (the German sharp s, the Greek sigma at
 * the end of a word). */
#include "jinja/jinja_int.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

int32_t lf_text_next(str s, size_t *at)
{
    const unsigned char *p = (const unsigned char *)s.p + *at;
    const int n = p[0] < 0x80 ? 1 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    int32_t cp = n == 1 ? p[0] : p[0] & (0x7F >> n);
    for (int i = 1; i < n; i++) cp = cp << 6 | (p[i] & 0x3F);
    *at += (size_t)n;
    return cp;
}

size_t lf_text_length(str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

bool lf_text_is_space(int32_t cp)
{
    return (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x20) || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F ||
           cp == 0x3000;
}

size_t lf_text_find(str s, str part, size_t from)
{
    if (part.n > s.n || from > s.n - part.n) return SIZE_MAX;
    if (part.n == 0) return from;
    const char *found = memmem(s.p + from, s.n - from, part.p, part.n);
    return found ? (size_t)(found - s.p) : SIZE_MAX;
}

static bool is_stripped(int32_t cp, const str *chars)
{
    if (!chars) return lf_text_is_space(cp);
    for (size_t at = 0; at < chars->n;)
        if (lf_text_next(*chars, &at) == cp) return true;
    return false;
}

/* Where the code point before at begins. */
static size_t previous(str s, size_t at)
{
    do at--;
    while (((unsigned char)s.p[at] & 0xC0) == 0x80);
    return at;
}

str lf_text_strip(str s, const str *chars, int sides)
{
    size_t start = 0, end = s.n;
    while (sides & SIDE_LEFT && start < end) {
        size_t next = start;
        if (!is_stripped(lf_text_next(s, &next), chars)) break;
        start = next;
    }
    while (sides & SIDE_RIGHT && end > start) {
        size_t at = previous(s, end);
        const size_t before = at;
        if (!is_stripped(lf_text_next(s, &at), chars)) break;
        end = before;
    }
    return (str){s.p + start, end - start};
}

/* ---- building ---- */

/* A string of n bytes to fill, in *p. */
static value new_text(render *r, size_t n, char **p)
{
    *p = lf_render_spend(r, steps_of_bytes(n)) ? lf_render_alloc(r, n, 1) : NULL;
    return *p ? value_str((str){*p, n}) : value_undefined(-1);
}

static char *put(char *out, str s)
{
    if (s.n) memcpy(out, s.p, s.n);
    return out + s.n;
}

/* What a replacement or repetition comes to. */
static bool add_product(render *r, size_t *total, size_t n, size_t times)
{
    size_t product;
    if (lf_mul_size(n, times, &product) && lf_add_size(*total, product, total)) return true;
    (void)lf_render_fail(r, LF_ELIMIT, "a text grew past what memory can hold");
    return false;
}

value lf_text_replace(render *r, str s, str from, str to, int64_t count)
{
    size_t n = 0, at = 0, size = s.n;
    char *p;
    const size_t most = count < 0 ? SIZE_MAX : (size_t)count;
    if (!lf_render_spend(r, steps_of_bytes(s.n))) return value_undefined(-1);
    if (from.n == 0) { /* between all characters, and at both ends */
        n = lf_text_length(s) + 1 < most ? lf_text_length(s) + 1 : most;
    } else {
        for (size_t found; n < most && (found = lf_text_find(s, from, at)) != SIZE_MAX; n++)
            at = found + from.n;
        size -= n * from.n;
    }
    if (n == 0) return value_str(s);
    if (!add_product(r, &size, to.n, n)) return value_undefined(-1);
    const value out = new_text(r, size, &p);
    if (out.kind == J_UNDEFINED) return out;
    at = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t found = lf_text_find(s, from, at);
        p = put(p, (str){s.p + at, found - at});
        p = put(p, to);
        at = found + from.n;
        if (from.n == 0 && at < s.n) {
            const size_t start = at;
            (void)lf_text_next(s, &at);
            p = put(p, (str){s.p + start, at - start});
        }
    }
    (void)put(p, (str){s.p + at, s.n - at});
    return out;
}

value lf_text_join(render *r, str separator, const value *items, size_t n)
{
    size_t size = 0;
    char *p;
    str *texts = lf_render_spend(r, n) ? lf_render_alloc(r, n, sizeof *texts) : NULL;
    if (!texts) return value_undefined(-1);
    for (size_t i = 0; i < n; i++) {
        texts[i] = lf_value_text(r, &items[i]);
        if (!add_product(r, &size, texts[i].n, 1)) return value_undefined(-1);
    }
    if (n > 1 && !add_product(r, &size, separator.n, n - 1)) return value_undefined(-1);
    const value out = new_text(r, size, &p);
    if (out.kind == J_UNDEFINED) return out;
    for (size_t i = 0; i < n; i++) {
        if (i) p = put(p, separator);
        p = put(p, texts[i]);
    }
    return out;
}

value lf_text_reverse(render *r, str s)
{
    char *p;
    const value out = new_text(r, s.n, &p);
    if (out.kind == J_UNDEFINED) return out;
    for (size_t end = s.n; end > 0;) {
        const size_t start = previous(s, end);
        p = put(p, (str){s.p + start, end - start});
        end = start;
    }
    return out;
}

/* ---- pieces ---- */

typedef struct pieces {
    render *r;
    value *items;
    size_t n, cap;
} pieces;

static void add_piece(pieces *all, str s)
{
    if (all->n == all->cap) {
        const size_t cap = all->cap ? 2 * all->cap : 8;
        value *items = lf_render_spend(all->r, cap) ? lf_render_alloc(all->r, cap, sizeof *items) : NULL;
        if (!items) return;
        if (all->n) memcpy(items, all->items, all->n * sizeof *items);
        all->items = items;
        all->cap = cap;
    }
    all->items[all->n++] = value_str(s);
}

static value split_words(render *r, str s, int64_t count)
{
    pieces all = {.r = r};
    str rest = lf_text_strip(s, NULL, SIDE_LEFT);
    while (rest.n && r->status == LF_OK) {
        size_t end = 0, next = 0;
        if (count >= 0 && all.n == (size_t)count) {
            add_piece(&all, rest);
            break;
        }
        while (end < rest.n && !lf_text_is_space(lf_text_next(rest, &next))) end = next;
        add_piece(&all, (str){rest.p, end});
        rest = lf_text_strip((str){rest.p + end, rest.n - end}, NULL, SIDE_LEFT);
    }
    return lf_value_seq(r, J_LIST, all.items, all.n);
}

value lf_text_split(render *r, str s, const str *separator, int64_t count)
{
    pieces all = {.r = r};
    size_t at = 0, found;
    if (!lf_render_spend(r, steps_of_bytes(s.n))) return value_undefined(-1);
    if (!separator) return split_words(r, s, count);
    if (separator->n == 0) return lf_render_fail(r, LF_EINVAL, "split: found an empty separator");
    while ((count < 0 || all.n < (size_t)count) && (found = lf_text_find(s, *separator, at)) != SIZE_MAX &&
           r->status == LF_OK) {
        add_piece(&all, (str){s.p + at, found - at});
        at = found + separator->n;
    }
    add_piece(&all, (str){s.p + at, s.n - at});
    return lf_value_seq(r, J_LIST, all.items, all.n);
}

size_t lf_text_find_last(str s, str part, size_t end)
{
    for (size_t at = end; at >= part.n && at <= end; at--)
        if (memcmp(s.p + at - part.n, part.p, part.n) == 0) return at - part.n;
    return SIZE_MAX;
}

value lf_text_split_right(render *r, str s, const str *separator, int64_t count)
{
    pieces all = {.r = r};
    size_t end = s.n, found;
    if (count < 0 || !lf_render_spend(r, steps_of_bytes(s.n))) return lf_text_split(r, s, separator, -1);
    if (!separator) return lf_render_fail(r, LF_EUNSUPPORTED, "rsplit: found a count without a separator");
    if (separator->n == 0) return lf_render_fail(r, LF_EINVAL, "rsplit: found an empty separator");
    while (all.n < (size_t)count && (found = lf_text_find_last(s, *separator, end)) != SIZE_MAX &&
           r->status == LF_OK) {
        add_piece(&all, (str){s.p + found + separator->n, end - found - separator->n});
        end = found;
    }
    add_piece(&all, (str){s.p, end});
    for (size_t i = 0; i < all.n / 2; i++) {
        const value swapped = all.items[i];
        all.items[i] = all.items[all.n - 1 - i];
        all.items[all.n - 1 - i] = swapped;
    }
    return lf_value_seq(r, J_LIST, all.items, all.n);
}

static bool ends_line(int32_t cp)
{
    return (cp >= 10 && cp <= 13) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

value lf_text_split_lines(render *r, str s, bool keep_ends)
{
    pieces all = {.r = r};
    size_t start = 0;
    if (!lf_render_spend(r, steps_of_bytes(s.n))) return value_undefined(-1);
    for (size_t at = 0; at < s.n && r->status == LF_OK;) {
        const size_t end = at;
        const int32_t cp = lf_text_next(s, &at);
        if (!ends_line(cp)) continue;
        if (cp == '\r' && at < s.n && s.p[at] == '\n') at++;
        add_piece(&all, (str){s.p + start, (keep_ends ? at : end) - start});
        start = at;
    }
    if (start < s.n) add_piece(&all, (str){s.p + start, s.n - start});
    return lf_value_seq(r, J_LIST, all.items, all.n);
}

value lf_text_indent(render *r, str s, str indent, bool first, bool blank)
{
    pieces all = {.r = r};
    const value ended = lf_text_join(r, STR("\n"), (const value[]){value_str(s), value_str(STR(""))}, 2);
    if (ended.kind == J_UNDEFINED) return ended;
    const value lines = lf_text_split_lines(r, ended.as.s,
                                            false); /* jinja2's quirk: the end of the last line is kept so */
    if (lines.kind == J_UNDEFINED) return lines;
    for (size_t i = 0; i < lines.as.seq->n && r->status == LF_OK; i++) {
        const str line = lines.as.seq->items[i].as.s;
        if (i) add_piece(&all, STR("\n"));
        if (i ? blank || line.n : first) add_piece(&all, indent);
        add_piece(&all, line);
    }
    return lf_text_join(r, STR(""), all.items, all.n);
}

/* ---- case ---- */

static bool is_cased(int32_t cp)
{
    const utf8proc_category_t c = utf8proc_category(cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

/* The characters before which jinja2's filter `title` begins a word. */
static bool begins_word(int32_t cp)
{
    return lf_text_is_space(cp) || cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<';
}

value lf_text_case(render *r, str s, text_case to)
{
    size_t n = 0, size;
    bool fresh = true; /* the next letter begins something */
    char *p = lf_mul_size(s.n, 2, &size) &&
                      lf_render_spend(r, steps_of_bytes(s.n)) /* no mapping more than doubles */
                  ? lf_render_alloc(r, size, 1)
                  : NULL;
    if (!p) return value_undefined(-1);
    for (size_t at = 0; at < s.n;) {
        const int32_t cp = lf_text_next(s, &at);
        const bool up = to == CASE_UPPER || (to != CASE_LOWER && fresh);
        const int32_t mapped = !up                                         ? utf8proc_tolower(cp)
                               : to == CASE_CAPITALIZE || to == CASE_TITLE ? utf8proc_totitle(cp)
                                                                           : utf8proc_toupper(cp);
        n += (size_t)utf8proc_encode_char(mapped, (utf8proc_uint8_t *)p + n);
        fresh = (to == CASE_TITLE && !is_cased(cp)) || (to == CASE_TITLE_FILTER && begins_word(cp));
    }
    return value_str((str){p, n});
}

bool lf_text_is_case(str s, text_case which)
{
    bool any = false;
    for (size_t at = 0; at < s.n;) {
        const utf8proc_category_t c = utf8proc_category(lf_text_next(s, &at));
        const bool upper = c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LT;
        if (which == CASE_UPPER ? c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT : upper)
            return false;
        any = any || upper || c == UTF8PROC_CATEGORY_LL;
    }
    return any;
}

/* ---- "%s" ---- */

/* One conversion of a format, at its '%': its text in out, and *used characters of the format. */
static bool format_one(render *r, str format, const value *arg, lf_bytes *out, size_t *used)
{
    size_t i = 1;
    int precision = 6;
    char text[400]; /* a double has 309 digits before the point */
    if (i + 1 < format.n && format.p[i] == '.' && format.p[i + 1] >= '0' && format.p[i + 1] <= '9') {
        precision = format.p[i + 1] - '0';
        i += 2;
    }
    const char c = i < format.n ? format.p[i] : 0;
    const bool plain = i == 1;
    *used = i + 1;
    if (c == '%' && plain) return lf_bytes_append(out, "%", 1);
    if (c == 's' && plain) {
        const str s = lf_value_text(r, arg);
        return lf_bytes_append(out, s.p, s.n);
    }
    if ((c == 'd' || c == 'i') && plain && value_is_integer(arg))
        return lf_bytes_printf(out, "%lld", (long long)value_integer(arg));
    if (c == 'f' && value_is_number(arg)) {
        const int n = snprintf(text, sizeof text, "%.*f", precision, value_number(arg));
        return lf_bytes_append(out, text, (size_t)n);
    }
    (void)lf_render_fail(r, LF_EUNSUPPORTED,
                         "format: found '%%%c' for %s; supported are %%s, %%d, %%f, %%.2f and %%%%",
                         c > ' ' && c <= '~' ? c : '?', lf_value_type(arg));
    return true;
}

value lf_text_format(render *r, str format, const value *args, size_t n)
{
    static const value none = {.kind = J_ABSENT};
    lf_bytes out = {0};
    size_t i = 0;
    bool memory = lf_render_spend(r, steps_of_bytes(format.n));
    for (size_t at = 0; at < format.n && memory && r->status == LF_OK;) {
        const char *percent = memchr(format.p + at, '%', format.n - at);
        const size_t plain = percent ? (size_t)(percent - format.p) - at : format.n - at;
        memory = lf_bytes_append(&out, format.p + at, plain);
        at += plain;
        if (!percent || !memory) continue;
        const bool takes = at + 1 == format.n || format.p[at + 1] != '%';
        if (takes && i == n)
            (void)lf_render_fail(r, LF_EINVAL, "format: found %zu arguments, expected more", n);
        size_t used = 0;
        memory = format_one(r, (str){format.p + at, format.n - at}, takes && i < n ? &args[i++] : &none, &out,
                            &used);
        at += used;
        if (out.len > LF_JINJA_OUTPUT_MAX)
            (void)lf_render_fail(r, LF_ELIMIT, "a text grew past %d bytes", LF_JINJA_OUTPUT_MAX);
    }
    if (!memory) (void)lf_render_fail(r, LF_ENOMEM, "out of memory");
    if (i < n) (void)lf_render_fail(r, LF_EINVAL, "format: found %zu arguments, expected %zu", n, i);
    const value text = lf_value_copy(r, out.data, out.len);
    lf_bytes_free(&out);
    return text;
}

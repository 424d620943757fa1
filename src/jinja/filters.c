/* Filters: what stands after `|`. Lists that jinja2 gives as generators are iterators here, too: walked once, without a length. */
#include "jinja/jinja_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FILTER(name) static value name(render *r, value self, const value *a, const call_args *args)
#define UNUSED       (void)r, (void)self, (void)a, (void)args

static str name_text(const char *name)
{
    return (str){name, strlen(name)};
}

/* What a filter of text takes anything for. */
static str text_of(render *r, const value *v)
{
    return lf_value_text(r, v);
}

static bool read_integer(render *r, const char *what, const value *v, int64_t *out)
{
    if (value_is_integer(v)) *out = value_integer(v);
    if (v->kind == J_ABSENT || v->kind == J_NONE || value_is_integer(v)) return true;
    (void)lf_render_fail(r, LF_EINVAL, "filter %s: found %s, expected an integer", what, lf_value_type(v));
    return false;
}

/* ---- text ---- */

FILTER(filter_upper)
{
    UNUSED;
    return lf_text_case(r, text_of(r, &self), CASE_UPPER);
}

FILTER(filter_lower)
{
    UNUSED;
    return lf_text_case(r, text_of(r, &self), CASE_LOWER);
}

FILTER(filter_capitalize)
{
    UNUSED;
    return lf_text_case(r, text_of(r, &self), CASE_CAPITALIZE);
}

FILTER(filter_title)
{
    UNUSED;
    return lf_text_case(r, text_of(r, &self), CASE_TITLE_FILTER);
}

FILTER(filter_string)
{
    UNUSED;
    return value_str(text_of(r, &self));
}

FILTER(filter_trim)
{
    UNUSED;
    const str s = text_of(r, &self);
    const bool given = a[0].kind == J_STRING;
    if (!given && a[0].kind != J_ABSENT && a[0].kind != J_NONE)
        return lf_render_fail(r, LF_EINVAL, "filter trim: found %s, expected a string", lf_value_type(&a[0]));
    if (!lf_render_spend(r, steps_of_bytes(s.n))) return value_undefined(-1);
    return value_str(lf_text_strip(s, given ? &a[0].as.s : NULL, SIDE_BOTH));
}

FILTER(filter_replace)
{
    UNUSED;
    int64_t count = -1;
    if (!read_integer(r, "replace", &a[2], &count)) return value_undefined(-1);
    return lf_text_replace(r, text_of(r, &self), text_of(r, &a[0]), text_of(r, &a[1]), count);
}

FILTER(filter_indent)
{
    UNUSED;
    int64_t width = 4;
    char spaces[256];
    str indent = {spaces, 0};
    if (a[0].kind == J_STRING)
        indent = a[0].as.s;
    else if (!read_integer(r, "indent", &a[0], &width) || width > (int64_t)sizeof spaces)
        return lf_render_fail(r, LF_ELIMIT, "filter indent: found more than %zu spaces", sizeof spaces);
    else
        indent.n = width > 0 ? (size_t)width : 0;
    memset(spaces, ' ', sizeof spaces);
    return lf_text_indent(r, text_of(r, &self), indent, lf_value_truth(&a[1]), lf_value_truth(&a[2]));
}

FILTER(filter_format)
{
    UNUSED;
    if (args->n_named) return lf_render_fail(r, LF_EUNSUPPORTED, "filter format: found a named argument");
    return lf_text_format(r, text_of(r, &self), args->items, args->n);
}

/* json.dumps(x, ensure_ascii, indent, separators, sort_keys) with transformers' defaults. */
FILTER(filter_tojson)
{
    UNUSED;
    char spaces[256];
    json_style style = {.ensure_ascii = lf_value_truth(&a[0]),
                        .pretty = a[1].kind != J_ABSENT && a[1].kind != J_NONE,
                        .sort_keys = lf_value_truth(&a[3]),
                        .key_separator = STR(": ")};
    int64_t width = 0;
    style.item_separator = style.pretty ? STR(",") : STR(", ");
    if (a[1].kind == J_STRING) {
        style.indent = a[1].as.s;
    } else {
        if (!read_integer(r, "tojson", &a[1], &width)) return value_undefined(-1);
        if (width > (int64_t)sizeof spaces)
            return lf_render_fail(r, LF_ELIMIT, "filter tojson: found more than %zu spaces", sizeof spaces);
        memset(spaces, ' ', sizeof spaces);
        style.indent = (str){spaces, width > 0 ? (size_t)width : 0};
    }
    if (a[2].kind == J_TUPLE || a[2].kind == J_LIST) {
        const seq *s = a[2].as.seq;
        if (s->n != 2 || s->items[0].kind != J_STRING || s->items[1].kind != J_STRING)
            return lf_render_fail(r, LF_EINVAL, "filter tojson: separators: expected two strings");
        style.item_separator = s->items[0].as.s;
        style.key_separator = s->items[1].as.s;
    }
    return lf_jinja_to_json(r, &self, &style);
}

/* ---- numbers ---- */

/* The whole of a string, without white space around it, as a number. */
static bool parse_number(str s, double *out, bool *is_integer, int64_t *integer)
{
    char text[64], *end;
    const str bare = lf_text_strip(s, NULL, SIDE_BOTH);
    if (bare.n == 0 || bare.n >= sizeof text) return false;
    memcpy(text, bare.p, bare.n);
    text[bare.n] = '\0';
    if (strspn(text, "+-0123456789.eE") != bare.n) return false; /* no "inf", no hexadecimals */
    *is_integer = strspn(text, "+-0123456789") == bare.n;
    *integer = strtoll(text, &end, 10);
    *out = strtod(text, &end);
    return *end == '\0' && end != text;
}

FILTER(filter_int)
{
    UNUSED;
    double f = 0;
    bool is_integer = false;
    int64_t i = 0;
    const value fallback = a[0].kind == J_ABSENT ? value_int(0) : a[0];
    if (value_is_integer(&self)) return value_int(value_integer(&self));
    if (self.kind == J_FLOAT)
        f = self.as.f;
    else if (self.kind != J_STRING || !parse_number(self.as.s, &f, &is_integer, &i))
        return self.kind == J_UNDEFINED ? lf_render_fail(r, LF_EINVAL, "filter int: found an undefined value")
                                        : fallback;
    if (is_integer && i != INT64_MAX && i != INT64_MIN) return value_int(i);
    return fabs(f) < 0x1p63 ? value_int((int64_t)f) : fallback;
}

FILTER(filter_float)
{
    UNUSED;
    double f;
    bool is_integer;
    int64_t i;
    if (value_is_number(&self)) return value_float(value_number(&self));
    if (self.kind == J_STRING && parse_number(self.as.s, &f, &is_integer, &i)) return value_float(f);
    return a[0].kind == J_ABSENT ? value_float(0) : a[0];
}

FILTER(filter_abs)
{
    UNUSED;
    if (self.kind == J_FLOAT) return value_float(fabs(self.as.f));
    if (!value_is_integer(&self) || value_integer(&self) == INT64_MIN)
        return lf_render_fail(r, LF_EINVAL, "filter abs: found %s, expected a number", lf_value_type(&self));
    return value_int(value_integer(&self) < 0 ? -value_integer(&self) : value_integer(&self));
}

/* Python's round: to even at the half; by decimal digits for a precision. */
FILTER(filter_round)
{
    UNUSED;
    int64_t digits = 0;
    char text[400];
    if (!value_is_number(&self) || !read_integer(r, "round", &a[0], &digits) || digits < 0 || digits > 20)
        return lf_render_fail(r, LF_EINVAL,
                              "filter round: found %s, expected a number and a precision of 0 to 20",
                              lf_value_type(&self));
    if (a[1].kind == J_STRING && !str_equal(a[1].as.s, STR("common"))) {
        const double scale = pow(10, (double)digits), scaled = value_number(&self) * scale;
        return value_float((str_equal(a[1].as.s, STR("ceil")) ? ceil(scaled) : floor(scaled)) / scale);
    }
    if (value_is_integer(&self)) return value_int(value_integer(&self));
    (void)snprintf(text, sizeof text, "%.*f", (int)digits, self.as.f);
    return value_float(strtod(text, NULL));
}

/* ---- any ---- */

FILTER(filter_default)
{
    UNUSED;
    if (self.kind != J_UNDEFINED && (!lf_value_truth(&a[1]) || lf_value_truth(&self))) return self;
    return a[0].kind == J_ABSENT ? value_str(STR("")) : a[0];
}

FILTER(filter_safe)
{
    UNUSED;
    return value_str(text_of(r, &self)); /* nothing is escaped */
}

FILTER(filter_length)
{
    UNUSED;
    return value_int((int64_t)lf_value_length(r, &self));
}

/* ---- lists ---- */

FILTER(filter_list)
{
    UNUSED;
    const seq items = lf_value_items(r, &self);
    return lf_value_seq(r, J_LIST, items.items, items.n);
}

FILTER(filter_items)
{
    UNUSED;
    if (self.kind == J_UNDEFINED) return lf_value_seq(r, J_ITERATOR, NULL, 0);
    if (self.kind != J_DICT)
        return lf_render_fail(r, LF_EINVAL, "filter items: found %s, expected a dict", lf_value_type(&self));
    value out = lf_value_seq(r, J_ITERATOR, NULL, self.as.dict->n);
    for (size_t i = 0; out.kind == J_ITERATOR && i < self.as.dict->n; i++) {
        const value both[] = {self.as.dict->pairs[i].key, self.as.dict->pairs[i].value};
        out.as.seq->items[i] = lf_value_seq(r, J_TUPLE, both, 2);
    }
    return out;
}

FILTER(filter_first)
{
    UNUSED;
    if (self.kind == J_ITERATOR && self.as.seq->at < self.as.seq->n)
        return self.as.seq->items[self.as.seq->at++];
    const seq items = lf_value_items(r, &self);
    return items.n ? items.items[0] : value_undefined(-1);
}

FILTER(filter_last)
{
    UNUSED;
    if (self.kind == J_ITERATOR)
        return lf_render_fail(r, LF_EINVAL,
                              "filter last: found a generator, expected a list: put it through |list");
    const seq items = lf_value_items(r, &self);
    return items.n ? items.items[items.n - 1] : value_undefined(-1);
}

FILTER(filter_reverse)
{
    UNUSED;
    if (self.kind == J_STRING) return lf_text_reverse(r, self.as.s);
    const seq items = lf_value_items(r, &self);
    value out = lf_value_seq(r, J_ITERATOR, NULL, items.n);
    for (size_t i = 0; out.kind == J_ITERATOR && i < items.n; i++)
        out.as.seq->items[i] = items.items[items.n - 1 - i];
    return out;
}

/* A part of a path: digits are an index. */
static value path_key(str part)
{
    int64_t i = 0;
    for (size_t k = 0; k < part.n; k++) {
        if (part.p[k] < '0' || part.p[k] > '9' || k == 17) return value_str(part);
        i = i * 10 + (part.p[k] - '0');
    }
    return part.n ? value_int(i) : value_str(part);
}

/* item.a.b.0: what filters call an attribute; absent or none: the item itself. fallback: for what is not there; may be NULL. */
static value follow(render *r, value item, const value *path, const value *fallback)
{
    if (path->kind == J_ABSENT || path->kind == J_NONE) return item;
    if (path->kind != J_STRING) return lf_value_item(r, &item, path);
    const value parts = lf_text_split(r, path->as.s, &STR("."), -1);
    for (size_t i = 0; r->status == LF_OK && i < parts.as.seq->n; i++) {
        const value key = path_key(parts.as.seq->items[i].as.s);
        item = lf_value_item(r, &item, &key);
        if (fallback && item.kind == J_UNDEFINED) item = *fallback;
    }
    return item;
}

/* The attribute of each item, as a list; case_sensitive false: of strings, in lower case. */
static value follow_all(render *r, value *self, const value *path, bool case_sensitive)
{
    const seq items = lf_value_items(r, self);
    value out = lf_value_seq(r, J_LIST, NULL, items.n);
    for (size_t i = 0; i < items.n && r->status == LF_OK; i++) {
        value v = follow(r, items.items[i], path, NULL);
        if (v.kind == J_STRING && !case_sensitive) v = lf_text_case(r, v.as.s, CASE_LOWER);
        out.as.seq->items[i] = v;
    }
    return out;
}

FILTER(filter_join)
{
    UNUSED;
    const value list = follow_all(r, &self, &a[1], true);
    const str separator = a[0].kind == J_ABSENT ? STR("") : text_of(r, &a[0]);
    return r->status == LF_OK ? lf_text_join(r, separator, list.as.seq->items, list.as.seq->n) : list;
}

/* ---- order ---- */

typedef struct sorter {
    render *r;
    const value *keys;
    bool reverse;
} sorter;

static int compare_order(const void *a, const void *b, void *cookie)
{
    const sorter *s = cookie;
    const size_t i = *(const size_t *)a, j = *(const size_t *)b;
    const int order = lf_value_compare(s->r, &s->keys[i], &s->keys[j]);
    return order ? (s->reverse ? -order : order) : (i > j) - (i < j); /* equal ones stay in order */
}

/* A list of items (n), ordered by keys (n). */
static value sort_by(render *r, const value *items, const value *keys, size_t n, bool reverse)
{
    sorter s = {.r = r, .keys = keys, .reverse = reverse};
    size_t *order = lf_render_alloc(r, n, sizeof *order);
    value out = lf_value_seq(r, J_LIST, NULL, n);
    if (!order || r->status != LF_OK) return out;
    for (size_t i = 0; i < n; i++) order[i] = i;
    if (n > 1) qsort_r(order, n, sizeof *order, compare_order, &s);
    for (size_t i = 0; i < n; i++) out.as.seq->items[i] = items[order[i]];
    return out;
}

FILTER(filter_sort)
{
    UNUSED;
    if (a[2].kind == J_STRING && lf_text_find(a[2].as.s, STR(","), 0) != SIZE_MAX)
        return lf_render_fail(r, LF_EUNSUPPORTED, "filter sort: found several attributes, expected one");
    const seq items = lf_value_items(r, &self);
    value list = lf_value_seq(r, J_LIST, items.items, items.n);
    const value keys = r->status == LF_OK ? follow_all(r, &list, &a[2], lf_value_truth(&a[1])) : list;
    if (r->status != LF_OK) return keys;
    return sort_by(r, items.items, keys.as.seq->items, items.n, lf_value_truth(&a[0]));
}

FILTER(filter_dictsort)
{
    UNUSED;
    const bool by_value = a[1].kind == J_STRING && str_equal(a[1].as.s, STR("value"));
    value pairs = filter_items(r, self, a, args);
    if (r->status != LF_OK) return pairs;
    const seq items = *pairs.as.seq;
    const value path = value_int(by_value);
    const value keys = follow_all(r, &pairs, &path, lf_value_truth(&a[0]));
    if (r->status != LF_OK) return keys;
    return sort_by(r, items.items, keys.as.seq->items, items.n, lf_value_truth(&a[2]));
}

FILTER(filter_unique)
{
    UNUSED;
    const seq items = lf_value_items(r, &self);
    value list = lf_value_seq(r, J_LIST, items.items, items.n);
    const value keys = r->status == LF_OK ? follow_all(r, &list, &a[1], lf_value_truth(&a[0])) : list;
    value out = lf_value_seq(r, J_ITERATOR, NULL, items.n);
    if (r->status != LF_OK) return out;
    value *seen = keys.as.seq->items; /* those of the items that are kept come to the front */
    size_t n = 0;
    for (size_t i = 0; i < items.n && r->status == LF_OK; i++) {
        bool found = false;
        for (size_t k = 0; k < n && !found; k++) found = lf_value_equal(r, &seen[k], &seen[i]);
        if (found) continue;
        seen[n] = seen[i];
        out.as.seq->items[n++] = items.items[i];
    }
    out.as.seq->n = n;
    return out;
}

/* The smallest (sign 1) or greatest (sign -1) item; the first of equal ones. */
static value extreme(render *r, value self, const value *a, int sign)
{
    const seq items = lf_value_items(r, &self);
    value list = lf_value_seq(r, J_LIST, items.items, items.n);
    const value keys = r->status == LF_OK ? follow_all(r, &list, &a[1], lf_value_truth(&a[0])) : list;
    size_t best = 0;
    if (items.n == 0 || r->status != LF_OK) return value_undefined(-1);
    for (size_t i = 1; i < items.n; i++)
        if (sign * lf_value_compare(r, &keys.as.seq->items[i], &keys.as.seq->items[best]) < 0) best = i;
    return items.items[best];
}

FILTER(filter_min)
{
    UNUSED;
    return extreme(r, self, a, 1);
}

FILTER(filter_max)
{
    UNUSED;
    return extreme(r, self, a, -1);
}

/* ---- filters and tests of each item ---- */

/* The arguments after the first n. */
static call_args skip_args(const call_args *args, size_t n)
{
    call_args rest = *args;
    rest.items += n;
    rest.n -= n;
    return rest;
}

static const value *find_argument(render *r, const call_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (str_equal(r->t->names[args->named[i].name], name_text(name))) return &args->named[i].value;
    return NULL;
}

static value map_attribute(render *r, seq items, const value *path, const value *fallback)
{
    value out = lf_value_seq(r, J_ITERATOR, NULL, items.n);
    const bool given = fallback && fallback->kind != J_NONE;
    for (size_t i = 0; i < items.n && r->status == LF_OK; i++)
        out.as.seq->items[i] = follow(r, items.items[i], path, given ? fallback : NULL);
    return out;
}

/* map(attribute="a.b", default=x), map("filter", arguments of the filter) */
FILTER(filter_map)
{
    UNUSED;
    const value *path = find_argument(r, args, "attribute");
    if (!lf_value_truth(&self)) return lf_value_seq(r, J_ITERATOR, NULL, 0);
    const seq items = lf_value_items(r, &self);
    if (args->n == 0 && path) return map_attribute(r, items, path, find_argument(r, args, "default"));
    if (args->n == 0 || args->items[0].kind != J_STRING)
        return lf_render_fail(r, LF_EINVAL, "filter map: expected the name of a filter, or attribute=");
    const str name = args->items[0].as.s;
    const filter *f = lf_filter_find(name);
    if (!f)
        return lf_render_fail(r, LF_EUNSUPPORTED, "filter map: found the filter '%.*s'; supported are %s",
                              (int)(name.n < 40 ? name.n : 40), name.p, lf_filter_names());
    const call_args rest = skip_args(args, 1);
    value out = lf_value_seq(r, J_ITERATOR, NULL, items.n);
    for (size_t i = 0; i < items.n && r->status == LF_OK; i++)
        out.as.seq->items[i] = lf_call_bound(r, "filter", &f->signature, f->fn, items.items[i], &rest);
    return out;
}

/* select("test", arguments) and its relatives: the items for which the test of the item, or of its attribute, is `wanted`. */
static value pick_items(render *r, value self, const call_args *args, bool of_attribute, bool wanted)
{
    static const value whole = {.kind = J_ABSENT};
    const size_t n_before = of_attribute;
    const test *t = NULL;
    if (!lf_value_truth(&self)) return lf_value_seq(r, J_ITERATOR, NULL, 0);
    if (args->n < n_before)
        return lf_render_fail(r, LF_EINVAL, "filter selectattr: expected the name of an attribute");
    if (args->n > n_before) {
        const value *name = &args->items[n_before];
        t = name->kind == J_STRING ? lf_test_find(name->as.s) : NULL;
        if (!t)
            return lf_render_fail(r, LF_EUNSUPPORTED,
                                  "filter select: found an unknown test; supported are %s", lf_test_names());
    }
    const call_args rest = skip_args(args, n_before + (t != NULL));
    const seq items = lf_value_items(r, &self);
    value out = lf_value_seq(r, J_ITERATOR, NULL, items.n);
    size_t n = 0;
    for (size_t i = 0; i < items.n && r->status == LF_OK; i++) {
        value v = follow(r, items.items[i], of_attribute ? &args->items[0] : &whole, NULL);
        if (t) v = lf_call_bound(r, "test", &t->signature, t->fn, v, &rest);
        if (lf_value_truth(&v) == wanted) out.as.seq->items[n++] = items.items[i];
    }
    if (r->status == LF_OK) out.as.seq->n = n;
    return out;
}

FILTER(filter_select)
{
    UNUSED;
    return pick_items(r, self, args, false, true);
}

FILTER(filter_reject)
{
    UNUSED;
    return pick_items(r, self, args, false, false);
}

FILTER(filter_selectattr)
{
    UNUSED;
    return pick_items(r, self, args, true, true);
}

FILTER(filter_rejectattr)
{
    UNUSED;
    return pick_items(r, self, args, true, false);
}

/* ---- the table ---- */

static const filter filters[] = {
    {{"abs", {NULL}, 0, false}, filter_abs},
    {{"capitalize", {NULL}, 0, false}, filter_capitalize},
    {{"count", {NULL}, 0, false}, filter_length},
    {{"d", {"default_value", "boolean"}, 0, false}, filter_default},
    {{"default", {"default_value", "boolean"}, 0, false}, filter_default},
    {{"dictsort", {"case_sensitive", "by", "reverse"}, 0, false}, filter_dictsort},
    {{"first", {NULL}, 0, false}, filter_first},
    {{"float", {"default"}, 0, false}, filter_float},
    {{"format", {NULL}, 0, true}, filter_format},
    {{"indent", {"width", "first", "blank"}, 0, false}, filter_indent},
    {{"int", {"default"}, 0, false}, filter_int},
    {{"items", {NULL}, 0, false}, filter_items},
    {{"join", {"d", "attribute"}, 0, false}, filter_join},
    {{"last", {NULL}, 0, false}, filter_last},
    {{"length", {NULL}, 0, false}, filter_length},
    {{"list", {NULL}, 0, false}, filter_list},
    {{"lower", {NULL}, 0, false}, filter_lower},
    {{"map", {NULL}, 0, true}, filter_map},
    {{"max", {"case_sensitive", "attribute"}, 0, false}, filter_max},
    {{"min", {"case_sensitive", "attribute"}, 0, false}, filter_min},
    {{"reject", {NULL}, 0, true}, filter_reject},
    {{"rejectattr", {NULL}, 0, true}, filter_rejectattr},
    {{"replace", {"old", "new", "count"}, 2, false}, filter_replace},
    {{"reverse", {NULL}, 0, false}, filter_reverse},
    {{"round", {"precision", "method"}, 0, false}, filter_round},
    {{"safe", {NULL}, 0, false}, filter_safe},
    {{"select", {NULL}, 0, true}, filter_select},
    {{"selectattr", {NULL}, 0, true}, filter_selectattr},
    {{"sort", {"reverse", "case_sensitive", "attribute"}, 0, false}, filter_sort},
    {{"string", {NULL}, 0, false}, filter_string},
    {{"title", {NULL}, 0, false}, filter_title},
    {{"tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0, false}, filter_tojson},
    {{"trim", {"chars"}, 0, false}, filter_trim},
    {{"unique", {"case_sensitive", "attribute"}, 0, false}, filter_unique},
    {{"upper", {NULL}, 0, false}, filter_upper},
};

const filter *lf_filter_find(str name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (str_equal(name_text(filters[i].signature.name), name)) return &filters[i];
    return NULL;
}

const char *lf_filter_names(void)
{
    return "abs, capitalize, count, d, default, dictsort, first, float, format, indent, int, items, join, last, "
           "length, list, lower, map, max, min, reject, rejectattr, replace, reverse, round, safe, select, "
           "selectattr, sort, string, title, tojson, trim, unique, upper";
}

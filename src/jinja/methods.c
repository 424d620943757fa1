/* Methods of strings, lists, dicts and loops: those of Python's that leave their object as it is. */
#include "jinja/jinja_int.h"

#include <string.h>
#include <utf8proc.h>

/* ---- arguments ---- */

static bool need_string(render *r, const char *what, const value *v)
{
    if (v->kind == J_STRING) return true;
    (void)lf_render_fail(r, LF_EINVAL, "%s: found %s, expected a string", what, lf_value_type(v));
    return false;
}

/* An optional string: absent and none are NULL in *out. */
static bool optional_string(render *r, const char *what, const value *v, const str **out)
{
    *out = v->kind == J_STRING ? &v->as.s : NULL;
    return v->kind == J_ABSENT || v->kind == J_NONE || need_string(r, what, v);
}

static bool optional_integer(render *r, const char *what, const value *v, int64_t *out)
{
    if (value_is_integer(v)) *out = value_integer(v);
    if (v->kind == J_ABSENT || value_is_integer(v)) return true;
    (void)lf_render_fail(r, LF_EINVAL, "%s: found %s, expected an integer", what, lf_value_type(v));
    return false;
}

#define METHOD(name) static value name(render *r, value self, const value *a, const call_args *args)
#define UNUSED       (void)r, (void)self, (void)a, (void)args

/* ---- strings ---- */

static value strip(render *r, value self, const value *chars, int sides)
{
    const str *set;
    if (!optional_string(r, "strip", chars, &set) || !lf_render_spend(r, steps_of_bytes(self.as.s.n)))
        return value_undefined(-1);
    return value_str(lf_text_strip(self.as.s, set, sides));
}

METHOD(str_strip)
{
    UNUSED;
    return strip(r, self, &a[0], SIDE_BOTH);
}

METHOD(str_lstrip)
{
    UNUSED;
    return strip(r, self, &a[0], SIDE_LEFT);
}

METHOD(str_rstrip)
{
    UNUSED;
    return strip(r, self, &a[0], SIDE_RIGHT);
}

METHOD(str_split)
{
    UNUSED;
    const str *separator;
    int64_t count = -1;
    if (!optional_string(r, "split", &a[0], &separator) || !optional_integer(r, "split", &a[1], &count))
        return value_undefined(-1);
    return lf_text_split(r, self.as.s, separator, count);
}

METHOD(str_rsplit)
{
    UNUSED;
    const str *separator;
    int64_t count = -1;
    if (!optional_string(r, "rsplit", &a[0], &separator) || !optional_integer(r, "rsplit", &a[1], &count))
        return value_undefined(-1);
    return lf_text_split_right(r, self.as.s, separator, count);
}

METHOD(str_splitlines)
{
    UNUSED;
    return lf_text_split_lines(r, self.as.s, lf_value_truth(&a[0]));
}

/* One string, or a tuple of them. */
static value has_affix(render *r, value self, const value *affix, bool at_end)
{
    const str s = self.as.s;
    if (affix->kind == J_TUPLE) {
        for (size_t i = 0; i < affix->as.seq->n && r->status == LF_OK; i++)
            if (need_string(r, "startswith", &affix->as.seq->items[i]) &&
                has_affix(r, self, &affix->as.seq->items[i], at_end).as.truth)
                return value_bool(true);
        return value_bool(false);
    }
    if (!need_string(r, at_end ? "endswith" : "startswith", affix)) return value_bool(false);
    const size_t n = affix->as.s.n;
    return value_bool(n <= s.n && str_equal((str){s.p + (at_end ? s.n - n : 0), n}, affix->as.s));
}

METHOD(str_startswith)
{
    UNUSED;
    return has_affix(r, self, &a[0], false);
}

METHOD(str_endswith)
{
    UNUSED;
    return has_affix(r, self, &a[0], true);
}

METHOD(str_removeprefix)
{
    UNUSED;
    const bool has = need_string(r, "removeprefix", &a[0]) && has_affix(r, self, &a[0], false).as.truth;
    return has ? value_str((str){self.as.s.p + a[0].as.s.n, self.as.s.n - a[0].as.s.n}) : self;
}

METHOD(str_removesuffix)
{
    UNUSED;
    const bool has = need_string(r, "removesuffix", &a[0]) && has_affix(r, self, &a[0], true).as.truth;
    return has ? value_str((str){self.as.s.p, self.as.s.n - a[0].as.s.n}) : self;
}

METHOD(str_replace)
{
    UNUSED;
    int64_t count = -1;
    if (!need_string(r, "replace", &a[0]) || !need_string(r, "replace", &a[1]) ||
        !optional_integer(r, "replace", &a[2], &count))
        return value_undefined(-1);
    return lf_text_replace(r, self.as.s, a[0].as.s, a[1].as.s, count);
}

METHOD(str_upper)
{
    UNUSED;
    return lf_text_case(r, self.as.s, CASE_UPPER);
}

METHOD(str_lower)
{
    UNUSED;
    return lf_text_case(r, self.as.s, CASE_LOWER);
}

METHOD(str_title)
{
    UNUSED;
    return lf_text_case(r, self.as.s, CASE_TITLE);
}

METHOD(str_capitalize)
{
    UNUSED;
    return lf_text_case(r, self.as.s, CASE_CAPITALIZE);
}

METHOD(str_join)
{
    UNUSED;
    value list = a[0];
    const seq items = lf_value_items(r, &list);
    for (size_t i = 0; i < items.n; i++)
        if (!need_string(r, "join", &items.items[i])) return value_undefined(-1);
    return lf_text_join(r, self.as.s, items.items, items.n);
}

/* A position as Python gives it: -1 for none. */
static value position(str s, size_t at)
{
    return value_int(at == SIZE_MAX ? -1 : (int64_t)lf_text_length((str){s.p, at}));
}

METHOD(str_find)
{
    UNUSED;
    if (!need_string(r, "find", &a[0]) || !lf_render_spend(r, steps_of_bytes(self.as.s.n)))
        return value_undefined(-1);
    return position(self.as.s, lf_text_find(self.as.s, a[0].as.s, 0));
}

METHOD(str_rfind)
{
    UNUSED;
    if (!need_string(r, "rfind", &a[0]) || !lf_render_spend(r, steps_of_bytes(self.as.s.n)))
        return value_undefined(-1);
    return position(self.as.s, lf_text_find_last(self.as.s, a[0].as.s, self.as.s.n));
}

METHOD(str_count)
{
    UNUSED;
    if (!need_string(r, "count", &a[0]) || !lf_render_spend(r, steps_of_bytes(self.as.s.n)))
        return value_undefined(-1);
    if (a[0].as.s.n == 0) return value_int((int64_t)lf_text_length(self.as.s) + 1);
    int64_t n = 0;
    for (size_t at = 0; (at = lf_text_find(self.as.s, a[0].as.s, at)) != SIZE_MAX; at += a[0].as.s.n) n++;
    return value_int(n);
}

static bool is_digit(int32_t cp)
{
    return utf8proc_category(cp) == UTF8PROC_CATEGORY_ND;
}

static bool is_letter(int32_t cp)
{
    const utf8proc_category_t c = utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool is_letter_or_digit(int32_t cp)
{
    return is_letter(cp) || is_digit(cp);
}

/* Whether there are characters and all are of a kind. */
static value all_are(render *r, str s, bool (*kind)(int32_t))
{
    bool all = s.n > 0 && lf_render_spend(r, steps_of_bytes(s.n));
    for (size_t at = 0; all && at < s.n;) all = kind(lf_text_next(s, &at));
    return value_bool(all);
}

METHOD(str_isdigit)
{
    UNUSED;
    return all_are(r, self.as.s, is_digit);
}

METHOD(str_isalpha)
{
    UNUSED;
    return all_are(r, self.as.s, is_letter);
}

METHOD(str_isalnum)
{
    UNUSED;
    return all_are(r, self.as.s, is_letter_or_digit);
}

METHOD(str_isspace)
{
    UNUSED;
    return all_are(r, self.as.s, lf_text_is_space);
}

METHOD(str_isupper)
{
    UNUSED;
    return value_bool(lf_text_is_case(self.as.s, CASE_UPPER));
}

METHOD(str_islower)
{
    UNUSED;
    return value_bool(lf_text_is_case(self.as.s, CASE_LOWER));
}

/* ---- lists ---- */

METHOD(list_index)
{
    UNUSED;
    for (size_t i = 0; i < self.as.seq->n && r->status == LF_OK; i++)
        if (lf_value_equal(r, &self.as.seq->items[i], &a[0])) return value_int((int64_t)i);
    return lf_render_fail(r, LF_EINVAL, "index: found no such item in the list");
}

METHOD(list_count)
{
    UNUSED;
    int64_t n = 0;
    for (size_t i = 0; i < self.as.seq->n && r->status == LF_OK; i++)
        n += lf_value_equal(r, &self.as.seq->items[i], &a[0]);
    return value_int(n);
}

/* ---- dicts ---- */

static value view(render *r, const dict *d, const char *name, bool keys, bool values)
{
    value out = lf_value_seq(r, J_VIEW, NULL, d->n);
    if (out.kind == J_UNDEFINED) return out;
    out.as.seq->view = name;
    for (size_t i = 0; i < d->n; i++) {
        const value both[] = {d->pairs[i].key, d->pairs[i].value};
        out.as.seq->items[i] = keys && values ? lf_value_seq(r, J_TUPLE, both, 2) : both[values];
    }
    return out;
}

METHOD(dict_items)
{
    UNUSED;
    return view(r, self.as.dict, "dict_items", true, true);
}

METHOD(dict_keys)
{
    UNUSED;
    return view(r, self.as.dict, "dict_keys", true, false);
}

METHOD(dict_values)
{
    UNUSED;
    return view(r, self.as.dict, "dict_values", false, true);
}

METHOD(dict_get)
{
    UNUSED;
    const value *found = lf_dict_find(r, self.as.dict, &a[0]);
    return found ? *found : a[1].kind == J_ABSENT ? value_none() : a[1];
}

METHOD(dict_copy)
{
    UNUSED;
    return self; /* dicts do not change */
}

/* ---- loops ---- */

METHOD(loop_cycle)
{
    UNUSED;
    if (args->n == 0) return lf_render_fail(r, LF_EINVAL, "loop.cycle: found no arguments, expected some");
    return args->items[self.as.loop->i % args->n];
}

METHOD(loop_changed)
{
    UNUSED;
    loop *l = self.as.loop;
    const value now = lf_value_seq(r, J_TUPLE, args->items, args->n);
    const bool changed = l->last_changed.kind == J_ABSENT || !lf_value_equal(r, &l->last_changed, &now);
    l->last_changed = now;
    return value_bool(changed);
}

/* ---- tables ---- */

static const method str_methods[] = {
    {{"strip", {"chars"}, 0, false}, str_strip},
    {{"lstrip", {"chars"}, 0, false}, str_lstrip},
    {{"rstrip", {"chars"}, 0, false}, str_rstrip},
    {{"split", {"sep", "maxsplit"}, 0, false}, str_split},
    {{"rsplit", {"sep", "maxsplit"}, 0, false}, str_rsplit},
    {{"splitlines", {"keepends"}, 0, false}, str_splitlines},
    {{"startswith", {"prefix"}, 1, false}, str_startswith},
    {{"endswith", {"suffix"}, 1, false}, str_endswith},
    {{"removeprefix", {"prefix"}, 1, false}, str_removeprefix},
    {{"removesuffix", {"suffix"}, 1, false}, str_removesuffix},
    {{"replace", {"old", "new", "count"}, 2, false}, str_replace},
    {{"upper", {NULL}, 0, false}, str_upper},
    {{"lower", {NULL}, 0, false}, str_lower},
    {{"title", {NULL}, 0, false}, str_title},
    {{"capitalize", {NULL}, 0, false}, str_capitalize},
    {{"join", {"iterable"}, 1, false}, str_join},
    {{"find", {"sub"}, 1, false}, str_find},
    {{"rfind", {"sub"}, 1, false}, str_rfind},
    {{"count", {"sub"}, 1, false}, str_count},
    {{"isdigit", {NULL}, 0, false}, str_isdigit},
    {{"isalpha", {NULL}, 0, false}, str_isalpha},
    {{"isalnum", {NULL}, 0, false}, str_isalnum},
    {{"isspace", {NULL}, 0, false}, str_isspace},
    {{"isupper", {NULL}, 0, false}, str_isupper},
    {{"islower", {NULL}, 0, false}, str_islower},
};

static const method list_methods[] = {
    {{"index", {"value"}, 1, false}, list_index},
    {{"count", {"value"}, 1, false}, list_count},
};

static const method dict_methods[] = {
    {{"items", {NULL}, 0, false}, dict_items},   {{"keys", {NULL}, 0, false}, dict_keys},
    {{"values", {NULL}, 0, false}, dict_values}, {{"get", {"key", "default"}, 1, false}, dict_get},
    {{"copy", {NULL}, 0, false}, dict_copy},
};

static const method loop_methods[] = {
    {{"cycle", {NULL}, 0, true}, loop_cycle},
    {{"changed", {NULL}, 0, true}, loop_changed},
};

#define FIND(table, name) find(table, sizeof(table) / sizeof *(table), name)

static const method *find(const method *table, size_t n, str name)
{
    for (size_t i = 0; i < n; i++)
        if (str_equal((str){table[i].signature.name, strlen(table[i].signature.name)}, name))
            return &table[i];
    return NULL;
}

const method *lf_method_find(value_kind kind, str name)
{
    switch (kind) {
    case J_STRING: return FIND(str_methods, name);
    case J_LIST:
    case J_TUPLE: return FIND(list_methods, name);
    case J_DICT: return FIND(dict_methods, name);
    case J_LOOP: return FIND(loop_methods, name);
    default: return NULL;
    }
}

/* A dict's attribute is a method before it is a key, also where the sandbox refuses it. */
bool lf_method_refused(value_kind kind, str name)
{
    static const char *const refused[] = {"clear", "fromkeys", "pop", "popitem", "setdefault", "update"};
    for (size_t i = 0; kind == J_DICT && i < sizeof refused / sizeof *refused; i++)
        if (str_equal((str){refused[i], strlen(refused[i])}, name)) return true;
    return false;
}

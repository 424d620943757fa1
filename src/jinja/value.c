/* Values: making them, and what Python says about them. Positions out of range, missing keys and the like give J_UNDEFINED, as
 * jinja2's look-ups do; operations that Python refuses fail the rendering. */
#include "jinja/jinja_int.h"

#include <string.h>

const char *lf_value_type(const value *v)
{
    switch (v->kind) {
    case J_ABSENT:
    case J_UNDEFINED: return "an undefined value";
    case J_NONE: return "none";
    case J_BOOL: return "a bool";
    case J_INT: return "an integer";
    case J_FLOAT: return "a float";
    case J_STRING: return "a string";
    case J_LIST: return "a list";
    case J_TUPLE: return "a tuple";
    case J_RANGE: return "a range";
    case J_VIEW: return "a view of a dict";
    case J_ITERATOR: return "a generator";
    case J_DICT: return "a dict";
    case J_NAMESPACE: return "a namespace";
    case J_LOOP: return "a loop";
    case J_MACRO: return "a macro";
    case J_METHOD: return "a method";
    case J_FUNCTION: return "a function";
    }
    return "nothing";
}

/* ---- making ---- */

value lf_value_copy(render *r, const char *p, size_t n)
{
    char *copy = lf_render_spend(r, steps_of_bytes(n)) ? lf_render_alloc(r, n, 1) : NULL;
    if (!copy) return value_undefined(-1);
    if (n) memcpy(copy, p, n);
    return value_str((str){copy, n});
}

value lf_value_seq(render *r, value_kind kind, const value *items, size_t n)
{
    seq *s = lf_render_spend(r, 1 + n) ? lf_render_alloc(r, 1, sizeof *s) : NULL;
    value *copy = s ? lf_render_alloc(r, n, sizeof *copy) : NULL;
    if (!copy) return value_undefined(-1);
    if (items && n) memcpy(copy, items, n * sizeof *copy);
    *s = (seq){.items = copy, .n = n};
    return (value){.kind = kind, .as.seq = s};
}

value lf_value_dict(render *r, value_kind kind, size_t cap)
{
    dict *d = lf_render_spend(r, 1 + cap) ? lf_render_alloc(r, 1, sizeof *d) : NULL;
    pair *pairs = d ? lf_render_alloc(r, cap, sizeof *pairs) : NULL;
    if (!pairs) return value_undefined(-1);
    *d = (dict){.pairs = pairs, .cap = cap};
    return (value){.kind = kind, .as.dict = d};
}

static bool is_hashable(const value *v)
{
    return v->kind == J_NONE || v->kind == J_STRING || value_is_number(v) || v->kind == J_TUPLE ||
           v->kind == J_UNDEFINED;
}

void lf_dict_set(render *r, dict *d, value key, value v)
{
    if (!is_hashable(&key)) {
        (void)lf_render_fail(r, LF_EINVAL, "found %s as the key of a dict, expected a string or number",
                             lf_value_type(&key));
        return;
    }
    value *there = (value *)lf_dict_find(r, d, &key);
    if (there) {
        *there = v;
        return;
    }
    if (d->n == d->cap) {
        const size_t cap = d->cap ? 2 * d->cap : 4;
        pair *pairs = lf_render_alloc(r, cap, sizeof *pairs);
        if (!pairs) return;
        if (d->n) memcpy(pairs, d->pairs, d->n * sizeof *pairs);
        d->pairs = pairs;
        d->cap = cap;
    }
    d->pairs[d->n++] = (pair){.key = key, .value = v};
}

/* ---- asking ---- */

bool lf_value_truth(const value *v)
{
    switch (v->kind) {
    case J_ABSENT:
    case J_UNDEFINED:
    case J_NONE: return false;
    case J_BOOL: return v->as.truth;
    case J_INT: return v->as.i != 0;
    case J_FLOAT: return v->as.f != 0;
    case J_STRING: return v->as.s.n != 0;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: return v->as.seq->n != 0;
    case J_DICT: return v->as.dict->n != 0;
    default: return true;
    }
}

static bool equal_items(render *r, const seq *a, const seq *b)
{
    bool equal = a->n == b->n;
    for (size_t i = 0; equal && i < a->n; i++) equal = lf_value_equal(r, &a->items[i], &b->items[i]);
    return equal;
}

static bool equal_dicts(render *r, const dict *a, const dict *b)
{
    bool equal = a->n == b->n;
    for (size_t i = 0; equal && i < a->n; i++) {
        const value *other = lf_dict_find(r, b, &a->pairs[i].key);
        equal = other && lf_value_equal(r, &a->pairs[i].value, other);
    }
    return equal;
}

static bool equal_numbers(const value *a, const value *b)
{
    if (value_is_integer(a) && value_is_integer(b)) return value_integer(a) == value_integer(b);
    return value_number(a) == value_number(b);
}

static bool equal_kinds(render *r, const value *a, const value *b)
{
    switch (a->kind) {
    case J_STRING: return str_equal(a->as.s, b->as.s);
    case J_LIST:
    case J_TUPLE:
    case J_RANGE: return equal_items(r, a->as.seq, b->as.seq);
    case J_DICT: return equal_dicts(r, a->as.dict, b->as.dict);
    case J_VIEW:
    case J_ITERATOR: return a->as.seq == b->as.seq;
    case J_NAMESPACE: return a->as.dict == b->as.dict;
    case J_LOOP: return a->as.loop == b->as.loop;
    case J_MACRO: return a->as.macro == b->as.macro;
    case J_METHOD: return a->as.bound == b->as.bound;
    case J_FUNCTION: return a->name == b->name;
    default: return true; /* none, undefined */
    }
}

bool lf_value_equal(render *r, const value *a, const value *b)
{
    if (value_is_number(a) && value_is_number(b)) return equal_numbers(a, b);
    if (a->kind != b->kind || !lf_render_enter(r)) return false;
    const bool equal = lf_render_spend(r, a->kind == J_STRING ? steps_of_bytes(a->as.s.n) : 1) &&
                       equal_kinds(r, a, b);
    r->depth--;
    return equal;
}

static int compare_text(str a, str b)
{
    const size_t n = a.n < b.n ? a.n : b.n;
    const int order = n ? memcmp(a.p, b.p, n) : 0; /* UTF-8 sorts as its code points do */
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static int compare_numbers(const value *a, const value *b)
{
    if (value_is_integer(a) && value_is_integer(b))
        return (value_integer(a) > value_integer(b)) - (value_integer(a) < value_integer(b));
    return (value_number(a) > value_number(b)) - (value_number(a) < value_number(b));
}

static int compare_items(render *r, const seq *a, const seq *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (!lf_value_equal(r, &a->items[i], &b->items[i]))
            return lf_value_compare(r, &a->items[i], &b->items[i]);
    return (a->n > b->n) - (a->n < b->n);
}

int lf_value_compare(render *r, const value *a, const value *b)
{
    int order = 0;
    if (value_is_number(a) && value_is_number(b)) return compare_numbers(a, b);
    if (!lf_render_enter(r)) return 0;
    if (a->kind == J_STRING && b->kind == J_STRING)
        order = lf_render_spend(r, steps_of_bytes(a->as.s.n)) ? compare_text(a->as.s, b->as.s) : 0;
    else if (a->kind == b->kind && (a->kind == J_LIST || a->kind == J_TUPLE))
        order = compare_items(r, a->as.seq, b->as.seq);
    else
        (void)lf_render_fail(r, LF_EINVAL, "found %s and %s, expected two of a kind to compare",
                             lf_value_type(a), lf_value_type(b));
    r->depth--;
    return order;
}

bool lf_value_contains(render *r, const value *all, const value *item)
{
    if (all->kind == J_STRING) {
        if (item->kind == J_STRING)
            return lf_render_spend(r, steps_of_bytes(all->as.s.n)) &&
                   lf_text_find(all->as.s, item->as.s, 0) != SIZE_MAX;
        (void)lf_render_fail(r, LF_EINVAL, "found %s before 'in' and a string after it, expected two strings",
                             lf_value_type(item));
        return false;
    }
    if (all->kind == J_DICT) {
        if (is_hashable(item)) return lf_dict_find(r, all->as.dict, item) != NULL;
        (void)lf_render_fail(r, LF_EINVAL,
                             "found %s before 'in' and a dict after it, expected a string or number",
                             lf_value_type(item));
        return false;
    }
    value walked = *all;
    const seq items = lf_value_items(r, &walked);
    for (size_t i = 0; i < items.n && r->status == LF_OK; i++)
        if (lf_value_equal(r, &items.items[i], item)) return true;
    return false;
}

const value *lf_dict_find(render *r, const dict *d, const value *key)
{
    for (size_t i = 0; i < d->n; i++)
        if (lf_value_equal(r, &d->pairs[i].key, key)) return &d->pairs[i].value;
    return NULL;
}

const value *lf_dict_find_str(const dict *d, str key)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->pairs[i].key.kind == J_STRING && str_equal(d->pairs[i].key.as.s, key))
            return &d->pairs[i].value;
    return NULL;
}

/* ---- walking ---- */

static seq characters(render *r, str s)
{
    const size_t n = lf_text_length(s);
    seq all = {.items = lf_render_spend(r, n) ? lf_render_alloc(r, n, sizeof(value)) : NULL};
    if (!all.items) return all;
    for (size_t at = 0; at < s.n; all.n++) {
        const size_t start = at;
        (void)lf_text_next(s, &at);
        all.items[all.n] = value_str((str){s.p + start, at - start});
    }
    return all;
}

static seq keys_of(render *r, const dict *d)
{
    seq all = {.items = lf_render_spend(r, d->n) ? lf_render_alloc(r, d->n, sizeof(value)) : NULL};
    if (!all.items) return all;
    for (; all.n < d->n; all.n++) all.items[all.n] = d->pairs[all.n].key;
    return all;
}

seq lf_value_items(render *r, value *v)
{
    seq rest;
    switch (v->kind) {
    case J_UNDEFINED: return (seq){0};
    case J_STRING: return characters(r, v->as.s);
    case J_DICT: return keys_of(r, v->as.dict);
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: return lf_render_spend(r, 1) ? *v->as.seq : (seq){0};
    case J_ITERATOR:
        rest = (seq){.items = v->as.seq->items + v->as.seq->at, .n = v->as.seq->n - v->as.seq->at};
        v->as.seq->at = v->as.seq->n;
        return rest;
    default: break;
    }
    (void)lf_render_fail(r, LF_EINVAL, "found %s, expected a list, a dict or a string to walk over",
                         lf_value_type(v));
    return (seq){0};
}

size_t lf_value_length(render *r, const value *v)
{
    switch (v->kind) {
    case J_UNDEFINED: return 0;
    case J_STRING: return lf_render_spend(r, steps_of_bytes(v->as.s.n)) ? lf_text_length(v->as.s) : 0;
    case J_DICT: return v->as.dict->n;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: return v->as.seq->n;
    case J_LOOP: return v->as.loop->all.n;
    default: break;
    }
    (void)lf_render_fail(r, LF_EINVAL, "found %s, expected something with a length", lf_value_type(v));
    return 0;
}

/* ---- look-ups ---- */

/* Where the first i code points of s end. */
static size_t offset_of(str s, size_t i)
{
    size_t at = 0;
    while (i-- > 0) (void)lf_text_next(s, &at);
    return at;
}

static bool is_indexed(const value *v)
{
    return v->kind == J_STRING || v->kind == J_LIST || v->kind == J_TUPLE || v->kind == J_RANGE;
}

static value item_at(render *r, const value *v, int64_t i)
{
    const int64_t n = (int64_t)lf_value_length(r, v);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return value_undefined(-1);
    if (v->kind != J_STRING) return v->as.seq->items[i];
    size_t at = offset_of(v->as.s, (size_t)i);
    const size_t start = at;
    (void)lf_text_next(v->as.s, &at);
    return value_str((str){v->as.s.p + start, at - start});
}

static value bind(render *r, const value *self, const method *m)
{
    bound *b = lf_render_alloc(r, 1, sizeof *b);
    if (!b) return value_undefined(-1);
    *b = (bound){.self = *self, .method = m};
    return (value){.kind = J_METHOD, .as.bound = b};
}

value lf_value_item(render *r, const value *v, const value *key)
{
    const value *found = NULL;
    if (v->kind == J_UNDEFINED)
        return lf_render_fail(r, LF_EINVAL, "'%.*s' is undefined, expected something with items",
                              v->name < 0 ? 5 : (int)r->t->names[v->name].n,
                              v->name < 0 ? "value" : r->t->names[v->name].p);
    if (v->kind == J_DICT && is_hashable(key))
        found = lf_dict_find(r, v->as.dict, key);
    else if (is_indexed(v) && value_is_integer(key))
        return item_at(r, v, value_integer(key));
    if (found) return *found;
    if (key->kind != J_STRING) return value_undefined(-1);
    if (v->kind == J_NAMESPACE) found = lf_dict_find_str(v->as.dict, key->as.s);
    const method *m = lf_method_find(v->kind, key->as.s); /* jinja2: then an attribute */
    return found ? *found : m ? bind(r, v, m) : value_undefined(-1);
}

/* Python's rules for from:to:step over n items: the first index and how many there are. */
static bool slice_range(render *r, const value bounds[3], int64_t n, int64_t *first, int64_t *step,
                        size_t *count)
{
    int64_t ends[2];
    *step = bounds[2].kind == J_NONE ? 1 : value_integer(&bounds[2]);
    if (*step == 0) {
        (void)lf_render_fail(r, LF_EINVAL, "found 0 as the step of a slice, expected another number");
        return false;
    }
    const int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? n - 1 : n;
    for (int i = 0; i < 2; i++) {
        if (bounds[i].kind == J_NONE) {
            ends[i] = (*step < 0) == (i == 0) ? high : low;
            continue;
        }
        ends[i] = value_integer(&bounds[i]);
        if (ends[i] < 0) ends[i] = ends[i] < -n ? low : ends[i] + n;
        ends[i] = ends[i] < low ? low : ends[i] > high ? high : ends[i];
    }
    *first = ends[0];
    const int64_t distance = *step < 0 ? ends[0] - ends[1] : ends[1] - ends[0];
    /* the magnitude as an unsigned number: -INT64_MIN is none of int64_t */
    const uint64_t stride = *step < 0 ? 0 - (uint64_t)*step : (uint64_t)*step;
    *count = distance > 0 ? (size_t)(((uint64_t)distance - 1) / stride + 1) : 0;
    return true;
}

static value slice_items(render *r, value_kind kind, const value *items, int64_t first, int64_t step,
                         size_t count)
{
    value out = lf_value_seq(r, kind, NULL, count);
    if (out.kind == J_UNDEFINED) return out;
    for (size_t i = 0; i < count; i++) out.as.seq->items[i] = items[first + (int64_t)i * step];
    return out;
}

static value slice_text(render *r, str s, int64_t first, int64_t step, size_t count)
{
    if (step == 1) {
        const size_t start = offset_of(s, (size_t)first);
        return value_str((str){s.p + start, offset_of((str){s.p + start, s.n - start}, count)});
    }
    const seq all = characters(r, s);
    const value picked = all.items ? slice_items(r, J_LIST, all.items, first, step, count)
                                   : value_undefined(-1);
    return picked.kind == J_LIST ? lf_text_join(r, STR(""), picked.as.seq->items, count) : picked;
}

value lf_value_slice(render *r, const value *v, const value bounds[3])
{
    int64_t first, step;
    size_t count;
    if (v->kind == J_UNDEFINED) return lf_value_item(r, v, &bounds[0]);
    if (!is_indexed(v))
        return lf_render_fail(r, LF_EINVAL, "found a slice of %s, expected one of a string or list",
                              lf_value_type(v));
    for (int i = 0; i < 3; i++)
        if (bounds[i].kind != J_NONE && !value_is_integer(&bounds[i]))
            return lf_render_fail(r, LF_EINVAL, "found %s in a slice, expected integers",
                                  lf_value_type(&bounds[i]));
    if (!slice_range(r, bounds, (int64_t)lf_value_length(r, v), &first, &step, &count))
        return value_undefined(-1);
    if (count == 0) first = 0;
    if (v->kind == J_STRING) return slice_text(r, v->as.s, first, step, count);
    const value_kind kind = v->kind == J_RANGE ? J_LIST : v->kind;
    return slice_items(r, kind, v->as.seq->items, first, step, count);
}

static value loop_attribute(const loop *l, int name)
{
    const size_t n = l->all.n, i = l->i;
    switch (name) {
    case NAME_index: return value_int((int64_t)i + 1);
    case NAME_index0: return value_int((int64_t)i);
    case NAME_revindex: return value_int((int64_t)(n - i));
    case NAME_revindex0: return value_int((int64_t)(n - i) - 1);
    case NAME_first: return value_bool(i == 0);
    case NAME_last: return value_bool(i + 1 == n);
    case NAME_length: return value_int((int64_t)n);
    case NAME_previtem: return i == 0 ? value_undefined(name) : l->all.items[i - 1];
    case NAME_nextitem: return i + 1 == n ? value_undefined(name) : l->all.items[i + 1];
    case NAME_depth: return value_int(1); /* recursive loops are refused */
    case NAME_depth0: return value_int(0);
    default: return value_undefined(name);
    }
}

value lf_value_attribute(render *r, const value *v, int name)
{
    const str text = r->t->names[name];
    if (v->kind == J_UNDEFINED) return lf_value_item(r, v, v);
    const method *m = lf_method_find(v->kind, text);
    if (m) return bind(r, v, m);
    if (v->kind == J_LOOP) return loop_attribute(v->as.loop, name);
    if (v->kind == J_MACRO && name == NAME_name) {
        const int own = v->as.macro->node->name;
        return own < 0 ? value_none() : value_str(r->t->names[own]);
    }
    const bool keyed = v->kind == J_NAMESPACE || (v->kind == J_DICT && !lf_method_refused(v->kind, text));
    const value *found = keyed ? lf_dict_find_str(v->as.dict, text) : NULL;
    if (keyed && !lf_render_spend(r, 1 + v->as.dict->n / 4)) return value_undefined(name);
    return found ? *found : value_undefined(name);
}

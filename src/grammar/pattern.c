/* Regular expressions (pattern.h): a recursive parser makes a tree, and the tree an NFA, from its end to its beginning. */
#include "grammar/pattern.h"

#include "token/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CODE_POINT = 0x10FFFF, UNBOUNDED = -1, NO_NODE = -1 };

typedef struct range {
    uint32_t lo, hi;
} range;

typedef enum node_kind { NODE_SET, NODE_SEQUENCE, NODE_ALTERNATIVES, NODE_REPEAT } node_kind;

/* A list of children is linked backwards, which is the order in which an NFA is built. */
typedef struct node {
    node_kind kind;
    int child, previous;      /* the last child, the sibling before; or NO_NODE */
    int min, max;             /* of a repetition */
    size_t i_range, n_ranges; /* of a set */
    bool at_begin, at_end;    /* of an outermost sequence: ^ and $ */
} node;

typedef struct parser {
    const char *text;
    size_t len, at;
    int depth;
    node *nodes;
    size_t n_nodes, cap_nodes;
    range *ranges;
    size_t n_ranges, cap_ranges;
    lf_error *err;
} parser;

static const range digits[] = {{'0', '9'}}, words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                   spaces[] = {{'\t', '\r'}, {' ', ' '}},
                   line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}},
                   /* all that is white space to any of the references */
    wide_spaces[] = {{'\t', '\r'},     {' ', ' '},       {0x85, 0x85},     {0xA0, 0xA0},
                     {0x1680, 0x1680}, {0x180E, 0x180E}, {0x2000, 0x200A}, {0x2028, 0x2029},
                     {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};

static lf_status refuse(const parser *p, size_t at, const char *found, const char *expected)
{
    return lf_fail(p->err, LF_EINVAL, "regular expression, byte %zu: found %s, expected %s", at, found,
                   expected);
}

/* ---- the tree ---- */

static lf_status add_node(int *out, parser *p, node n)
{
    if (p->n_nodes == p->cap_nodes) {
        const size_t cap = p->cap_nodes ? p->cap_nodes * 2 : 64;
        node *nodes = realloc(p->nodes, cap * sizeof *nodes);
        if (!nodes) return lf_fail_memory(p->err, "a regular expression", cap * sizeof *nodes);
        p->nodes = nodes;
        p->cap_nodes = cap;
    }
    p->nodes[p->n_nodes] = n;
    *out = (int)p->n_nodes++;
    return LF_OK;
}

static lf_status add_range(parser *p, uint32_t lo, uint32_t hi)
{
    if (p->n_ranges == p->cap_ranges) {
        const size_t cap = p->cap_ranges ? p->cap_ranges * 2 : 64;
        range *ranges = realloc(p->ranges, cap * sizeof *ranges);
        if (!ranges) return lf_fail_memory(p->err, "a regular expression", cap * sizeof *ranges);
        p->ranges = ranges;
        p->cap_ranges = cap;
    }
    p->ranges[p->n_ranges++] = (range){lo, hi};
    return LF_OK;
}

static int compare_ranges(const void *a, const void *b)
{
    const range *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Sorts and joins ranges[begin ..), and turns them into what they leave out if `negated`. */
static lf_status finish_ranges(parser *p, size_t begin, bool negated)
{
    size_t n = 0;
    lf_status status = LF_OK;
    range *r = p->ranges + begin;
    qsort(r, p->n_ranges - begin, sizeof *r, compare_ranges);
    for (size_t i = 0; i < p->n_ranges - begin; i++) {
        if (n > 0 && r[i].lo <= r[n - 1].hi + 1)
            r[n - 1].hi = r[i].hi > r[n - 1].hi ? r[i].hi : r[n - 1].hi;
        else
            r[n++] = r[i];
    }
    p->n_ranges = begin + n;
    if (!negated) return LF_OK;
    uint32_t from = 0;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const range left_out = r[i];
        if (left_out.lo > from) r[kept++] = (range){from, left_out.lo - 1}; /* kept <= i */
        from = left_out.hi + 1;
    }
    p->n_ranges = begin + kept;
    if (from <= MAX_CODE_POINT) status = add_range(p, from, MAX_CODE_POINT);
    return status;
}

/* Adds a class, or what it leaves out. */
static lf_status add_class(parser *p, const range *class, size_t n, bool negated)
{
    const size_t begin = p->n_ranges;
    lf_status status = LF_OK;
    for (size_t i = 0; i < n && status == LF_OK; i++) status = add_range(p, class[i].lo, class[i].hi);
    return status == LF_OK ? finish_ranges(p, begin, negated) : status;
}

static lf_status add_set(int *out, parser *p, size_t begin)
{
    return add_node(out, p,
                    (node){.kind = NODE_SET,
                           .child = NO_NODE,
                           .previous = NO_NODE,
                           .i_range = begin,
                           .n_ranges = p->n_ranges - begin});
}

/* ---- characters ---- */

static bool is_at(const parser *p, const char *text)
{
    const size_t n = strlen(text);
    return p->len - p->at >= n && memcmp(p->text + p->at, text, n) == 0;
}

static lf_status read_code_point(uint32_t *cp, parser *p)
{
    const int n = lf_utf8_decode(p->text + p->at, p->len - p->at, cp);
    if (n <= 0) return refuse(p, p->at, "bytes that are no UTF-8", "a character");
    p->at += (size_t)n;
    return LF_OK;
}

/* n hexadecimal digits, or with n = 0 those up to a brace. */
static lf_status read_hex(uint32_t *cp, parser *p, int n)
{
    const size_t begin = p->at;
    int n_read = 0;
    *cp = 0;
    for (; p->at < p->len && (n == 0 || n_read < n) && *cp <= MAX_CODE_POINT; p->at++, n_read++) {
        const char c = p->text[p->at];
        if (c >= '0' && c <= '9')
            *cp = *cp * 16 + (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            *cp = *cp * 16 + (uint32_t)((c | 0x20) - 'a' + 10);
        else
            break;
    }
    const bool closed = n > 0 ? n_read == n : n_read > 0 && is_at(p, "}");
    if (!closed || *cp > MAX_CODE_POINT || (*cp >= 0xD800 && *cp <= 0xDFFF))
        return refuse(p, begin, "no code point", "hexadecimal digits of one");
    if (n == 0) p->at++;
    return LF_OK;
}

/* What follows a backslash: a class, added with *is_class, or a character. */
static lf_status read_escape(uint32_t *cp, bool *is_class, parser *p)
{
    static const char names[] = "nrtfv", chars[] = "\n\r\t\f\v";
    const size_t begin = p->at - 1;
    *is_class = false;
    if (p->at == p->len) return refuse(p, begin, "a backslash at the end", "what it escapes");
    const char c = p->text[p->at];
    *is_class = memchr("dwsDWS", c, 6) != NULL;
    if (*is_class) {
        p->at++;
        switch (c) {
        case 'd':
        case 'D': return add_class(p, digits, sizeof digits / sizeof *digits, c == 'D');
        case 'w':
        case 'W': return add_class(p, words, sizeof words / sizeof *words, c == 'W');
        case 's': return add_class(p, spaces, sizeof spaces / sizeof *spaces, false);
        default: return add_class(p, wide_spaces, sizeof wide_spaces / sizeof *wide_spaces, true);
        }
    }
    const char *named = memchr(names, c, sizeof names - 1);
    if (named || c == '0') {
        p->at++;
        *cp = named ? (uint8_t)chars[named - names] : 0;
        if (!named && p->at < p->len && p->text[p->at] >= '0' && p->text[p->at] <= '9')
            return refuse(p, begin, "an octal escape", "\\xHH");
        return LF_OK;
    }
    if (c == 'x' || c == 'u') {
        p->at++;
        const bool braces = c == 'u' && is_at(p, "{");
        p->at += braces;
        return read_hex(cp, p, braces ? 0 : c == 'x' ? 2 : 4);
    }
    if ((c >= '1' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_')
        return refuse(p, begin, "a back reference or an escape that is not supported",
                      "one of \\d \\w \\s \\D \\W \\S \\n \\r \\t \\f \\v \\0 \\x \\u or an escaped sign");
    return read_code_point(cp, p);
}

/* A character or a class of a bracketed class. */
static lf_status read_class_item(uint32_t *cp, bool *is_class, parser *p)
{
    *is_class = false;
    if (is_at(p, "[:")) return refuse(p, p->at, "a POSIX class", "\\d, \\w or a range");
    if (!is_at(p, "\\")) return read_code_point(cp, p);
    p->at++;
    if (is_at(p, "b")) return refuse(p, p->at - 1, "\\b in a class", "\\x08");
    return read_escape(cp, is_class, p);
}

static lf_status parse_class(int *out, parser *p)
{
    const size_t open = p->at++, begin = p->n_ranges;
    const bool negated = is_at(p, "^");
    lf_status status = LF_OK;
    p->at += negated;
    if (is_at(p, "]")) return refuse(p, p->at, "an empty class", "characters, or \\]");
    while (!is_at(p, "]")) {
        uint32_t lo, hi;
        bool is_class;
        const size_t item = p->at;
        if (p->at == p->len) return refuse(p, open, "a class without its end", "]");
        LF_TRY(read_class_item(&lo, &is_class, p));
        const bool ranges = is_at(p, "-") && p->at + 1 < p->len && p->text[p->at + 1] != ']';
        if (is_class && ranges) return refuse(p, item, "a class as the end of a range", "a character");
        if (is_class) continue;
        hi = lo;
        if (ranges) {
            p->at++;
            LF_TRY(read_class_item(&hi, &is_class, p));
            if (is_class || hi < lo) return refuse(p, item, "a range that ends before it begins", "a-z");
        }
        LF_TRY(add_range(p, lo, hi));
    }
    p->at++;
    LF_TRY(finish_ranges(p, begin, negated));
    status = add_set(out, p, begin);
done:
    return status;
}

/* ---- the syntax ---- */

static lf_status parse_alternatives(int *out, parser *p);

static lf_status parse_group(int *out, parser *p)
{
    const size_t open = p->at++;
    lf_status status = LF_OK;
    if (is_at(p, "?:")) {
        p->at += 2;
    } else if (is_at(p, "?<") && !is_at(p, "?<=") && !is_at(p, "?<!")) {
        const char *end = memchr(p->text + p->at, '>', p->len - p->at);
        if (!end) return refuse(p, open, "a name without its end", ">");
        p->at = (size_t)(end - p->text) + 1;
    } else if (is_at(p, "?")) {
        return refuse(p, open, "look-around, a flag or another kind of group that is not supported",
                      "(...), (?:...) or (?<name>...)");
    }
    if (++p->depth > LF_PATTERN_DEPTH_MAX)
        return lf_fail(p->err, LF_ELIMIT, "regular expression, byte %zu: groups nest deeper than %d", open,
                       LF_PATTERN_DEPTH_MAX);
    LF_TRY(parse_alternatives(out, p));
    p->depth--;
    if (!is_at(p, ")")) return refuse(p, open, "a group without its end", ")");
    p->at++;
done:
    return status;
}

static lf_status parse_atom(int *out, parser *p)
{
    const size_t begin = p->n_ranges;
    uint32_t cp = 0;
    bool is_class = false;
    lf_status status = LF_OK;
    switch (p->text[p->at]) {
    case '(': return parse_group(out, p);
    case '[': return parse_class(out, p);
    case '*':
    case '+':
    case '?': return refuse(p, p->at, "a repetition of nothing", "something before it");
    case '^':
    case '$': return refuse(p, p->at, "^ or $ inside", "them at the ends of the whole, or escaped");
    case '.':
        p->at++;
        LF_TRY(add_class(p, line_ends, sizeof line_ends / sizeof *line_ends, true));
        break;
    case '\\':
        p->at++;
        LF_TRY(read_escape(&cp, &is_class, p));
        if (!is_class) LF_TRY(add_range(p, cp, cp));
        break;
    default: LF_TRY(read_code_point(&cp, p)); LF_TRY(add_range(p, cp, cp));
    }
    status = add_set(out, p, begin);
done:
    return status;
}

/* A number of a repetition; false when there is none, and LF_PATTERN_REPEAT_MAX + 1 for all that are too large. */
static bool read_count(int *out, const parser *p, size_t *at)
{
    const size_t begin = *at;
    *out = 0;
    for (; *at < p->len && p->text[*at] >= '0' && p->text[*at] <= '9'; (*at)++)
        if (*out <= LF_PATTERN_REPEAT_MAX) *out = *out * 10 + (p->text[*at] - '0');
    return *at > begin;
}

/* {n}, {n,} or {n,m}; anything else in braces is text, as in all the references. */
static bool read_braces(int *min, int *max, parser *p)
{
    size_t at = p->at + 1;
    if (!is_at(p, "{") || !read_count(min, p, &at)) return false;
    *max = *min;
    if (at < p->len && p->text[at] == ',') {
        at++;
        if (!read_count(max, p, &at)) *max = UNBOUNDED;
    }
    if (at == p->len || p->text[at] != '}') return false;
    p->at = at + 1;
    return true;
}

static lf_status parse_repeat(int *out, parser *p)
{
    int min = 1, max = 1, atom = NO_NODE;
    lf_status status = LF_OK;
    LF_TRY(parse_atom(&atom, p));
    *out = atom;
    const size_t begin = p->at;
    if (is_at(p, "*"))
        min = 0, max = UNBOUNDED, p->at++;
    else if (is_at(p, "+"))
        max = UNBOUNDED, p->at++;
    else if (is_at(p, "?"))
        min = 0, p->at++;
    else if (!read_braces(&min, &max, p))
        return LF_OK;
    if (min > LF_PATTERN_REPEAT_MAX || max > LF_PATTERN_REPEAT_MAX || (max != UNBOUNDED && max < min))
        return refuse(p, begin, "a repetition out of range", "at most 1000, and not less than its least");
    p->at += is_at(p, "?"); /* lazy: the same texts */
    if (is_at(p, "+") || is_at(p, "*") || is_at(p, "?"))
        return refuse(p, p->at, "a repetition of a repetition", "a group around the first");
    status = add_node(
        out, p, (node){.kind = NODE_REPEAT, .child = atom, .previous = NO_NODE, .min = min, .max = max});
done:
    return status;
}

static lf_status parse_sequence(int *out, parser *p)
{
    lf_status status = LF_OK;
    node sequence = {.kind = NODE_SEQUENCE, .child = NO_NODE, .previous = NO_NODE};
    const bool outermost = p->depth == 0;
    if (outermost && is_at(p, "^")) {
        sequence.at_begin = true;
        p->at++;
    }
    while (p->at < p->len && !is_at(p, "|") && !is_at(p, ")")) {
        int child;
        if (outermost && is_at(p, "$") && (p->at + 1 == p->len || p->text[p->at + 1] == '|')) {
            sequence.at_end = true;
            p->at++;
            break;
        }
        LF_TRY(parse_repeat(&child, p));
        p->nodes[child].previous = sequence.child;
        sequence.child = child;
    }
    status = add_node(out, p, sequence);
done:
    return status;
}

static lf_status parse_alternatives(int *out, parser *p)
{
    lf_status status = LF_OK;
    node alternatives = {.kind = NODE_ALTERNATIVES, .child = NO_NODE, .previous = NO_NODE};
    for (;;) {
        int child;
        LF_TRY(parse_sequence(&child, p));
        p->nodes[child].previous = alternatives.child;
        alternatives.child = child;
        if (!is_at(p, "|")) break;
        p->at++;
    }
    status = add_node(out, p, alternatives);
done:
    return status;
}

/* ---- the NFA ---- */

static uint32_t build(lf_nfa *nfa, const parser *p, int i_node, uint32_t next);

static uint32_t build_repeat(lf_nfa *nfa, const parser *p, const node *n, uint32_t next)
{
    uint32_t begin = next;
    int n_before = n->min; /* copies before those that can be left out */
    if (n->max == UNBOUNDED) {
        const uint32_t loop = lf_nfa_add_loop(nfa), body = build(nfa, p, n->child, loop);
        lf_nfa_set_loop(nfa, loop, body, next);
        begin = n->min > 0 ? body : loop;
        n_before = n->min > 0 ? n->min - 1 : 0;
    }
    for (int i = n->min; i < n->max && !nfa->failed; i++)
        begin = lf_nfa_add_split(nfa, build(nfa, p, n->child, begin), next);
    for (int i = 0; i < n_before && !nfa->failed; i++) {
        const uint32_t before = begin;
        begin = build(nfa, p, n->child, begin);
        if (begin == before) break; /* nothing repeated is nothing, however often */
    }
    return begin;
}

static uint32_t build(lf_nfa *nfa, const parser *p, int i_node, uint32_t next)
{
    const node *n = &p->nodes[i_node];
    uint32_t begin = LF_NFA_NOTHING;
    switch (n->kind) {
    case NODE_SET:
        for (size_t i = n->n_ranges; i-- > 0;) {
            const range *r = &p->ranges[n->i_range + i];
            begin = lf_nfa_add_split(nfa, lf_nfa_add_code_points(nfa, r->lo, r->hi, next), begin);
        }
        break;
    case NODE_SEQUENCE:
        begin = next;
        for (int c = n->child; c != NO_NODE; c = p->nodes[c].previous) begin = build(nfa, p, c, begin);
        break;
    case NODE_ALTERNATIVES:
        for (int c = n->child; c != NO_NODE; c = p->nodes[c].previous)
            begin = lf_nfa_add_split(nfa, build(nfa, p, c, next), begin);
        break;
    case NODE_REPEAT: begin = build_repeat(nfa, p, n, next); break;
    }
    return begin;
}

/* Any text, then `next`. */
static uint32_t build_anything(lf_nfa *nfa, uint32_t next)
{
    const uint32_t loop = lf_nfa_add_loop(nfa);
    lf_nfa_set_loop(nfa, loop, lf_nfa_add_code_points(nfa, 0, MAX_CODE_POINT, loop), next);
    return loop;
}

static uint32_t build_outermost(lf_nfa *nfa, const parser *p, int i_node, bool whole)
{
    uint32_t begin = LF_NFA_NOTHING;
    for (int c = p->nodes[i_node].child; c != NO_NODE; c = p->nodes[c].previous) {
        const node *sequence = &p->nodes[c];
        const uint32_t end = whole || sequence->at_end ? LF_NFA_ACCEPT : build_anything(nfa, LF_NFA_ACCEPT),
                       body = build(nfa, p, c, end);
        begin = lf_nfa_add_split(nfa, whole || sequence->at_begin ? body : build_anything(nfa, body), begin);
    }
    return begin;
}

lf_status lf_pattern_compile(lf_dfa *out, const char *pattern, size_t len, bool whole, lf_work *work,
                             lf_error *err)
{
    parser p = {.text = pattern, .len = len, .err = err};
    lf_nfa nfa = {0};
    lf_status status = LF_OK;
    int root;
    *out = (lf_dfa){0};
    if (len > LF_PATTERN_BYTES_MAX)
        return lf_fail(err, LF_ELIMIT, "regular expression: found %zu bytes, expected at most %d", len,
                       LF_PATTERN_BYTES_MAX);
    LF_TRY(parse_alternatives(&root, &p));
    if (p.at < p.len) LF_TRY(refuse(&p, p.at, "a ) too many", "as many ( before it"));
    lf_nfa_init(&nfa);
    const uint32_t start = build_outermost(&nfa, &p, root, whole);
    LF_TRY(lf_work_take(work, (int64_t)nfa.n, err));
    status = lf_dfa_from_nfa(out, &nfa, start, work, err);
done:
    lf_nfa_free(&nfa);
    free(p.nodes);
    free(p.ranges);
    return status;
}

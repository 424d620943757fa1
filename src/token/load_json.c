/* tokenizer.json of the `tokenizers` library: a BPE model with a normalizer, pre-tokenizers, added tokens, a template
 * and a decoder. What the LLaMA family ships is taken; every other component is refused by its name.
 *
 *   byte-level   [normalizer NFC]   pre_tokenizer Split, Digits, ByteLevel       (Llama 3, Qwen2, GPT-2, SmolLM)
 *   code points  normalizer Prepend, Replace or pre_tokenizer Metaspace          (Llama 2, Mistral, TinyLlama)
 *
 * The ids are those of `tokenizers`. It takes Unicode strings only; bytes that are not UTF-8 stand for themselves. */
#include "token/load.h"

#include "token/utf8.h"

#include <string.h>

typedef struct reader {
    lf_tokenizer *t;
    const char *name;
    lf_error *err;
} reader;

static lf_status refuse(const reader *r, const char *where, const char *found, const char *expected)
{
    return lf_fail(r->err, LF_EUNSUPPORTED, "%s: %s: found %.80s, expected %s", r->name, where, found,
                   expected);
}

/* The "type" of a component, "" for one without. */
static const char *type_of(const json_t *component)
{
    const char *type = json_string_value(json_object_get(component, "type"));
    return type ? type : "";
}

static bool has_type(const json_t *component, const char *type)
{
    return strcmp(type_of(component), type) == 0;
}

/* Calls each for the component, or for those in a Sequence, whose list has the name `list`. Sequences do not nest. */
typedef lf_status each_component(const reader *r, const json_t *component);

static lf_status walk(const reader *r, const json_t *component, const char *list, each_component *each)
{
    if (!component || json_is_null(component)) return LF_OK;
    if (!has_type(component, "Sequence")) return each(r, component);
    const json_t *items = json_object_get(component, list);
    lf_status status = LF_OK;
    for (size_t i = 0; i < json_array_size(items) && status == LF_OK; i++)
        status = each(r, json_array_get(items, i));
    return status;
}

/* ---- normalizer ---- */

static lf_status read_replace(const reader *r, const json_t *component)
{
    const char *from, *to;
    lf_status status = lf_json_get_string(json_object_get(component, "pattern"), r->name, "String", true,
                                          &from, r->err);
    if (status == LF_OK) status = lf_json_get_string(component, r->name, "content", true, &to, r->err);
    if (status != LF_OK) return status;
    if (!*from) return lf_fail(r->err, LF_EFORMAT, "%s: normalizer Replace: found an empty pattern", r->name);
    return lf_rewrites_add(&r->t->normalizer, LF_REWRITE_REPLACE, from, to, r->name, r->err);
}

static lf_status read_normalizer(const reader *r, const json_t *component)
{
    lf_rewrites *list = &r->t->normalizer;
    if (has_type(component, "NFC")) return lf_rewrites_add(list, LF_REWRITE_NFC, NULL, NULL, r->name, r->err);
    if (has_type(component, "Replace")) return read_replace(r, component);
    if (!has_type(component, "Prepend"))
        return refuse(r, "normalizer", type_of(component), "NFC, Prepend, Replace or a Sequence of them");
    const char *prefix;
    const lf_status status = lf_json_get_string(component, r->name, "prepend", true, &prefix, r->err);
    return status == LF_OK ? lf_rewrites_add(list, LF_REWRITE_PREPEND, NULL, prefix, r->name, r->err)
                           : status;
}

/* ---- pre_tokenizer ---- */

/* A literal string as a pattern, malloc'ed in out. */
static bool quote(lf_bytes *out, const char *literal)
{
    for (; *literal; literal++) {
        const bool ok = strchr("\\^$.[]|()?*+{}", *literal) ? lf_bytes_printf(out, "\\%c", *literal)
                                                            : lf_bytes_append(out, literal, 1);
        if (!ok) return false;
    }
    return true;
}

static lf_status read_split(const reader *r, const json_t *component)
{
    const json_t *pattern = json_object_get(component, "pattern");
    const char *behavior, *regex = NULL, *literal = NULL;
    bool invert = false;
    lf_bytes quoted = {0};
    lf_status status;
    LF_TRY(lf_json_get_string(component, r->name, "behavior", true, &behavior, r->err));
    LF_TRY(lf_json_get_bool(component, r->name, "invert", false, &invert, r->err));
    LF_TRY(lf_json_get_string(pattern, r->name, "Regex", false, &regex, r->err));
    LF_TRY(lf_json_get_string(pattern, r->name, "String", !regex, &literal, r->err));
    if (!regex && !quote(&quoted, literal)) LF_TRY(lf_fail_memory(r->err, "a pattern", strlen(literal)));
    const bool keeps_matches = strcmp(behavior, "Removed") == 0 && invert;
    if (!keeps_matches && strcmp(behavior, "Isolated") != 0)
        LF_TRY(refuse(r, "pre_tokenizer Split", behavior, "behavior Isolated, or Removed with invert"));
    /* Isolated keeps matches and gaps apart, so to invert it changes nothing. */
    if (!regex) regex = quoted.data ? quoted.data : "";
    status = lf_pretokenizer_add(&r->t->pretokenizer, regex, keeps_matches, r->name, r->err);
done:
    lf_bytes_free(&quoted);
    return status;
}

static lf_status read_digits(const reader *r, const json_t *component)
{
    bool individual = false;
    const lf_status status = lf_json_get_bool(component, r->name, "individual_digits", false, &individual,
                                              r->err);
    if (status != LF_OK) return status;
    return lf_pretokenizer_add(&r->t->pretokenizer, individual ? "\\p{N}" : "\\p{N}+", false, r->name,
                               r->err);
}

static lf_status read_byte_level(const reader *r, const json_t *component)
{
    bool prefix = true, use_regex = true;
    lf_status status;
    LF_TRY(lf_json_get_bool(component, r->name, "add_prefix_space", false, &prefix, r->err));
    LF_TRY(lf_json_get_bool(component, r->name, "use_regex", false, &use_regex, r->err));
    if (prefix) return refuse(r, "pre_tokenizer ByteLevel", "add_prefix_space", "none");
    if (use_regex) status = lf_pretokenizer_add(&r->t->pretokenizer, LF_PATTERN_GPT2, false, r->name, r->err);
    r->t->scheme = LF_SCHEME_BYTES;
done:
    return status;
}

static lf_status read_metaspace(const reader *r, const json_t *component)
{
    lf_rewrites *list = &r->t->metaspace;
    const char *replacement, *scheme = NULL;
    bool prefix = true, split = true;
    lf_status status;
    LF_TRY(lf_json_get_string(component, r->name, "replacement", true, &replacement, r->err));
    LF_TRY(lf_json_get_string(component, r->name, "prepend_scheme", false, &scheme, r->err));
    LF_TRY(lf_json_get_bool(component, r->name, "add_prefix_space", false, &prefix, r->err));
    LF_TRY(lf_json_get_bool(component, r->name, "split", false, &split, r->err));
    if (strcmp(replacement, LF_SPACE_SYMBOL) != 0)
        return refuse(r, "pre_tokenizer Metaspace", replacement, "the replacement " LF_SPACE_SYMBOL);
    if (r->t->pretokenizer.n || list->n)
        return refuse(r, "pre_tokenizer Sequence", "Metaspace after another", "it to be the first");
    if (!scheme) scheme = prefix ? "always" : "never";
    LF_TRY(lf_rewrites_add(list, LF_REWRITE_REPLACE, " ", LF_SPACE_SYMBOL, r->name, r->err));
    if (strcmp(scheme, "always") == 0)
        LF_TRY(lf_rewrites_add(list, LF_REWRITE_PREPEND_MISSING, NULL, LF_SPACE_SYMBOL, r->name, r->err));
    else if (strcmp(scheme, "first") == 0)
        LF_TRY(lf_rewrites_add(list, LF_REWRITE_PREPEND_FIRST, NULL, LF_SPACE_SYMBOL, r->name, r->err));
    else if (strcmp(scheme, "never") != 0)
        return refuse(r, "pre_tokenizer Metaspace", scheme, "prepend_scheme always, first or never");
    if (split)
        status = lf_pretokenizer_add(&r->t->pretokenizer, LF_PATTERN_METASPACE, false, r->name, r->err);
done:
    return status;
}

static lf_status read_pre_tokenizer(const reader *r, const json_t *component)
{
    if (r->t->scheme == LF_SCHEME_BYTES)
        return refuse(r, "pre_tokenizer Sequence", type_of(component), "nothing after ByteLevel");
    if (has_type(component, "Split")) return read_split(r, component);
    if (has_type(component, "Digits")) return read_digits(r, component);
    if (has_type(component, "ByteLevel")) return read_byte_level(r, component);
    if (has_type(component, "Metaspace")) return read_metaspace(r, component);
    return refuse(r, "pre_tokenizer", type_of(component),
                  "Split, Digits, ByteLevel, Metaspace or a Sequence of them");
}

/* ---- post_processor and decoder ---- */

/* A template that begins with one special token makes it the beginning of every prompt. */
static lf_status read_post_processor(const reader *r, const json_t *component)
{
    if (has_type(component, "ByteLevel")) return LF_OK; /* concerns offsets only */
    if (!has_type(component, "TemplateProcessing"))
        return refuse(r, "post_processor", type_of(component), "TemplateProcessing or ByteLevel");
    const json_t *single = json_object_get(component, "single");
    const json_t *specials = json_object_get(component, "special_tokens");
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *special = json_object_get(json_array_get(single, i), "SpecialToken");
        if (!special) break; /* what follows the text is not for prompts */
        if (i > 0) return refuse(r, "post_processor", "two tokens before the text", "one");
        const char *name;
        const lf_status status = lf_json_get_string(special, r->name, "id", true, &name, r->err);
        if (status != LF_OK) return status;
        const json_t *ids = json_object_get(json_object_get(specials, name), "ids");
        const json_t *first = json_array_get(ids, 0);
        const json_int_t id = json_is_integer(first) ? json_integer_value(first) : -1;
        if (json_array_size(ids) != 1 || id < 0 || id >= r->t->vocab.n)
            return lf_fail(r->err, LF_EFORMAT,
                           "%s: post_processor: special token '%.80s': found no id below %d", r->name, name,
                           (int)r->t->vocab.n);
        r->t->bos = (int32_t)id;
        r->t->adds_bos = true;
    }
    return LF_OK;
}

/* Of the decoder only one thing is not known from the rest: whether the first space is dropped. */
static lf_status read_decoder(const reader *r, const json_t *component)
{
    if (has_type(component, "Metaspace")) {
        const char *scheme = "always";
        const lf_status status = lf_json_get_string(component, r->name, "prepend_scheme", false, &scheme,
                                                    r->err);
        if (strcmp(scheme, "never") != 0) r->t->lead = LF_LEAD_SYMBOL;
        return status;
    }
    int64_t start = 0;
    lf_status status = LF_OK;
    if (has_type(component, "Strip"))
        status = lf_json_get_int(component, r->name, "start", false, &start, r->err);
    if (start > 0) r->t->lead = LF_LEAD_SPACE;
    return status;
}

/* ---- model ---- */

static lf_status check_model(const reader *r, const json_t *model)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    if (!has_type(model, "BPE") && *type_of(model)) return refuse(r, "model", type_of(model), "BPE");
    double dropout = 0;
    lf_status status = lf_json_get_float(model, r->name, "dropout", false, &dropout, r->err);
    for (size_t i = 0; i < 2 && status == LF_OK; i++) {
        const char *affix = "";
        status = lf_json_get_string(model, r->name, affixes[i], false, &affix, r->err);
        if (status == LF_OK && *affix) return refuse(r, "model", affixes[i], "none");
    }
    if (status == LF_OK && dropout != 0) return refuse(r, "model", "dropout", "none");
    return status;
}

/* "left right", or ["left", "right"]. */
static lf_status read_merge(const reader *r, uint32_t rank, const json_t *merge)
{
    const char *left = json_string_value(merge), *right = NULL;
    size_t left_len = 0;
    if (left) {
        right = strchr(left, ' ');
        left_len = right ? (size_t)(right - left) : 0;
        right = right && !strchr(right + 1, ' ') ? right + 1 : NULL;
    } else if (json_array_size(merge) == 2) {
        left = json_string_value(json_array_get(merge, 0));
        right = json_string_value(json_array_get(merge, 1));
        left_len = left ? strlen(left) : 0;
    }
    if (!left || !right)
        return lf_fail(r->err, LF_EFORMAT, "%s: model.merges: item %u: found '%.80s', expected two pieces",
                       r->name, (unsigned)rank, left ? left : "no string");
    return lf_load_merge(r->t, rank, left, left_len, right, strlen(right), r->name, r->err);
}

static lf_status read_model(const reader *r, const json_t *model, const json_t *added)
{
    lf_tokenizer *t = r->t;
    const json_t *merges = json_object_get(model, "merges");
    const char *unknown = NULL;
    lf_status status;
    LF_TRY(check_model(r, model));
    LF_TRY(lf_json_get_bool(model, r->name, "byte_fallback", false, &t->byte_fallback, r->err));
    LF_TRY(lf_json_get_bool(model, r->name, "fuse_unk", false, &t->fuse_unknown, r->err));
    LF_TRY(lf_json_get_bool(model, r->name, "ignore_merges", false, &t->whole_pieces, r->err));
    LF_TRY(lf_json_get_string(model, r->name, "unk_token", false, &unknown, r->err));
    LF_TRY(lf_load_vocab_object(t, json_object_get(model, "vocab"), added, r->name, r->err));
    if (!json_is_array(merges))
        LF_TRY(lf_fail(r->err, LF_EFORMAT, "%s: model.merges: found no list", r->name));
    for (size_t i = 0; i < json_array_size(merges); i++)
        LF_TRY(read_merge(r, (uint32_t)i, json_array_get(merges, i)));
    if (!unknown) return LF_OK;
    t->unknown = lf_vocab_find(&t->vocab, unknown, strlen(unknown));
    if (t->unknown == LF_TOKEN_NONE)
        LF_TRY(lf_fail(r->err, LF_EFORMAT, "%s: model.unk_token: found '%.80s', expected a piece", r->name,
                       unknown));
    t->vocab.kinds[t->unknown] = LF_TOKEN_UNKNOWN;
done:
    return status;
}

static void mark_bytes(lf_tokenizer *t)
{
    for (unsigned byte = 0; byte < 256 && t->byte_fallback; byte++) {
        const int32_t id = lf_vocab_find_byte(&t->vocab, (uint8_t)byte);
        if (id != LF_TOKEN_NONE) t->vocab.kinds[id] = LF_TOKEN_BYTE;
    }
}

lf_status lf_load_tokenizer_json(lf_tokenizer *t, const json_t *root, const char *name, lf_error *err)
{
    const reader r = {.t = t, .name = name, .err = err};
    const json_t *added = json_object_get(root, "added_tokens");
    lf_status status;
    LF_TRY(walk(&r, json_object_get(root, "normalizer"), "normalizers", read_normalizer));
    LF_TRY(walk(&r, json_object_get(root, "pre_tokenizer"), "pretokenizers", read_pre_tokenizer));
    LF_TRY(read_model(&r, json_object_get(root, "model"), added));
    LF_TRY(walk(&r, json_object_get(root, "post_processor"), "processors", read_post_processor));
    LF_TRY(walk(&r, json_object_get(root, "decoder"), "decoders", read_decoder));
    mark_bytes(t);
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        LF_TRY(lf_load_added_token(t, json_integer_value(json_object_get(token, "id")), token, name, err));
    }
done:
    return status;
}

/* The held-out records of the four domains, from the raw data: what recipes/scribe_data.py writes, which tests/test_eval.c compares
 * byte for byte. Whether a question is held out is told by the SHA-256 of domain and question. */
#include "eval.h"

#include "base/status.h"
#include "sha256.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { CODE_CHARS_MAX = 2400, DOC_CHARS_MAX = 1200, PATH_BYTES = 1024 };
#define END_OF_STORY "<|endoftext|>"

/* A set being loaded. */
typedef struct loader {
    eval_set set;
    const char *split, *data_dir;
    const char *name; /* of the domain, in the hash */
    unsigned percent; /* of the questions that are held out */
    char path[PATH_BYTES];
    lf_bytes prompt, response, key; /* of the record at hand */
} loader;

const char *eval_domain_name(eval_domain domain)
{
    static const char *const names[EVAL_DOMAINS] = {"spider", "python", "gsm8k", "stories"};
    return names[domain];
}

static lf_status no_memory(lf_error *err)
{
    return lf_fail_memory(err, "the records of an evaluation", 0);
}

void eval_free_record(eval_record *r)
{
    free(r->prompt);
    free(r->response);
    free(r->db_id);
    free(r->query);
    *r = (eval_record){0};
}

void eval_free_set(eval_set *set)
{
    for (size_t i = 0; i < set->n; i++) eval_free_record(&set->records[i]);
    free(set->records);
    *set = (eval_set){0};
}

void eval_thin_out(eval_set *set, size_t n)
{
    if (n >= set->n) return;
    eval_set thin = {.records = calloc(n ? n : 1, sizeof *thin.records), .n = n};
    if (!thin.records) return; /* then all are kept */
    for (size_t i = 0; i < n; i++) {
        eval_record *from = &set->records[i * set->n / n];
        thin.records[i] = *from;
        *from = (eval_record){0};
    }
    eval_free_set(set);
    *set = thin;
}

/* Adds the record of l->prompt and l->response. */
static bool add_record(loader *l, const char *db_id, const char *query)
{
    eval_set *set = &l->set;
    if (set->n == set->room) {
        const size_t room = set->room ? 2 * set->room : 256;
        eval_record *records = realloc(set->records, room * sizeof *records);
        if (!records) return false;
        set->records = records;
        set->room = room;
    }
    eval_record *r = &set->records[set->n++];
    *r = (eval_record){.prompt = lf_strndup(l->prompt.data, l->prompt.len),
                       .response = lf_strndup(l->response.data, l->response.len),
                       .db_id = db_id ? lf_strndup(db_id, strlen(db_id)) : NULL,
                       .query = query ? lf_strndup(query, strlen(query)) : NULL};
    return r->prompt && r->response && (!db_id || r->db_id) && (!query || r->query);
}

static bool is_held_out(const loader *l, const char *key, size_t len)
{
    lf_bytes text = {0};
    uint8_t digest[32] = {0};
    if (lf_bytes_printf(&text, "%s\n", l->name) && lf_bytes_append(&text, key, len))
        app_sha256(digest, text.data, text.len);
    lf_bytes_free(&text);
    const uint32_t number = (uint32_t)digest[0] << 24 | (uint32_t)digest[1] << 16 | (uint32_t)digest[2] << 8 |
                            digest[3];
    return number % 100 < l->percent;
}

/* ---- files ---- */

static const char *set_path(loader *l, const char *name)
{
    (void)snprintf(l->path, sizeof l->path, "%s/%s", l->data_dir, name);
    return l->path;
}

typedef lf_status line_fn(loader *l, const json_t *line, void *cookie, lf_error *err);

/* Calls fn for each line of the file at l->path. */
static lf_status for_each_line(loader *l, line_fn *fn, void *cookie, lf_error *err)
{
    lf_status status = LF_OK;
    char *text = NULL;
    size_t cap = 0;
    ssize_t len;
    json_t *line = NULL;
    FILE *f = fopen(l->path, "r");
    if (!f) return lf_fail(err, LF_EIO, "%s: cannot open: %s", l->path, strerror(errno));
    for (long n = 1; (len = getline(&text, &cap, f)) >= 0; n++) {
        json_error_t where;
        line = json_loadb(text, (size_t)len, 0, &where);
        if (!json_is_object(line)) {
            status = lf_fail(err, LF_EFORMAT, "%s: line %ld: expected a JSON object: %s", l->path, n,
                             line ? "found another value" : where.text);
            goto done;
        }
        LF_TRY(fn(l, line, cookie, err));
        json_decref(line);
        line = NULL;
    }
    if (ferror(f)) status = lf_fail(err, LF_EIO, "%s: cannot read: %s", l->path, strerror(errno));
done:
    json_decref(line);
    free(text);
    (void)fclose(f);
    return status;
}

static lf_status get_string(const char **out, const loader *l, const json_t *object, const char *key,
                            lf_error *err)
{
    *out = json_string_value(json_object_get(object, key));
    return *out ? LF_OK : lf_fail(err, LF_EFORMAT, "%s: %s: expected a string", l->path, key);
}

static bool set_text(lf_bytes *out, const char *text, size_t len)
{
    out->len = 0;
    return lf_bytes_append(out, text, len);
}

/* Makes the prompt an instruction: task, then text. */
static bool begin_instruction(lf_bytes *out, const char *task)
{
    return set_text(out, "### Instruction:\n", 17) && lf_bytes_append(out, task, strlen(task));
}

static bool end_instruction(lf_bytes *out)
{
    return lf_bytes_printf(out, "\n### Response:\n");
}

/* ---- spider ---- */

/* "table.column" of a schema's column; false where there is none. */
static bool add_qualified(lf_bytes *out, const json_t *schema, const json_t *i_column)
{
    const json_t *column = json_array_get(json_object_get(schema, "column_names_original"),
                                          (size_t)json_integer_value(i_column));
    const char *table = json_string_value(
                   json_array_get(json_object_get(schema, "table_names_original"),
                                  (size_t)json_integer_value(json_array_get(column, 0)))),
               *name = json_string_value(json_array_get(column, 1));
    return table && name && lf_bytes_printf(out, "%s.%s", table, name);
}

static bool add_tables(lf_bytes *out, const json_t *schema)
{
    size_t i_table, i;
    json_t *table, *column;
    bool ok = true;
    json_array_foreach(json_object_get(schema, "table_names_original"), i_table, table)
    {
        const char *separator = "", *name = json_string_value(table);
        ok = ok && name && lf_bytes_printf(out, "%s%s(", i_table ? ", " : "", name);
        json_array_foreach(json_object_get(schema, "column_names_original"), i, column)
        {
            const char *column_name = json_string_value(json_array_get(column, 1));
            if (json_integer_value(json_array_get(column, 0)) != (json_int_t)i_table) continue;
            ok = ok && column_name && lf_bytes_printf(out, "%s%s", separator, column_name);
            separator = ", ";
        }
        ok = ok && lf_bytes_append(out, ")", 1);
    }
    return ok && lf_bytes_append(out, ".", 1);
}

/* Appends tables, columns and keys. */
static bool describe_schema(lf_bytes *out, const json_t *schema)
{
    size_t i;
    json_t *key;
    bool ok = add_tables(out, schema);
    json_array_foreach(json_object_get(schema, "foreign_keys"), i, key)
    {
        ok = ok && lf_bytes_printf(out, i ? ", " : " Keys: ") &&
             add_qualified(out, schema, json_array_get(key, 0)) && lf_bytes_append(out, " = ", 3) &&
             add_qualified(out, schema, json_array_get(key, 1));
    }
    return ok && (i == 0 || lf_bytes_append(out, ".", 1));
}

static const json_t *find_schema(const json_t *schemas, const char *db_id)
{
    size_t i;
    json_t *schema;
    json_array_foreach((json_t *)(uintptr_t)schemas, i, schema)
    {
        const char *id = json_string_value(json_object_get(schema, "db_id"));
        if (id && strcmp(id, db_id) == 0) return schema;
    }
    return NULL;
}

/* Appends the words of text with single spaces between them. */
static bool add_words(lf_bytes *out, const char *text)
{
    size_t bytes;
    bool waits = false; /* a space, for another word */
    const eval_token t = eval_strip(text, strlen(text));
    for (size_t at = 0; at < t.len; at += bytes) {
        const bool space = eval_is_space(eval_next_char(t.begin + at, t.len - at, &bytes));
        if (!space && waits && !lf_bytes_append(out, " ", 1)) return false;
        if (!space && !lf_bytes_append(out, t.begin + at, bytes)) return false;
        waits = space;
    }
    return true;
}

static lf_status add_spider(loader *l, const json_t *line, void *schemas, lf_error *err)
{
    lf_status status = LF_OK;
    const char *db_id, *question, *query;
    LF_TRY(get_string(&db_id, l, line, "db_id", err));
    LF_TRY(get_string(&question, l, line, "question", err));
    LF_TRY(get_string(&query, l, line, "query", err));
    const json_t *schema = find_schema(schemas, db_id);
    if (!schema)
        return lf_fail(err, LF_EFORMAT, "%s: found database \"%s\", which tables.json lacks", l->path, db_id);
    l->key.len = 0;
    if (!eval_normalise_sql(&l->response, query) ||
        !lf_bytes_printf(&l->key, "%s\n%s", db_id, l->response.data)) {
        status = no_memory(err);
        goto done;
    }
    if (strcmp(l->split, "valid") == 0 && !is_held_out(l, l->key.data, l->key.len)) goto done;
    const bool ok = begin_instruction(&l->prompt, "Translate the question into SQL. The tables are ") &&
                    describe_schema(&l->prompt, schema) && lf_bytes_printf(&l->prompt, " Question: ") &&
                    add_words(&l->prompt, question) && end_instruction(&l->prompt) &&
                    add_record(l, db_id, query);
    if (!ok) status = no_memory(err);
done:
    return status;
}

static lf_status load_spider(loader *l, lf_error *err)
{
    json_error_t where;
    json_t *schemas = json_load_file(set_path(l, "spider/tables.json"), 0, &where);
    if (!json_is_array(schemas)) {
        json_decref(schemas);
        return lf_fail(err, LF_EIO, "%s: cannot read the schemas: %s", l->path, where.text);
    }
    (void)set_path(l, strcmp(l->split, "dev") == 0 ? "spider/dev.jsonl" : "spider/train.jsonl");
    const lf_status status = for_each_line(l, add_spider, schemas, err);
    json_decref(schemas);
    return status;
}

/* ---- python ---- */

static size_t count_chars(const lf_bytes *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++) n += ((unsigned char)b->data[i] & 0xC0) != 0x80;
    return n;
}

/* What the lines of a file call the description, and the pairs that were there before. */
typedef struct python_source {
    const char *doc_key;
    json_t *seen; /* object: "doc\0code" by its hash */
} python_source;

/* Whether doc and code are there for the first time. */
static bool is_first(python_source *p, const lf_bytes *doc, const lf_bytes *code)
{
    lf_bytes pair = {0};
    char hex[65] = "";
    uint8_t digest[32];
    bool first = false;
    if (lf_bytes_append(&pair, doc->data, doc->len + 1) &&
        lf_bytes_append(&pair, code->data, code->len)) { /* with the NUL between them */
        app_sha256(digest, pair.data, pair.len);
        for (int i = 0; i < 32; i++) (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
        first = !json_object_get(p->seen, hex) && json_object_set_new(p->seen, hex, json_true()) == 0;
    }
    lf_bytes_free(&pair);
    return first;
}

static lf_status add_python(loader *l, const json_t *line, void *cookie, lf_error *err)
{
    lf_status status = LF_OK;
    python_source *p = cookie;
    const char *doc, *code;
    LF_TRY(get_string(&doc, l, line, p->doc_key, err));
    LF_TRY(get_string(&code, l, line, "code", err));
    if (!eval_clean_code(&l->key, doc) || !eval_clean_code(&l->response, code)) {
        status = no_memory(err);
        goto done;
    }
    const size_t n_code = count_chars(&l->response), n_doc = count_chars(&l->key);
    if (n_code == 0 || n_code > CODE_CHARS_MAX || n_doc == 0 || n_doc > DOC_CHARS_MAX) goto done;
    if (!is_first(p, &l->key, &l->response) || !is_held_out(l, l->key.data, l->key.len)) goto done;
    const bool ok = begin_instruction(&l->prompt, "Please generate code based on the following doc:\n") &&
                    lf_bytes_append(&l->prompt, l->key.data, l->key.len) && end_instruction(&l->prompt) &&
                    add_record(l, NULL, NULL);
    if (!ok) status = no_memory(err);
done:
    return status;
}

static lf_status load_python(loader *l, lf_error *err)
{
    static const char *const files[][2] = {{"python/thealgorithms_functions.jsonl", "docstring"},
                                           {"python/cpython313_stdlib_functions.jsonl", "docstring"},
                                           {"python/mbpp.jsonl", "text"}};
    lf_status status = LF_OK;
    python_source p = {.seen = json_object()};
    for (size_t i = 0; i < sizeof files / sizeof *files && status == LF_OK; i++) {
        (void)set_path(l, files[i][0]);
        p.doc_key = files[i][1];
        status = for_each_line(l, add_python, &p, err);
    }
    json_decref(p.seen);
    return status;
}

/* ---- gsm8k ---- */

static lf_status add_gsm8k(loader *l, const json_t *line, void *cookie, lf_error *err)
{
    lf_status status = LF_OK;
    const char *question, *answer;
    (void)cookie;
    LF_TRY(get_string(&question, l, line, "question", err));
    LF_TRY(get_string(&answer, l, line, "answer", err));
    if (strcmp(l->split, "valid") == 0 && !is_held_out(l, question, strlen(question))) goto done;
    const eval_token q = eval_strip(question, strlen(question)), a = eval_strip(answer, strlen(answer));
    const bool ok = set_text(&l->prompt, "Question:\n", 10) && lf_bytes_append(&l->prompt, q.begin, q.len) &&
                    lf_bytes_printf(&l->prompt, "\nAnswer:\nLet's think step by step.\n") &&
                    set_text(&l->response, a.begin, a.len) && add_record(l, NULL, NULL);
    if (!ok) status = no_memory(err);
done:
    return status;
}

static lf_status load_gsm8k(loader *l, lf_error *err)
{
    (void)set_path(l, strcmp(l->split, "test") == 0 ? "gsm8k/test.jsonl" : "gsm8k/train.jsonl");
    return for_each_line(l, add_gsm8k, NULL, err);
}

/* ---- stories ---- */

static bool is_space_at(const eval_token *t, size_t at)
{
    size_t bytes;
    return at < t->len && eval_is_space(eval_next_char(t->begin + at, t->len - at, &bytes));
}

/* The bytes of the first sentence: up to the first of . ! ? (and a quotation mark) before white space, which is not part of it;
 * 0: there is none. */
static size_t first_sentence(const eval_token *story)
{
    for (size_t i = 0; i + 1 < story->len; i++) {
        if (!memchr(".!?", story->begin[i], 3)) continue;
        if (memchr("'\"", story->begin[i + 1], 2) && is_space_at(story, i + 2)) return i + 2;
        if (is_space_at(story, i + 1)) return i + 1;
    }
    return 0;
}

static lf_status add_story(loader *l, const char *text, size_t len, lf_error *err)
{
    const eval_token story = eval_strip(text, len);
    const size_t end = first_sentence(&story);
    if (end == 0 || !is_held_out(l, story.begin, story.len)) return LF_OK;
    const bool ok = set_text(&l->prompt, story.begin, end) &&
                    set_text(&l->response, story.begin + end, story.len - end) && add_record(l, NULL, NULL);
    return ok ? LF_OK : no_memory(err);
}

static lf_status load_stories(loader *l, lf_error *err)
{
    lf_status status = LF_OK;
    lf_bytes text = {0};
    char chunk[1 << 16];
    size_t n;
    FILE *f = fopen(set_path(l, "stories/tinystories_cased_2M.txt"), "r");
    if (!f) return lf_fail(err, LF_EIO, "%s: cannot open: %s", l->path, strerror(errno));
    while (status == LF_OK && (n = fread(chunk, 1, sizeof chunk, f)) > 0)
        if (!lf_bytes_append(&text, chunk, n)) status = no_memory(err);
    const char *at = text.data, *end = text.data + text.len;
    while (status == LF_OK && at < end) {
        const char *stop = memmem(at, (size_t)(end - at), END_OF_STORY, strlen(END_OF_STORY));
        status = add_story(l, at, (size_t)((stop ? stop : end) - at), err);
        at = stop ? stop + strlen(END_OF_STORY) : end;
    }
    lf_bytes_free(&text);
    (void)fclose(f);
    return status;
}

/* ---- all of them ---- */

lf_status eval_load(eval_set *out, eval_domain domain, const char *split, const char *data_dir, lf_error *err)
{
    static const struct {
        const char *name; /* in the recipe */
        unsigned percent;
        const char *other_split; /* besides "valid" */
        lf_status (*load)(loader *l, lf_error *err);
    } domains[EVAL_DOMAINS] = {{"sql", 10, "dev", load_spider},
                               {"python", 5, NULL, load_python},
                               {"gsm8k", 5, "test", load_gsm8k},
                               {"stories", 3, NULL, load_stories}};
    loader l = {.split = split,
                .data_dir = data_dir,
                .name = domains[domain].name,
                .percent = domains[domain].percent};
    const char *other = domains[domain].other_split;
    *out = (eval_set){0};
    if (strcmp(split, "valid") != 0 && (!other || strcmp(split, other) != 0))
        return lf_fail(err, LF_EINVAL, "split of %s: found \"%s\", expected valid%s%s",
                       eval_domain_name(domain), split, other ? " or " : "", other ? other : "");
    lf_status status = domains[domain].load(&l, err);
    if (status == LF_OK && l.set.n == 0)
        status = lf_fail(err, LF_EFORMAT, "%s: found no record for the split \"%s\"", l.path, split);
    if (status == LF_OK)
        *out = l.set;
    else
        eval_free_set(&l.set);
    lf_bytes_free(&l.prompt);
    lf_bytes_free(&l.response);
    lf_bytes_free(&l.key);
    return status;
}

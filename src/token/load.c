/* Which files a tokenizer is made of: a model folder, or one file told by its content. */
#include "token/load.h"

#include "base/map.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* tokenizer.model is one of two formats: a ModelProto begins with a piece (field 1, a message). */
static lf_status load_model(lf_tokenizer *t, const lf_map *map, const lf_sidecar *s, const char *name,
                            lf_error *err)
{
    static const uint8_t first_piece = 1 << 3 | 2;
    const bool sentencepiece = map->data[0] == first_piece;
    bool named = false;
    lf_status status = sentencepiece ? lf_load_sentencepiece(t, map->data, map->size, name, err)
                                     : lf_load_tiktoken(t, map->data, map->size, name, err);
    if (status == LF_OK) status = lf_sidecar_add_tokens(s, t, &named, err);
    if (status == LF_OK && !sentencepiece && !named) status = lf_load_llama3_specials(t, name, err);
    return status;
}

/* What the tokenizer classes of transformers mean for a vocabulary with merges. */
static lf_status apply_class(lf_tokenizer *t, const lf_sidecar *s, const char *name, lf_error *err)
{
    static const char gpt2_end[] = "<|endoftext|>";
    char class[64];
    lf_status status = lf_sidecar_class(s, class, err);
    if (status != LF_OK) return status;
    const bool qwen2 = strcmp(class, "Qwen2Tokenizer") == 0;
    if (!qwen2 && class[0] && strcmp(class, "GPT2Tokenizer") != 0)
        return lf_fail(err, LF_EUNSUPPORTED,
                       "%s: found tokenizer_class '%s', expected GPT2Tokenizer or Qwen2Tokenizer (or a "
                       "tokenizer.json beside)",
                       s->config_name, class);
    if (qwen2) status = lf_rewrites_add(&t->normalizer, LF_REWRITE_NFC, NULL, NULL, name, err);
    if (status == LF_OK)
        status = lf_pretokenizer_add_named(&t->pretokenizer, lf_gguf_pre_find(qwen2 ? "qwen2" : "gpt-2"),
                                           name, err);
    const int32_t end = lf_vocab_find(&t->vocab, gpt2_end, strlen(gpt2_end));
    if (status != LF_OK || qwen2 || end == LF_TOKEN_NONE) return status;
    t->bos = end;
    status = lf_load_special(t, end, err);
    return status == LF_OK ? lf_tokenizer_add_eos(t, end, err) : status;
}

static lf_status load_vocab_and_merges(lf_tokenizer *t, const json_t *vocab, const lf_sidecar *s,
                                       const char *dir, const char *name, lf_error *err)
{
    lf_map merges = {0};
    bool named;
    lf_status status = LF_OK;
    char *merges_name = lf_path_join(dir, "merges.txt");
    if (!merges_name) LF_TRY(lf_fail_memory(err, "a path", strlen(dir)));
    LF_TRY(lf_map_open(&merges, merges_name, err));
    LF_TRY(
        lf_load_vocab_and_merges(t, vocab, name, (const char *)merges.data, merges.size, merges_name, err));
    LF_TRY(apply_class(t, s, name, err));
    status = lf_sidecar_add_tokens(s, t, &named, err);
done:
    lf_map_close(&merges);
    free(merges_name);
    return status;
}

/* One of the two JSON files: tokenizer.json has a "model", vocab.json has pieces. */
static lf_status load_json(lf_tokenizer *t, const lf_map *map, const lf_sidecar *s, const char *dir,
                           const char *name, lf_error *err)
{
    json_t *root = NULL;
    lf_status status = lf_json_parse(&root, (const char *)map->data, map->size, name, err);
    if (status == LF_OK)
        status = json_is_object(json_object_get(root, "model"))
                     ? lf_load_tokenizer_json(t, root, name, err)
                     : load_vocab_and_merges(t, root, s, dir, name, err);
    json_decref(root);
    return status;
}

static bool looks_like_json(const lf_map *map)
{
    size_t i = 0;
    while (i < map->size && memchr(" \t\r\n", map->data[i], 4)) i++;
    return i < map->size && map->data[i] == '{';
}

static lf_status load_file(lf_tokenizer **out, const char *dir, const char *path, lf_error *err)
{
    lf_map map = {0};
    lf_sidecar s = {0};
    lf_tokenizer *t = NULL;
    lf_status status;
    LF_TRY(lf_map_open(&map, path, err));
    LF_TRY(lf_sidecar_open(&s, dir, err));
    LF_TRY(lf_tokenizer_new(&t, err));
    LF_TRY(looks_like_json(&map) ? load_json(t, &map, &s, dir, path, err)
                                 : load_model(t, &map, &s, path, err));
    LF_TRY(lf_sidecar_apply(&s, t, err));
    LF_TRY(lf_tokenizer_finish(t, path, err));
    *out = t;
    t = NULL;
done:
    lf_tokenizer_free(t);
    lf_sidecar_close(&s);
    lf_map_close(&map);
    return status;
}

lf_status lf_tokenizer_from_file(lf_tokenizer **out, const char *path, lf_error *err)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? lf_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : lf_strndup(".", 1);
    if (!dir) return lf_fail_memory(err, "a path", strlen(path));
    const lf_status status = load_file(out, dir, path, err);
    free(dir);
    return status;
}

lf_status lf_tokenizer_from_dir(lf_tokenizer **out, const char *dir, lf_error *err)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer.model", "vocab.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = lf_path_join(dir, files[i]);
        if (!path) return lf_fail_memory(err, "a path", strlen(dir));
        const bool there = access(path, F_OK) == 0;
        const lf_status status = there ? load_file(out, dir, path, err) : LF_OK;
        free(path);
        if (there) return status;
    }
    return lf_fail(err, LF_EIO,
                   "%s: found no tokenizer, expected tokenizer.json, tokenizer.model or vocab.json", dir);
}

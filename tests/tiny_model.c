#include "tiny_model.h"

#include "testing.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* The byte that token `id` of the tokenizer below stands for: printable ASCII, newline, tab, and then bytes that are only
 * ever a part of a character, so that what the model makes up is full of broken UTF-8. */
static unsigned token_byte(int id)
{
    if (id < 95) return ' ' + (unsigned)id;
    return id == 95 ? '\n' : id == 96 ? '\t' : 0x80 + (unsigned)(id - 97);
}

/* The character that stands for such a byte in a byte-level vocabulary, as UTF-8. */
static void byte_symbol(char symbol[3], unsigned byte)
{
    const unsigned cp = byte <= ' ' ? 0x100 + byte : byte >= 0x80 ? 0x122 + byte - 0x80 : byte;
    symbol[0] = (char)(cp < 0x80 ? cp : 0xC0 | cp >> 6);
    symbol[1] = (char)(cp < 0x80 ? 0 : 0x80 | (cp & 0x3F));
    symbol[2] = '\0';
}

/* A byte-level tokenizer.json of n tokens: bytes, and words past TINY_VOCAB. */
static void write_tokenizer(const char *path, int n)
{
    json_t *vocab = json_object();
    for (int id = 0; id < n; id++) {
        char symbol[16];
        if (id < TINY_VOCAB)
            byte_symbol(symbol, token_byte(id));
        else
            (void)snprintf(symbol, sizeof symbol, "word%d", id);
        (void)json_object_set_new(vocab, symbol, json_integer(id));
    }
    json_t *root = json_pack("{s:s, s:[], s:n, s:{s:s, s:b, s:b, s:b}, s:n, s:{s:s, s:b, s:b, s:b}, "
                             "s:{s:s, s:o, s:[]}}",
                             "version", "1.0", "added_tokens", "normalizer", "pre_tokenizer", "type",
                             "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1,
                             "post_processor", "decoder", "type", "ByteLevel", "add_prefix_space", 0,
                             "trim_offsets", 1, "use_regex", 1, "model", "type", "BPE", "vocab", vocab,
                             "merges");
    assert_non_null(root);
    assert_int_equal(json_dump_file(root, path, JSON_INDENT(1)), 0);
    json_decref(root);
}

void tiny_model_write(const char *dir, int n_tokens)
{
    char path[1024];
    size_t size;
    assert_int_equal(mkdir(dir, 0700), 0);
    json_t *config = json_load_file(golden_path("families/llama2/config.json"), 0, NULL);
    assert_non_null(config);
    (void)json_object_set_new(config, "max_position_embeddings", json_integer(TINY_CTX));
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(json_dump_file(config, path, JSON_INDENT(1)), 0);
    json_decref(config);
    char *weights = read_file(golden_path("families/llama2/model.safetensors"), &size);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    write_file(path, weights, size);
    free(weights);
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    if (n_tokens > 0) write_tokenizer(path, n_tokens);
}

lf_config tiny_config(int n_layers, int n_vocab, int n_ctx)
{
    return (lf_config){.arch = LF_ARCH_LLAMA,
                       .n_layers = n_layers,
                       .dim = 32,
                       .n_heads = 2,
                       .n_kv_heads = 1,
                       .head_dim = 16,
                       .ffn_dim = 32,
                       .n_vocab = n_vocab,
                       .n_ctx_max = n_ctx,
                       .norm_eps = 1e-5f,
                       .rope_base = 10000.0,
                       .rope_factor = 1.0,
                       .tied = true};
}

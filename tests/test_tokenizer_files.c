/* token/: the files. Malformed ones of every form give an error that names file, place, found and expected. */
#include "tokenizer_fixture.h"

#include "token/load.h"
#include "token/tokenizer.h"
#include "token/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one form each, from memory ---- */

typedef lf_status load_bytes(lf_tokenizer *t, const char *data, size_t size, lf_error *err);

static lf_status load_sentencepiece(lf_tokenizer *t, const char *data, size_t size, lf_error *err)
{
    return lf_load_sentencepiece(t, data, size, "FILE", err);
}

static lf_status load_tiktoken(lf_tokenizer *t, const char *data, size_t size, lf_error *err)
{
    return lf_load_tiktoken(t, data, size, "FILE", err);
}

static lf_status load_json(lf_tokenizer *t, const char *data, size_t size, lf_error *err)
{
    json_t *root;
    lf_status status = lf_json_parse(&root, data, size, "FILE", err);
    if (status != LF_OK) return status;
    status = lf_load_tokenizer_json(t, root, "FILE", err);
    json_decref(root);
    return status;
}

/* A vocabulary of the bytes, "he", "ll" and "hell", whose merges are the data. */
static lf_status load_merges(lf_tokenizer *t, const char *data, size_t size, lf_error *err)
{
    json_t *vocab = json_object();
    static const char *const words[] = {"he", "ll", "hell", "\xC4\xA0h"};
    for (int i = 0; i < 256 + 4; i++) {
        char piece[8] = {0};
        (void)lf_utf8_encode(i < 0x20 ? 0x100u + (uint32_t)i : (uint32_t)i, piece);
        (void)json_object_set_new(vocab, i < 256 ? piece : words[i - 256], json_integer(i));
    }
    const lf_status status = lf_load_vocab_and_merges(t, vocab, "VOCAB", data, size, "FILE", err);
    json_decref(vocab);
    return status;
}

static lf_status load(load_bytes *loader, const char *data, size_t size, lf_error *err)
{
    lf_tokenizer *t;
    lf_status status = lf_tokenizer_new(&t, err);
    if (status != LF_OK) return status;
    status = loader(t, data, size, err);
    if (status == LF_OK) status = lf_tokenizer_finish(t, "FILE", err);
    lf_tokenizer_free(t);
    return status;
}

static void expect_failure(load_bytes *loader, const char *data, size_t size, lf_status expected,
                           const char *words)
{
    lf_error err = {.text = "nothing"};
    const lf_status status = load(loader, data, size, &err);
    if (status != expected || !strstr(err.text, "FILE") || !strstr(err.text, words))
        fail_msg("found %s (%s), expected %s with '%s'", lf_status_name(status), err.text,
                 lf_status_name(expected), words);
}

/* ---- SentencePiece, written by hand ---- */

static void put_varint(lf_bytes *out, uint64_t value)
{
    do {
        const char byte = (char)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
        assert_true(lf_bytes_append(out, &byte, 1));
    } while (value >>= 7);
}

static void put_number(lf_bytes *out, unsigned field, uint64_t value)
{
    put_varint(out, field << 3);
    put_varint(out, value);
}

static void put_message(lf_bytes *out, unsigned field, const void *data, size_t size)
{
    put_varint(out, field << 3 | 2);
    put_varint(out, size);
    assert_true(lf_bytes_append(out, data, size));
}

static void put_piece(lf_bytes *model, const char *piece, float score, int kind)
{
    lf_bytes m = {0};
    put_message(&m, 1, piece, strlen(piece));
    put_varint(&m, 2 << 3 | 5);
    assert_true(lf_bytes_append(&m, &score, sizeof score));
    put_number(&m, 3, (uint64_t)kind);
    put_message(model, 1, m.data, m.len);
    lf_bytes_free(&m);
}

/* A trainer_spec of a model type, and a normalizer_spec that leaves spaces alone. */
static void put_specs(lf_bytes *model, int type)
{
    lf_bytes m = {0};
    put_number(&m, 3, (uint64_t)type);
    put_message(model, 2, m.data, m.len);
    m.len = 0;
    put_number(&m, 4, 0);
    put_message(model, 3, m.data, m.len);
    lf_bytes_free(&m);
}

static void put_base(lf_bytes *model)
{
    model->len = 0;
    put_piece(model, "<unk>", 0, LF_TOKEN_UNKNOWN);
    put_piece(model, "<s>", 0, LF_TOKEN_CONTROL);
    put_piece(model, "a", -2, LF_TOKEN_NORMAL);
    put_piece(model, "ab", -1, LF_TOKEN_NORMAL);
}

static void expect_model_failure(const lf_bytes *model, lf_status expected, const char *words)
{
    expect_failure(load_sentencepiece, model->data, model->len, expected, words);
}

static void test_malformed_sentencepiece(void **state)
{
    (void)state;
    lf_bytes m = {0};
    lf_error err;
    put_base(&m);
    put_specs(&m, 2);
    assert_ok(load(load_sentencepiece, m.data, m.len, &err), &err);
    for (int type = 1; type <= 5; type++) {
        if (type == 2) continue;
        put_base(&m);
        put_specs(&m, type);
        expect_model_failure(&m, LF_EUNSUPPORTED, "expected BPE");
    }
    put_base(&m);
    expect_model_failure(&m, LF_EUNSUPPORTED, "type unigram"); /* the default */

    static const struct {
        const char *piece;
        float score;
        int kind;
        lf_status status;
        const char *words;
    } pieces[] = {
        {"a", 0, LF_TOKEN_NORMAL, LF_EFORMAT, "the piece of token 2"},
        {"", 0, LF_TOKEN_NORMAL, LF_EFORMAT, "0 bytes"},
        {"x", NAN, LF_TOKEN_NORMAL, LF_EFORMAT, "token 4: found a score that is not a number"},
        {"x", 0, 7, LF_EFORMAT, "token 4: found type 7"},
        {"x", 0, 0, LF_EFORMAT, "found type 0"},
        {"<unk2>", 0, LF_TOKEN_UNKNOWN, LF_EFORMAT, "unknown pieces 0 and 4"},
        {"aab", 0, LF_TOKEN_UNUSED, LF_EUNSUPPORTED, "unused piece 'aab'"},
    };
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        put_base(&m);
        put_piece(&m, pieces[i].piece, pieces[i].score, pieces[i].kind);
        put_specs(&m, 2);
        expect_model_failure(&m, pieces[i].status, pieces[i].words);
    }

    m.len = 0;
    put_piece(&m, "a", 0, LF_TOKEN_NORMAL);
    put_specs(&m, 2);
    expect_model_failure(&m, LF_EFORMAT, "no piece of type unknown");
    lf_bytes n = {0};
    put_message(&n, 2, "charsmap", 8);
    put_base(&m);
    put_specs(&m, 2);
    put_message(&m, 3, n.data, n.len);
    expect_model_failure(&m, LF_EUNSUPPORTED, "normalisation table of 8 bytes");
    lf_bytes_free(&n);
    expect_failure(load_sentencepiece, "\x0A\x05\x0A\xFF\xFF\xFF\xFF", 7, LF_EFORMAT,
                   "the end inside a number");
    expect_failure(load_sentencepiece, "\x0A\x7F", 2, LF_EFORMAT, "byte 2: found a length beyond the end");
    expect_failure(load_sentencepiece, "\x0B", 1, LF_EFORMAT, "an unknown wire type");
    expect_failure(load_sentencepiece, "\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 12, LF_EFORMAT,
                   "more than 64 bits");
    expect_failure(load_sentencepiece, "", 0, LF_EFORMAT, "no pieces");
    lf_bytes_free(&m);
}

/* Cut anywhere, a file is refused, or it is one that ends earlier. */
static void check_truncations(load_bytes *loader, const char *data, size_t size, size_t step, bool may_load)
{
    for (size_t n = 0; n < size; n += n < 256 ? 1 : step) {
        char *cut = malloc(n ? n
                             : 1); /* a block of its own, so that a sanitizer sees any byte read past it */
        assert_non_null(cut);
        memcpy(cut, data, n);
        lf_error err = {.text = "nothing"};
        const lf_status status = load(loader, cut, n, &err);
        free(cut);
        if (status == LF_OK && may_load) continue;
        if (status != LF_EFORMAT && status != LF_EUNSUPPORTED)
            fail_msg("cut at %zu: found %s (%s)", n, lf_status_name(status), err.text);
        assert_non_null(strstr(err.text, "FILE"));
    }
}

static void test_truncated_files(void **state)
{
    (void)state;
    size_t size;
    char *data = read_file(golden_path("token/user.model"), &size);
    check_truncations(load_sentencepiece, data, size, 1, true);
    free(data);
    data = read_file(golden_path("token/byte-level.json"), &size);
    check_truncations(load_json, data, size - 1, 29, false); /* the last byte is a newline */
    free(data);
    static const char merges[] = "#version: 0.2\nh e\nl l\nhe ll\n\xC4\xA0 h\n";
    check_truncations(load_merges, merges, sizeof merges - 1, 1, true);
    check_truncations(load_tiktoken, "AA== 0\nAQ== 1\nAg== 2\n", 21, 1, false);
}

/* ---- tokenizer.json ---- */

static void test_malformed_tokenizer_json(void **state)
{
    (void)state;
    static const struct {
        lf_status status;
        const char *json, *words;
    } cases[] = {
        {LF_EFORMAT, "{\"model\":{}}", "no object of pieces and ids"},
        {LF_EFORMAT, "{}", "found nothing in place of the object"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0}}}", "model.merges: found no list"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{},\"merges\":[]}}", "empty vocabulary"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0,\"b\":2},\"merges\":[]}}",
         "found id 2, expected an integer from 0 to 1"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
         "id 0: found both 'a' and 'b'"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", "found id -1"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", "expected an integer"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"\":0},\"merges\":[]}}", "0 bytes"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}",
         "merge 0 ('a' 'b'): the right piece"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"b\",\"a\"]]}}", "the left piece"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", "their concatenation"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]}}",
         "item 0: found 'a a a', expected two pieces"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[7]}}", "expected two pieces"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"x\"}}",
         "unk_token: found 'x'"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":1}}", "byte_fallback"},
        {LF_EUNSUPPORTED, "{\"model\":{\"type\":\"Unigram\"}}", "model: found Unigram, expected BPE"},
        {LF_EUNSUPPORTED, "{\"model\":{\"dropout\":0.1}}", "dropout"},
        {LF_EUNSUPPORTED, "{\"model\":{\"end_of_word_suffix\":\"</w>\"}}", "end_of_word_suffix"},
        {LF_EUNSUPPORTED, "{\"normalizer\":{\"type\":\"Lowercase\"}}", "normalizer: found Lowercase"},
        {LF_EFORMAT, "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"\"}}",
         "String"},
        {LF_EFORMAT, "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}}",
         "empty pattern"},
        {LF_EUNSUPPORTED, "{\"pre_tokenizer\":{\"type\":\"Whitespace\"}}", "pre_tokenizer: found Whitespace"},
        {LF_EUNSUPPORTED, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}", "add_prefix_space"},
        {LF_EUNSUPPORTED, "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}}",
         "Metaspace: found _"},
        {LF_EUNSUPPORTED,
         "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"MergedWithNext\"}}",
         "MergedWithNext"},
        {LF_EUNSUPPORTED,
         "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?<x>a)\"},\"behavior\":\"Isolated\"}}",
         "a group that is not supported at byte 0"},
        {LF_EFORMAT,
         "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a)\"},\"behavior\":\"Isolated\"}}",
         "pattern 'a)'"},
        {LF_EUNSUPPORTED,
         "{\"post_processor\":{\"type\":\"BertProcessing\"},\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
         "post_processor: found BertProcessing"},
        {LF_EFORMAT,
         "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[9]}}},\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
         "special token '<s>'"},
        {LF_EFORMAT,
         "{\"added_tokens\":[{\"id\":5,\"content\":\"x\"}],\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
         "found id 5"},
        {LF_EFORMAT,
         "{\"added_tokens\":[{\"id\":0,\"content\":\"x\"}],\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}",
         "id 0: found both 'a' and 'x'"},
        {LF_EFORMAT,
         "{\"added_tokens\":[{\"id\":0,\"content\":5}],\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
         "content"},
        {LF_EFORMAT, "{\"model\":{\"vocab\":{\"a\":0", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_failure(load_json, cases[i].json, strlen(cases[i].json), cases[i].status, cases[i].words);

    lf_bytes text = {0};
    assert_true(lf_bytes_printf(&text, "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["));
    for (int i = 0; i < 9; i++) assert_true(lf_bytes_printf(&text, "%s{\"type\":\"NFC\"}", i ? "," : ""));
    assert_true(lf_bytes_printf(&text, "]}}"));
    expect_failure(load_json, text.data, text.len, LF_ELIMIT, "more than 8 normalizer steps");
    text.len = 0;
    assert_true(lf_bytes_printf(&text, "{\"model\":{\"vocab\":{\"%01001d\":0},\"merges\":[]}}", 0));
    expect_failure(load_json, text.data, text.len, LF_EFORMAT, "a piece of 1001 bytes");
    text.len = 0;
    assert_true(
        lf_bytes_printf(&text,
                        "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{"
                        "\"Regex\":\"%05000d\"}}}",
                        0));
    expect_failure(load_json, text.data, text.len, LF_ELIMIT, "a pre-tokenizer pattern of 5000 bytes");
    lf_bytes_free(&text);
}

/* Patterns as they come, and what PCRE2 is given; NULL for those that would not mean the same. */
static void test_patterns_are_translated_or_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "\\w",  "\\h",   "\\b",     "\\K",    "a{1,2}+",      "a{2}?",  "a{,2}", "a{2",      "^a",
        "a$",   "(?i)a", "(?P<n>)", "(*UTF)", "[[:alpha:]]",  "[a&&b]", "[]a]",  "[\\P{L}]", "\\p{^L}",
        "\\pL", "\\x80", "\\u12",   "\\x{}",  "\\x{1234567}", "\\",     "\\1",   "[^]",
    };
    static const char *const kept[] = {"a+b*?c?|(?:d)(?=e)(?!f)(?<=g)(?<!h)(?>i)", "[a-z\\-\\]]+",
                                       "\\p{Lu}\\P{Han}", "a{1,3}", "\\."};
    lf_bytes out = {0};
    lf_error err;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (lf_regex_translate(&out, refused[i], "FILE", &err) != LF_EUNSUPPORTED)
            fail_msg("pattern %s is not refused", refused[i]);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        out.len = 0;
        assert_ok(lf_regex_translate(&out, kept[i], "FILE", &err), &err);
        assert_string_equal(out.data, kept[i]);
    }
    lf_bytes_free(&out);
}

/* A pattern that backtracks without end fails with a limit and does not hang. */
static void test_runaway_patterns_hit_a_limit(void **state)
{
    (void)state;
    lf_regex *regex;
    lf_regex_match *match;
    lf_error err;
    char text[256];
    size_t start, end;
    memset(text, 'a', sizeof text);
    assert_ok(lf_regex_compile(&regex, "(?:a|aa)+[bc]", "FILE", &err), &err);
    assert_ok(lf_regex_match_new(&match, &err), &err);
    assert_int_equal(lf_regex_find(regex, match, text, sizeof text, 0, &start, &end, &err), LF_ELIMIT);
    lf_regex_match_free(match);
    lf_regex_free(regex);
}

/* ---- tiktoken, vocab.json and merges.txt ---- */

static void test_malformed_tiktoken(void **state)
{
    (void)state;
    lf_bytes ranks = {0};
    lf_error err;
    put_ranks(&ranks, 255);
    expect_failure(load_tiktoken, ranks.data, ranks.len, LF_EFORMAT, "no rank for byte 0xFF");
    static const struct {
        const char *line, *words;
    } cases[] = {
        {"/w== 256\n", "line 256: found rank '256', expected 255"},
        {"/w== 255 \n", "found rank '255 '"},
        {"/w==\n", "expected base64"},
        {"/w= 255\n", "expected base64"},
        {"!w== 255\n", "expected base64"},
        {" 255\n", "expected base64"},
        {"\n", "expected base64"},
        {"AQ== 255\n", "the piece of token 1"},
    };
    const size_t len = ranks.len;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ranks.len = len;
        assert_true(lf_bytes_printf(&ranks, "%s", cases[i].line));
        expect_failure(load_tiktoken, ranks.data, ranks.len, LF_EFORMAT, cases[i].words);
    }
    ranks.len = len;
    assert_true(lf_bytes_printf(&ranks, "/w== 255\nYWI= 256\n"));
    assert_ok(load(load_tiktoken, ranks.data, ranks.len, &err), &err);
    lf_bytes_free(&ranks);
}

static void test_malformed_merges(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"h e\nl\n", "merge 1: found 'l'"},
        {"h e l\n", "found 'h e l'"},
        {"h e\nh z\n", "merge 1 ('h' 'z'): their"},
        {"h \xE2\x96\x81\n", "the right piece"},
        {" h\n", "found ' h'"},
        {"h \n", "found 'h '"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_failure(load_merges, cases[i][0], strlen(cases[i][0]), LF_EFORMAT, cases[i][1]);
}

static void test_too_many_tokens(void **state)
{
    (void)state;
    lf_vocab v = {0};
    lf_error err;
    lf_status status = LF_OK;
    for (int i = 0; status == LF_OK; i++) {
        char piece[16];
        const int len = snprintf(piece, sizeof piece, "%d", i);
        status = lf_vocab_add(&v, piece, (size_t)len, LF_TOKEN_NORMAL, "FILE", &err);
    }
    assert_int_equal(status, LF_ELIMIT);
    assert_int_equal(v.n, LF_VOCAB_MAX);
    assert_string_equal(err.text, "FILE: found more than 4194304 tokens, the limit");
    lf_vocab_free(&v);
}

/* ---- folders ---- */

static void put_file(const char *dir, const char *name, const char *text, size_t len)
{
    char *path = lf_path_join(dir, name);
    assert_non_null(path);
    write_file(path, text, len);
    free(path);
}

static void put_small_gpt2(const char *dir)
{
    lf_bytes vocab = {0};
    put_small_vocab(&vocab);
    put_file(dir, "vocab.json", vocab.data, vocab.len);
    put_file(dir, "merges.txt", small_merges, strlen(small_merges));
    lf_bytes_free(&vocab);
}

static void put_small_tiktoken(const char *dir)
{
    static const char config[] =
        "{\"bos_token\":\"<|b|>\",\"eos_token\":{\"content\":\"<|e|>\"},\"added_tokens_decoder\":{"
        "\"258\":{\"content\":\"<|e|>\",\"special\":true},\"257\":{\"content\":\"<|b|>\",\"special\":true}},"
        "\"chat_template\":[{\"name\":\"x\",\"template\":\"no\"},{\"name\":\"default\",\"template\":\"yes\"}]}";
    lf_bytes ranks = {0};
    put_ranks(&ranks, 256);
    assert_true(lf_bytes_printf(&ranks, "YWI= 256\n"));
    put_file(dir, "tokenizer.model", ranks.data, ranks.len);
    put_file(dir, "tokenizer_config.json", config, sizeof config - 1);
    lf_bytes_free(&ranks);
}

static void test_folders(void **state)
{
    (void)state;
    lf_tokenizer *t;
    lf_error err;
    char *dir = make_temp_dir();
    assert_int_equal(lf_tokenizer_from_dir(&t, dir, &err), LF_EIO);
    assert_non_null(strstr(err.text, dir));

    put_small_gpt2(dir);
    assert_ok(lf_tokenizer_from_dir(&t, dir, &err), &err);
    expect_ids(t, "hello<|endoftext|>", true, (const int32_t[]){97, 'o' - 0x21, 98}, 3);
    assert_true(lf_tokenizer_is_eos(t, 98));
    assert_int_equal(lf_tokenizer_kind(t, 98), LF_TOKEN_CONTROL);
    assert_int_equal(lf_tokenizer_bos(t), 98);
    assert_false(lf_tokenizer_adds_bos(t));
    lf_tokenizer_free(t);

    /* tokenizer.model comes before vocab.json. */
    put_small_tiktoken(dir);
    assert_ok(lf_tokenizer_from_dir(&t, dir, &err), &err);
    assert_int_equal(lf_tokenizer_n_vocab(t), 259);
    expect_ids(t, "ab<|b|>", true, (const int32_t[]){256, 257}, 2);
    assert_int_equal(lf_tokenizer_bos(t), 257);
    assert_true(lf_tokenizer_is_eos(t, 258));
    assert_string_equal(lf_tokenizer_chat_template(t), "yes");
    size_t len;
    assert_memory_equal(lf_tokenizer_piece(t, 32, &len), "\xC4\xA0", 2);
    assert_int_equal(len, 2);
    lf_tokenizer_free(t);
    remove_tree(dir);
    free(dir);
}

static void test_malformed_folders(void **state)
{
    (void)state;
    static const struct {
        const char *file, *text;
        lf_status status;
        const char *words;
    } cases[] = {
        {"tokenizer_config.json", "{\"eos_token\":\"nope\"}", LF_EFORMAT, "key 'eos_token': found 'nope'"},
        {"tokenizer_config.json", "{\"bos_token\":7}", LF_EFORMAT, "bos_token"},
        {"tokenizer_config.json", "{\"bos_token\":{}}", LF_EFORMAT, "content"},
        {"tokenizer_config.json", "{\"add_bos_token\":3}", LF_EFORMAT, "add_bos_token"},
        {"tokenizer_config.json", "{\"tokenizer_class\":\"BloomTokenizer\"}", LF_EUNSUPPORTED,
         "BloomTokenizer"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{}}}", LF_EFORMAT, "found the key 'x'"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"200\":{\"content\":\"y\"}}}", LF_EFORMAT,
         "found id 200"},
        {"tokenizer_config.json", "{", LF_EFORMAT, "tokenizer_config.json: line 1"},
        {"special_tokens_map.json", "{\"eos_token\":\"nope\"}", LF_EFORMAT, "special_tokens_map.json"},
        {"generation_config.json", "{\"eos_token_id\":[0,99]}", LF_EFORMAT,
         "found 99, expected ids from 0 to 98"},
        {"generation_config.json", "{\"eos_token_id\":\"0\"}", LF_EFORMAT, "eos_token_id"},
        {"merges.txt", "h h h", LF_EFORMAT, "merges.txt: merge 0"},
        {"vocab.json", "{\"a\":1}", LF_EFORMAT, "vocab.json"},
        {"vocab.json", "[]", LF_EFORMAT, "vocab.json"},
        {"tokenizer.model", "?", LF_EFORMAT, "tokenizer.model: line 1"},
        {"tokenizer.json", "{\"model\":{}}", LF_EFORMAT, "tokenizer.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lf_tokenizer *t;
        lf_error err = {.text = "nothing"};
        char *dir = make_temp_dir();
        put_small_gpt2(dir);
        put_file(dir, cases[i].file, cases[i].text, strlen(cases[i].text));
        const lf_status status = lf_tokenizer_from_dir(&t, dir, &err);
        if (status != cases[i].status || !strstr(err.text, cases[i].words) || !strstr(err.text, dir))
            fail_msg("%s %s: found %s (%s)", cases[i].file, cases[i].text, lf_status_name(status), err.text);
        remove_tree(dir);
        free(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed_sentencepiece),
        cmocka_unit_test(test_truncated_files),
        cmocka_unit_test(test_malformed_tokenizer_json),
        cmocka_unit_test(test_patterns_are_translated_or_refused),
        cmocka_unit_test(test_runaway_patterns_hit_a_limit),
        cmocka_unit_test(test_malformed_tiktoken),
        cmocka_unit_test(test_malformed_merges),
        cmocka_unit_test(test_too_many_tokens),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_malformed_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* token/: ids against the recorded ones of sentencepiece, tokenizers and tiktoken
 * (tests/oracle/tokenizer_compare.py), llama.cpp's vectors, and the way back to text.
 *
 * test_tokenizer --encode PATH [--special] and --decode PATH [--special] are the helper of the live
 * comparison: they read (u32 n, n bytes) and write (u32 n, n ids), or the other way round, until the input
 * ends. */
#include "testing.h"

#include "token_strings.h"

#include "token/pretokenize.h"
#include "token/rewrite.h"
#include "token/tokenizer.h"
#include "token/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A folder, a tokenizer file, or a GGUF. */
static lf_status open_tokenizer(lf_tokenizer **out, const char *path, lf_error *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return lf_tokenizer_from_dir(out, path, err);
    const char *dot = strrchr(path, '.');
    if (!dot || strcmp(dot, ".gguf") != 0) return lf_tokenizer_from_file(out, path, err);
    lf_gguf *g;
    lf_status status = lf_gguf_open(&g, path, err);
    if (status != LF_OK) return status;
    status = lf_tokenizer_from_gguf(out, g, err);
    lf_gguf_close(g);
    return status;
}

static lf_tokenizer *must_open(const char *path)
{
    lf_tokenizer *t;
    lf_error err;
    assert_ok(open_tokenizer(&t, path, &err), &err);
    return t;
}

static void must_encode(const lf_tokenizer *t, const char *text, size_t len, bool special, lf_ids *ids)
{
    lf_error err;
    ids->len = 0;
    assert_ok(lf_tokenizer_encode(t, text, len, special, ids, &err), &err);
}

/* out = the text of the ids. */
static void must_decode(const lf_tokenizer *t, const lf_ids *ids, bool special, lf_bytes *out)
{
    lf_detok state = {0};
    lf_error err;
    out->len = 0;
    for (size_t i = 0; i < ids->len; i++)
        assert_ok(lf_detok_push(&state, t, ids->data[i], special, out, &err), &err);
    assert_ok(lf_detok_finish(&state, out, &err), &err);
}

/* ---- ids ---- */

/* One recorded set: a header "name mode golden|data path", then a hash for every TOKEN_STRINGS_PER_HASH
 * texts. */
static void check_set(FILE *f, const char *name, const char *mode, const char *path,
                      const token_strings *texts)
{
    lf_bytes text = {0};
    lf_ids ids = {0};
    lf_tokenizer *t = access(path, R_OK) == 0 ? must_open(path) : NULL;
    if (!t) print_message("skipped: %s %s: %s is not there\n", name, mode, path);
    const bool special = strcmp(mode, "special") == 0, corrupt = strcmp(mode, "corrupt") == 0;
    for (uint64_t i = 0; i < TOKEN_STRINGS;) {
        char line[64];
        assert_non_null(fgets(line, sizeof line, f));
        uint64_t hash = TOKEN_HASH_START;
        for (int k = 0; k < TOKEN_STRINGS_PER_HASH; k++, i++) {
            if (!t) continue;
            token_strings_get(texts, i, corrupt, &text);
            must_encode(t, text.data, text.len, special, &ids);
            hash = token_hash(hash, ids.data, ids.len);
        }
        if (t && hash != strtoull(line, NULL, 16))
            fail_msg("%s %s: texts %d to %d: the ids differ from those recorded", name, mode,
                     (int)i - TOKEN_STRINGS_PER_HASH, (int)i - 1);
    }
    lf_tokenizer_free(t);
    lf_ids_free(&ids);
    lf_bytes_free(&text);
}

static void test_ids_are_those_of_the_references(void **state)
{
    (void)state;
    token_strings *texts = token_strings_open();
    FILE *f = fopen(golden_path("token/hashes.txt"), "r");
    assert_non_null(f);
    char header[512];
    int n_sets = 0;
    for (; fgets(header, sizeof header, f); n_sets++) {
        char name[64], mode[16], where[16], relative[256];
        assert_int_equal(sscanf(header, "%63s %15s %15s %255s", name, mode, where, relative), 4);
        char golden[300];
        (void)snprintf(golden, sizeof golden, "token/%s", relative);
        check_set(f, name, mode, strcmp(where, "golden") == 0 ? golden_path(golden) : data_path(relative),
                  texts);
    }
    assert_true(n_sets > 20);
    fclose(f);
    token_strings_close(texts);
}

/* llama.cpp's vectors: texts between separators, and a line of ids for each. Neither bos nor special
 * tokens count. */
static void check_vectors(const char *tokenizer, const char *family)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char name[128];
    size_t size;
    lf_tokenizer *t = must_open(require_data(tokenizer));
    (void)snprintf(name, sizeof name, "tokenizers/vectors/ggml-vocab-%s.gguf.inp", family);
    char *texts = read_file(require_data(name), &size), *text = texts;
    (void)snprintf(name, sizeof name, "tokenizers/vectors/ggml-vocab-%s.gguf.out", family);
    char *expected = read_file(require_data(name), NULL), *line = expected;
    lf_ids ids = {0};
    int n = 0;
    for (char *end; text; text = end ? end + strlen(separator) : NULL, n++) {
        end = strstr(text, separator);
        must_encode(t, text, end ? (size_t)(end - text) : (size_t)(texts + size - text), false, &ids);
        for (size_t i = 0; i < ids.len; i++) {
            char *after;
            assert_int_equal(strtol(line, &after, 10), ids.data[i]);
            assert_ptr_not_equal(after, line);
            line = after;
        }
        assert_true(*line == '\n' || *line == '\0');
        line += *line == '\n';
    }
    assert_int_equal(n, 47);
    free(texts);
    free(expected);
    lf_ids_free(&ids);
    lf_tokenizer_free(t);
}

static void test_vectors_of_llama_spm(void **state)
{
    (void)state;
    check_vectors("tokenizers/vectors/ggml-vocab-llama-spm.gguf", "llama-spm");
    check_vectors("tokenizers/llama2/tokenizer.model", "llama-spm");
    check_vectors("tokenizers/llama2/tokenizer.json", "llama-spm");
    check_vectors("gguf/llama-2-tiny-random.gguf", "llama-spm");
}

static void test_vectors_of_llama_bpe(void **state)
{
    (void)state;
    check_vectors("tokenizers/llama3", "llama-bpe");
    check_vectors("tokenizers/llama3/tokenizer.model", "llama-bpe");
}

static void test_vectors_of_qwen2(void **state)
{
    (void)state;
    check_vectors("tokenizers/qwen2.5", "qwen2");
}

static void test_vectors_of_gpt2(void **state)
{
    (void)state;
    check_vectors("tokenizers/vectors/ggml-vocab-gpt-2.gguf", "gpt-2");
    check_vectors("tokenizers/gpt2", "gpt-2");
}

/* The hand-written matchers of ascii.c find what their patterns find, wherever they answer at all. */
static void check_ascii_matcher(const char *gguf_pre, const token_strings *texts)
{
    const lf_gguf_pre *pre = lf_gguf_pre_find(gguf_pre);
    lf_pretokenizer p = {0};
    lf_regex_match *match;
    lf_bytes text = {0};
    lf_error err;
    size_t n_answers = 0;
    assert_ok(lf_pretokenizer_add_named(&p, pre, "test", &err), &err);
    assert_ok(lf_regex_match_new(&match, &err), &err);
    lf_ascii_match *ascii = p.stages[p.n - 1].ascii;
    assert_non_null(ascii);
    for (uint64_t i = 0; i < TOKEN_STRINGS; i++) {
        if (i % 10 == 5 && i % 100 != 5) continue; /* long runs: fewer */
        token_strings_get(texts, i, false, &text);
        /* From every position, not only from those where pieces begin. */
        for (size_t at = 0; at < text.len; at += lf_utf8_step(text.data + at, text.len - at)) {
            const size_t len = ascii(text.data, text.len, at);
            if (len == 0) continue;
            size_t start, end;
            assert_ok(
                lf_regex_find(p.stages[p.n - 1].regex, match, text.data, text.len, at, &start, &end, &err),
                &err);
            if (start != at || end != at + len) fail_msg("%s: text %d at %zu", gguf_pre, (int)i, at);
            n_answers++;
        }
    }
    assert_true(n_answers > 100000);
    lf_bytes_free(&text);
    lf_regex_match_free(match);
    lf_pretokenizer_free(&p);
}

static void test_ascii_matchers_equal_the_patterns(void **state)
{
    (void)state;
    token_strings *texts = token_strings_open();
    check_ascii_matcher("gpt-2", texts);
    check_ascii_matcher("llama-bpe", texts);
    check_ascii_matcher("qwen2", texts);
    token_strings_close(texts);
}

static void test_special_tokens_only_on_request(void **state)
{
    (void)state;
    lf_tokenizer *t = must_open(require_data("tokenizers/llama3"));
    lf_ids ids = {0};
    static const char text[] = "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>";
    static const int32_t expected[] = {128006, 882, 128007, 271, 13347, 128009};
    must_encode(t, text, strlen(text), true, &ids);
    assert_int_equal(ids.len, sizeof expected / sizeof *expected);
    assert_memory_equal(ids.data, expected, sizeof expected);
    must_encode(t, text, strlen(text), false, &ids);
    for (size_t i = 0; i < ids.len; i++) assert_true(ids.data[i] < 128000);
    assert_int_equal(lf_tokenizer_bos(t), 128000);
    assert_true(lf_tokenizer_adds_bos(t));
    assert_true(lf_tokenizer_is_eos(t, 128001) && lf_tokenizer_is_eos(t, 128008) &&
                lf_tokenizer_is_eos(t, 128009));
    assert_false(lf_tokenizer_is_eos(t, 128000) || lf_tokenizer_is_eos(t, -1));
    assert_non_null(strstr(lf_tokenizer_chat_template(t), "start_header_id"));
    lf_ids_free(&ids);
    lf_tokenizer_free(t);
}

/* A piece of equal characters is where a quadratic algorithm would take minutes. Processor time: machines
 * are busy. */
static void test_long_runs_take_no_quadratic_time(void **state)
{
    (void)state;
    static const char *const units[] = {"a",   " ", "\n", "=", "\xCC\x81\xCC\x96", "<|", "\xE4\xB8\xAD",
                                        "\x80"};
    static const char *const tokenizers[] = {"tokenizers/llama2/tokenizer.model", "tokenizers/llama3",
                                             "tokenizers/qwen2.5", "tokenizers/gpt2"};
    enum { BYTES = 400000, SECONDS_MAX = 20 };
    static char text[BYTES];
    lf_ids ids = {0};
    for (size_t k = 0; k < sizeof tokenizers / sizeof *tokenizers; k++) {
        lf_tokenizer *t = must_open(require_data(tokenizers[k]));
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            const size_t len = strlen(units[u]);
            for (size_t i = 0; i < BYTES; i++) text[i] = units[u][i % len];
            const clock_t start = clock();
            must_encode(t, text, BYTES, true, &ids);
            assert_true((clock() - start) / CLOCKS_PER_SEC < SECONDS_MAX);
        }
        lf_tokenizer_free(t);
    }
    lf_ids_free(&ids);
}

/* ---- text ---- */

/* Encoding and decoding gives the text again; `exact` says whether the scheme promises it for this one. */
typedef bool exact(const lf_bytes *text);

static bool always(const lf_bytes *text)
{
    (void)text;
    return true;
}

static bool without_visible_spaces(const lf_bytes *text)
{
    return !memmem(text->data, text->len, LF_SPACE_SYMBOL, LF_SPACE_SYMBOL_BYTES);
}

static bool in_nfc(const lf_bytes *text)
{
    lf_bytes nfc = {0};
    assert_true(lf_nfc_append(&nfc, text->data, text->len));
    const bool same = nfc.len == text->len && memcmp(nfc.data, text->data, nfc.len) == 0;
    lf_bytes_free(&nfc);
    return same;
}

static void check_round_trip(const char *path, exact *is_exact, bool special)
{
    token_strings *texts = token_strings_open();
    lf_tokenizer *t = must_open(path);
    lf_bytes text = {0}, back = {0};
    lf_ids ids = {0};
    int n = 0;
    for (uint64_t i = 0; i < TOKEN_STRINGS; i++) {
        token_strings_get(texts, i, false, &text);
        if (!is_exact(&text)) continue;
        must_encode(t, text.data, text.len, special, &ids);
        must_decode(t, &ids, special, &back);
        if (back.len != text.len || memcmp(back.data, text.data, text.len) != 0)
            fail_msg("%s: text %d does not come back", path, (int)i);
        n++;
    }
    assert_true(n > TOKEN_STRINGS / 2);
    lf_ids_free(&ids);
    lf_bytes_free(&back);
    lf_bytes_free(&text);
    lf_tokenizer_free(t);
    token_strings_close(texts);
}

static void test_round_trip(void **state)
{
    (void)state;
    check_round_trip(golden_path("token/user.model"), without_visible_spaces, false);
    check_round_trip(require_data("tokenizers/llama2/tokenizer.model"), without_visible_spaces, false);
    check_round_trip(require_data("tokenizers/llama2/tokenizer.json"), without_visible_spaces, false);
    check_round_trip(require_data("tokenizers/vectors/ggml-vocab-llama-spm.gguf"), without_visible_spaces,
                     false);
    check_round_trip(require_data("tokenizers/llama3"), always, true);
    check_round_trip(require_data("tokenizers/gpt2"), always, true);
    check_round_trip(require_data("tokenizers/qwen2.5"), in_nfc, true);
}

/* Pushes the bytes of a text as byte tokens of a SentencePiece vocabulary. */
static void decode_bytes(const lf_tokenizer *t, const char *bytes, size_t n, lf_bytes *out)
{
    lf_ids ids = {0};
    for (size_t i = 0; i < n; i++) {
        char piece[8];
        (void)snprintf(piece, sizeof piece, "<0x%02X>", (unsigned)(uint8_t)bytes[i]);
        int32_t id = 0;
        size_t len;
        while (memcmp(lf_tokenizer_piece(t, id, &len), piece, 6) != 0 || len != 6) id++;
        assert_true(lf_ids_push(&ids, id));
    }
    must_decode(t, &ids, false, out);
    lf_ids_free(&ids);
}

/* U+FFFD for each maximal subpart: the examples of the Unicode standard, section 3.9, and their like. */
static void test_ill_formed_bytes_become_replacement_characters(void **state)
{
    (void)state;
#define R LF_REPLACEMENT_CHARACTER
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", R R R R R R R R "A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", R R R R R R R R "A"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", R R R R R "A" R R "B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", R R R R "A"},
        {"\xE2\x82\xAC\xE2\x82", "\xE2\x82\xAC" R},
        {"\xF0\x9F\x98\x80\xF0\x9F\x98", "\xF0\x9F\x98\x80" R},
        {"a\xC3", "a" R},
        {" \xC3\xA9", " \xC3\xA9"},
    };
#undef R
    lf_tokenizer *t = must_open(golden_path("token/user.model"));
    lf_bytes out = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        decode_bytes(t, cases[i].bytes, strlen(cases[i].bytes), &out);
        assert_string_equal(out.data, cases[i].text);
    }
    lf_bytes_free(&out);
    lf_tokenizer_free(t);
}

/* Random ids, pushed one by one: after each push what has come out is valid UTF-8 and a prefix of the
 * whole, whose hash is that of the text Python makes of all the bytes. */
static void check_streaming(const char *path, uint64_t expected)
{
    lf_tokenizer *t = must_open(path);
    lf_bytes out = {0};
    lf_error err;
    uint64_t hash = TOKEN_HASH_START;
    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t rng = i;
        lf_detok state = {0};
        out.len = 0;
        for (size_t n = 1 + rng_next(&rng) % 30; n > 0; n--) {
            /* Half of them from the start of the vocabulary, where the single bytes are. */
            const uint64_t range = rng_next(&rng) % 2 ? 300 : (uint64_t)lf_tokenizer_n_vocab(t);
            const size_t before = out.len;
            assert_ok(lf_detok_push(&state, t, (int32_t)(rng_next(&rng) % range), false, &out, &err), &err);
            assert_int_equal(lf_utf8_valid_prefix(out.data + before, out.len - before), out.len - before);
        }
        assert_ok(lf_detok_finish(&state, &out, &err), &err);
        for (size_t k = 0; k < out.len; k++) hash = (hash ^ (uint8_t)out.data[k]) * UINT64_C(0x100000001B3);
    }
    if (hash != expected) fail_msg("%s: the text differs from the one recorded", path);
    lf_bytes_free(&out);
    lf_tokenizer_free(t);
}

static void test_streaming_equals_the_whole(void **state)
{
    (void)state;
    FILE *f = fopen(golden_path("token/decoded.txt"), "r");
    assert_non_null(f);
    char relative[256];
    uint64_t hash;
    int n = 0;
    for (; fscanf(f, "%255s %" SCNx64, relative, &hash) == 2; n++) {
        const char *path = data_path(relative);
        if (access(path, R_OK) == 0)
            check_streaming(path, hash);
        else
            print_message("skipped: %s is not there\n", path);
    }
    assert_true(n >= 4);
    fclose(f);
}

static void test_detok_keeps_its_state_on_errors(void **state)
{
    (void)state;
    lf_tokenizer *t = must_open(golden_path("token/user.model"));
    lf_detok detok = {0};
    lf_bytes out = {0};
    lf_error err;
    assert_int_equal(lf_detok_push(&detok, t, lf_tokenizer_n_vocab(t), false, &out, &err), LF_EINVAL);
    assert_int_equal(lf_detok_push(&detok, t, -1, false, &out, &err), LF_EINVAL);
    assert_false(detok.started);
    /* A control token is silent and does not start the text, unless special tokens are asked for. */
    assert_ok(lf_detok_push(&detok, t, lf_tokenizer_bos(t), false, &out, &err), &err);
    assert_false(detok.started);
    assert_int_equal(out.len, 0);
    assert_ok(lf_detok_push(&detok, t, lf_tokenizer_bos(t), true, &out, &err), &err);
    assert_true(detok.started);
    assert_string_equal(out.data, "<s>");
    lf_bytes_free(&out);
    lf_tokenizer_free(t);
}

/* ---- the helper ---- */

static int serve(const char *path, bool decode, bool special)
{
    lf_tokenizer *t;
    lf_error err;
    lf_ids ids = {0};
    lf_bytes text = {0};
    uint32_t n;
    if (open_tokenizer(&t, path, &err) != LF_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return EXIT_FAILURE;
    }
    while (fread(&n, sizeof n, 1, stdin) == 1) {
        void *in = calloc(n ? n : 1, decode ? sizeof(int32_t) : 1);
        if (!in || fread(in, decode ? sizeof(int32_t) : 1, n, stdin) != n) return EXIT_FAILURE;
        if (decode) {
            const lf_ids given = {.data = in, .len = n};
            must_decode(t, &given, special, &text);
            n = (uint32_t)text.len;
        } else {
            must_encode(t, in, n, special, &ids);
            n = (uint32_t)ids.len;
        }
        (void)fwrite(&n, sizeof n, 1, stdout);
        (void)(decode ? fwrite(text.data, 1, n, stdout) : fwrite(ids.data, sizeof *ids.data, n, stdout));
        free(in);
    }
    lf_bytes_free(&text);
    lf_ids_free(&ids);
    lf_tokenizer_free(t);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc > 2 && (strcmp(argv[1], "--encode") == 0 || strcmp(argv[1], "--decode") == 0))
        return serve(argv[2], strcmp(argv[1], "--decode") == 0,
                     argc > 3 && strcmp(argv[3], "--special") == 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_are_those_of_the_references),
        cmocka_unit_test(test_vectors_of_llama_spm),
        cmocka_unit_test(test_vectors_of_llama_bpe),
        cmocka_unit_test(test_vectors_of_qwen2),
        cmocka_unit_test(test_vectors_of_gpt2),
        cmocka_unit_test(test_ascii_matchers_equal_the_patterns),
        cmocka_unit_test(test_special_tokens_only_on_request),
        cmocka_unit_test(test_long_runs_take_no_quadratic_time),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_ill_formed_bytes_become_replacement_characters),
        cmocka_unit_test(test_streaming_equals_the_whole),
        cmocka_unit_test(test_detok_keeps_its_state_on_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

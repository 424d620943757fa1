/* token/: tokenizers as GGUF. What is written reads back as the same tokenizer, malformed metadata are
 * refused; and a failed allocation leaves nothing behind, wherever in making, using and writing a
 * tokenizer it is. */
#include "tokenizer_fixture.h"

#include "oom.h"
#include "token_strings.h"

#include "token/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- GGUF ---- */

/* Writes t as a GGUF and opens that. */
static lf_status through_gguf(lf_tokenizer **out, const lf_tokenizer *t, const char *dir, int32_t n_padded,
                              lf_error *err)
{
    char *path = lf_path_join(dir, "vocab.gguf");
    lf_gguf_writer *w = NULL;
    lf_gguf *g = NULL;
    lf_status status = LF_OK;
    if (!path) LF_TRY(lf_fail_memory(err, "a path", strlen(dir)));
    LF_TRY(lf_gguf_writer_open(&w, path, err));
    LF_TRY(lf_tokenizer_write_gguf(t, w, n_padded, err));
    LF_TRY(lf_gguf_writer_begin(w, err));
    LF_TRY(lf_gguf_writer_finish(w, err));
    LF_TRY(lf_gguf_open(&g, path, err));
    LF_TRY(lf_tokenizer_from_gguf(out, g, err));
done:
    lf_gguf_close(g);
    lf_gguf_writer_close(w);
    free(path);
    return status;
}

/* Whether both encode a text to the same ids and decode those to the same text. */
static void check_same_ids(const char *what, const lf_tokenizer *a, const lf_tokenizer *b,
                           const lf_bytes *text, bool special)
{
    lf_ids ids[2] = {{0}};
    lf_bytes back[2] = {{0}};
    lf_error err;
    const lf_tokenizer *t[2] = {a, b};
    for (int k = 0; k < 2; k++) {
        lf_detok detok = {0};
        assert_ok(lf_tokenizer_encode(t[k], text->data, text->len, special, &ids[k], &err), &err);
        for (size_t i = 0; i < ids[k].len; i++)
            assert_ok(lf_detok_push(&detok, t[k], ids[k].data[i], special, &back[k], &err), &err);
        assert_ok(lf_detok_finish(&detok, &back[k], &err), &err);
    }
    if (token_hash(TOKEN_HASH_START, ids[0].data, ids[0].len) !=
        token_hash(TOKEN_HASH_START, ids[1].data, ids[1].len))
        fail_msg("%s: other ids after GGUF for '%.100s'", what, text->data);
    if (back[0].len != back[1].len || (back[0].len && memcmp(back[0].data, back[1].data, back[0].len) != 0))
        fail_msg("%s: another text after GGUF for '%.100s'", what, text->data);
    for (int k = 0; k < 2; k++) {
        lf_ids_free(&ids[k]);
        lf_bytes_free(&back[k]);
    }
}

static void check_gguf_round_trip(const char *path, bool folder, bool special)
{
    enum { PADDING = 7 };
    token_strings *texts = token_strings_open();
    char *dir = make_temp_dir();
    lf_tokenizer *t, *again;
    lf_bytes text = {0};
    lf_error err;
    assert_ok(folder ? lf_tokenizer_from_dir(&t, path, &err) : lf_tokenizer_from_file(&t, path, &err), &err);
    const int32_t n = lf_tokenizer_n_vocab(t);
    assert_ok(through_gguf(&again, t, dir, n + PADDING, &err), &err);
    assert_int_equal(lf_tokenizer_n_vocab(again), n + PADDING);
    assert_int_equal(lf_tokenizer_kind(again, n), LF_TOKEN_UNUSED);
    assert_int_equal(lf_tokenizer_bos(again), lf_tokenizer_bos(t));
    assert_int_equal(lf_tokenizer_adds_bos(again), lf_tokenizer_adds_bos(t));
    for (int32_t id = 0; id < n; id++) {
        assert_int_equal(lf_tokenizer_kind(again, id), lf_tokenizer_kind(t, id));
        assert_int_equal(lf_tokenizer_is_eos(again, id), lf_tokenizer_is_eos(t, id));
    }
    const char *template = lf_tokenizer_chat_template(t);
    assert_true(!template == !lf_tokenizer_chat_template(again));
    if (template) assert_string_equal(lf_tokenizer_chat_template(again), template);
    for (uint64_t i = 0; i < TOKEN_STRINGS; i += 3) {
        token_strings_get(texts, i, false, &text);
        check_same_ids(path, t, again, &text, special);
    }
    lf_bytes_free(&text);
    lf_tokenizer_free(again);
    lf_tokenizer_free(t);
    remove_tree(dir);
    free(dir);
    token_strings_close(texts);
}

static void test_gguf_round_trip_of_small_tokenizers(void **state)
{
    (void)state;
    check_gguf_round_trip(golden_path("token/plain.model"), false, false);
}

static void test_gguf_round_trip_of_llama2(void **state)
{
    (void)state;
    check_gguf_round_trip(require_data("tokenizers/llama2/tokenizer.model"), false, true);
    /* Its special tokens are sought in normalised text, which no GGUF can say. */
    check_gguf_round_trip(require_data("tokenizers/llama2/tokenizer.json"), false, false);
}

static void test_gguf_round_trip_of_mistral(void **state)
{
    (void)state;
    check_gguf_round_trip(require_data("tokenizers/mistral"), true, true);
}

static void test_gguf_round_trip_of_llama3(void **state)
{
    (void)state;
    check_gguf_round_trip(require_data("tokenizers/llama3"), true, true);
}

static void test_gguf_round_trip_of_qwen2(void **state)
{
    (void)state;
    check_gguf_round_trip(require_data("tokenizers/qwen2.5"), true, true);
}

static void test_gguf_round_trip_of_gpt2(void **state)
{
    (void)state;
    check_gguf_round_trip(require_data("tokenizers/gpt2"), true, true);
}

static void test_gguf_round_trip_of_tok512(void **state)
{
    (void)state;
    check_gguf_round_trip(require_data("models/tok512.model"), false, true);
}

/* What GGUF has no words for is refused. */
static void test_gguf_cannot_say_everything(void **state)
{
    (void)state;
    static const char *const names[] = {"token/byte-level.json", "token/metaspace-split.json",
                                        "token/metaspace-first.json"};
    char *dir = make_temp_dir();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lf_tokenizer *t, *again;
        lf_error err;
        assert_ok(lf_tokenizer_from_file(&t, golden_path(names[i]), &err), &err);
        assert_int_equal(through_gguf(&again, t, dir, 0, &err), LF_EUNSUPPORTED);
        lf_tokenizer_free(t);
    }
    remove_tree(dir);
    free(dir);
}

/* A small GGUF vocabulary of either model, with one thing changed. */
typedef enum change {
    SOUND,
    NO_MODEL,
    BAD_MODEL,
    BAD_PRE,
    NO_TOKENS,
    TOKENS_NOT_STRINGS,
    REPEATED_TOKEN,
    BAD_KIND,
    KINDS_TOO_FEW,
    SCORES_TOO_FEW,
    SCORES_STRINGS,
    BAD_BOS,
    BAD_MERGE,
    UNKNOWN_MERGE,
    NO_MERGES,
} change;

static void put_gguf(lf_gguf_writer *w, bool llama, change c)
{
    const char *tokens[] = {"<unk>", "<s>", "a", "b", c == REPEATED_TOKEN ? "a" : "ab"};
    const char *merges[] = {c == BAD_MERGE ? "ab" : c == UNKNOWN_MERGE ? "a z" : "a b"};
    int32_t kinds[] = {2, 3, 1, 1, c == BAD_KIND ? 9 : 1};
    const float scores[] = {0, 0, -1, -2, -3};
    const char *model = c == BAD_MODEL ? "bert" : llama ? "llama" : "gpt2";
    size_t lens[5];
    for (int i = 0; i < 5; i++) lens[i] = strlen(tokens[i]);
    if (c != NO_MODEL) lf_gguf_set_string(w, "tokenizer.ggml.model", model, strlen(model));
    if (c == BAD_PRE) lf_gguf_set_string(w, "tokenizer.ggml.pre", "tekken", 6);
    if (c == TOKENS_NOT_STRINGS)
        lf_gguf_set_array(w, "tokenizer.ggml.tokens", LF_GGUF_F32, scores, 5);
    else if (c != NO_TOKENS)
        lf_gguf_set_strings(w, "tokenizer.ggml.tokens", tokens, lens, 5);
    lf_gguf_set_array(w, "tokenizer.ggml.token_type", LF_GGUF_I32, kinds, c == KINDS_TOO_FEW ? 4 : 5);
    if (c == SCORES_STRINGS)
        lf_gguf_set_strings(w, "tokenizer.ggml.scores", tokens, lens, 5);
    else
        lf_gguf_set_array(w, "tokenizer.ggml.scores", LF_GGUF_F32, scores, c == SCORES_TOO_FEW ? 4 : 5);
    lens[0] = strlen(merges[0]);
    if (c != NO_MERGES) lf_gguf_set_strings(w, "tokenizer.ggml.merges", merges, lens, 1);
    lf_gguf_set_int(w, "tokenizer.ggml.bos_token_id", LF_GGUF_U32, c == BAD_BOS ? 5 : 1);
}

static void test_malformed_gguf(void **state)
{
    (void)state;
    static const struct {
        bool llama;
        change change;
        lf_status status;
        const char *words;
    } cases[] = {
        {true, SOUND, LF_OK, ""},
        {false, SOUND, LF_OK, ""},
        {true, NO_MODEL, LF_EFORMAT, "tokenizer.ggml.model"},
        {true, BAD_MODEL, LF_EUNSUPPORTED, "found 'bert', expected 'llama' or 'gpt2'"},
        {false, BAD_PRE, LF_EUNSUPPORTED, "found 'tekken'"},
        {true, NO_TOKENS, LF_EFORMAT, "found no key tokenizer.ggml.tokens"},
        {true, TOKENS_NOT_STRINGS, LF_EFORMAT, "expected an array of strings"},
        {true, REPEATED_TOKEN, LF_EFORMAT, "token 4: found 'a', the piece of token 2"},
        {true, BAD_KIND, LF_EFORMAT, "item 4: found 9, expected 1 to 6"},
        {true, KINDS_TOO_FEW, LF_EFORMAT, "found 4 items, expected one for each of 5 tokens"},
        {true, SCORES_TOO_FEW, LF_EFORMAT, "found 4 items"},
        {true, SCORES_STRINGS, LF_EFORMAT, "expected an array of numbers"},
        {true, BAD_BOS, LF_EFORMAT, "found 5, expected a token from 0 to 4"},
        {false, BAD_MERGE, LF_EFORMAT, "item 0: found 'ab', expected two pieces"},
        {false, UNKNOWN_MERGE, LF_EFORMAT, "merge 0 ('a' 'z'): the right piece"},
        {false, NO_MERGES, LF_EFORMAT, "found no key tokenizer.ggml.merges"},
    };
    char *dir = make_temp_dir(), *path = lf_path_join(dir, "x.gguf");
    assert_non_null(path);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lf_gguf_writer *w;
        lf_gguf *g;
        lf_tokenizer *t = NULL;
        lf_error err = {.text = ""};
        assert_ok(lf_gguf_writer_open(&w, path, &err), &err);
        put_gguf(w, cases[i].llama, cases[i].change);
        assert_ok(lf_gguf_writer_begin(w, &err), &err);
        assert_ok(lf_gguf_writer_finish(w, &err), &err);
        lf_gguf_writer_close(w);
        assert_ok(lf_gguf_open(&g, path, &err), &err);
        const lf_status status = lf_tokenizer_from_gguf(&t, g, &err);
        if (status != cases[i].status || !strstr(err.text, cases[i].words) ||
            (status != LF_OK && !strstr(err.text, path)))
            fail_msg("case %zu: found %s (%s)", i, lf_status_name(status), err.text);
        if (status == LF_OK) {
            static const int32_t ids[] = {0, 4}; /* SentencePiece's prefix is unknown here */
            expect_ids(t, "ab", false, ids + !cases[i].llama, 1 + cases[i].llama);
            lf_tokenizer_free(t);
        }
        lf_gguf_close(g);
    }
    free(path);
    remove_tree(dir);
    free(dir);
}

/* ---- memory ---- */

/* What a tokenizer is made of. JSON comes parsed: Jansson is not safe where its own allocations fail. */
typedef struct source {
    const char *path; /* a file for lf_tokenizer_from_file, or NULL */
    json_t *json;     /* a tokenizer.json, or a vocab.json when there are merges, or NULL */
    const char *merges;
    const lf_bytes *ranks; /* tiktoken's, or NULL */
    bool writable;         /* as a GGUF */
} source;

static lf_status make_tokenizer(lf_tokenizer **out, const source *s, lf_error *err)
{
    if (s->path) return lf_tokenizer_from_file(out, s->path, err);
    lf_tokenizer *t = NULL;
    lf_status status;
    LF_TRY(lf_tokenizer_new(&t, err));
    if (s->ranks) {
        LF_TRY(lf_load_tiktoken(t, s->ranks->data, s->ranks->len, "FILE", err));
        LF_TRY(lf_load_special(t, 256, err));
    } else if (s->merges) {
        LF_TRY(lf_load_vocab_and_merges(t, s->json, "FILE", s->merges, strlen(s->merges), "FILE", err));
        LF_TRY(lf_pretokenizer_add_named(&t->pretokenizer, lf_gguf_pre_find("smollm"), "FILE", err));
    } else {
        LF_TRY(lf_load_tokenizer_json(t, s->json, "FILE", err));
    }
    LF_TRY(lf_tokenizer_finish(t, "FILE", err));
    *out = t;
    t = NULL;
done:
    lf_tokenizer_free(t);
    return status;
}

/* Makes a tokenizer, encodes, decodes and writes it: everything that allocates. */
static lf_status use_everything(const source *s, const char *dir, lf_error *err)
{
    static const char text[] =
        "Hello <added> cafe\xCC\x81 \xE4\xB8\xAD\n  foo 'tis <|im_end|> hello hell 123 \xFF";
    lf_tokenizer *t = NULL, *again = NULL;
    lf_ids ids = {0};
    lf_bytes out = {0};
    lf_detok detok = {0};
    lf_status status;
    LF_TRY(make_tokenizer(&t, s, err));
    LF_TRY(lf_tokenizer_encode(t, text, sizeof text - 1, true, &ids, err));
    for (size_t i = 0; i < ids.len; i++) LF_TRY(lf_detok_push(&detok, t, ids.data[i], true, &out, err));
    LF_TRY(lf_detok_finish(&detok, &out, err));
    if (s->writable) LF_TRY(through_gguf(&again, t, dir, lf_tokenizer_n_vocab(t) + 1, err));
done:
    lf_tokenizer_free(again);
    lf_tokenizer_free(t);
    lf_ids_free(&ids);
    lf_bytes_free(&out);
    return status;
}

static void check_memory(const char *what, const source *s)
{
    char *dir = make_temp_dir();
    lf_error err;
    assert_ok(use_everything(s, dir, &err), &err);
    long n_failed = 0;
    for (long n = 1;; n++) {
        const long live = oom_live();
        oom_fail_at(n);
        const lf_status status = use_everything(s, dir, &err);
        const bool all_succeeded = oom_count() < n;
        oom_off();
        assert_int_equal(oom_live(), live);
        if (all_succeeded) {
            assert_ok(status, &err);
            break;
        }
        /* Where PCRE2 has no memory for machine code it matches without, so success can be right too. */
        if (status != LF_ENOMEM && status != LF_OK) fail_msg("%s: allocation %ld: %s", what, n, err.text);
        n_failed += status == LF_ENOMEM;
    }
    assert_true(n_failed > 20);
    remove_tree(dir);
    free(dir);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    oom_require();
    static const char *const json[] = {"token/metaspace-first.json", "token/byte-level.json"};
    lf_error err;
    check_memory("plain.model", &(source){.path = golden_path("token/plain.model"), .writable = true});
    for (size_t i = 0; i < sizeof json / sizeof *json; i++) {
        source s = {0};
        assert_ok(lf_json_load(&s.json, golden_path(json[i]), &err), &err);
        check_memory(json[i], &s);
        json_decref(s.json);
    }
    lf_bytes vocab = {0}, ranks = {0};
    put_small_vocab(&vocab);
    source gpt2 = {.merges = small_merges, .writable = true};
    assert_ok(lf_json_parse(&gpt2.json, vocab.data, vocab.len, "FILE", &err), &err);
    check_memory("vocab.json", &gpt2);
    json_decref(gpt2.json);
    put_ranks(&ranks, 256);
    assert_true(lf_bytes_printf(&ranks, "YWI= 256\n"));
    check_memory("tiktoken", &(source){.ranks = &ranks, .writable = true});
    lf_bytes_free(&ranks);
    lf_bytes_free(&vocab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf_round_trip_of_small_tokenizers),
        cmocka_unit_test(test_gguf_round_trip_of_llama2),
        cmocka_unit_test(test_gguf_round_trip_of_mistral),
        cmocka_unit_test(test_gguf_round_trip_of_llama3),
        cmocka_unit_test(test_gguf_round_trip_of_qwen2),
        cmocka_unit_test(test_gguf_round_trip_of_gpt2),
        cmocka_unit_test(test_gguf_round_trip_of_tok512),
        cmocka_unit_test(test_gguf_cannot_say_everything),
        cmocka_unit_test(test_malformed_gguf),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

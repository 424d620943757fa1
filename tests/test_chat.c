/* src/chat and its part of lookfar.h: templates found in folders, requests in OpenAI's form brought into the templates' own, what
 * cannot be rendered, and rendering and tokenizing with a real model. */
#include "testing.h"

#include "chat/chat.h"
#include "file_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a small tokenizer, in a folder ---- */

static const char tokenizer_json[] =
    "{\"added_tokens\": [{\"id\": 2, \"content\": \"<s>\", \"special\": true, \"lstrip\": false, \"rstrip\": false, "
    "\"single_word\": false, \"normalized\": false}, {\"id\": 3, \"content\": \"</s>\", \"special\": true, \"lstrip\": "
    "false, \"rstrip\": false, \"single_word\": false, \"normalized\": false}], \"normalizer\": null, \"pre_tokenizer\": "
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}, \"decoder\": {\"type\": \"ByteLevel\"}, "
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []}}";

static void write_folder(const char *config)
{
    write_file(in_temp("tokenizer.json"), tokenizer_json, strlen(tokenizer_json));
    write_file(in_temp("tokenizer_config.json"), config, strlen(config));
}

static lf_tokenizer *open_tokenizer(void)
{
    lf_error err;
    lf_tokenizer *t = NULL;
    char *dir = strdup(in_temp(""));
    dir[strlen(dir) - 1] = '\0';
    assert_ok(lf_tokenizer_from_dir(&t, dir, &err), &err);
    free(dir);
    return t;
}

static lf_chat *open_chat(const char *template)
{
    lf_error err;
    lf_chat *chat = NULL;
    write_folder("{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
    lf_tokenizer *t = open_tokenizer();
    assert_ok(lf_chat_open(&chat, t, template, &err), &err);
    lf_tokenizer_free(t);
    return chat;
}

static void check(const lf_chat *chat, const char *request, const char *expected)
{
    lf_error err;
    lf_bytes text = {0};
    assert_ok(lf_chat_write(chat, request, strlen(request), &text, &err), &err);
    assert_string_equal(text.data ? text.data : "", expected);
    lf_bytes_free(&text);
}

static void refuse(const lf_chat *chat, const char *request, lf_status status, const char *fragment)
{
    lf_error err = {0};
    lf_bytes text = {0};
    assert_error(lf_chat_write(chat, request, strlen(request), &text, &err), status, &err, fragment);
    lf_bytes_free(&text);
}

static void check_once(const char *template, const char *request, const char *expected)
{
    lf_chat *chat = open_chat(template);
    check(chat, request, expected);
    lf_chat_close(chat);
}

static lf_chat_info describe(const lf_chat *chat)
{
    lf_chat_info info;
    lf_chat_describe(chat, &info);
    return info;
}

#define USER "\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]"

/* ---- requests ---- */

static void test_variables(void **state)
{
    (void)state;
    check_once(
        "{{ bos_token }}{{ eos_token }}{{ messages[0].content }}{{ tools is none }}{{ documents is none }}"
        "{{ add_generation_prompt }}{{ pad_token is defined }}{{ model is defined }}",
        "{" USER ", \"model\": \"x\", \"temperature\": 1}", "<s></s>hiTrueTrueTrueFalseFalse");
    check_once("{{ add_generation_prompt }}{{ tools | length }}{{ documents[0].title }}{{ enable_thinking }}",
               "{" USER
               ", \"add_generation_prompt\": false, \"tools\": [{}], \"documents\": [{\"title\": \"T\"}], "
               "\"chat_template_kwargs\": {\"enable_thinking\": false, \"messages\": 5}}",
               "False1TFalse");
    check_once("{{ tools is none }}{{ bos_token }}",
               "{" USER ", \"tools\": [], \"chat_template_kwargs\": {\"bos_token\": \"B\"}}", "TrueB");
    check_once("{{ strftime_now('%d %b %Y') }}", "{" USER ", \"now\": 1753529696}", "26 Jul 2025");
}

static void test_chatml(void **state)
{
    (void)state;
    lf_chat *chat = open_chat("chatml");
    check(
        chat,
        "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": \"u\"}]}",
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n");
    assert_true(describe(chat).system);
    assert_false(describe(chat).tools);
    lf_chat_close(chat);
}

static void test_content_parts(void **state)
{
    (void)state;
    static const char parts[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, "
        "{\"type\": \"text\", \"text\": \"b\"}]}]}";
    /* a template of strings gets a string, one of parts gets parts, also of a string; one of both gets what there is */
    check_once("{{ messages[0].content + '!' }}", parts, "a\nb!");
    check_once("{{ messages[0]['content'] | trim }}", parts, "a\nb");
    static const char of_parts[] = "{% for p in messages[0].content %}[{{ p.text }}]{% endfor %}";
    check_once(of_parts, parts, "[a][b]");
    check_once(of_parts, "{" USER "}", "[hi]");
    static const char of_both[] = "{% set c = messages[0].content %}{% if c is string %}S{{ c }}{% else %}"
                                  "{% for p in c %}P{{ p.text }}{% endfor %}{% endif %}";
    check_once(of_both, parts, "PaPb");
    check_once(of_both, "{" USER "}", "Shi");
    lf_chat *chat = open_chat("{{ messages[0].content }}");
    refuse(chat, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
           LF_EUNSUPPORTED, "messages[0].content: found a part of type 'image_url'");
    refuse(chat, "{\"messages\": [{\"role\": \"user\", \"content\": 5}]}", LF_EINVAL, "messages[0].content");
    check(chat, "{\"messages\": [{\"role\": \"assistant\", \"content\": null}]}", "None");
    lf_chat_close(chat);
}

static void test_call_arguments(void **state)
{
    (void)state;
    static const char template[] =
        "{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }};{% endfor %}{% endfor %}";
    check_once(
        template,
        "{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": "
        "\"{\\\"x\\\": [1, 2]}\"}}, {\"function\": {\"name\": \"g\", \"arguments\": {\"y\": 1}}}, {\"function\": "
        "{\"name\": \"h\", \"arguments\": \"{broken\"}}]}]}",
        "{\"x\": [1, 2]};{\"y\": 1};\"{broken\";");
}

static void test_refuses_requests(void **state)
{
    (void)state;
    lf_chat *chat = open_chat("{{ messages[0].content }}");
    refuse(chat, "{", LF_EFORMAT, "a chat request: line 1");
    refuse(chat, "[]", LF_EINVAL, "expected an object");
    refuse(chat, "{}", LF_EINVAL, "messages: expected a list");
    refuse(chat, "{\"messages\": [1]}", LF_EINVAL, "messages[0]");
    refuse(chat, "{\"messages\": [{\"role\": \"user\"}, {\"content\": \"\"}]}", LF_EINVAL, "messages[1]");
    refuse(chat, "{" USER ", \"tools\": {}}", LF_EINVAL, "tools: expected a list");
    refuse(chat, "{" USER ", \"tools\": [1]}", LF_EINVAL, "tools[0]");
    refuse(chat, "{" USER ", \"documents\": 1}", LF_EINVAL, "documents");
    refuse(chat, "{" USER ", \"add_generation_prompt\": 1}", LF_EINVAL, "add_generation_prompt");
    refuse(chat, "{" USER ", \"chat_template_kwargs\": 1}", LF_EINVAL, "chat_template_kwargs");
    refuse(chat, "{\"messages\": []}", LF_EINVAL, "chat template: line 1");
    lf_chat_close(chat);
}

/* ---- where templates come from ---- */

static lf_chat *open_own(const char *config)
{
    lf_error err;
    lf_chat *chat = NULL;
    write_folder(config);
    lf_tokenizer *t = open_tokenizer();
    assert_ok(lf_chat_open(&chat, t, NULL, &err), &err);
    lf_tokenizer_free(t);
    return chat;
}

static void check_own(const char *config, const char *request, const char *expected)
{
    lf_chat *chat = open_own(config);
    check(chat, request, expected);
    lf_chat_close(chat);
}

static void test_finds_templates(void **state)
{
    (void)state;
    static const char named[] =
        "{\"chat_template\": [{\"name\": \"default\", \"template\": \"D\"}, {\"name\": \"tool_use\", "
        "\"template\": \"T\"}, {\"name\": \"rag\", \"template\": \"R\"}]}";
    check_own("{\"chat_template\": \"one\"}", "{" USER "}", "one");
    check_own(named, "{" USER "}", "D");
    check_own(named, "{" USER ", \"tools\": [{}]}", "T");
    write_file(in_temp("chat_template.jinja"), "file {{ messages[0].role }}\n", 28);
    check_own(named, "{" USER "}", "file user");
    assert_int_equal(remove(in_temp("chat_template.jinja")), 0);
}

static void test_a_model_without_a_template(void **state)
{
    (void)state;
    lf_chat *chat = open_own("{}");
    assert_null(describe(chat).template_text);
    assert_null(describe(chat).error);
    refuse(chat, "{" USER "}", LF_EUNSUPPORTED, "the model has no chat template");
    lf_chat_close(chat);
}

/* The model's own may be beyond the subset, and the model still opens; one that is given may not. */
static void test_a_template_beyond_the_subset(void **state)
{
    (void)state;
    lf_error err = {0};
    lf_chat *chat = open_own("{\"chat_template\": \"{% include 'x' %}\"}");
    assert_non_null(strstr(describe(chat).error, "line 1: found the statement 'include'"));
    assert_non_null(describe(chat).template_text);
    refuse(chat, "{" USER "}", LF_EUNSUPPORTED, "include");
    lf_chat_close(chat);
    lf_tokenizer *t = open_tokenizer();
    assert_error(lf_chat_open(&chat, t, "{% if %}", &err), LF_EFORMAT, &err, "chat template: line 1");
    lf_tokenizer_free(t);
}

static void test_abilities(void **state)
{
    (void)state;
    static const char strict[] =
        "{% if messages[0].role != 'user' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}";
    lf_chat *chat = open_chat(strict);
    assert_false(describe(chat).system || describe(chat).tools);
    lf_chat_close(chat);
    chat = open_chat(
        "{% for m in messages %}{{ m.content }}{% endfor %}{% for t in tools or [] %}{{ t | tojson }}{% endfor %}");
    assert_true(describe(chat).system && describe(chat).tools);
    lf_chat_close(chat);
}

/* ---- with a model ---- */

static void test_with_a_model(void **state)
{
    (void)state;
    static const char request[] = "{" USER "}";
    lf_error err = {0};
    lf_engine *engine;
    lf_engine_params params;
    lf_chat_info info = {.size = sizeof info};
    char *text;
    int32_t *ids;
    size_t len, n;
    lf_engine_params_init(&params);
    params.model_path = require_data("models/hf/stories260K");
    params.n_threads = 1;
    assert_ok(lf_engine_open(&engine, &params, &err), &err);
    lf_chat_get_info(engine, &info);
    assert_null(info.template_text);
    assert_error(lf_chat_render(engine, request, strlen(request), &text, &len, &err), LF_EUNSUPPORTED, &err,
                 "no chat template");
    lf_engine_close(engine);

    params.chat_template = "{{ bos_token }}[{{ messages[0].content }}]{{ eos_token }}";
    assert_ok(lf_engine_open(&engine, &params, &err), &err);
    assert_ok(lf_chat_render(engine, request, strlen(request), &text, &len, &err), &err);
    assert_string_equal(text, "<s>[hi]</s>");
    assert_int_equal(len, strlen(text));
    assert_ok(lf_chat_tokenize(engine, text, len, &ids, &n, &err), &err);
    assert_true(n > 3 && ids[0] == 1 && ids[1] != 1 &&
                ids[n - 1] == 2); /* one beginning, and an end, as tokens */
    free(ids);
    free(text);
    lf_engine_close(engine);

    params.chat_template = "{{ broken";
    assert_error(lf_engine_open(&engine, &params, &err), LF_EFORMAT, &err, "chat template: line 1");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_variables, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_chatml, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_content_parts, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_call_arguments, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_refuses_requests, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_finds_templates, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_a_model_without_a_template, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_a_template_beyond_the_subset, enter_temp, leave_temp),
        cmocka_unit_test_setup_teardown(test_abilities, enter_temp, leave_temp),
        cmocka_unit_test(test_with_a_model),
    };
    return cmocka_run_group_tests_name("chat", tests, NULL, NULL);
}

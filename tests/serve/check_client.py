"""The real openai client over every endpoint and option of lookfar serve.

    check_client.py LOOKFAR MODEL
"""
import asyncio
import random
import re
import sys

import openai
from prometheus_client.parser import text_string_to_metric_families
from server import Server

PROMPT = "Once upon a time, there was a little girl named Lily."
CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tell me a story."}]


def refused(call, code=None, param=None, kind=openai.BadRequestError):
    try:
        call()
    except kind as e:
        assert code is None or e.code == code, e
        assert param is None or e.param == param, e
        return e
    raise AssertionError("expected an error")


def check_completions(client, model):
    def complete(**options):
        return client.completions.create(**{"model": model, "prompt": PROMPT, "max_tokens": 24, "seed": 3, **options})

    plain = complete(extra_body={"speculative": False})
    assert plain.object == "text_completion" and plain.model == model and plain.id.startswith("cmpl-")
    assert plain.choices[0].finish_reason == "length" and plain.usage.completion_tokens == 24
    text = plain.choices[0].text
    for options in ({}, {"extra_body": {"speculative": {"proposer": "ngram", "draft_max": 3}}},
                    {"extra_body": {"speculative": {"proposer": "jacobi"}}},
                    {"extra_body": {"speculative": {"proposer": "sparse", "selection": "window", "budget": 64}}},
                    {"user": "me", "extra_body": {"prediction": {"type": "content", "content": text}, "metadata": {"a": "b"}}}):
        assert complete(**options).choices[0].text == text, options
    chunks = list(complete(stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks[:-1]) == text
    assert len({c.id for c in chunks}) == 1 and chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 24
    assert all(c.usage is None for c in chunks[:-1]) and [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "length"

    many = complete(prompt=[PROMPT, "The dog"], n=2, best_of=2)
    assert [c.index for c in many.choices] == [0, 1, 2, 3] and many.choices[0].text == text
    assert many.choices[0].text != many.choices[1].text
    ids = client.post("/../tokenize", cast_to=object, body={"prompt": PROMPT})["tokens"]
    assert complete(prompt=ids).choices[0].text == text
    assert complete(prompt=[ids, ids]).usage.prompt_tokens == 2 * len(ids)
    assert complete(echo=True).choices[0].text == PROMPT + text
    word = text.split()[3]
    stopped = complete(stop=[word, "never"]).choices[0]
    assert stopped.finish_reason == "stop" and text.startswith(stopped.text) and word not in stopped.text

    scored = complete(logprobs=3, temperature=0).choices[0]
    lp = scored.logprobs
    assert len(lp.tokens) == len(lp.token_logprobs) == len(lp.top_logprobs) == len(lp.text_offset) == 24
    assert all(max(top.values()) == value for top, value in zip(lp.top_logprobs, lp.token_logprobs))
    assert [scored.text[o] for o in lp.text_offset[:4]] == [t[0] for t in lp.tokens[:4]]
    # as lm-eval asks: the log-likelihood of a continuation, and whether it is the greedy one
    whole = complete(prompt=PROMPT + scored.text, echo=True, logprobs=1, max_tokens=0, temperature=0).choices[0].logprobs
    found = dict(zip(whole.text_offset, whole.token_logprobs))
    shift = len(PROMPT)
    same = [(o, v) for o, v in zip(lp.text_offset, lp.token_logprobs) if found.get(o + shift) is not None]
    assert len(same) > 20 and all(abs(found[o + shift] - v) < 1e-4 for o, v in same)

    greedy = complete(temperature=0).choices[0].text
    first = scored.logprobs.tokens[0]
    bias = {str(client.post("/../tokenize", cast_to=object, body={"content": greedy})["tokens"][0]): -100}
    assert complete(temperature=0, logit_bias=bias).choices[0].text != greedy or first not in greedy
    assert complete(temperature=0, presence_penalty=2, frequency_penalty=2).choices[0].text != greedy
    assert complete(temperature=5, top_p=0.001).choices[0].text == complete(temperature=5, extra_body={"top_k": 1}).choices[0].text
    extra = complete(extra_body={"timings_per_token": True, "return_metrics": True, "return_token_ids": True,
                                 "return_provenance": True, "speculative": {"proposer": "ngram"}})
    assert extra.timings["predicted_n"] == 24 and extra.timings["draft_n"] >= extra.timings["draft_n_accepted"]
    assert extra.metrics["speculative_decoding"]["num_spec_steps"] <= 24
    assert len(extra.choices[0].token_ids) == 24 and len(extra.lookfar[0]["tokens"]) >= 24

    check_picks(complete, text)
    choice = complete(extra_body={"guided_choice": ["left", "right"]}).choices[0].text
    assert choice in ("left", "right")
    refused(lambda: complete(prompt="a " * 5000), code="context_length_exceeded", param="prompt")
    refused(lambda: complete(suffix="x"), param="suffix")
    refused(lambda: complete(temperature=-1), param="temperature")


def check_picks(complete, text):
    """Options of the pick: those that filter down to the likeliest say what greedy does, those that change nothing change nothing."""
    greedy = complete(temperature=0).choices[0].text
    for only in ({"top_k": 1}, {"min_p": 1}):
        assert complete(temperature=2, extra_body=only).choices[0].text == greedy, only
    for nothing in ({"top_k": -1, "min_p": 0, "repetition_penalty": 1, "repeat_last_n": -1}, {"speculative": True},
                    {"response_format": {"type": "text"}}, {"ignore_eos": True}, {"unheard_of": [1]}):
        assert complete(extra_body=nothing).choices[0].text == text, nothing
    for penalty in ({"repetition_penalty": 1.9}, {"repetition_penalty": 1.9, "repeat_last_n": 8}):
        assert complete(temperature=0, extra_body=penalty).choices[0].text != greedy, penalty
    shaped = complete(max_tokens=60, extra_body={"guided_regex": "[0-9]{3}-[0-9]{2}"}).choices[0]
    assert re.fullmatch("[0-9]{3}-[0-9]{2}", shaped.text) and shaped.finish_reason == "stop"


def check_rest(client, model):
    """The endpoints that are not OpenAI's."""
    def post(path, **body):
        return client.post("/.." + path, cast_to=object, body=body)

    ids = post("/tokenize", content=PROMPT)["tokens"]
    pieces = post("/tokenize", content=PROMPT, with_pieces=True)["tokens"]
    assert [p["id"] for p in pieces] == ids and post("/tokenize", prompt=PROMPT)["count"] == len(ids) + 1
    assert post("/detokenize", tokens=ids)["content"].strip() == PROMPT
    rendered = post("/apply-template", messages=CHAT)["prompt"]
    assert "Be kind." in rendered and post("/tokenize", messages=CHAT)["count"] > len(ids)
    props = client.get("/../props", cast_to=object)
    assert props["model_alias"] == model and props["total_slots"] == 8 and props["chat_template"]
    assert client.get("/../version", cast_to=object)["version"] and client.get("/../health", cast_to=object) == {"status": "ok"}
    assert client.get("/../v1/health", cast_to=object) == {"status": "ok"}
    refused(lambda: post("/detokenize", tokens=[-1]), param="tokens")
    refused(lambda: post("/tokenize"), param="prompt")
    refused(lambda: post("/apply-template"), param="messages")


def check_chat(client, model):
    def chat(**options):
        return client.chat.completions.create(**{"model": model, "messages": CHAT, "max_completion_tokens": 16, "seed": 5, **options})

    plain = chat(extra_body={"speculative": False})
    message = plain.choices[0].message
    assert plain.object == "chat.completion" and message.role == "assistant" and message.refusal is None
    assert plain.usage.prompt_tokens_details.cached_tokens >= 0
    assert chat().choices[0].message.content == message.content
    chunks = list(chat(stream=True, n=2, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].object == "chat.completion.chunk"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1] if c.choices[0].index == 0) == message.content
    scored = chat(logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert len(scored) == 16 and all(len(t.top_logprobs) == 2 and bytes(t.bytes) is not None for t in scored)
    parts = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Tell me a story."}]}]
    assert chat(messages=parts).choices[0].message.content == message.content
    shaped = chat(max_completion_tokens=200, response_format={"type": "json_schema", "json_schema": {
        "name": "answer", "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
                                     "additionalProperties": False}}})
    assert '"ok"' in shaped.choices[0].message.content
    loose = chat(max_completion_tokens=100, response_format={"type": "json_object"})
    assert loose.choices[0].message.content.lstrip().startswith("{")
    chunks = list(chat(stream=True, extra_body={"return_progress": True, "return_provenance": True, "timings_per_token": True}))
    assert any(getattr(c, "prompt_progress", None) for c in chunks) and chunks[-1].timings["predicted_n"] == 16
    told = [t["text"] for c in chunks for t in (getattr(c, "lookfar", None) or {"tokens": []})["tokens"]]
    assert "".join(told) == message.content
    function = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    assert chat(tools=[function], tool_choice="auto", user="me", store=False, metadata={"a": "b"}).choices[0].message.content
    refused(lambda: chat(tools=[function], tool_choice="required"), param="tool_choice")
    refused(lambda: chat(modalities=["text", "audio"]), param="modalities")
    refused(lambda: chat(extra_body={"speculative": {"proposer": "luck"}}))
    refused(lambda: chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]), param="messages")
    refused(lambda: client.post("/moderations", cast_to=object, body={}), kind=openai.NotFoundError)


async def check_load(client, model):
    """64 clients, mixed, some of whom leave: what is answered is what it would have been alone."""
    rng = random.Random(1)
    alone = {}

    async def one(i):
        kind = i % 8
        options = {"model": model, "prompt": PROMPT * (1 + kind % 4), "max_tokens": 20 + 5 * kind, "seed": kind,
                   "temperature": kind % 2}
        if kind not in alone:
            alone[kind] = asyncio.ensure_future(client.completions.create(**options, extra_body={"speculative": False}))
        proposer = rng.choice(["auto", "ngram", "jacobi", "sparse"])
        text = ""
        leaves = rng.random() < 0.25
        stream = await client.completions.create(**options, stream=True, extra_body={"speculative": {"proposer": proposer}})
        async for chunk in stream:
            text += chunk.choices[0].text
            if leaves:
                await stream.close()
                return
        assert text == (await alone[kind]).choices[0].text, (kind, proposer)

    await asyncio.gather(*(one(i) for i in range(64)))


def check_metrics(client):
    text = client.get("/../metrics", cast_to=str)
    families = {f.name: f for f in text_string_to_metric_families(text.replace("lookfar:", "vllm:"))}
    for name in ("vllm:num_requests_running", "vllm:time_to_first_token_seconds", "vllm:spec_decode_num_accepted_tokens",
                 "vllm:request_success", "vllm:kv_cache_usage_perc"):
        assert name in families, name
    assert all("model_name" in s.labels for f in families.values() for s in f.samples)
    running = families["vllm:num_requests_running"].samples[0].value
    assert running == 0, running


def main():
    lookfar, model_path = sys.argv[1:3]
    with Server(lookfar, model_path, "--api-key", "secret", "--parallel", "8", "--chat-template", "chatml") as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="secret", max_retries=0)
        model = client.models.list().data[0].id
        assert client.models.retrieve(model).id == model
        refused(lambda: openai.OpenAI(base_url=server.url + "/v1", api_key="wrong", max_retries=0).models.list(),
                code="invalid_api_key", kind=openai.AuthenticationError)
        refused(lambda: client.models.retrieve("other"), code="model_not_found", kind=openai.NotFoundError)
        check_completions(client, model)
        check_chat(client, model)
        check_rest(client, model)
        asyncio.run(check_load(openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="secret", max_retries=0), model))
        check_metrics(client)
    print("check_client: ok")


if __name__ == "__main__":
    main()

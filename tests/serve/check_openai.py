"""The answers of lookfar serve held against OpenAI's own published schema (github.com/openai/openai-openapi, its openapi.json).

    check_openai.py LOOKFAR MODEL [OPENAPI_JSON]

The file may also be named by OPENAI_SPEC. Nothing is downloaded; without the file it says so and passes. Answers must satisfy the
schema, and have no member that it does not know but those that a request asked for.
"""
import json
import os
import sys
import urllib.error
import urllib.request

from jsonschema import Draft202012Validator
from server import Server

CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tell me a story."}]
SHAPE = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": {
    "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}}}
EVERYTHING = {"return_provenance": True, "return_progress": True, "timings_per_token": True, "return_metrics": True,
              "return_token_ids": True}

# Nulls that OpenAI's own service sends against its schema, and so do we: the end of a choice is null until it is there, and the first
# token of a prompt that comes back has no log probability.
NULLS = {
    ("CreateCompletionResponse", "choices.*.finish_reason"),
    ("CreateCompletionResponse", "choices.*.logprobs.token_logprobs.*"),
    ("CreateCompletionResponse", "choices.*.logprobs.top_logprobs.*"),
}
# Members of ours, by who sends them: clients of vLLM and llama.cpp look for those of a model.
MODEL_MEMBERS = {"max_model_len", "context_length", "meta"}
ASKED_MEMBERS = {"lookfar", "timings", "metrics", "prompt_progress", "token_ids", "prompt_token_ids"}


def with_nulls(schema):
    """`nullable` of OpenAPI 3.0, in JSON Schema's words."""
    if isinstance(schema, list):
        return [with_nulls(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {k: with_nulls(v) for k, v in schema.items() if k != "nullable"}
    return {"anyOf": [inner, {"type": "null"}]} if schema.get("nullable") is True else inner


class Spec:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.root = with_nulls(json.load(f))
        self.n_checked = 0

    def schema(self, name):
        return {"$ref": f"#/components/schemas/{name}", "components": self.root["components"]}

    def members(self, schema, value):
        """Members of value that no branch of its schema names."""
        branches, stack = [], [schema]
        while stack:
            s = stack.pop()
            if "$ref" in s:
                s = self.root["components"]["schemas"][s["$ref"].rsplit("/", 1)[1]]
            branches.append(s)
            stack += [*s.get("anyOf", []), *s.get("oneOf", []), *s.get("allOf", [])]
        if isinstance(value, list):
            items = [b["items"] for b in branches if "items" in b]
            return set().union(*(self.members({"anyOf": items}, v) for v in value)) if items else set()
        if not isinstance(value, dict) or any("additionalProperties" in b for b in branches):
            return set()
        known = {}
        for b in branches:
            for key, s in b.get("properties", {}).items():
                known.setdefault(key, []).append(s)
        inner = [self.members({"anyOf": known[k]}, v) for k, v in value.items() if k in known]
        return {k for k in value if k not in known}.union(*inner)

    def check(self, name, value, extra=frozenset()):
        self.n_checked += 1
        for error in Draft202012Validator(self.schema(name)).iter_errors(value):
            for leaf in leaves(error):
                path = ".".join("*" if isinstance(p, int) else p for p in leaf.absolute_path)
                allowed = leaf.instance is None and (name, path) in NULLS
                assert allowed, f"{name}: {path}: {leaf.message}\n{json.dumps(value)[:2000]}"
        unknown = self.members({"$ref": "#/components/schemas/" + name}, value) - set(extra)
        assert not unknown, f"{name}: members that OpenAI does not know: {unknown}"


def leaves(error):
    """The errors inside an anyOf that tell most: those deepest in the value."""
    if not error.context:
        return [error]
    inner = [leaf for e in error.context for leaf in leaves(e)]
    deepest = max(len(e.absolute_path) for e in inner)
    return [e for e in inner if len(e.absolute_path) == deepest and (e.validator != "type" or e.instance is not None or
                                                                      e.validator_value != "null")][:1]


class Client:
    def __init__(self, url):
        self.url = url

    def call(self, path, body=None, key="secret", method=None):
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Authorization": "Bearer " + key}, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def get(self, path, body=None):
        status, text = self.call(path, body)
        assert status == 200, text
        return json.loads(text)

    def stream(self, path, body):
        status, text = self.call(path, {**body, "stream": True})
        assert status == 200 and text.endswith("data: [DONE]\n\n"), text
        return [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]


def check_chat(spec, client):
    variants = [{}, {"n": 2, "logprobs": True, "top_logprobs": 3}, {"response_format": SHAPE, "max_completion_tokens": 100},
                {"prediction": {"type": "content", "content": "Once upon a time"}, "speculative": {"proposer": "ngram"}}]
    usage = {"stream_options": {"include_usage": True}}
    for variant in variants:
        body = {"model": "m", "messages": CHAT, "max_completion_tokens": 12, "seed": 1, **variant}
        spec.check("CreateChatCompletionResponse", client.get("/v1/chat/completions", body))
        spec.check("CreateChatCompletionResponse", client.get("/v1/chat/completions", {**body, **EVERYTHING}), ASKED_MEMBERS)
        for chunk in client.stream("/v1/chat/completions", {**body, **usage}):
            spec.check("CreateChatCompletionStreamResponse", chunk)
        for chunk in client.stream("/v1/chat/completions", {**body, **usage, **EVERYTHING}):
            spec.check("CreateChatCompletionStreamResponse", chunk, ASKED_MEMBERS)


def check_completions(spec, client):
    variants = [{}, {"n": 2, "logprobs": 3}, {"prompt": ["one", "two"], "echo": True, "logprobs": 1, "max_tokens": 0}]
    for variant in variants:
        body = {"model": "m", "prompt": "Once upon a time", "max_tokens": 12, "seed": 1, **variant}
        spec.check("CreateCompletionResponse", client.get("/v1/completions", body))
        spec.check("CreateCompletionResponse", client.get("/v1/completions", {**body, **EVERYTHING}), ASKED_MEMBERS)
    for chunk in client.stream("/v1/completions", {"model": "m", "prompt": "Once", "max_tokens": 12, "logprobs": 2}):
        spec.check("CreateCompletionResponse", chunk)


def check_errors(spec, client):
    long = {"prompt": "a b c " * 5000}
    cases = [(400, "/v1/completions", b"{", {}), (400, "/v1/completions", {}, {}), (400, "/v1/completions", long, {}),
             (400, "/v1/chat/completions", {"messages": CHAT, "tool_choice": "required"}, {}),
             (401, "/v1/models", None, {"key": "wrong"}), (404, "/v1/models/other", None, {}), (404, "/v1/moderations", {}, {}),
             (405, "/v1/models", {}, {}), (413, "/v1/completions", b"a" * (2 << 20), {})]
    for expected, path, body, options in cases:
        status, text = client.call(path, body, **options)
        assert status == expected, (path, status, text)
        spec.check("ErrorResponse", json.loads(text))


def main():
    lookfar, model = sys.argv[1:3]
    path = sys.argv[3] if len(sys.argv) > 3 else os.environ.get("OPENAI_SPEC")
    if not path:
        print("check_openai: skipped: no openapi.json of github.com/openai/openai-openapi was named (OPENAI_SPEC)")
        return
    spec = Spec(path)
    with Server(lookfar, model, "-c", "512", "--api-key", "secret", "--chat-template", "chatml", "--max-body", "1") as server:
        client = Client(server.url)
        spec.check("ListModelsResponse", client.get("/v1/models"), MODEL_MEMBERS)
        spec.check("Model", client.get("/v1/models/" + client.get("/v1/models")["data"][0]["id"]), MODEL_MEMBERS)
        check_chat(spec, client)
        check_completions(spec, client)
        check_errors(spec, client)
    print(f"check_openai: {spec.n_checked} objects: ok")


if __name__ == "__main__":
    main()

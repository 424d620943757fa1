"""500 random schemas (tests/golden/grammar/schemas.jsonl) asked of lookfar serve: every answer that came to its end is valid for
`jsonschema`, and the same whatever proposed its tokens.

    check_forms.py LOOKFAR MODEL [--clients N] [--predict N]
"""
import argparse
import json
import threading

from asking import WAYS, ask
from jsonschema import Draft202012Validator
from server import Server

SCHEMAS = "tests/golden/grammar/schemas.jsonl"
PROMPT = 'An answer in JSON, as short as it can be: {"name": "red", "tags": ["a", 1], "is_ok": true}. Another one: '


class Checker:
    def __init__(self, url, schemas, options):
        self.url, self.schemas, self.options = url, schemas, options
        # a small model hardly comes to an end by itself: it is led to close what is open
        self.bias = {json.loads(ask(url, "/tokenize", {"content": c})[1])["tokens"][-1]: 6 for c in '"]}'}
        self.lock = threading.Lock()
        self.next = 0
        self.counts = {"valid": 0, "cut off": 0, "without a value": 0}
        self.failures = []

    def say(self, i, way):
        """(text, how it ended) of one answer."""
        body = {"prompt": PROMPT, "max_tokens": self.options.predict, "temperature": i % 2 * 0.8, "seed": i,
                "guided_json": self.schemas[i], "logit_bias": self.bias, **way}
        status, text = ask(self.url, "/v1/completions", body)
        answer = json.loads(text)
        if status == 400 and "no text can satisfy" in answer["error"]["message"]:
            return None, "without a value"
        assert status == 200, (i, status, text)
        choice = answer["choices"][0]
        return choice["text"], "valid" if choice["finish_reason"] == "stop" else "cut off"

    def check(self, i):
        plain, how = self.say(i, WAYS[0])
        if how == "valid":
            Draft202012Validator(self.schemas[i]).validate(json.loads(plain))
        way = WAYS[1 + i % (len(WAYS) - 1)]
        found = self.say(i, way)
        assert found == (plain, how), (i, way, found, plain)
        with self.lock:
            self.counts[how] += 1

    def work(self):
        while not self.failures:
            with self.lock:
                i = self.next
                self.next += 1
            if i >= len(self.schemas):
                return
            try:
                self.check(i)
            except Exception as e:  # a thread's error is the run's
                self.failures.append((i, repr(e)[:2000]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lookfar")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--predict", type=int, default=320)
    options = parser.parse_args()
    with open(SCHEMAS, encoding="utf-8") as f:
        schemas = [json.loads(line)["schema"] for line in f]
    with Server(options.lookfar, options.model, "-c", "512", "--parallel", str(options.clients)) as server:
        checker = Checker(server.url, schemas, options)
        threads = [threading.Thread(target=checker.work) for _ in range(options.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"check_forms: {len(schemas)} schemas: {checker.counts}")
    assert not checker.failures, checker.failures[:3]
    assert checker.counts["valid"] > len(schemas) / 2


if __name__ == "__main__":
    main()

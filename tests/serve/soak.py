"""Hours of mixed load on lookfar serve: completions and chats in every form, with every proposer, mistakes, clients that hang up.
Answers to the same request must stay the same, nothing may be a 5xx, and the memory must be flat.

    soak.py LOOKFAR MODEL [--seconds N] [--rate REQUESTS_PER_SECOND] [--ctx N] [--pages N] [--seed N]

Prints the resident memory now and then. Flat: at the end no more than --slack MiB above what it was after a fifth of the time.
"""
import argparse
import hashlib
import json
import random
import threading
import time

from asking import WAYS, ask, metric
from server import Server

SHAPE = {"type": "json_schema", "json_schema": {"name": "x", "schema": {
    "type": "object", "properties": {"a": {"type": "boolean"}, "b": {"enum": ["u", "v"]}}, "required": ["a", "b"],
    "additionalProperties": False}}}
MEANINGS = 120
SENTENCE = "Once upon a time, there was a little girl named Lily. She liked to play with her dog in the park. "
MISTAKES = [("/v1/completions", {"prompt": []}), ("/v1/completions", {"prompt": "a", "temperature": -1}),
            ("/v1/completions", {"prompt": "a " * 200000}), ("/v1/chat/completions", {"messages": [1]}),
            ("/detokenize", {"tokens": [-1]}), ("/v1/nothing", {}),
            ("/v1/completions", {"prompt": "a", "guided_regex": "("})]


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024


def make_meaning(rng, ctx):
    """A path, a body, and whether it is to be refused."""
    what = rng.random()
    if what < 0.1:
        path, body = rng.choice(MISTAKES)
        return path, body, True
    body = {"max_tokens": rng.choice([1, 10, 40, 120]), "seed": rng.randrange(4), "temperature": rng.choice([0, 0.9])}
    if rng.random() < 0.2:
        body["response_format"] = SHAPE
    if rng.random() < 0.2:
        body["n"] = 3
    if what < 0.3:
        body["messages"] = [{"role": "user", "content": SENTENCE * rng.randrange(1, 4)}]
        return "/v1/chat/completions", body, False
    n_words = rng.choice([1, 10, 60, ctx // 4])
    words = (SENTENCE * (ctx // 16)).split()
    body["prompt"] = " ".join(words[rng.randrange(8):][:n_words])
    return "/v1/completions", body, False


def make_request(rng, meanings):
    """One of the meanings, in one of the forms that do not change it."""
    path, body, is_wrong = rng.choice(meanings)
    if is_wrong:
        return path, body, True
    form = {**rng.choice(WAYS)}
    if "chat" in path:
        form["logprobs"] = rng.random() < 0.5
    else:
        form["stream"] = "n" not in body and rng.random() < 0.6
        form["logprobs"] = rng.choice([None, 2])
    if rng.random() < 0.3:
        form["prediction"] = {"type": "content", "content": SENTENCE}
    return path, {**body, **form}, False


def content_of(path, answer, streams):
    if streams:
        return answer
    choices = json.loads(answer)["choices"]
    return [c["message"]["content"] if "chat" in path else c["text"] for c in choices]


class Soak:
    def __init__(self, url, rng, ctx):
        self.url, self.rng = url, rng
        self.meanings = [make_meaning(rng, ctx) for _ in range(MEANINGS)]
        self.lock = threading.Lock()
        self.seen = {}
        self.errors = []
        self.counts = {"finished": 0, "repeated": 0, "refused": 0, "left": 0, "busy": 0}

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def one(self):
        with self.lock:
            path, body, is_wrong = make_request(self.rng, self.meanings)
            patience = self.rng.choice([0, 1, 4, 16]) if self.rng.random() < 0.15 and body.get("stream") else None
        try:
            status, answer = ask(self.url, path, body, patience)
            if answer is None:
                return self.count("left")
            if status == 429:
                return self.count("busy")
            if is_wrong:
                assert 400 <= status < 500, (status, answer)
                return self.count("refused")
            assert status == 200, (status, answer)
            self.compare(path, body, content_of(path, answer, body.get("stream")))
        except Exception as e:  # a thread's error is the run's
            with self.lock:
                self.errors.append(f"{path} {json.dumps(body)[:300]}: {e!r}")

    def compare(self, path, body, content):
        """What a request says depends on its meaning alone."""
        meaning = {k: v for k, v in body.items() if k not in ("speculative", "prediction", "stream", "logprobs")}
        digest = hashlib.sha256(json.dumps("".join(content)).encode()).hexdigest()
        with self.lock:
            first = self.seen.setdefault(json.dumps([path, meaning], sort_keys=True), digest)
            self.counts["repeated" if first is not digest else "finished"] += 1
        assert first == digest, "another text than before"


def run(server, soak, options):
    threads, memory = [], []
    start = told = time.time()
    while time.time() - start < options.seconds and not soak.errors:
        threads = [t for t in threads if t.is_alive()]
        if len(threads) < options.clients:
            threads.append(threading.Thread(target=soak.one))
            threads[-1].start()
        time.sleep(soak.rng.expovariate(options.rate))
        now = time.time()
        memory.append((now - start, resident_mib(server.process.pid)))
        if now - told > options.seconds / 20:
            told = now
            print(f"{now - start:6.0f} s  {memory[-1][1]:7.1f} MiB  {soak.counts}  "
                  f"preemptions {metric(server.url, 'num_preemptions_total'):.0f}", flush=True)
    for thread in threads:
        thread.join()
    return memory


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lookfar")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--rate", type=float, default=4)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--pages", type=int, default=6)
    parser.add_argument("--slack", type=float, default=4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with Server(options.lookfar, options.model, "-c", str(options.ctx), "-t", "1", "--parallel", "6", "--cache-pages",
                str(options.pages), "--chat-template", "chatml", "--queue", "40") as server:
        soak = Soak(server.url, random.Random(options.seed), options.ctx)
        memory = run(server, soak, options)
        settled = max(m for t, m in memory if t <= max(options.seconds / 5, memory[0][0]))
        peak = max(m for _, m in memory)
        preemptions = metric(server.url, "num_preemptions_total")
        running = metric(server.url, "num_requests_running")
    print(f"soak: {soak.counts}; {preemptions:.0f} preemptions; {memory[0][1]:.1f} MiB at the start, {settled:.1f} after a fifth of "
          f"the time, {memory[-1][1]:.1f} at the end, {peak:.1f} at most")
    assert not soak.errors, soak.errors[:5]
    assert running == 0
    assert memory[-1][1] <= settled + options.slack, "the memory grows"


if __name__ == "__main__":
    main()

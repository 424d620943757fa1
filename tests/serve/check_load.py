"""Exactness under load, at length: many clients at once, prompts of ten tokens to nearly the whole context with common beginnings,
every proposer, clients that hang up, and a cache that holds a fraction of it all. Every answer that is finished has the bytes of the
same request alone, without a proposer and without a prefix cache.

    check_load.py LOOKFAR MODEL TEXT [--clients N] [--kinds N] [--predict N] [--pages N] [--ctx N] [--threads N] [--seed N]
"""
import argparse
import math
import random
import threading
import time

from asking import WAYS, ask, metric, text_of
from server import Server


def make_kinds(rng, text, options):
    """Requests with prompts of all lengths, on a logarithmic scale; each three of them begin alike."""
    kinds = []
    per_token = 3  # characters, at least: so that the longest fits
    for i in range(options.kinds):
        n_tokens = math.exp(rng.uniform(math.log(10), math.log((options.ctx - options.predict) * 0.9)))
        n = int(n_tokens * per_token)
        if i % 3 == 0 or n < 60:
            begin = rng.randrange(len(text) - options.ctx * 4)
        prompt = text[begin:begin + n] if i % 3 != 1 else text[begin:begin + n // 2] + text[begin + n:begin + n + n // 2]
        kinds.append({"prompt": prompt, "max_tokens": rng.randint(options.predict // 2, options.predict), "ignore_eos": True,
                      "temperature": i % 2 * 0.8, "seed": i})
    return kinds


def expected_texts(lookfar, model, kinds, common):
    texts = []
    with Server(lookfar, model, *common, "--parallel", "1", "--no-prefix-cache", "--proposer", "none") as server:
        for kind in kinds:
            texts.append(text_of(*ask(server.url, "/v1/completions", kind), False))
    return texts


def run_clients(url, kinds, expected, rng, options):
    failures, finished = [], [0]

    def one(number, kind, way, streams, patience):
        try:
            status, answer = ask(url, "/v1/completions", {**kinds[kind], **way, "stream": streams}, patience)
            if answer is None:
                return
            if text_of(status, answer, streams) != expected[kind]:
                failures.append((number, kind, way))
            finished[0] += 1
        except Exception as e:  # a thread's error is the run's
            failures.append((number, kind, way, repr(e)))

    threads = []
    for number in range(options.clients):
        patience = rng.choice([0, 1, 3, 10, 30]) if rng.random() < 0.2 else None
        streams = patience not in (None, 0) or rng.random() < 0.6
        threads.append(threading.Thread(target=one, args=(number, rng.randrange(len(kinds)), WAYS[number % len(WAYS)], streams,
                                                          patience)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures, finished[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lookfar")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--kinds", type=int, default=12)
    parser.add_argument("--predict", type=int, default=1200)
    parser.add_argument("--ctx", type=int, default=16384)
    parser.add_argument("--pages", type=int, default=130)
    parser.add_argument("--parallel", type=int, default=32)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with open(options.text, encoding="utf-8") as f:
        kinds = make_kinds(rng, f.read(), options)
    common = ["-c", str(options.ctx)] + (["-t", str(options.threads)] if options.threads else [])
    start = time.time()
    expected = expected_texts(options.lookfar, options.model, kinds, common)
    alone = time.time() - start
    with Server(options.lookfar, options.model, *common, "--parallel", str(options.parallel), "--cache-pages",
                str(options.pages)) as server:
        start = time.time()
        failures, finished = run_clients(server.url, kinds, expected, rng, options)
        seconds = time.time() - start
        counts = {name: int(metric(server.url, name)) for name in
                  ("num_preemptions_total", "prefix_cache_hits_total", "prompt_tokens_total", "generation_tokens_total",
                   "spec_decode_num_accepted_tokens_total", "num_requests_running")}
    print(f"check_load: {len(kinds)} requests alone in {alone:.0f} s; {options.clients} clients in {seconds:.0f} s, {finished} "
          f"finished, {len(failures)} wrong; {counts}")
    assert not failures, failures
    assert counts["num_preemptions_total"] > 0 and counts["num_requests_running"] == 0


if __name__ == "__main__":
    main()

"""Prompts for `lookfar run --prompts` from public data sets, as JSON lines on standard output.

    python3 bench/make_prompts.py DATA stories|python|sql|gsm8k N

DATA is a folder with stories/, python/, spider/ and gsm8k/ (TinyStories, functions with docstrings, Spider, GSM8K). The N
prompts are spread evenly over the set, so that a call gives the same ones always.
"""

import json
import pathlib
import sys


def stories(data):
    for text in (data / "stories/tinystories_cased_2M.txt").read_text().split("<|endoftext|>"):
        words = text.split()
        if len(words) > 40:
            yield " ".join(words[:20])


def python(data):
    for line in (data / "python/thealgorithms_functions.jsonl").open():
        function = json.loads(line)
        if len(function["docstring"]) < 300:
            yield f'def {function["func_name"]}():\n    """{function["docstring"]}"""\n'


def sql(data):
    for line in (data / "spider/dev.jsonl").open():
        yield f'Question: {json.loads(line)["question"]}\nSQL:'


def gsm8k(data):
    for line in (data / "gsm8k/test.jsonl").open():
        yield f'Question: {json.loads(line)["question"]}\nAnswer:'


KINDS = {"stories": stories, "python": python, "sql": sql, "gsm8k": gsm8k}


def main():
    if len(sys.argv) != 4 or sys.argv[2] not in KINDS:
        sys.exit(__doc__)
    n = int(sys.argv[3])
    prompts = list(KINDS[sys.argv[2]](pathlib.Path(sys.argv[1])))
    if not 1 <= n <= len(prompts):
        sys.exit(f"make_prompts: found {n}, expected 1 to {len(prompts)} prompts")
    for i in range(n):
        print(json.dumps({"prompt": prompts[i * len(prompts) // n]}))


if __name__ == "__main__":
    main()

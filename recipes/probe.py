#!/usr/bin/env python3
"""Does a model look back? Asks the questions that novella_data.py made over the held-out novels.

usage: probe.py MODEL PROBE.jsonl [--each N] [--context N] [--json FILE]

Each prompt plants something, goes on with other text for a distance in characters, and asks. The answer is the model's
greedy continuation, decoded by `lookfar run` (LOOKFAR names another command). For each kind and distance:

  right    share of answers whose words are all right (at most the first 8 words count)
  words    share of right words before the first wrong one
  chance   share of right words when every answer is compared with that of another question of its kind

The prompts of one length are asked with and without room for them: those longer than the context are left out.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile

WORDS_MAX = 8


def words(text):
    return re.findall(r"\w+", text)[:WORDS_MAX]


def share_right(answer, expected):
    """(share of the expected words before the first wrong one)"""
    n = 0
    for a, b in zip(answer, expected):
        if a != b:
            break
        n += 1
    return n / len(expected)


def mean(values):
    return sum(values) / len(values)


def ask(model, questions, context):
    """The continuation of each question's prompt, or None where it does not fit the context."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as f:
        for question in questions:
            f.write(json.dumps({"prompt": question["prompt"]}) + "\n")
        f.flush()
        command = [os.environ.get("LOOKFAR", "build/lookfar"), "run", "-q", "-m", model, "--prompts", f.name]
        command += ["-n", "40", "--temp", "0", "--parallel", "4"] + (["-c", str(context)] if context else [])
        out = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True, encoding="utf-8").stdout
    answers = [json.loads(line) for line in out.splitlines()]
    if len(answers) != len(questions):
        sys.exit(f"{model}: found {len(answers)} answers, expected {len(questions)}")
    return [answer.get("text") for answer in answers]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("probe")
    parser.add_argument("--each", type=int, default=20, help="questions of a kind and distance at most")
    parser.add_argument("--context", type=int, default=0)
    parser.add_argument("--json")
    options = parser.parse_args()
    cells = collections.defaultdict(list)
    with open(options.probe, encoding="utf-8") as f:
        for question in map(json.loads, f):
            cell = cells[question["kind"], question["distance"]]
            if len(cell) < options.each:
                cell.append(question)
    lines = []
    print(f"{'kind':8} {'characters':>10} {'right':>7} {'words':>7} {'chance':>7} {'asked':>6}")
    for (kind, distance), questions in cells.items():
        answers = ask(options.model, questions, options.context)
        expected = [words(question["response"]) for question in questions]
        asked = [i for i, answer in enumerate(answers) if answer is not None]
        if not asked:
            continue
        shares = [share_right(words(answers[i]), expected[i]) for i in asked]
        others = [share_right(words(answers[i]), expected[(i + 1) % len(expected)]) for i in asked]
        line = {
            "kind": kind,
            "distance": distance,
            "right": mean([share == 1.0 for share in shares]),
            "words": mean(shares),
            "chance": mean(others),
            "asked": len(asked),
        }
        lines.append(line)
        print(f"{kind:8} {distance:10} {line['right']:7.2f} {line['words']:7.2f} {line['chance']:7.2f} {len(asked):6}")
        sys.stdout.flush()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    main()

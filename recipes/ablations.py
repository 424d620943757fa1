#!/usr/bin/env python3
"""A Markdown table of evaluations, a line for each file's Jacobi decoding.

usage: ablations.py FILE.jsonl...      (as written by `lookfar eval --json`; the file's name is the line's)
"""

import json
import pathlib
import sys

COLUMNS = (
    ("n", "n", "{}"),
    ("tokens per pass", "tokens_per_pass", "{:.2f}"),
    ("of the target", "tokens_per_pass_teacher", "{:.2f}"),
    ("fast-forwarded", "fast_forwarded", "{:.2f}"),
    ("stationary", "stationary", "{:.2f}"),
    ("score, %", "score", "{:.1%}"),
    ("of the target", "score_teacher", "{:.1%}"),
    ("loss of the answers", "loss", "{:.3f}"),
    ("same tokens as the target", "agreement", "{:.2f}"),
)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print("| | " + " | ".join(title for title, _, _ in COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for path in map(pathlib.Path, sys.argv[1:]):
        for record in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if record["proposer"] == "jacobi":
                cells = (form.format(record[key]).rstrip("%") for _, key, form in COLUMNS)
                print(f"| {path.stem} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Records what recipes/scribe_data.py makes of the raw data, for tests/test_eval.c.

usage: eval_golden.py DATA_FOLDER

Writes tests/golden/eval/splits.txt: a line for each domain and split, with its name, the number of records, and the
SHA-256 of all of them, each as its strings with a NUL behind each.
"""

import hashlib
import json
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "recipes"))
import scribe_data

SPLITS = ("sql.valid", "sql.dev", "python.valid", "gsm8k.valid", "gsm8k.test", "stories.valid")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = ROOT / "tests/golden/eval/splits.txt"
    with tempfile.TemporaryDirectory() as folder, open(out, "w", encoding="utf-8") as f:
        sys.argv = ["scribe_data.py", sys.argv[1], folder]
        scribe_data.main()
        for split in SPLITS:
            digest = hashlib.sha256()
            n = 0
            for line in open(pathlib.Path(folder) / f"{split}.jsonl", encoding="utf-8"):
                record = json.loads(line)
                for key in ("prompt", "response", "db_id", "query"):
                    if key in record:
                        digest.update(record[key].encode() + b"\0")
                n += 1
            print(split, n, digest.hexdigest(), file=f)


if __name__ == "__main__":
    main()

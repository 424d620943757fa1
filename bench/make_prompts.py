"""Prompts for `lookfar run --prompts` from public data sets, as JSON lines on standard output.

    python3 bench/make_prompts.py DATA stories|python|sql|gsm8k|names|schema N

DATA is a folder with stories/, python/, spider/, gsm8k/ and novels/ (TinyStories, functions with docstrings, Spider, GSM8K,
novels). The N prompts are spread evenly over the set, so that a call gives the same ones always.

Two kinds are long, some 12,000 characters, and are about what lies far back:

  names    the persons of a passage of a novel, then the passage, up to where one speaks who was not named for 2,000 characters
  schema   a database's tables, then those of others, then a question to the first one and the beginning of its SQL
"""

import json
import pathlib
import re
import sys

LONG_CHARS = 12000
FAR_CHARS = 2000
HELD_OUT = ["Corelli_Satan_1895", "Dickens_Oliver_1839", "Doyle_Micah_1889"]  # what models/novella.md was not trained on


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


def names(data):
    title = r"(?:Mr|Mrs|Miss|Sir|Lord|Lady|Captain|Colonel|Doctor)\.? [A-Z][a-z]+"
    for novel in HELD_OUT:
        text = (data / f"novels/{novel}.txt").read_text()
        text = re.sub(r"(?<=[^\n]{55})\n(?=[^\n])", " ", text)  # long lines are wrapped ones
        text = re.sub(r"\n\s*", "\n", text)
        begin = 0
        for match in re.finditer(rf"\b(?:said|cried|asked|replied) ({title})", text):
            here = match.start(1)
            far, near = text[max(begin, here - LONG_CHARS) : here], text[here - FAR_CHARS : here]
            if len(far) < LONG_CHARS or match[1] in near or match[1] not in far:
                continue
            persons = sorted(set(re.findall(title, far)))
            yield f"The persons: {', '.join(persons)}.\n{far.rstrip()}"
            begin = here


def tables_of(schema):
    columns = list(zip(schema["column_names_original"], schema["column_types"]))
    for i, table in enumerate(schema["table_names_original"]):
        yield f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for (of, name), kind in columns if of == i)});\n"


def schema(data):
    schemas = {s["db_id"]: "".join(tables_of(s)) for s in json.loads((data / "spider/tables.json").read_text())}
    others = list(schemas.values())
    for i, line in enumerate((data / "spider/dev.jsonl").open()):
        question = json.loads(line)
        text = f'-- {question["db_id"]}\n{schemas[question["db_id"]]}'
        for j in range(i, i + len(others)):
            if len(text) < LONG_CHARS:
                text += "\n" + others[j % len(others)]
        yield f'{text}\n-- {question["db_id"]}: {question["question"]}\nSELECT'


KINDS = {"stories": stories, "python": python, "sql": sql, "gsm8k": gsm8k, "names": names, "schema": schema}


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

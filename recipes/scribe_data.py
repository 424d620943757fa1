#!/usr/bin/env python3
"""Prepares the texts of the model `scribe`: four domains, each as JSON lines of {"prompt", "response"}.

usage: scribe_data.py DATA_FOLDER OUT_FOLDER

Writes into OUT_FOLDER, for each domain of sql, python, gsm8k and stories:

  DOMAIN.train.jsonl   DOMAIN.valid.jsonl     by a hash of the question, so that the split never moves; for SQL by a hash
                                              of database and query, so that all wordings of a question are on one side
  sql.dev.jsonl                               Spider's dev.jsonl, whose databases the training never meets
  gsm8k.test.jsonl                            GSM8K's own test split
  tokenizer.txt                               what the tokenizer is trained on: training text only
  sql.drill.jsonl                             plain questions on the training databases' schemas, from a grammar (sql_drill.py)
  drill.txt            drill_valid.txt        short texts that repeat themselves, of the domains' words, from which a small
                                              model learns to look back (as into a schema) in a few hundred steps

Prompts have the form that the CLLM paper's targets were trained on (arXiv 2403.00835, section 4.1), with a shorter
instruction. SQL is normalised: single spaces outside quotes, keywords in upper case. A SQL record keeps "db_id",
"question" and "query" for the evaluation. The output depends on the input alone.
"""

import hashlib
import json
import pathlib
import re
import sys

import retrieval
import sql_drill
import sum_drill

HELD_OUT = {"sql": 10, "python": 5, "gsm8k": 5, "stories": 3}  # percent of the questions
KEYWORDS = set(
    """select from where group by having order limit join on as and or not in like between union intersect except
    distinct count sum avg min max asc desc left inner outer exists is null case when then else end""".split()
)
SQL_TOKEN = re.compile(r"""'[^']*'|"[^"]*"|[A-Za-z_][A-Za-z_0-9]*|[0-9]+(?:\.[0-9]+)?|<=|>=|!=|<>|\S""")
DRILL_CHARS, DRILL_TOTAL, DRILL_VALID_TOTAL = (60, 1500), 8_000_000, 200_000
SQL_DRILLS, SUM_DRILLS = 40_000, 30_000
SEPARATOR = "<|endoftext|>"
CODE_CHARS_MAX, DOC_CHARS_MAX = 2400, 1200


def is_held_out(domain, key):
    digest = hashlib.sha256(f"{domain}\n{key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT[domain]


def instruction(task):
    return f"### Instruction:\n{task}\n### Response:\n"


# ---- SQL ----


def normalise_sql(query):
    out = ""
    previous = ""
    for token in SQL_TOKEN.findall(query.strip().rstrip(";").strip()):
        if token.lower() in KEYWORDS:
            token = token.upper()
        no_space = not out or previous in ("(", ".") or token in (")", ",", ".", ";")
        if token == "(" and previous in ("COUNT", "SUM", "AVG", "MIN", "MAX"):
            no_space = True
        out += ("" if no_space else " ") + token
        previous = token
    return out


def describe_schema(schema):
    tables = [f"{name}({{}})" for name in schema["table_names_original"]]
    columns = [[] for _ in tables]
    for i_table, name in schema["column_names_original"]:
        if i_table >= 0:
            columns[i_table].append(name)
    text = ", ".join(table.format(", ".join(names)) for table, names in zip(tables, columns))

    def qualified(i):
        i_table, name = schema["column_names_original"][i]
        return f"{schema['table_names_original'][i_table]}.{name}"

    keys = ", ".join(f"{qualified(a)} = {qualified(b)}" for a, b in schema["foreign_keys"])
    return f"{text}.{' Keys: ' + keys + '.' if keys else ''}"


def sql_task(description, question):
    return instruction(f"Translate the question into SQL. The tables are {description} Question: {question}")


def sql_records(path, schemas):
    for line in open(path, encoding="utf-8"):
        record = json.loads(line)
        question = " ".join(record["question"].split())
        yield f"{record['db_id']}\n{normalise_sql(record['query'])}", {
            "prompt": sql_task(schemas[record["db_id"]], question),
            "response": normalise_sql(record["query"]),
            "db_id": record["db_id"],
            "question": question,
            "query": record["query"],
        }


# ---- the other domains ----


def clean_code(text):
    lines = [line.rstrip().replace("\t", "    ") for line in text.replace("\r\n", "\n").split("\n")]
    return "\n".join(lines).strip("\n")


def python_records(folder):
    seen = set()
    for name, doc_key in (
        ("thealgorithms_functions", "docstring"),
        ("cpython313_stdlib_functions", "docstring"),
        ("mbpp", "text"),
    ):
        for line in open(folder / f"{name}.jsonl", encoding="utf-8"):
            record = json.loads(line)
            doc, code = clean_code(record[doc_key]), clean_code(record["code"])
            fits = 0 < len(code) <= CODE_CHARS_MAX and 0 < len(doc) <= DOC_CHARS_MAX
            if not fits or (doc, code) in seen:
                continue
            seen.add((doc, code))
            task = f"Please generate code based on the following doc:\n{doc}"
            yield doc, {"prompt": instruction(task), "response": code}


def gsm8k_record(question, answer):
    return {"prompt": f"Question:\n{question}\nAnswer:\nLet's think step by step.\n", "response": answer}


def gsm8k_records(path):
    for line in open(path, encoding="utf-8"):
        record = json.loads(line)
        yield record["question"], gsm8k_record(record["question"].strip(), record["answer"].strip())


def story_records(path):
    """The prompt is the first sentence."""
    for story in path.read_text(encoding="utf-8").split(SEPARATOR):
        story = story.strip()
        end = re.search(r"[.!?]['\"]?\s", story)
        if end:
            yield story, {"prompt": story[: end.end()].rstrip(), "response": story[end.end() - 1 :]}


def write_text(path, text):
    path.write_text(text, encoding="utf-8", newline="\n")


def write_records(path, records):
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def split(out, domain, keyed_records):
    parts = {"train": [], "valid": []}
    for key, record in keyed_records:
        parts["valid" if is_held_out(domain, key) else "train"].append(record)
    for part, records in parts.items():
        write_records(out / f"{domain}.{part}.jsonl", records)
        print(f"{domain}.{part}: {len(records)} records")
    return parts["train"]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    tables = json.loads((data / "spider/tables.json").read_text(encoding="utf-8"))
    schemas = {schema["db_id"]: describe_schema(schema) for schema in tables}
    train = split(out, "sql", sql_records(data / "spider/train.jsonl", schemas))
    train += split(out, "python", python_records(data / "python"))
    train += split(out, "gsm8k", gsm8k_records(data / "gsm8k/train.jsonl"))
    train += split(out, "stories", story_records(data / "stories/tinystories_cased_2M.txt"))
    write_records(out / "sql.dev.jsonl", (r for _, r in sql_records(data / "spider/dev.jsonl", schemas)))
    write_records(out / "gsm8k.test.jsonl", (r for _, r in gsm8k_records(data / "gsm8k/test.jsonl")))
    known = {record["db_id"] for record in train if "db_id" in record}
    drills = sql_drill.questions("sql drill", [schema for schema in tables if schema["db_id"] in known], SQL_DRILLS)
    write_records(out / "sql.drill.jsonl", ({"prompt": sql_task(d, q), "response": sql} for d, q, sql in drills))
    sums = sum_drill.problems("sum drill", SUM_DRILLS)
    write_records(out / "gsm8k.drill.jsonl", (gsm8k_record(*problem) for problem in sums))
    texts = [f"{record['prompt']}{record['response']}\n" for record in train]
    write_text(out / "tokenizer.txt", "".join(texts))
    prose = retrieval.Prose(["".join(texts)])
    write_text(out / "drill.txt", SEPARATOR.join(retrieval.drills("scribe", prose, DRILL_TOTAL, *DRILL_CHARS)))
    write_text(out / "drill_valid.txt", SEPARATOR.join(retrieval.drills("valid", prose, DRILL_VALID_TOTAL, *DRILL_CHARS)))


if __name__ == "__main__":
    main()

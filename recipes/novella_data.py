#!/usr/bin/env python3
"""Prepares the texts of the model `novella`.

usage: novella_data.py DATA_FOLDER OUT_FOLDER

Reads DATA_FOLDER/novels/*.txt and DATA_FOLDER/stories/tinystories_cased_2M.txt and writes into OUT_FOLDER:

  train.txt           23 novels, one document each
  valid.txt           the three held out, of which two are by authors that the training never meets
  stories.txt         the stories; stories_valid.txt one in forty of them
  retrieval-2k.txt    documents that can only be continued by looking back (retrieval.py), for a context of 2,048 tokens
  retrieval-16k.txt   the same for 16,384
  drill.txt           short texts most of which has occurred before; drill_valid.txt some over the held-out novels
  probe.jsonl         questions of the same kinds over the held-out novels: {"kind", "distance", "prompt", "response"}
  prompts.jsonl       {"prompt"}: pieces of the training novels for a distillation to go on from
  tokenizer.txt       what the tokenizer is trained on: training text only

Lines of hard-wrapped books are joined into paragraphs, so that a line is a paragraph in all of them. Documents are
separated by <|endoftext|>. The output depends on the input alone.
"""

import itertools
import json
import pathlib
import random
import sys

import retrieval

HELD_OUT = ["Corelli_Satan_1895", "Dickens_Oliver_1839", "Doyle_Micah_1889"]
SEPARATOR = "<|endoftext|>\n"
STORY_VALID_EVERY = 40
CHARS_PER_TOKEN = 3.2  # low, so that a document of so many characters surely fits its context
RETRIEVAL = {"2k": (2048, 6_000_000), "16k": (16384, 5_000_000)}  # tokens of a document at most, characters in all
DRILL_CHARS = (60, 3000)  # characters of a text
DRILL_TOTAL, DRILL_VALID_TOTAL = 9_000_000, 200_000
PROBE_DISTANCES = [500, 1000, 2000, 4000, 8000, 16000, 32000, 48000]  # characters
N_PROMPTS, PROMPT_CHARS = 3000, (400, 4000)
PROBES_EACH = 20  # for each kind and distance


def join_lines(text):
    """A line that ends though the next line's first word would have fitted in it ends a paragraph."""
    lines = [line.rstrip() for line in text.split("\n")]
    lengths = sorted(len(line) for line in lines if line)
    width = lengths[len(lengths) * 98 // 100]
    if width > 90:
        return "\n".join(line.strip() for line in lines if line.strip()) + "\n"
    paragraphs, current = [], ""
    for i, line in enumerate(lines):
        line = line.strip()
        following = lines[i + 1].strip() if i + 1 < len(lines) else ""
        if not line:
            continue
        current = f"{current} {line}" if current else line
        if not following or len(lines[i]) + 1 + len(following.split(" ")[0]) <= width - 6:
            paragraphs.append(current)
            current = ""
    return "\n".join(paragraphs) + "\n"


def read_novels(folder):
    novels = {path.stem: join_lines(path.read_text(encoding="utf-8-sig")) for path in sorted(folder.glob("*.txt"))}
    missing = [name for name in HELD_OUT if name not in novels]
    if missing:
        sys.exit(f"{folder}: found no {missing}")
    return novels


def write_documents(path, documents):
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.write(SEPARATOR.join(documents))


def retrieval_documents(seed, prose, tokens_max, n_chars):
    rng = random.Random(seed)
    documents, total = [], 0
    while total < n_chars:
        length = retrieval.log_uniform(rng, 800, int(tokens_max * CHARS_PER_TOKEN))
        documents.append(retrieval.document(rng, prose, length) + "\n")
        total += len(documents[-1])
    return documents


def write_probe(path, prose):
    rng = random.Random("probe")
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        for kind, distance in itertools.product(retrieval.KINDS, PROBE_DISTANCES):
            for _ in range(PROBES_EACH):
                prompt, answer = retrieval.probe(rng, prose, kind, distance)
                record = {"kind": kind, "distance": distance, "prompt": prompt, "response": answer}
                f.write(json.dumps(record, ensure_ascii=False) + "\n")


def write_prompts(path, novels):
    rng = random.Random("prompts")
    text = "".join(novels)
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        for _ in range(N_PROMPTS):
            length = retrieval.log_uniform(rng, *PROMPT_CHARS)
            start = rng.randrange(len(text) - length)
            f.write(json.dumps({"prompt": text[start : start + length]}, ensure_ascii=False) + "\n")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    novels = read_novels(data / "novels")
    train = [text for name, text in novels.items() if name not in HELD_OUT]
    held_out = [novels[name] for name in HELD_OUT]
    text = (data / "stories/tinystories_cased_2M.txt").read_text(encoding="utf-8")
    stories = [story.strip() + "\n" for story in text.split("<|endoftext|>") if story.strip()]
    stories_train = [story for i, story in enumerate(stories) if i % STORY_VALID_EVERY]
    write_documents(out / "train.txt", train)
    write_documents(out / "valid.txt", held_out)
    write_documents(out / "stories.txt", stories_train)
    write_documents(out / "stories_valid.txt", stories[::STORY_VALID_EVERY])
    prose = retrieval.Prose(train)
    for name, (tokens_max, n_chars) in RETRIEVAL.items():
        write_documents(out / f"retrieval-{name}.txt", retrieval_documents(name, prose, tokens_max, n_chars))
    held_out = retrieval.Prose(held_out)
    write_documents(out / "drill.txt", retrieval.drills("drill", prose, DRILL_TOTAL, *DRILL_CHARS))
    write_documents(out / "drill_valid.txt", retrieval.drills("drill valid", held_out, DRILL_VALID_TOTAL, *DRILL_CHARS))
    write_probe(out / "probe.jsonl", held_out)
    write_prompts(out / "prompts.jsonl", train)
    with open(out / "tokenizer.txt", "w", encoding="utf-8", newline="\n") as f:
        f.write("".join(train) + "".join(stories_train))


if __name__ == "__main__":
    main()

"""Encodes a text by lookfar, tokenizers, sentencepiece and tiktoken, in turns, and prints a table: megabytes per second.

    python3 bench/peer_tokenizers.py [--lookfar build/lookfar] [--reps 5] TEXT FOLDER...

FOLDER holds tokenizer.json or GPT-2's vocab.json and merges.txt (for tokenizers), or a tokenizer.model: SentencePiece's,
or Llama 3's ranks (for tiktoken). One thread each. Needs the packages tokenizers, sentencepiece and tiktoken.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

os.environ["RAYON_NUM_THREADS"] = "1"

import sentencepiece  # noqa: E402
import tiktoken  # noqa: E402
import tokenizers  # noqa: E402
from tiktoken.load import load_tiktoken_bpe  # noqa: E402

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def seconds(function, text):
    start = time.perf_counter()
    n = len(function(text))
    return time.perf_counter() - start, n


def peers(folder):
    if (folder / "tokenizer.json").exists():
        t = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        yield "tokenizers", lambda text: t.encode(text, add_special_tokens=False).ids
    if (folder / "vocab.json").exists():
        t = tokenizers.ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
        yield "tokenizers", lambda text: t.encode(text).ids
    model = folder / "tokenizer.model"
    if model.exists() and b"<unk>" in model.read_bytes()[:64]:
        yield "sentencepiece", sentencepiece.SentencePieceProcessor(model_file=str(model)).encode
    elif model.exists():
        ranks = load_tiktoken_bpe(str(model))
        yield "tiktoken", tiktoken.Encoding("llama3", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens={}).encode_ordinary


def lookfar(command, folder, text_path):
    out = subprocess.run(
        [command, "bench", "tokenize", "--json", "-", "--reps", "1", "-f", text_path, folder],
        check=True, capture_output=True, text=True,
    ).stdout
    last = json.loads(out.splitlines()[-1])
    return last["bytes"] * 1e-6 / last["mb_per_s"], last["tokens"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lookfar", default="build/lookfar")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("text")
    parser.add_argument("folders", nargs="+")
    args = parser.parse_args()
    raw = pathlib.Path(args.text).read_bytes()
    text, megabytes = raw.decode(), len(raw) * 1e-6
    print("| tokenizer | engine | tokens | MB/s (min-max) | ratio |\n|---|---|---|---|---|")
    for folder in map(pathlib.Path, args.folders):
        engines = dict(peers(folder))
        runs = {name: [] for name in ["lookfar", *engines]}
        counts = {}
        for _ in range(args.reps + 1):  # the first is not counted
            times = {"lookfar": lookfar(args.lookfar, str(folder), args.text)}
            times |= {name: seconds(encode, text) for name, encode in engines.items()}
            for name, (s, n) in times.items():
                runs[name].append(megabytes / s)
                counts[name] = n
        speed = {name: statistics.median(v[1:]) for name, v in runs.items()}
        for name, v in runs.items():
            print(f"| {folder.name} | {name} | {counts[name]} | {speed[name]:.2f} ({min(v[1:]):.2f}-{max(v[1:]):.2f}) "
                  f"| {speed['lookfar'] / speed[name]:.1f} |")


if __name__ == "__main__":
    main()

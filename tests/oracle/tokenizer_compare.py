"""Compares lookfar's token ids with those of sentencepiece, tokenizers and tiktoken, on the 20,000 texts of
token_strings.py and on the vectors of llama.cpp, for every real tokenizer of the data folder.

    python3 tests/oracle/tokenizer_compare.py [--helper build/tests/test_tokenizer] [--record] [name ...]

--record writes the references' ids, as one hash for every 100 texts, to tests/golden/token/hashes.txt, which
`make test` then checks without Python. The live comparison prints the first texts that differ.
"""

import argparse
import os
import pathlib
import struct
import subprocess
import sys

import sentencepiece
import tiktoken
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

import token_strings

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = pathlib.Path(os.environ.get("LOOKFAR_DATA", ROOT / "../shared/data")).resolve()
GOLDEN = ROOT / "tests/golden/token"
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


# ---- references: a function from bytes to ids, for plain text and for text with special tokens ----


def sentencepiece_reference(path):
    model = sentencepiece.SentencePieceProcessor(str(path))
    return lambda text, special: model.encode(text)


def tokenizers_reference(tokenizer):
    def encode(text, special):
        tokenizer.encode_special_tokens = not special
        return tokenizer.encode(text.decode(), add_special_tokens=False).ids

    return encode


def tokenizer_json(path):
    return tokenizers_reference(tokenizers.Tokenizer.from_file(str(path)))


def added_tokens(folder):
    import json

    path = folder / "tokenizer_config.json"
    entries = json.loads(path.read_text())["added_tokens_decoder"] if path.exists() else {}
    return sorted((int(key), value) for key, value in entries.items())


def byte_level(folder, steps, normalizer=None):
    model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer = tokenizers.Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = added_tokens(folder) or [(50256, {"content": "<|endoftext|>", "special": True})]
    for id, entry in tokens:
        flags = {key: entry[key] for key in ("lstrip", "rstrip", "single_word", "normalized") if key in entry}
        token = tokenizers.AddedToken(entry["content"], special=entry["special"], **flags)
        (tokenizer.add_special_tokens if entry["special"] else tokenizer.add_tokens)([token])
        assert tokenizer.token_to_id(entry["content"]) == id
    return tokenizers_reference(tokenizer)


def gpt2(folder):
    return byte_level(folder, [pre_tokenizers.ByteLevel(add_prefix_space=False)])


def qwen2(folder):
    split = pre_tokenizers.Split(Regex(QWEN2), behavior="isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return byte_level(folder, [split, byte], normalizers.NFC())


def llama3(folder):
    from tiktoken.load import load_tiktoken_bpe

    ranks = load_tiktoken_bpe(str(folder / "tokenizer.model"))
    special_tokens = {entry["content"]: id for id, entry in added_tokens(folder)}
    model = tiktoken.Encoding("llama3", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens=special_tokens)

    def encode(text, special):
        text = text.decode()
        return model.encode(text, allowed_special="all") if special else model.encode_ordinary(text)

    return encode


# name: (what lookfar loads, the reference, whether it knows special tokens, whether it takes any bytes)
def cases():
    real = DATA / "tokenizers"
    return {
        "llama2-model": (real / "llama2/tokenizer.model", sentencepiece_reference, False, True),
        "llama2-json": (real / "llama2/tokenizer.json", tokenizer_json, True, False),
        "llama2-gguf": (real / "vectors/ggml-vocab-llama-spm.gguf", None, False, False),
        "mistral-model": (real / "mistral/tokenizer.model.v1", sentencepiece_reference, False, True),
        "mistral-json": (real / "mistral/tokenizer.json", tokenizer_json, True, False),
        "tok512-model": (DATA / "models/tok512.model", sentencepiece_reference, False, True),
        "llama3-tiktoken": (real / "llama3", llama3, True, False),
        "qwen2.5": (real / "qwen2.5", qwen2, True, False),
        "gpt2": (real / "gpt2", gpt2, True, False),
        "gpt2-gguf": (real / "vectors/ggml-vocab-gpt-2.gguf", None, True, False),
        "user-model": (GOLDEN / "user.model", sentencepiece_reference, False, True),
        "plain-model": (GOLDEN / "plain.model", sentencepiece_reference, False, True),
        "metaspace-first": (GOLDEN / "metaspace-first.json", tokenizer_json, True, False),
        "metaspace-split": (GOLDEN / "metaspace-split.json", tokenizer_json, True, False),
        "byte-level": (GOLDEN / "byte-level.json", tokenizer_json, True, False),
    }


# A GGUF has no library of its own here: its vocabulary is that of another case.
SAME_AS = {"llama2-gguf": "llama2-model", "gpt2-gguf": "gpt2"}


def lookfar(helper, path, special, texts):
    request = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    command = [str(helper), "--encode", str(path)] + (["--special"] if special else [])
    reply = subprocess.run(command, input=request, stdout=subprocess.PIPE, check=True).stdout
    at, ids = 0, []
    for _ in texts:
        (n,) = struct.unpack_from("<I", reply, at)
        ids.append(list(struct.unpack_from(f"<{n}i", reply, at + 4)))
        at += 4 + 4 * n
    return ids


def compare(name, title, texts, expected, found):
    wrong = [i for i in range(len(texts)) if expected[i] != found[i]]
    print(f"{name:16} {title:22} {len(texts) - len(wrong)} of {len(texts)} equal")
    for i in wrong[:3]:
        print(f"    {i}: {texts[i][:300]!r}\n      expected {expected[i][:40]}\n      found    {found[i][:40]}")
    return not wrong


def hashes(ids):
    out = []
    for start in range(0, len(ids), token_strings.PER_HASH):
        value = token_strings.HASH_START
        for one in ids[start : start + token_strings.PER_HASH]:
            value = token_strings.fnv(value, one)
        out.append(f"{value:016x}")
    return out


def vectors(name):
    stem = {"llama2": "llama-spm", "llama3": "llama-bpe", "qwen2.5": "qwen2", "gpt2": "gpt-2"}.get(name.split("-")[0])
    if not stem:
        return None
    base = DATA / f"tokenizers/vectors/ggml-vocab-{stem}.gguf"
    texts = pathlib.Path(f"{base}.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
    lines = pathlib.Path(f"{base}.out").read_text().split("\n")
    ids = [[int(id) for id in line.split()] for line in lines[: len(texts)]]
    return texts, ids


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--helper", default=ROOT / "build/tests/test_tokenizer")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    ok, recorded = True, []
    all_cases = cases()
    texts = [token_strings.text(i) for i in range(token_strings.COUNT)]
    corrupt = [token_strings.text(i, corrupt=True) for i in range(token_strings.COUNT)]
    for name in args.names or all_cases:
        path, make, special, any_bytes = all_cases[name]
        source, make = all_cases[SAME_AS.get(name, name)][:2]
        reference = make(source)
        modes = [("plain", texts, False)]
        modes += [("special", texts, True)] if special else []
        modes += [("corrupt", corrupt, False)] if any_bytes else []
        for mode, inputs, with_special in modes:
            expected = [reference(text, with_special) for text in inputs]
            ok &= compare(name, mode, inputs, expected, lookfar(args.helper, path, with_special, inputs))
            relative = path.relative_to(GOLDEN) if path.is_relative_to(GOLDEN) else path.relative_to(DATA)
            where = "golden" if path.is_relative_to(GOLDEN) else "data"
            recorded.append(f"{name} {mode} {where} {relative}\n" + "\n".join(hashes(expected)) + "\n")
        sample = vectors(name)
        if sample:
            ok &= compare(name, "llama.cpp's vectors", *sample, lookfar(args.helper, path, False, sample[0]))
    if args.record:
        (GOLDEN / "hashes.txt").write_text("".join(recorded))
    sys.exit(not ok)


if __name__ == "__main__":
    main()

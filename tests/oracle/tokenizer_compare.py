"""Compares lookfar's token ids with those of sentencepiece, tokenizers and tiktoken, on the 20,000 texts of
token_strings.py and on the vectors of llama.cpp, for every real tokenizer of the data folder.

    python3 tests/oracle/tokenizer_compare.py [--helper build/tests/test_tokenizer] [--record] [name ...]

--record writes the references' ids, as one hash for every 500 texts, to tests/golden/token/hashes.txt, which
`make test` then checks without Python. The live comparison prints the first texts that differ.
"""

import argparse
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import sentencepiece
import tiktoken
import tokenizers
from tiktoken.load import load_tiktoken_bpe
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

import token_strings

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = pathlib.Path(os.environ.get("LOOKFAR_DATA", ROOT / "../shared/data")).resolve()
GOLDEN = ROOT / "tests/golden/token"
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


# ---- references: from bytes to ids, for plain text and for text with special tokens, and from ids to text ----


class SentencePiece:
    def __init__(self, path):
        self.model = sentencepiece.SentencePieceProcessor(str(path))

    def encode(self, text, special):
        return self.model.encode(text)

    def decode(self, ids):
        return self.model.decode(ids)


class Tokenizers:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def encode(self, text, special):
        self.tokenizer.encode_special_tokens = not special
        return self.tokenizer.encode(text.decode(), add_special_tokens=False).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)


class Tiktoken:
    def __init__(self, model):
        self.model = model

    def encode(self, text, special):
        text = text.decode()
        return self.model.encode(text, allowed_special="all") if special else self.model.encode_ordinary(text)

    def decode(self, ids):
        return self.model.decode(ids)


def tokenizer_json(path):
    return Tokenizers(tokenizers.Tokenizer.from_file(str(path)))


def added_tokens(folder):
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
    return Tokenizers(tokenizer)


def gpt2(folder):
    return byte_level(folder, [pre_tokenizers.ByteLevel(add_prefix_space=False)])


def qwen2(folder):
    split = pre_tokenizers.Split(Regex(QWEN2), behavior="isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return byte_level(folder, [split, byte], normalizers.NFC())


def llama3(folder):
    ranks = load_tiktoken_bpe(str(folder / "tokenizer.model"))
    special_tokens = {entry["content"]: id for id, entry in added_tokens(folder)}
    return Tiktoken(tiktoken.Encoding("llama3", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens=special_tokens))


def alphabet():
    """GPT-2's character for each byte."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + i): byte for i, byte in enumerate(rest)}


# ---- real vocabularies as tokenizer.json, in the forms that models ship; made here, so compared live only ----


def save(folder, name, tokenizer):
    path = pathlib.Path(folder) / f"{name}.json"
    tokenizer.save(str(path))
    return path


def llama3_as_json(folder):
    """As transformers converts it: every split of a token in two is a merge, in the order of the ranks."""
    source = llama3(DATA / "tokenizers/llama3").model
    table = {byte: char for char, byte in alphabet().items()}
    ranks = source._mergeable_ranks
    merges = []
    for token, rank in ranks.items():
        splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        splits = [pair for pair in splits if pair[0] in ranks and pair[1] in ranks]
        merges += sorted(splits, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    write = lambda token: "".join(table[byte] for byte in token)
    model = models.BPE(
        vocab={write(token): rank for token, rank in ranks.items()},
        merges=[(write(left), write(right)) for left, right in merges],
        ignore_merges=True,
    )
    tokenizer = tokenizers.Tokenizer(model)
    split = pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte])
    tokenizer.decoder = decoders.ByteLevel()
    names = sorted(source.special_tokens_set, key=source.encode_single_token)
    tokenizer.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in names])
    return save(folder, "llama3", tokenizer)


def qwen2_as_json(folder):
    return save(folder, "qwen2", qwen2(DATA / "tokenizers/qwen2.5").tokenizer)


def smollm_as_json(folder):
    """The stages of SmolLM over the vocabulary of GPT-2."""
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False)
    steps = [pre_tokenizers.Digits(individual_digits=True), byte]
    return save(folder, "smollm", byte_level(DATA / "tokenizers/gpt2", steps).tokenizer)


LIVE = {"llama3-json": llama3_as_json, "qwen2.5-json": qwen2_as_json, "smollm-json": smollm_as_json}

# These decode otherwise: <unk> has a text of its own, and added tokens come out normalised.
DECODE_OTHERWISE = ["plain-model", "byte-level"]


# name: (what lookfar loads, the reference, whether it knows special tokens, whether it takes any bytes)
def cases():
    real = DATA / "tokenizers"
    return {
        "llama2-model": (real / "llama2/tokenizer.model", SentencePiece, False, True),
        "llama2-json": (real / "llama2/tokenizer.json", tokenizer_json, True, False),
        "llama2-gguf": (real / "vectors/ggml-vocab-llama-spm.gguf", None, False, False),
        "mistral-model": (real / "mistral/tokenizer.model.v1", SentencePiece, False, True),
        "mistral-json": (real / "mistral/tokenizer.json", tokenizer_json, True, False),
        "tok512-model": (DATA / "models/tok512.model", SentencePiece, False, True),
        "llama3-tiktoken": (real / "llama3", llama3, True, False),
        "qwen2.5": (real / "qwen2.5", qwen2, True, False),
        "gpt2": (real / "gpt2", gpt2, True, False),
        "gpt2-gguf": (real / "vectors/ggml-vocab-gpt-2.gguf", None, True, False),
        "user-model": (GOLDEN / "user.model", SentencePiece, False, True),
        "plain-model": (GOLDEN / "plain.model", SentencePiece, False, True),
        "metaspace-first": (GOLDEN / "metaspace-first.json", tokenizer_json, True, False),
        "metaspace-split": (GOLDEN / "metaspace-split.json", tokenizer_json, True, False),
        "byte-level": (GOLDEN / "byte-level.json", tokenizer_json, True, False),
    }


# A GGUF has no library of its own here: its vocabulary is that of another case.
SAME_AS = {"llama2-gguf": "llama2-model", "gpt2-gguf": "gpt2"}


def call(helper, mode, path, special, items, item_size, unpack):
    """The replies of the helper to items, which are bytes objects that count in units of item_size."""
    request = b"".join(struct.pack("<I", len(item) // item_size) + item for item in items)
    command = [str(helper), mode, str(path)] + (["--special"] if special else [])
    reply = subprocess.run(command, input=request, stdout=subprocess.PIPE, check=True).stdout
    at, out = 0, []
    for _ in items:
        (n,) = struct.unpack_from("<I", reply, at)
        item, size = unpack(reply, at + 4, n)
        out.append(item)
        at += 4 + size
    return out


def lookfar(helper, path, special, texts):
    def unpack(reply, at, n):
        return list(struct.unpack_from(f"<{n}i", reply, at)), 4 * n

    return call(helper, "--encode", path, special, texts, 1, unpack)


def lookfar_decode(helper, path, ids):
    packed = [struct.pack(f"<{len(one)}i", *one) for one in ids]
    return call(helper, "--decode", path, False, packed, 4, lambda reply, at, n: (reply[at : at + n].decode(), n))


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


# ---- the text of random ids, as Python decodes their bytes ----


def byte_level_bytes(tokenizer):
    table, specials = alphabet(), tokenizer.get_added_tokens_decoder()
    for id in range(tokenizer.get_vocab_size()):
        if id in specials:
            yield b"" if specials[id].special else specials[id].content.encode()
        else:
            yield bytes(table[char] for char in tokenizer.id_to_token(id))


def tiktoken_bytes(model):
    specials = set(model.special_tokens_set)
    for id in range(model.n_vocab):
        piece = model.decode_single_token_bytes(id)
        yield b"" if piece.decode(errors="replace") in specials else piece


def sentencepiece_bytes(model):
    for id in range(model.vocab_size()):
        piece = model.id_to_piece(id)
        if model.is_byte(id):
            yield bytes([int(piece[3:5], 16)])
        else:
            yield b"" if model.is_control(id) or model.is_unknown(id) else piece.replace("▁", " ").encode()


def decoded_hashes():
    everything = cases()
    sources = {
        "tokenizers/gpt2": byte_level_bytes(gpt2(DATA / "tokenizers/gpt2").tokenizer),
        "tokenizers/qwen2.5": byte_level_bytes(qwen2(DATA / "tokenizers/qwen2.5").tokenizer),
        "tokenizers/llama3": tiktoken_bytes(llama3(DATA / "tokenizers/llama3").model),
        "tokenizers/llama2/tokenizer.model": sentencepiece_bytes(SentencePiece(everything["llama2-model"][0]).model),
    }
    for path, pieces in sources.items():
        pieces = list(pieces)
        value = token_strings.HASH_START
        for i in range(2000):
            rng = token_strings.Rng(i)
            ids = []
            for _ in range(1 + rng.below(30)):
                n = 300 if rng.below(2) else len(pieces)
                ids.append(rng.below(n))
            if path.endswith(".model"):  # the first piece of text loses its space; bytes are no pieces of text
                first = next((k for k, id in enumerate(ids) if pieces[id]), None)
                whole = [pieces[id] for id in ids]
                if first is not None and len(whole[first]) > 1:
                    whole[first] = whole[first].removeprefix(b" ")
                elif first is not None and whole[first] == b" " and ids[first] > 258:
                    whole[first] = b""
            else:
                whole = [pieces[id] for id in ids]
            for byte in b"".join(whole).decode(errors="replace").encode():
                value = ((value ^ byte) * 0x100000001B3) & token_strings.MASK
        yield f"{path} {value:016x}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--helper", default=ROOT / "build/tests/test_tokenizer")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    ok, recorded = True, []
    all_cases = cases()
    scratch = tempfile.TemporaryDirectory()
    texts = [token_strings.text(i) for i in range(token_strings.COUNT)]
    corrupt = [token_strings.text(i, corrupt=True) for i in range(token_strings.COUNT)]
    for name in args.names or [*all_cases, *LIVE]:
        if name in LIVE:
            all_cases[name] = (LIVE[name](scratch.name), tokenizer_json, True, False)
        path, make, special, any_bytes = all_cases[name]
        source, make = all_cases[SAME_AS.get(name, name)][:2]
        reference = make(source)
        modes = [("plain", texts, False)]
        modes += [("special", texts, True)] if special else []
        modes += [("corrupt", corrupt, False)] if any_bytes else []
        for mode, inputs, with_special in modes:
            expected = [reference.encode(text, with_special) for text in inputs]
            ok &= compare(name, mode, inputs, expected, lookfar(args.helper, path, with_special, inputs))
            if mode == "plain" and name not in DECODE_OTHERWISE:
                back = lookfar_decode(args.helper, path, expected)
                ok &= compare(name, "decoded", inputs, [reference.decode(ids) for ids in expected], back)
            if name in LIVE:
                continue
            relative = path.relative_to(GOLDEN) if path.is_relative_to(GOLDEN) else path.relative_to(DATA)
            where = "golden" if path.is_relative_to(GOLDEN) else "data"
            recorded.append(f"{name} {mode} {where} {relative}\n" + "\n".join(hashes(expected)) + "\n")
        sample = vectors(name)
        if sample:
            ok &= compare(name, "llama.cpp's vectors", *sample, lookfar(args.helper, path, False, sample[0]))
    if args.record:
        (GOLDEN / "hashes.txt").write_text("".join(recorded))
        (GOLDEN / "decoded.txt").write_text("".join(decoded_hashes()))
    sys.exit(not ok)


if __name__ == "__main__":
    main()

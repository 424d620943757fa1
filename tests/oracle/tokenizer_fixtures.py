"""Makes the small tokenizers of tests/golden/token, which use what the real ones do not: user-defined and crossing
pieces, unknown tokens, every flag of added tokens, Metaspace, stages of pre-tokenisers.

    python3 tests/oracle/tokenizer_fixtures.py
"""

import json
import pathlib

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from token_strings import TABLES, text

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden/token"
ADDED = [
    AddedToken("<s>", special=True, normalized=False),
    AddedToken("<|im_end|>", special=True, normalized=True),
    AddedToken("<added>", normalized=True),
    AddedToken("<l>", lstrip=True, normalized=False),
    AddedToken("<r>", rstrip=True, normalized=False),
    AddedToken("<mid dle>", lstrip=True, rstrip=True, normalized=True),
    AddedToken("foo", single_word=True, normalized=False),
    AddedToken("<w>", single_word=True, normalized=True),
    AddedToken("<norm é>", normalized=True),
    AddedToken("  \n", normalized=False),
]


def corpus():
    words = [word for word in TABLES["words"] if word.isprintable()]
    lines = [" ".join(words[i::7]) for i in range(7)] * 20
    return lines + [text(i).decode() for i in range(2, 2000, 10)]


def sentencepiece_model(name, **options):
    lines = [line.replace("\n", " ") for line in corpus()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in lines if line.strip()),
        model_prefix=str(GOLDEN / name),
        model_type="bpe",
        normalization_rule_name="identity",
        minloglevel=2,
        num_threads=1,
        **options,
    )
    (GOLDEN / f"{name}.vocab").unlink()


def trained(model, pre_tokenizer, normalizer, initial, size, **options):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=initial, **options)
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def save(tokenizer, name, merges_as_strings=False):
    data = json.loads(tokenizer.to_str())
    if merges_as_strings:  # as files were before tokenizers 0.20
        data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    (GOLDEN / f"{name}.json").write_text(json.dumps(data, ensure_ascii=False, indent=0) + "\n")


def main():
    sentencepiece_model(
        "user",
        vocab_size=480,
        byte_fallback=True,
        character_coverage=0.98,
        remove_extra_whitespaces=False,
        user_defined_symbols=["<added>", "foo", "▁sym▁", "<|im_start|>", "ab", "\u0301", "▁▁▁"],
    )
    sentencepiece_model(
        "plain",
        vocab_size=260,
        character_coverage=0.98,
        split_by_whitespace=False,
        add_dummy_prefix=False,
        remove_extra_whitespaces=True,
    )

    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    model = models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    tokenizer = trained(model, metaspace, None, [], 520, special_tokens=["<unk>", *bytes_], limit_alphabet=60)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] == "<unk>"]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_tokens(ADDED)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    save(tokenizer, "metaspace-first")

    model = models.BPE(unk_token="<unk>", fuse_unk=False)
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer = trained(model, metaspace, normalizers.NFC(), [], 300, special_tokens=["<unk>"], limit_alphabet=60)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_tokens(ADDED)
    save(tokenizer, "metaspace-split", merges_as_strings=True)

    model = models.BPE(ignore_merges=True)
    steps = [
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split(Regex(r"(?i:'s|'t)|\p{L}+|[^\s\p{L}]{1,4}|\s+(?=\S)|\S"), behavior="removed", invert=True),
        pre_tokenizers.Split("'", behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("a+b", "é"), normalizers.Prepend("_")])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = trained(model, pre_tokenizers.Sequence(steps), normalizer, alphabet, 420)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(ADDED)
    save(tokenizer, "byte-level")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Trains a SentencePiece BPE tokenizer whose decoding gives back every text, byte for byte.

usage: tokenizer.py OUT_PREFIX VOCABULARY_SIZE TEXT_FILE...    (writes OUT_PREFIX.model)

What makes it lossless: no normalisation, no space put before the text, runs of spaces kept (they become pieces of their
own, which is what indentation needs), and a piece for each of the 256 bytes, so that nothing is unknown; a line break is
the byte 0x0A, one token. Digits stand alone, which arithmetic needs. Needs the Python package sentencepiece.
"""

import io
import sys

import sentencepiece

LINE_BYTES_MAX = 1 << 16


def train(prefix, vocabulary_size, paths):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line.rstrip("\n") for path in paths for line in open(path, encoding="utf-8", newline="\n")),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary_size,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        character_coverage=0.9999,
        max_sentence_length=LINE_BYTES_MAX,
        minloglevel=1,
    )
    with open(prefix + ".model", "wb") as f:
        f.write(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def check(processor, paths):
    n_bytes = n_tokens = 0
    for path in paths:
        text = open(path, encoding="utf-8", newline="\n").read()
        ids = processor.encode(text)
        if processor.decode(ids) != text:
            sys.exit(f"{path}: decoding does not give the text back")
        n_bytes += len(text.encode())
        n_tokens += len(ids)
    print(f"{processor.vocab_size()} tokens, {n_bytes / n_tokens:.3f} bytes each over {n_bytes} bytes")


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    check(train(sys.argv[1], int(sys.argv[2]), sys.argv[3:]), sys.argv[3:])


if __name__ == "__main__":
    main()

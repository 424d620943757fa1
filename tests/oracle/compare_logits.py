#!/usr/bin/env python3
"""Compares logits that lookfar dumped with those that transformers computes now, for one Hugging Face folder.

    lookfar run -m DIR -f prompt.txt --dump-logits out.f32
    compare_logits.py --model DIR --prompt-file prompt.txt out.f32

A dump is float32, little-endian, (n_prompt, n_vocab), without a header. The ids of the prompt come from --ids, from
--prompt or --prompt-file through the folder's own tokenizer, or from the golden.json of the folder. Several dumps
(kernel levels, thread counts, KV types) are compared with the same reference. The reference is float32 on the CPU
with eager attention, from the folder's weights whatever their type.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import sentencepiece
import tokenizers
import transformers

from families import load_model, logits_of


def encode(folder, text):
    """The ids of text by the folder's tokenizer, with the BOS that the model expects."""
    if (folder / "tokenizer.json").exists():
        return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return [pieces.bos_id(), *pieces.encode(text)]


def prompt_ids(args):
    if args.ids:
        return [int(i) for i in args.ids.replace(",", " ").split()]
    text = Path(args.prompt_file).read_text() if args.prompt_file else args.prompt
    if text is not None:
        return encode(args.model, text)
    return json.loads((args.model / "golden.json").read_text())["prompt_ids"]


def compare(path, want, rtol, top):
    """Prints one line about a dump (one more per position that is off) and returns whether it agrees."""
    got = np.fromfile(path, "<f4")
    if got.size != want.size:
        print(f"{path}: {got.size} numbers, expected {want.shape[0]} positions x {want.shape[1]} = {want.size}")
        return False
    got = got.reshape(want.shape)
    with np.errstate(invalid="ignore"):
        error = np.abs(got - want).max(axis=1) / np.abs(want).max()
    error[~np.isfinite(got).all(axis=1)] = np.inf
    same = got.argmax(axis=1) == want.argmax(axis=1)
    bad = np.flatnonzero(error > rtol)  # within the limit another argmax is a near tie
    print(f"{path}: largest error {error.max():.2e} of the largest logit {np.abs(want).max():.4g} (limit {rtol:.0e}), "
          f"argmax equal at {same.sum()} of {same.size}: {'DIFFERENT' if bad.size else 'ok'}")
    for i in bad[:top]:
        print(f"  position {i}: error {error[i]:.2e}, argmax {got[i].argmax()}, expected {want[i].argmax()}")
    return bad.size == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True, type=Path, metavar="DIR", help="Hugging Face folder")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--ids", help="token ids of the prompt, separated by commas or blanks")
    source.add_argument("--prompt", help="text of the prompt")
    source.add_argument("--prompt-file", metavar="FILE", help="file with the text of the prompt")
    parser.add_argument("--rtol", type=float, default=2e-4, help="limit of the error (default %(default)s)")
    parser.add_argument("--top", type=int, default=5, help="positions to list per dump (default %(default)s)")
    parser.add_argument("files", nargs="+", metavar="FILE", help="dumped logits")
    args = parser.parse_args()
    if missing := [f for f in args.files if not Path(f).is_file()]:
        parser.error(f"no file {', '.join(missing)}")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    want = logits_of(load_model(args.model), prompt_ids(args))
    good = [compare(f, want, args.rtol, args.top) for f in args.files]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

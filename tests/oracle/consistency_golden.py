#!/usr/bin/env python3
"""What PyTorch makes of the losses of distillation: gradients of the trainer's small test models (see train_golden.py, whose
models and batches these are), in float64, recorded in float32.

    consistency_golden.py            make tests/golden/consistency anew
    consistency_golden.py --check    compute again and compare

A file is little-endian words of 32 bits: n, n_pairs, n_picked; token, pos, first, first_end, own (n) int32; picked, target
(n_picked) int32; pair_scale, target_scale, loss float32; the gradient of every weight, one after the other. In a file of the
reverse KL n_pairs is 0, and pair_scale the scale of the divergence from the model with the seed after the model's own.
"""
import argparse
import struct
import sys
from pathlib import Path

import numpy as np
import torch

import golden
import train_golden as train

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "consistency"
KEYS = ("token", "pos", "first", "first_end", "own")


def draw_picks(n, n_vocab, n_pairs, n_picked, seed):
    """Rows in any order, each once, and targets for some of them. In a pair only the teacher has one."""
    random = np.random.default_rng(seed)
    picked = random.permutation(n)[:n_picked].astype(np.int32)
    target = np.where(random.random(n_picked) < 0.4, -1, random.integers(0, n_vocab, n_picked)).astype(np.int32)
    target[1 : 2 * n_pairs : 2] = -1
    return picked, target


def cross_entropy(logits, target):
    return torch.nn.functional.cross_entropy(logits, torch.tensor(target, dtype=torch.long), ignore_index=-1,
                                             reduction="sum")


def consistency(logits, target, n_pairs, pair_scale, target_scale):
    log_p = logits[0 : 2 * n_pairs : 2].detach().log_softmax(-1)
    log_q = logits[1 : 2 * n_pairs : 2].log_softmax(-1)
    divergence = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="sum")
    return pair_scale * divergence + target_scale * cross_entropy(logits, target)


def reverse_kl(logits, teacher, target, scale):
    counts = torch.tensor(target >= 0)
    log_q, log_p = logits.log_softmax(-1)[counts], teacher.detach().log_softmax(-1)[counts]
    return scale * torch.nn.functional.kl_div(log_p, log_q, log_target=True, reduction="sum")


def record(c, n, pattern, seed, n_pairs, n_picked, scales):
    w, batch = train.make_weights(c, seed), train.make_batch(c, n, pattern, seed)
    picked, target = draw_picks(n, c.n_vocab, n_pairs, n_picked, seed)
    scales = [float(np.float32(x)) for x in scales]
    logits = train.logits_of(c, w, batch)[torch.tensor(picked, dtype=torch.long)]
    if n_pairs > 0:
        loss = consistency(logits, target, n_pairs, *scales)
    else:
        teacher = train.logits_of(c, train.make_weights(c, seed + 1), batch)[torch.tensor(picked, dtype=torch.long)]
        loss = reverse_kl(logits, teacher, target, scales[0])
    loss.backward()
    return (struct.pack("<iii", n, n_pairs, n_picked) + b"".join(batch[k].tobytes() for k in KEYS) + picked.tobytes()
            + target.tobytes() + train.floats(scales, loss.item(), *(x.grad.numpy().ravel() for x in w.values())))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    files = {
        "pairs": record(train.GQA, 60, "ranges", 11, 20, 50, (1 / 20, 1 / 17)),
        "pairs_tied": record(train.QK_NORM, 75, "packed", 12, 37, 75, (0.3, 0.02)),
        "reverse": record(train.BIAS, 60, "ranges", 13, 0, 44, (1 / 25, 0)),
    }
    return golden.record_or_check(GOLDEN, files, args.check)


if __name__ == "__main__":
    sys.exit(main())

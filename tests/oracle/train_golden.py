#!/usr/bin/env python3
"""What PyTorch makes of the trainer's small test models: gradients, ten training losses, steps of AdamW.

Weights come from the tests' own random numbers (splitmix64, in the order of tests/train_fixture.c), so that they need no
file; batches are drawn here and recorded with the results. Everything is computed in float64 and recorded in float32.

    train_golden.py            make tests/golden/train anew
    train_golden.py --check    compute again and compare

A file is little-endian words of 32 bits:

    NAME.bin     n, has_ranges; token, pos, first, first_end, own, target (n) int32; weight (n) float32; loss float32;
                 the gradient of every weight, one after the other
    losses.bin   as above for its batch; then, instead of the gradients, the losses of ten steps of AdamW with clipping on
                 that batch, each before the step, and the norms of the gradients before clipping
    adamw.bin    weights (N) before; N_STEPS times: gradient (N), norm of it, weights (N) after the step
"""
import argparse
import math
import struct
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import golden

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "train"
N_LOSSES = 10
N_STEPS = 3


@dataclass
class Config:
    n_layers: int = 2
    dim: int = 32
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 16
    ffn_dim: int = 48
    n_vocab: int = 50
    norm_eps: float = 1e-5
    rope_base: float = 10000.0
    rope_factor: float = 1.0
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False


# As variant_config of tests/train_fixture.c.
GQA = Config()
TIED = replace(GQA, n_kv_heads=4, tied=True, rope_factor=4.0)
BIAS = replace(GQA, qkv_bias=True, dim=30, n_heads=3, n_kv_heads=1, head_dim=10, ffn_dim=37)
QK_NORM = replace(GQA, qk_norm=True, tied=True, n_heads=2, n_kv_heads=1, head_dim=72, norm_eps=1e-6)


def splitmix64(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        yield z ^ z >> 31


def shapes(c):
    """(layer, name, shape) of every weight, in the order of lf_weight."""
    q, kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    yield 0, "embedding", (c.n_vocab, c.dim)
    yield 0, "output_norm", (c.dim,)
    if not c.tied:
        yield 0, "output", (c.n_vocab, c.dim)
    for layer in range(c.n_layers):
        yield layer, "attn_norm", (c.dim,)
        yield layer, "q", (q, c.dim)
        yield layer, "k", (kv, c.dim)
        yield layer, "v", (kv, c.dim)
        if c.qkv_bias:
            yield layer, "q_bias", (q,)
            yield layer, "k_bias", (kv,)
            yield layer, "v_bias", (kv,)
        if c.qk_norm:
            yield layer, "q_norm", (c.head_dim,)
            yield layer, "k_norm", (c.head_dim,)
        yield layer, "o", (c.dim, q)
        yield layer, "ffn_norm", (c.dim,)
        yield layer, "gate", (c.ffn_dim, c.dim)
        yield layer, "up", (c.ffn_dim, c.dim)
        yield layer, "down", (c.dim, c.ffn_dim)


def make_weights(c, seed):
    random = splitmix64(seed)
    weights = {}
    for layer, name, shape in shapes(c):
        n = math.prod(shape)
        uniform = np.array([((next(random) >> 40) - 2**23) / 2**23 for _ in range(n)], np.float32)
        values = np.float32("norm" in name) + np.float32(0.3) * uniform
        weights[layer, name] = torch.tensor(values.reshape(shape), dtype=torch.float64, requires_grad=True)
    return weights


def make_batch(c, n, pattern, seed):
    random = np.random.default_rng(seed)
    i = np.arange(n)
    batch = {
        "token": random.integers(0, c.n_vocab, n),
        "pos": i,
        "first": np.zeros(n),
        "first_end": np.zeros(n),
        "own": np.zeros(n),
        "target": np.where(random.random(n) < 0.2, -1, random.integers(0, c.n_vocab, n)),
    }
    if pattern == "packed":  # documents of uneven length, one of a single row
        starts = np.array([0, n // 3, n // 3 + 1, 2 * n // 3])
        batch["own"] = starts[np.searchsorted(starts, i, side="right") - 1]
        batch["pos"] = i - batch["own"]
    if pattern == "ranges":  # a document, and blocks that see a beginning of it and themselves
        half, block = n // 2, 5
        own = half + (i - half) // block * block
        batch["own"] = np.where(i < half, 0, own)
        batch["first"] = np.where(i < half, 0, 2)
        batch["first_end"] = np.where(i < half, 0, 3 + (own - half))
        batch["pos"] = np.where(i < half, i, batch["first_end"] + i - own)
    batch = {key: value.astype(np.int32) for key, value in batch.items()}
    batch["weight"] = (1 + random.random(n)).astype(np.float32)
    return batch


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x, pos, c):
    freqs = np.array([1 / c.rope_base ** (2 * i / c.head_dim) for i in range(c.head_dim // 2)], np.float32)
    freqs /= np.float32(c.rope_factor)
    angles = torch.outer(torch.tensor(pos, dtype=torch.float64), torch.tensor(freqs, dtype=torch.float64))[:, None]
    a, b = x.chunk(2, -1)
    return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), -1)


def logits_of(c, w, batch):
    n = len(batch["token"])
    j = np.arange(n)[None, :]
    column = {key: batch[key][:, None] for key in ("first", "first_end", "own")}
    seen = (j >= column["first"]) & (j < column["first_end"]) | (j >= column["own"]) & (j <= np.arange(n)[:, None])
    mask = torch.tensor(np.where(seen, 0.0, -np.inf))
    x = w[0, "embedding"][torch.tensor(batch["token"], dtype=torch.long)]
    for l in range(c.n_layers):
        h = rms_norm(x, w[l, "attn_norm"], c.norm_eps)
        heads = {}
        for name, n_heads in (("q", c.n_heads), ("k", c.n_kv_heads), ("v", c.n_kv_heads)):
            y = h @ w[l, name].T
            if c.qkv_bias:
                y = y + w[l, name + "_bias"]
            y = y.view(n, n_heads, c.head_dim)
            if c.qk_norm and name != "v":
                y = rms_norm(y, w[l, name + "_norm"], c.norm_eps)
            heads[name] = rotate(y, batch["pos"], c) if name != "v" else y
        group = c.n_heads // c.n_kv_heads
        k, v = heads["k"].repeat_interleave(group, 1), heads["v"].repeat_interleave(group, 1)
        scores = torch.einsum("ihd,jhd->hij", heads["q"], k) / math.sqrt(c.head_dim) + mask
        attended = torch.einsum("hij,jhd->ihd", scores.softmax(-1), v).reshape(n, -1)
        x = x + attended @ w[l, "o"].T
        h = rms_norm(x, w[l, "ffn_norm"], c.norm_eps)
        x = x + (torch.nn.functional.silu(h @ w[l, "gate"].T) * (h @ w[l, "up"].T)) @ w[l, "down"].T
    return rms_norm(x, w[0, "output_norm"], c.norm_eps) @ w[0, "embedding" if c.tied else "output"].T


def loss_of(c, w, batch):
    n, logits = len(batch["token"]), logits_of(c, w, batch)
    target = torch.tensor(batch["target"], dtype=torch.long)
    losses = torch.nn.functional.cross_entropy(logits, target, ignore_index=-1, reduction="none")
    return (losses * torch.tensor(batch["weight"], dtype=torch.float64)).sum() / n


def floats(*arrays):
    return b"".join(np.asarray(a, np.float32).tobytes() for a in arrays)


def batch_bytes(batch):
    n = len(batch["token"])
    keys = ("token", "pos", "first", "first_end", "own", "target")
    return struct.pack("<ii", n, int(batch["first_end"].any())) + b"".join(batch[k].tobytes() for k in keys) + floats(
        batch["weight"])


def gradients(c, n, pattern, seed):
    w, batch = make_weights(c, seed), make_batch(c, n, pattern, seed)
    loss = loss_of(c, w, batch)
    loss.backward()
    return batch_bytes(batch) + floats(loss.item(), *(x.grad.numpy().ravel() for x in w.values()))


def groups(w, decay):
    """Matrices decay; norms and biases do not."""
    return [{"params": [x for x in w.values() if x.dim() == 2], "weight_decay": decay},
            {"params": [x for x in w.values() if x.dim() == 1], "weight_decay": 0.0}]


def losses(c, n, pattern, seed):
    w, batch = make_weights(c, seed), make_batch(c, n, pattern, seed)
    optimizer = torch.optim.AdamW(groups(w, 0.1), lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    found, norms = [], []
    for _ in range(N_LOSSES):
        optimizer.zero_grad()
        loss = loss_of(c, w, batch)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(w.values(), 1.0).item())
        optimizer.step()
        found.append(loss.item())
    return batch_bytes(batch) + floats(found, norms)


def adamw(c, seed):
    w = make_weights(c, seed)
    random = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(groups(w, 0.1), lr=3e-3, betas=(0.9, 0.95), eps=1e-8)
    flat = lambda: floats(*(x.detach().numpy().ravel() for x in w.values()))
    out = flat()
    for step in range(N_STEPS):
        scale = (0.001, 0.1, 1e-6)[step]  # below the clip, above it, and near eps
        for x in w.values():
            values = (scale * random.standard_normal(x.shape)).astype(np.float32)
            x.grad = torch.tensor(values, dtype=torch.float64)
        out += floats(*(x.grad.numpy().ravel() for x in w.values()))
        out += floats(torch.nn.utils.clip_grad_norm_(w.values(), 1.0).item())
        optimizer.step()
        out += flat()
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    small = replace(BIAS, n_layers=1, dim=16, head_dim=8, ffn_dim=9, n_vocab=11)
    files = {
        "gqa": gradients(GQA, 37, "whole", 1),
        "tied": gradients(TIED, 100, "packed", 2),
        "bias": gradients(BIAS, 90, "ranges", 3),
        "qk_norm": gradients(QK_NORM, 70, "packed", 4),
        "losses": losses(TIED, 70, "packed", 5),
        "adamw": adamw(small, 6),
    }
    return golden.record_or_check(GOLDEN, files, args.check)


if __name__ == "__main__":
    sys.exit(main())

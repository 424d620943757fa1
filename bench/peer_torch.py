#!/usr/bin/env python3
"""Times PyTorch, eager, on training steps of the 15M shape, for `lookfar bench train` to set beside its own numbers.

    lookfar bench train --peer "python3 bench/peer_torch.py"

The model is what anyone would write: nn.Linear, scaled_dot_product_attention, a norm and a rotation by hand, F.cross_entropy,
torch.optim.AdamW (fused, where this PyTorch has it for CPUs), clip_grad_norm_. bf16 is torch.autocast. Standard input has a JSON
object per line, each answered with one: see bench/peer.h. The test ppN stands for a step on `batch` sequences of N tokens, and
kv_type for the type of products.
"""
import json
import math
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

DIM, LAYERS, HEADS, FFN, VOCAB, EPS, ROPE_BASE = 384, 8, 6, 1024, 4096, 1e-5, 10000.0


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(DIM))

    def forward(self, x):
        return F.rms_norm(x, (DIM,), self.weight, EPS) if hasattr(F, "rms_norm") else (
            x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * self.weight)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn_norm, self.ffn_norm = RMSNorm(), RMSNorm()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.out = nn.Linear(DIM, DIM, bias=False)
        self.gate_up = nn.Linear(DIM, 2 * FFN, bias=False)
        self.down = nn.Linear(FFN, DIM, bias=False)

    def forward(self, x, cos, sin):
        batch, n, _ = x.shape
        q, k, v = self.qkv(self.attn_norm(x)).view(batch, n, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)

        def rotate(y):
            a, b = y.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        attended = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, n, DIM))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, DIM)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = RMSNorm()
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens, dtype):
        half = DIM // HEADS // 2
        freqs = ROPE_BASE ** (-torch.arange(half) / half)
        angles = torch.outer(torch.arange(tokens.shape[1]).float(), freqs)
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embedding.weight)


class Trainer:
    def __init__(self):
        torch.manual_seed(1)
        self.model = Model()
        parameters = self.model.parameters
        groups = [{"params": [p for p in parameters() if p.dim() == 2], "weight_decay": 0.1},
                  {"params": [p for p in parameters() if p.dim() == 1], "weight_decay": 0.0}]
        settings = {"lr": 1e-3, "betas": (0.9, 0.95)}
        try:
            self.optimizer = torch.optim.AdamW(groups, fused=True, **settings)
        except RuntimeError:
            self.optimizer = torch.optim.AdamW(groups, **settings)

    def step(self, tokens, dtype):
        targets = (tokens + 1) % VOCAB
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = self.model(tokens, dtype)
        loss = F.cross_entropy(logits.view(-1, VOCAB).float(), targets.view(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not math.isfinite(loss.item()):
            raise ArithmeticError("the loss is not finite")
        return time.perf_counter() - start


def main():
    trainer = Trainer()
    for line in sys.stdin:
        try:
            request = json.loads(line)
            torch.set_num_threads(request["threads"] or len(os.sched_getaffinity(0)))
            n = int(request["test"].removeprefix("pp"))
            tokens = torch.randint(VOCAB, (request["batch"], n))
            dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[request["kv_type"]]
            answer = {"seconds": trainer.step(tokens, dtype), "engine": f"PyTorch {torch.__version__.split('+')[0]}"}
        except Exception as error:  # the peer's errors are the bench's to tell
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Tiny models of every family that lookfar reads, with the logits that transformers computes for them.

A model is a real config.json (from $LOOKFAR_DATA/configs) with the sizes taken down and everything else kept: RoPE
base and scaling, epsilon, biases, tying, the rule for head_dim. All parameters are random, norm weights and biases
too, because at their defaults (1 and 0) a reader that forgets them would pass. Embeddings are small, so that the
epsilon of the first norm shows in the logits. Each feature of a family is also switched off once, and the recording
fails unless the logits then move by far more than a test tolerates: a golden file that cannot fail is not made.

    families.py            make the folders anew (needs $LOOKFAR_DATA)
    families.py --check    recompute from the recorded weights and compare (needs only the folders)

Layout of the folders: README.md beside this file.
"""
import argparse
import copy
import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden" / "families"
DATA = Path(os.environ.get("LOOKFAR_DATA", HERE.parents[2] / "shared" / "data"))

N_PROMPT = 48
N_LONG = 224  # reaches past original_max_position_embeddings of every scaled model
N_GREEDY = 32
GAP_MIN = 0.005  # smallest top-2 gap, as a part of the range of the logits
DISTINCT_MIN = 12  # different ids among the greedy ones: a model stuck on one token tests little
EFFECT_MIN = 1e-3  # what a switched-off feature must change; tests tolerate 2e-4
CHECK_MAX = 2e-5  # float32 noise between two builds of PyTorch

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128}
LLAMA3_ROPE = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}


@dataclass
class Family:
    """One model: where its config comes from, what is changed in it, how it is stored."""
    source: str
    heads: tuple  # (query heads, KV heads)
    changes: dict = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    shard: str = "1GB"
    # "published": config.json has the keys of the original; "transformers": the keys that transformers 5 writes
    # (rope_parameters instead of rope_theta and rope_scaling, dtype instead of torch_dtype).
    keys: str = "published"
    features: tuple = ()


FAMILIES = {
    "llama2": Family("committed/llama-2-7b-chat", (4, 4), {"hidden_size": 32}),
    "llama3": Family("derived/Llama-3.1-8B", (8, 2), {"rope_scaling": None}, shard="100KB"),
    "llama3.1": Family("derived/Llama-3.1-8B", (4, 2), {"rope_scaling": {**LLAMA3_ROPE, "factor": 8.0}},
                       features=("scaling", "band")),
    "llama3.2": Family("committed/llama-3.2-3b-instruct", (4, 1),
                       {"rope_scaling": {**LLAMA3_ROPE, "factor": 32.0}, "vocab_size": 160},
                       keys="transformers", features=("scaling", "band")),
    "llama2-32k": Family("derived/LLaMA-2-7B-32K", (2, 2), dtype=torch.float16, features=("scaling",)),
    "mistral": Family("derived/Mistral-7B-v0.1", (8, 2), dtype=torch.bfloat16),
    "yi": Family("committed/yi-6b-chat", (4, 1), {"hidden_size": 32}),
    "tinyllama": Family("derived/tiny-llama-1.1b", (8, 1), {"intermediate_size": 64}),
    "smollm2": Family("derived/SmolLM2-135M", (9, 3),
                      {"hidden_size": 72, "intermediate_size": 100, "vocab_size": 131}),
    "qwen2": Family("committed/qwen2-1.5b-instruct", (4, 1), {"hidden_size": 32, "intermediate_size": 128},
                    features=("bias",)),
    "qwen2.5": Family("committed/qwen2.5-7b-instruct", (4, 2), {"hidden_size": 32, "intermediate_size": 128},
                      features=("bias",)),
    "qwen3": Family("committed/qwen3", (6, 2), {"head_dim": 16}, keys="transformers",
                    features=("head_norm",)),
}


def scaled_config(family):
    """The real config.json with the sizes of a test; a dict."""
    config = json.loads((DATA / "configs" / f"{family.source}.config.json").read_text())
    config = {k: v for k, v in config.items() if not k.startswith("_")}
    config.update(SIZES, num_attention_heads=family.heads[0], num_key_value_heads=family.heads[1])
    config.update(family.changes)
    if "head_dim" in config and "head_dim" not in family.changes:
        config["head_dim"] = config["hidden_size"] // family.heads[0]
    vocab = config["vocab_size"]
    if config.get("bos_token_id", 0) >= vocab:  # Llama 3 and Qwen keep special tokens at the end
        many = isinstance(config["eos_token_id"], list)
        config.update(bos_token_id=vocab - 3, eos_token_id=[vocab - 2, vocab - 1] if many else vocab - 1)
    if "max_window_layers" in config:
        config["max_window_layers"] = config["num_hidden_layers"]
    config["torch_dtype"] = str(family.dtype).removeprefix("torch.")
    return config


def new_model(config):
    """A transformers model of the config dict, float32, on the CPU."""
    built = transformers.AutoConfig.for_model(**copy.deepcopy(config))  # it adds keys to rope_scaling
    model = transformers.AutoModelForCausalLM.from_config(built, attn_implementation="eager", dtype=torch.float32)
    return model.eval()


def randomise(model, seed, dtype):
    """Fills every parameter, rounded to the dtype it will be stored in. RandomState's stream is frozen by numpy."""
    rng = np.random.RandomState(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.from_numpy(rng.standard_normal(tuple(p.shape)).astype(np.float32))
            if name.endswith("norm.weight"):
                value = 1 + 0.3 * noise
            elif name.endswith("bias"):
                value = 0.5 * noise
            elif "embed_tokens" in name:
                value = 0.05 * noise
            else:
                value = 1.5 * noise / p.shape[1] ** 0.5
            p.copy_(value.to(dtype))


def token_ids(n, vocab):
    """n ids in 0..vocab-1: the high bits of Knuth's 64-bit congruential generator."""
    state, ids = 42, []
    for _ in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        ids.append((state >> 33) % vocab)
    return ids


@torch.no_grad()
def logits_of(model, ids):
    """(len(ids), vocab), in the precision of the model."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()


def greedy(model, ids):
    """N_GREEDY argmax ids after ids, recomputed from the start each time, and the smallest top-2 gap over range."""
    out, gap = [], float("inf")
    for _ in range(N_GREEDY):
        last = logits_of(model, ids + out)[-1]
        second, first = np.partition(last, -2)[-2:]
        gap = min(gap, float((first - second) / np.ptp(last)))
        out.append(int(last.argmax()))
    return out, gap


def relative_error(got, want):
    """Largest difference over the largest magnitude; infinite where something is not a number."""
    error = np.abs(got - want).max() / np.abs(want).max()
    return float(error) if np.isfinite(error) else float("inf")


def ids_to_avoid(config):
    eos = config.get("eos_token_id", 2)
    return set(eos if isinstance(eos, list) else [eos])


def choose_seed(config, dtype, ids):
    """The first seed whose greedy text has clear gaps and some variety and does not end."""
    model = new_model(config)
    for seed in range(1, 1000):
        randomise(model, seed, dtype)
        out, gap = greedy(model, ids)
        if gap > GAP_MIN and len(set(out)) >= DISTINCT_MIN and not set(out) & ids_to_avoid(config):
            return model, seed, out, gap
    raise SystemExit("no seed below 1000 gives clear gaps; lower GAP_MIN or change the sizes")


def without(feature, config, model):
    """The same model with one feature left out, as a careless reader would."""
    config = dict(config)
    if feature == "scaling":
        config["rope_scaling"] = None
    elif feature == "band":  # the frequencies that Llama 3 neither keeps nor divides
        config["rope_scaling"] = {**config["rope_scaling"], "high_freq_factor": 1.001}
    elif feature == "theta":
        config["rope_theta"] = 2 * config.get("rope_theta", 10000.0)
    elif feature == "eps":
        config["rms_norm_eps"] = 1e-6 if config["rms_norm_eps"] == 1e-5 else 1e-5
    other = new_model(config)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, p in other.named_parameters():
            if feature == "bias" and name.endswith("bias"):
                p.zero_()
            if feature == "head_norm" and name.endswith(("q_norm.weight", "k_norm.weight")):
                p.fill_(1)
            if feature == "norm" and name.endswith("layernorm.weight"):
                p.fill_(1)
    return other


def measure_effects(family, config, model, ids, logits):
    """How far the logits move without each feature."""
    effects = {}
    for feature in ("norm", "theta", "eps") + family.features:
        effects[feature] = relative_error(logits_of(without(feature, config, model), ids), logits)
        if effects[feature] < EFFECT_MIN:
            raise SystemExit(f"without {feature} the logits move by {effects[feature]:.1e} only: no test of it")
    return effects


def save_model(model, family, config, folder):
    """The folder as save_pretrained makes it, with the published keys in config.json unless the family says so."""
    copy.deepcopy(model).to(family.dtype).save_pretrained(folder, max_shard_size=family.shard)
    if family.keys == "published":
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def load_model(folder, dtype=torch.float32):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=dtype).eval()


def write_golden(folder, record, logits, long_logits):
    logits.astype("<f4").tofile(folder / "logits.f32")
    if long_logits is not None:
        long_logits.astype("<f4").tofile(folder / "long_logits.f32")
    lines = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in record.items()]
    (folder / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def record_family(name, family):
    config = scaled_config(family)
    ids = token_ids(N_PROMPT, config["vocab_size"])
    model, seed, out, gap = choose_seed(config, family.dtype, ids)
    logits = logits_of(model, ids)
    longer = "scaling" in family.features
    long_ids = token_ids(N_LONG, config["vocab_size"]) if longer else []
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    save_model(model, family, config, folder)
    record = {
        "source": family.source, "seed": seed, "vocab_size": config["vocab_size"], "prompt_ids": ids,
        "greedy_ids": out, "min_gap": gap,
        "float32_error": relative_error(logits, logits_of(copy.deepcopy(model).double(), ids)),
        "effects": measure_effects(family, config, model, long_ids or ids, logits_of(model, long_ids or ids)),
    }
    if longer:
        record["long_prompt_ids"] = long_ids
    write_golden(folder, record, logits, logits_of(model, long_ids)[-1] if longer else None)


def check_family(name):
    """Compares what is recorded with what the recorded weights give now; the row of the table and the verdict."""
    folder = GOLDEN / name
    golden = json.loads((folder / "golden.json").read_text())
    model = load_model(folder)
    vocab = golden["vocab_size"]
    want = np.fromfile(folder / "logits.f32", "<f4").reshape(-1, vocab)
    error = relative_error(logits_of(model, golden["prompt_ids"]), want)
    long_error = 0.0
    if "long_prompt_ids" in golden:
        want = np.fromfile(folder / "long_logits.f32", "<f4")
        long_error = relative_error(logits_of(model, golden["long_prompt_ids"])[-1], want)
    out, gap = greedy(model, golden["prompt_ids"])
    good = max(error, long_error) < CHECK_MAX and out == golden["greedy_ids"]
    c = model.config
    shape = f"{c.hidden_size}/{c.intermediate_size}/{c.num_attention_heads}:{c.num_key_value_heads}/{vocab}"
    weakest = min(golden["effects"], key=golden["effects"].get)
    size = sum(f.stat().st_size for f in folder.iterdir()) / 1000
    print(f"{name:11} {shape:17} {golden['seed']:4} {gap:7.4f} {len(set(out)):4} {golden['float32_error']:9.1e} "
          f"{weakest + ' %.1e' % golden['effects'][weakest]:16} {size:7.1f} {error:8.1e} {long_error:8.1e}  "
          f"{'ok' if good else 'DIFFERENT'}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the recorded files, write nothing")
    parser.add_argument("names", nargs="*", metavar="FAMILY", help=f"default: all of {' '.join(FAMILIES)}")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # one order of summation
    if unknown := [n for n in args.names if n not in FAMILIES]:
        parser.error(f"no family {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    names = args.names or list(FAMILIES)
    print(f"{'family':11} {'dim/ffn/heads/voc':17} seed min_gap dist f32_noise weakest effect     kB    error "
          "long_err", flush=True)
    good = True
    for name in names:
        if not args.check:
            record_family(name, FAMILIES[name])
        good &= check_family(name)
    total = sum(f.stat().st_size for f in GOLDEN.rglob("*") if f.is_file())
    print(f"torch {torch.__version__}, transformers {transformers.__version__}; {total / 1e6:.2f} MB in all")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

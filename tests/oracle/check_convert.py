"""Compares GGUF files that lookfar wrote with the Hugging Face folders they came from, as the packages `gguf` and
`safetensors` read both.

    check_convert.py file GGUF DIR [--type TYPE]        one file; TYPE as it was given to convert
    check_convert.py live LOOKFAR [DIR ...]             converts each folder to every type with this command and compares;
                                                        without folders: all of tests/golden/families

f32, f16 and bf16 must be bit for bit the folder's, or its values rounded by torch; q8_0 and q4_0 the bytes of
gguf.quants.quantize; k-quants, which `gguf` cannot write, the folder's values within a relative error.
"""

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from gguf import quants
from safetensors.torch import load_file

FAMILIES = pathlib.Path(__file__).resolve().parent.parent / "golden" / "families"
TYPES = [None, "f32", "f16", "bf16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k"]
TORCH = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
RELATIVE_ERROR = {"Q4_K": 0.1, "Q5_K": 0.05, "Q6_K": 0.03}
ONCE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
PER_LAYER = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
             "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    return f"blk.{layer[1]}.{PER_LAYER[layer[2]]}.{kind}" if layer else f"{ONCE[stem]}.{kind}"


def adjacent_pairs(tensor, n_heads):
    """Rows from half-split into adjacent pairs of each head."""
    return tensor.reshape(n_heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def load_folder(folder):
    """{GGUF name: tensor} as the GGUF file should have them, and the config."""
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
    if config.get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    tensors = {gguf_name(name): t for name, t in tensors.items() if not name.endswith("rotary_emb.inv_freq")}
    if config["model_type"] in ("llama", "mistral", "yi"):
        heads = config["num_attention_heads"]
        for name in tensors:
            if ".attn_q." in name or ".attn_k." in name:
                n = heads if ".attn_q." in name else config.get("num_key_value_heads", heads)
                tensors[name] = adjacent_pairs(tensors[name], n)
    return tensors, config


def rope_freqs(config):
    """What llama.cpp's converter writes for llama3 scaling, or None."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) != "llama3":
        return None
    base = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    freqs = 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    context = rope["original_max_position_embeddings"]
    out = []
    for freq in freqs:
        wavelength = 2 * math.pi / freq
        if wavelength < context / high:
            out.append(1.0)
        elif wavelength > context / low:
            out.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            out.append(1 / ((1 - smooth) / factor + smooth))
    return torch.tensor(out, dtype=torch.float32)


def expected_type(name, tensor, wanted):
    if tensor.ndim == 1:
        return "F32"
    if wanted is None:
        return TORCH[tensor.dtype]
    if name in ("token_embd.weight", "output.weight") and wanted in ("q4_k", "q5_k"):
        wanted = "q6_k"
    if wanted.endswith("_k") and tensor.shape[-1] % 256:
        wanted = "q8_0"
    if wanted in ("q8_0", "q4_0") and tensor.shape[-1] % 32:
        wanted = "f16"
    return wanted.upper()


def difference(found, tensor):
    """What is wrong with the data of a ReaderTensor, or None."""
    kind = found.tensor_type.name
    values = tensor.to(torch.float32).numpy()
    if list(found.shape[::-1]) != list(tensor.shape):
        return f"shape {list(found.shape[::-1])}, expected {list(tensor.shape)}"
    if kind in RELATIVE_ERROR:
        error = quants.dequantize(found.data, found.tensor_type) - values
        relative = np.sqrt((error**2).mean() / (values**2).mean())
        return None if relative < RELATIVE_ERROR[kind] else f"relative error {relative}"
    if kind in ("Q8_0", "Q4_0"):
        expected = quants.quantize(values, found.tensor_type)
    else:
        expected = tensor.to({v: k for k, v in TORCH.items()}[kind]).contiguous().view(torch.uint8).numpy()
    return None if found.data.tobytes() == expected.tobytes() else "bytes differ"


def check_keys(reader, config):
    """What is wrong with the metadata."""
    arch = reader.fields["general.architecture"].contents()
    heads, dim = config["num_attention_heads"], config["hidden_size"]
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    expected = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": dim,
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads", heads),
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.dimension_count": config.get("head_dim") or dim // heads,
        "rope.freq_base": rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        "vocab_size": config["vocab_size"],
    }
    if rope.get("rope_type", rope.get("type")) == "linear":
        expected |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    bad = []
    for key, value in expected.items():
        field = reader.fields.get(f"{arch}.{key}")
        found = field.contents() if field else None
        if found is None or (found != value if isinstance(value, (int, str)) else not math.isclose(found, value, rel_tol=1e-6)):
            bad.append(f"{arch}.{key}: found {found}, expected {value}")
    return bad


def check(path, folder, wanted):
    """Lines that say what is wrong."""
    reader = gguf.GGUFReader(path)
    tensors, config = load_folder(folder)
    found = {t.name: t for t in reader.tensors}
    bad = check_keys(reader, config)
    factors = rope_freqs(config)
    if factors is not None:
        freqs = found.pop("rope_freqs.weight", None)
        if freqs is None or not np.allclose(freqs.data, factors.numpy(), rtol=1e-6, atol=0):
            bad.append("rope_freqs.weight: differs")
    if found.keys() != tensors.keys():
        bad.append(f"tensors: found {sorted(found.keys() ^ tensors.keys())} on one side only")
    for name in found.keys() & tensors.keys():
        kind = expected_type(name, tensors[name], wanted)
        if found[name].tensor_type.name != kind:
            bad.append(f"{name}: found type {found[name].tensor_type.name}, expected {kind}")
        elif wrong := difference(found[name], tensors[name]):
            bad.append(f"{name} ({kind}): {wrong}")
    return bad


def live(lookfar, folders):
    n_bad = 0
    with tempfile.TemporaryDirectory() as temp:
        path = pathlib.Path(temp) / "out.gguf"
        for folder in folders:
            for wanted in TYPES:
                options = ["-q"] + (["-T", wanted] if wanted else [])
                subprocess.run([lookfar, "convert", *options, folder, path], check=True)
                bad = check(path, folder, wanted)
                n_bad += len(bad)
                print("\n".join(f"{folder.name}, {wanted or 'own types'}: {line}" for line in bad), end="\n" if bad else "")
    print(f"convert: {len(folders)} folders in {len(TYPES)} types, {n_bad} differences")
    return n_bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    one = modes.add_parser("file")
    one.add_argument("gguf", type=pathlib.Path)
    one.add_argument("dir", type=pathlib.Path)
    one.add_argument("--type", choices=TYPES[1:])
    many = modes.add_parser("live")
    many.add_argument("lookfar")
    many.add_argument("dirs", type=pathlib.Path, nargs="*")
    args = parser.parse_args()
    if args.mode == "live":
        return 1 if live(args.lookfar, args.dirs or sorted(p for p in FAMILIES.iterdir() if p.is_dir())) else 0
    bad = check(args.gguf, args.dir, args.type)
    print("\n".join(bad) or "equal")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

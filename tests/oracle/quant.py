"""Records tests/golden/quant: blocks and rows in every dtype, as the Python package `gguf` and ggml itself convert them.

    python3 quant.py [--check] [--ggml LIBGGML_BASE_SO]

For each dtype NAME of lookfar:
    NAME.blocks     random blocks, with the extreme scales of EDGE_SCALES among them
    NAME.floats     float32: gguf.quants.dequantize of them
    NAME.quantized  rows.f32 in that dtype, by gguf.quants.quantize; by ggml_quantize_chunk for q4_k, q5_k and q6_k, which
                    the package cannot write
    NAME.fnv        the 64-bit FNV-1a hash of generated() in that dtype
rows.f32 holds N_ROW float32 values: normal, one-sided, sparse, halves, tiny, large, of mixed scale.

--check compares with what is recorded instead. Without --ggml (libggml-base.so as any build of llama.cpp has it, for
example llama_cpp/lib/ of the package llama-cpp-python), the files that need it are left as they are.
"""

import argparse
import ctypes
import pathlib
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf import quants

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "quant"
DTYPES = ["f16", "bf16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k"]
FROM_GGML = ["q4_k", "q5_k", "q6_k"]
SCALE_OFFSETS = {"q8_0": [0], "q4_0": [0], "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208]}
# +-0, the smallest and the largest subnormal, the smallest and the largest normal number, one, minus a third
EDGE_SCALES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xB555]
N_VALUES = {"f16": 128, "bf16": 128}  # of a dtype's blocks, 1024 of the others
N_ROW = 3072
N_GENERATED = 1 << 17


def qtype(name):
    return GGMLQuantizationType[name.upper()]


def random_blocks(name, rng):
    block_len, block_bytes = GGML_QUANT_SIZES[qtype(name)]
    blocks = rng.integers(0, 256, size=(N_VALUES.get(name, 1024) // block_len, block_bytes), dtype=np.uint8)
    if name in SCALE_OFFSETS:
        for offset in SCALE_OFFSETS[name]:
            scales = rng.normal(0, 0.02, size=len(blocks)).astype(np.float16).view(np.uint16)
            n_edges = min(len(EDGE_SCALES), len(blocks) // 2)
            scales[:n_edges] = rng.permutation(np.array(EDGE_SCALES, np.uint16))[:n_edges]
            blocks[:, offset : offset + 2] = scales.astype("<u2").view(np.uint8).reshape(-1, 2)
        return blocks
    values = blocks.view("<u2")
    exponent = 0x7C00 if name == "f16" else 0x7F80  # NaN and infinity are tested apart
    values[(values & exponent) == exponent] &= 0xFFFF ^ exponent
    values[: len(EDGE_SCALES), 0] = EDGE_SCALES
    return blocks


def rows(rng):
    x = rng.normal(0, 1, size=(8, N_ROW // 8)).astype(np.float32)
    x[1] = np.abs(x[1])
    x[2] *= rng.integers(0, 8, size=x[2].shape) == 0
    x += 0  # no -0: gguf and ggml differ in the sign of the scale of a q4_0 block of zeros
    x[3] = np.round(x[3] * 20) / 2
    x[3, ::64] = 127  # q8_0 gets the scale 1, and so halves to round
    x[3, 32::64] = -8  # and q4_0
    x[4] *= np.float32(1e-9)
    x[5] *= np.float32(3000)
    x[6] *= np.exp(rng.normal(0, 2, size=x[6].shape)).astype(np.float32)
    x[7] = -np.abs(x[7])
    x[7, 64:128] = 0
    x[7, 128:160] *= np.float32(1e-4)
    return x.reshape(-1)


def generated():
    """From the values u of rng_uniform (tests/testing.c) from state 1: u * u * u, and u + u + u of three in a row."""
    z = np.uint64(1) + np.arange(1, 4 * N_GENERATED + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    u = ((z >> np.uint64(40)).astype(np.int64) - (1 << 23)).astype(np.float32) * np.float32(2.0**-23)
    cubes, (a, b, c) = u[:N_GENERATED], u[N_GENERATED:].reshape(-1, 3).T
    return np.concatenate([cubes * cubes * cubes, a + b + c])


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return h.to_bytes(8, "little")


def quantize_by_ggml(library, name, x):
    block_len, block_bytes = GGML_QUANT_SIZES[qtype(name)]
    ggml = ctypes.CDLL(library)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [
        ctypes.c_void_p
    ]
    out = np.zeros(len(x) // block_len * block_bytes, np.uint8)
    ggml.ggml_quantize_chunk(int(qtype(name)), x.ctypes.data, out.ctypes.data, 0, 1, len(x), None)
    return out


def make(library):
    """{file name: bytes} of all that can be made here."""
    rng = np.random.default_rng(20240229)
    x = rows(rng)
    files = {"rows.f32": x.astype("<f4").tobytes()}
    for name in DTYPES:
        blocks = random_blocks(name, rng)
        files[f"{name}.blocks"] = blocks.tobytes()
        files[f"{name}.floats"] = quants.dequantize(blocks, qtype(name)).astype("<f4").tobytes()
        if name not in FROM_GGML:
            quantize = lambda v: quants.quantize(v.reshape(1, -1), qtype(name)).tobytes()
        elif library:
            quantize = lambda v: quantize_by_ggml(library, name, v).tobytes()
        else:
            continue
        files[f"{name}.quantized"] = quantize(x)
        files[f"{name}.fnv"] = fnv1a(quantize(generated()))
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--ggml", help="path of libggml-base.so")
    args = parser.parse_args()
    files = make(args.ggml)
    if not args.check:
        GOLDEN.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (GOLDEN / name).write_bytes(data)
        print(f"{GOLDEN}: {len(files)} files, {sum(map(len, files.values()))} bytes")
        return 0
    bad = [name for name, data in files.items() if (GOLDEN / name).read_bytes() != data]
    print(f"quant: {len(files) - len(bad)} files equal, {len(bad)} differ: {' '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

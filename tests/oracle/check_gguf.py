#!/usr/bin/env python3
"""GGUF files as the Python package `gguf` reads them, for lookfar to be compared with.

  check_gguf.py record DATA     writes tests/golden/gguf/*.txt from the GGUF files of the data folder; tests/test_gguf.c
                                prints the same text from lookfar's reader
  check_gguf.py dump FILE       prints the dump of any GGUF file, for example of one that lookfar wrote
  check_gguf.py compare A B     says whether two GGUF files hold the same keys, tensors and bytes (order apart), and
                                exits with 1 if they do not

A dump has one line per key and tensor, in the order of the file. Arrays and data are given by an FNV-1a 64 checksum of
their packed bytes (a string: its length as u64, then its bytes).
"""
import pathlib
import struct
import sys

import gguf

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "gguf"
RECORDED = ["gguf/llama-2-tiny-random.gguf", "tokenizers/vectors/ggml-vocab-gpt-2.gguf",
            "tokenizers/vectors/ggml-vocab-llama-spm.gguf"]
NAMES = {gguf.GGUFValueType.UINT8: "uint8", gguf.GGUFValueType.INT8: "int8", gguf.GGUFValueType.UINT16: "uint16",
         gguf.GGUFValueType.INT16: "int16", gguf.GGUFValueType.UINT32: "uint32", gguf.GGUFValueType.INT32: "int32",
         gguf.GGUFValueType.FLOAT32: "float32", gguf.GGUFValueType.BOOL: "bool", gguf.GGUFValueType.STRING: "string",
         gguf.GGUFValueType.ARRAY: "array", gguf.GGUFValueType.UINT64: "uint64", gguf.GGUFValueType.INT64: "int64",
         gguf.GGUFValueType.FLOAT64: "float64"}


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in bytes(data):
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def quote(raw):
    """A string with everything but printable ASCII as \\xNN."""
    return "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'"\\' else f"\\x{b:02x}" for b in bytes(raw))


def dump_field(field):
    kind = field.types[0]
    if kind == gguf.GGUFValueType.STRING:
        raw = bytes(field.parts[field.data[0]])
        return f'string {len(raw)} "{quote(raw)}"'
    if kind == gguf.GGUFValueType.ARRAY:
        # GGUFReader keeps no item type of an empty array.
        item = field.types[-1] if len(field.types) > 1 else None
        parts = [bytes(field.parts[i]) for i in field.data]
        if item == gguf.GGUFValueType.STRING:
            parts = [struct.pack("<Q", len(p)) + p for p in parts]
        return f"array {NAMES.get(item, 'empty')} {len(parts)} {fnv1a(b''.join(parts))}"
    value = field.parts[field.data[0]][0]
    text = format(float(value), ".17g") if kind in (gguf.GGUFValueType.FLOAT32, gguf.GGUFValueType.FLOAT64) \
        else str(int(value))
    return f"{NAMES[kind]} {text}"


def dump(path):
    reader = gguf.GGUFReader(path)
    lines = [f"version {reader.fields['GGUF.version'].parts[0][0]}"]
    lines += [f"key {name} {dump_field(field)}" for name, field in reader.fields.items() if not name.startswith("GGUF.")]
    for tensor in reader.tensors:
        dims = " ".join(str(d) for d in reversed(tensor.shape.tolist()))
        data = tensor.data.tobytes()
        lines.append(f"tensor {tensor.name} {tensor.tensor_type.name.lower()} [{dims}] {len(data)} {fnv1a(data)}")
    return lines


def main(argv):
    if len(argv) == 3 and argv[1] == "record":
        for name in RECORDED:
            out = GOLDEN / (pathlib.Path(name).name + ".txt")
            out.write_text("\n".join(dump(pathlib.Path(argv[2]) / name)) + "\n")
            print(out)
        return 0
    if len(argv) == 3 and argv[1] == "dump":
        print("\n".join(dump(argv[2])))
        return 0
    if len(argv) == 4 and argv[1] == "compare":
        # The alignment is a property of each file, not of the model in it.
        first, second = ({line for line in dump(path) if not line.startswith(("version ", "key general.alignment "))}
                         for path in argv[2:])
        for line in sorted(first ^ second):
            print(("- " if line in first else "+ ") + line)
        print("same" if first == second else "different")
        return int(first != second)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))

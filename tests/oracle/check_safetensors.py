#!/usr/bin/env python3
"""safetensors files as the Python package of that name reads them, for lookfar to be compared with.

  check_safetensors.py record DATA   writes tests/golden/safetensors/stories260K.txt from the data folder;
                                     tests/test_safetensors.c prints the same text from lookfar's reader
  check_safetensors.py dump FILE     prints the dump of any safetensors file

One line per tensor, sorted by name: name, type, shape, bytes, FNV-1a 64 checksum of the data.
"""
import pathlib
import sys

import safetensors

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "safetensors"


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def dump(path):
    lines = []
    for name, tensor in sorted(safetensors.deserialize(pathlib.Path(path).read_bytes())):
        dims = " ".join(map(str, tensor["shape"]))
        lines.append(f"{name} {tensor['dtype']} [{dims}] {len(tensor['data'])} {fnv1a(tensor['data'])}")
    return lines


def main(argv):
    if len(argv) == 3 and argv[1] == "record":
        out = GOLDEN / "stories260K.txt"
        lines = dump(pathlib.Path(argv[2]) / "models/hf/stories260K/model.safetensors")
        out.write_text("\n".join(lines) + "\n")
        print(out)
        return 0
    if len(argv) == 3 and argv[1] == "dump":
        print("\n".join(dump(argv[2])))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))

"""Golden files of floats: recorded, or compared with what is computed now. Used by train_golden.py and consistency_golden.py."""

import numpy as np


def record_or_check(folder, files, check):
    """files: {name: bytes}, floats but for counts at their head. True when one differs from folder/NAME.bin by more than rounding."""
    failed = False
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / f"{name}.bin"
        if not check:
            path.write_bytes(data)
        elif path.read_bytes() != data:
            a, b = (np.frombuffer(x, np.float32) for x in (path.read_bytes(), data))
            if len(a) != len(b) or not np.allclose(a, b, rtol=1e-5, atol=1e-7):
                print(f"{name}: differs from the recorded one")
                failed = True
    return failed

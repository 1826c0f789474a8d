#!/usr/bin/env bash
# PyTorch (here on the CPU) casts values above 448 to FP8 E4M3 as 448, even infinity; ml_dtypes (NumPy's and JAX's FP8)
# makes NaN of the same values from 465 on. Both formats are called float8_e4m3fn, and one would expect one answer.
# For a user: a simulation of FP8 in one library does not show the overflow of the other. Clip to +-448 before each
# cast, then both agree; and check for infinity before the cast in PyTorch, not after it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 ml_dtypes==0.6.0 numpy==2.4.6

"$work/venv/bin/python" - <<'END'
import ml_dtypes
import numpy as np
import torch

values = np.array([440, 464, 466, 1000, np.inf], np.float32)
by_torch = torch.from_numpy(values).to(torch.float8_e4m3fn).to(torch.float32).numpy()
by_ml_dtypes = values.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
clipped = values.clip(-448, 448)
print("torch", torch.__version__, "and ml_dtypes", ml_dtypes.__version__)
print("expected: the same in both rows")
print("values:   ", values)
print("torch:    ", by_torch)
print("ml_dtypes:", by_ml_dtypes)
if not np.array_equal(by_torch, [448, 448, 448, 448, 448]):
    raise SystemExit("changed: torch no longer casts to 448")
if not np.array_equal(by_ml_dtypes, [448, 448, np.nan, np.nan, np.nan], equal_nan=True):
    raise SystemExit("changed: ml_dtypes no longer gives NaN from 465 on")
if not np.array_equal(
    torch.from_numpy(clipped).to(torch.float8_e4m3fn).to(torch.float32).numpy(),
    clipped.astype(ml_dtypes.float8_e4m3fn).astype(np.float32),
):
    raise SystemExit("changed: after clipping they differ too")
END

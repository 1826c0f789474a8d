#!/usr/bin/env bash
# An exception in a calibrator's Python callback never reaches the caller of build_serialized_network. NVIDIA's bindings
# print it and tell TensorRT "no more images", the answer of a calibrator that is done. KeyboardInterrupt is swallowed
# in the same way.
# For a user: TensorRT then has the images before the error only, and goes on. Keep the exception in the calibrator,
# write no cache after one, and raise it again after the build.
#
# This runs NVIDIA's own bindings of TensorRT 10 without TensorRT: its libraries are replaced by empty ones, made with
# gcc, and the callback is called through its C++ class, as TensorRT calls it. Linux on x86-64 or aarch64.
set -euo pipefail

for tool in gcc nm readelf; do
  if ! command -v "$tool" > /dev/null; then
    echo "skipped: $tool is needed (install gcc and binutils)"
    exit 0
  fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps tensorrt-cu12-bindings==10.16.1.11

# Empty libraries beside the bindings: every function of TensorRT that they need returns null.
folder=$(echo "$work"/venv/lib/python*/site-packages/tensorrt_bindings)
nm -D --undefined-only "$folder/tensorrt.so" \
  | awk '$1 == "U" && $2 !~ /@|^_?Py/ {print "void *" $2 "(void) { return 0; }"}' > "$work/stubs.c"
for library in $(readelf -d "$folder/tensorrt.so" | grep -o 'libnv[^]]*'); do
  gcc -shared -fPIC -Wl,-soname,"$library" -o "$folder/$library" "$work/stubs.c"
done

LD_LIBRARY_PATH=$folder "$work/venv/bin/python" - 2> "$work/stderr" <<'END' || { cat "$work/stderr" >&2; exit 1; }
import ctypes

import tensorrt_bindings as trt


class Calibrator(trt.IInt8EntropyCalibrator2):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def get_batch_size(self):
        return 1

    def get_batch(self, names):
        raise self.error

    def read_calibration_cache(self):
        return None

    def write_calibration_cache(self, cache):
        pass


def ask_for_images(calibrator):
    """Call IInt8Calibrator::getBatch, the sixth entry of the table of virtual functions, and return its answer."""
    this = ctypes.c_void_p.from_address(id(calibrator) + 16).value  # pybind11 holds the C++ object there
    table = ctypes.c_void_p.from_address(this).value
    address = ctypes.c_void_p.from_address(table + 5 * ctypes.sizeof(ctypes.c_void_p)).value
    pointers, names = (ctypes.c_void_p * 1)(), (ctypes.c_char_p * 1)(b"x")
    function = ctypes.CFUNCTYPE(ctypes.c_bool, *[ctypes.c_void_p] * 3, ctypes.c_int32)(address)
    return function(this, ctypes.addressof(pointers), ctypes.addressof(names), 1)


print("tensorrt_bindings", trt.__version__)
print("expected: the exception comes out of the call")
for error in (OSError("image 17 cannot be read"), KeyboardInterrupt()):
    try:
        more = ask_for_images(Calibrator(error))
    except BaseException as raised:
        raise SystemExit(f"changed: {type(raised).__name__} comes out of the call")
    print(f"{type(error).__name__} raised in get_batch: the call returned {more}, which means no more images")
    if more:
        raise SystemExit("changed: the answer is now that there are more images")
END
echo "on standard error:"
cat "$work/stderr"
if [ "$(grep -c 'Exception caught in get_batch' "$work/stderr")" != 2 ]; then
  echo "changed: the bindings no longer print the two exceptions" >&2
  exit 1
fi

#!/usr/bin/env bash
# Importing ONNX Runtime's ordinary wheel on Linux writes telemetry files: an identifier and a database below the home
# folder, and a session file in the temporary folder. One would expect onnxruntime.disable_telemetry_events() to prevent
# it, but the files are there before it can be called.
# For a user: set ORT_DISABLE_TELEMETRY=1 before the import, above all in containers and CI, where the home folder may
# be read-only or kept in an image.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check onnxruntime==1.32.0

# Import in an empty home and an empty temporary folder, and list the files that are there afterwards.
files_after_import() { # files_after_import FOLDER [NAME=VALUE]: the files below FOLDER
  mkdir -p "$1/home" "$1/tmp"
  env -u ORT_DISABLE_TELEMETRY -u XDG_CACHE_HOME HOME="$1/home" TMPDIR="$1/tmp" "${@:2}" "$work/venv/bin/python" -c '
import onnxruntime

onnxruntime.disable_telemetry_events()'
  (cd "$1" && find . -type f | sort)
}

"$work/venv/bin/pip" list --disable-pip-version-check 2> "$work/log" | grep '^onnxruntime '
echo "expected: an import writes nothing outside of Python's own folders"
default=$(files_after_import "$work/default")
echo "import, then disable_telemetry_events():"
echo "${default:-nothing}"
disabled=$(files_after_import "$work/disabled" ORT_DISABLE_TELEMETRY=1)
echo "with ORT_DISABLE_TELEMETRY=1:"
echo "${disabled:-nothing}"

if [ -z "$default" ]; then
  echo "changed: the import no longer writes files" >&2
  exit 1
fi
if [ -n "$disabled" ]; then
  echo "changed: ORT_DISABLE_TELEMETRY=1 no longer prevents the files" >&2
  exit 1
fi

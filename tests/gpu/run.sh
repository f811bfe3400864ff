#!/bin/sh
# Measures every engine on this machine's NVIDIA GPU, in under ten minutes, without internet.
#
#   tests/gpu/run.sh [more options of check.py]
#
# Environment variables and their defaults:
#   ENGINES     edge/shipped/lift       folder of exported engines
#   CHECKPOINT  models/results/lift     checkpoint that they were exported from, for torch
#   OUT         out/gpu.json            the report
#   PYTHON      python3                 interpreter; its packages (torch, JetPack's tensorrt) are used
#   WHEELS      (none)                  folder of wheels to add for this run; they go to out/gpu-packages
#
# Exit codes: 0 done; 1 a back end failed or is outside the error budget; 2 wrong use; 4 no GPU, or no Python package.
set -eu
cd "$(dirname "$0")/../.."

python=${PYTHON:-python3}
packages=$PWD/.typing
if [ -n "${WHEELS:-}" ]; then
    rm -rf out/gpu-packages
    "$python" -m pip --disable-pip-version-check --quiet install \
        --no-index --no-deps --target out/gpu-packages "$WHEELS"/*.whl
    packages=$packages:$PWD/out/gpu-packages
fi

PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
if ! missing=$("$python" -c 'import numpy, onnxruntime, pydantic, yaml, typing_extensions' 2>&1); then
    echo "error: this Python lacks a package: $(echo "$missing" | tail -n 1)" >&2
    echo "hint: supply the wheels: WHEELS=folder tests/gpu/run.sh" >&2
    exit 4
fi

out=${OUT:-out/gpu.json}
mkdir -p "$(dirname "$out")"
exec "$python" tests/gpu/check.py "${ENGINES:-edge/shipped/lift}" --json "$out" \
    --checkpoint "${CHECKPOINT:-models/results/lift}" "$@"

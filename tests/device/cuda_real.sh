#!/bin/sh
# Run the CUDA tests on a real GPU, driver and runtime, then a PyTorch training loop under the sampler, and one that is
# attached to, where a Python with PyTorch is found. Prints what docs/devices.md quotes. Exit 77: no GPU here.
set -eu
cd "$(dirname "$0")/../.."
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || {
    echo "no NVIDIA GPU here"
    exit 77
}
# A machine without a package index goes on where .venv has what the tests need.
make -s library
.venv/bin/python -m pytest -q --collect-only tests/device/test_cuda_real.py >/dev/null 2>&1 || make -s setup
.venv/bin/python -m pytest -q -rs tests/device/test_cuda_real.py tests/integration/test_device_drivers.py -k cuda

python=
for candidate in "${PYTHON:-python3}" .venv/bin/python; do
    "$candidate" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null && python=$candidate && break
done
if [ -z "$python" ]; then
    echo "no Python with PyTorch and CUDA: the training loop is left out (set PYTHON=)"
    exit 0
fi
folder=$(mktemp -d)
endless=
trap '[ -z "$endless" ] || kill "$endless"; rm -rf "$folder"' EXIT

timed() { # of a command, in milliseconds: $span
    begin=$(date +%s%N)
    "$@"
    span=$((($(date +%s%N) - begin) / 1000000))
}

timed "$python" tests/device/train.py
plain=$span
timed .venv/bin/mem_profiler run -c 64K --device cuda -o "$folder/train" -- "$python" tests/device/train.py
echo "wall time: $plain ms without the sampler, $span ms with it"

"$python" tests/device/train.py endless >"$folder/endless" &
endless=$!
until grep -q training "$folder/endless"; do
    kill -0 "$endless"
    sleep 0.2
done
.venv/bin/mem_profiler -s 5 -c 64K --device cuda -o "$folder/attached" -p "$endless"

for file in "$folder"/*.heap; do
    echo "== $(basename "$file")"
    .venv/bin/mem_parser -f "$file" -t | head -30
done

#!/bin/sh
# Run the CUDA tests on a real GPU, driver and runtime, then a PyTorch training loop under the sampler
# where a Python with PyTorch is found. Prints what docs/devices.md quotes. Exit 77: no GPU here.
set -eu
cd "$(dirname "$0")/../.."
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || {
    echo "no NVIDIA GPU here"
    exit 77
}
make -s setup library
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
trap 'rm -rf "$folder"' EXIT
.venv/bin/mem_profiler run -c 64K --device cuda -o "$folder/train" -- "$python" tests/device/train.py
for file in "$folder"/train.*.heap; do
    echo "== $(basename "$file")"
    .venv/bin/mem_parser -f "$file" -t | head -30
done

#!/usr/bin/env bash
# Run every test that needs an NVIDIA GPU, each file in a process of its own, one after the other, as some of them time
# the card; a line for each file comes out, its log goes to OUT. Status 1 if one failed.
#   scripts/gpu_tests.sh OUT
# Variables: PADDLE_PYTHON, TORCH_PYTHON, PADDLE_ENV and QWEN_VL_OPS as for scripts/gpu_bench.sh.
# Where compute-sanitizer is installed, memcheck looks at the decode step's and the products' kernels as well.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONSAFEPATH  # python -m finds this repository's modules in this folder

out=$1
export QWEN_VL_OPS=${QWEN_VL_OPS:-$PWD/build/ops/gpu/libqwen_vl_ops.so}
export QWEN_VL_KERNELS=${QWEN_VL_KERNELS:-$(dirname "$QWEN_VL_OPS")/libqwen_vl_kernels.so}
export TORCH_PYTHON=${TORCH_PYTHON:-.venv/bin/python}
paddle=(env ${PADDLE_ENV:-} "${PADDLE_PYTHON:-.venv/bin/python}" -m pytest)
torch=("$TORCH_PYTHON" -m pytest --noconftest)  # tests of the kernels alone, in a process without Paddle
nothing_collected=5                             # pytest's status where a whole file is skipped
failed=()
mkdir -p "$out"

# NAME COMMAND …: its last line, its output in OUT/NAME.txt.
run() {
    local name=$1 status=0
    shift
    "$@" -q -p no:cacheprovider > "$out/$name.txt" 2>&1 || status=$?
    ((status == 0 || status == nothing_collected)) || failed+=("$name")
    printf '%-32s %s\n' "$name" "$(grep -E '[0-9]+ (passed|failed|skipped|error)' "$out/$name.txt" | tail -n 1)"
}

for file in $(grep -lF 'pytest.mark.gpu' tests/test_*.py tests/gpu/test_*.py tests/formats/*/test_*.py); do
    command=("${paddle[@]}")
    if grep -q '^need_gpu()' "$file"; then command=("${torch[@]}"); fi
    run "$(basename "$file" .py)" "${command[@]}" -m gpu "$file"
done
if command -v compute-sanitizer > /dev/null; then
    check=(compute-sanitizer --tool memcheck --error-exitcode 1 --kernel-name)
    run memcheck_decode "${check[@]}" kns=step_kernel "${torch[@]}" tests/gpu/test_decode_kernels.py \
        -k "two_steps and not wide"
    run memcheck_products "${check[@]}" kns=gemm_kernel "${torch[@]}" tests/formats/*/test_*_kernels.py \
        -k "tile_shapes and 1024-1000 and not 613"
fi
if ((${#failed[@]})); then
    echo "error: failed: ${failed[*]} (logs in $out)" >&2
    exit 1
fi

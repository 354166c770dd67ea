#!/usr/bin/env bash
# Check, export and measure the published geometry on one NVIDIA GPU; a short table comes last.
#   scripts/gpu_bench.sh OUT [bench options …]
# Variables: PADDLE_PYTHON, TORCH_PYTHON (interpreters with the packages), PADDLE_ENV ("NAME=value …" for the first),
# QWEN_VL_OPS (library that `make ops DEVICE=gpu` built), PRESET, DTYPE, WORK (fast disk or memory for 40 GB of weights;
# what is there is taken if it is what would be made, and made anew if not, beside the old for a while),
# GPU_TESTS=no (leaves out scripts/gpu_tests.sh, some three minutes; where a test fails, nothing is measured),
# SECONDS_AT_MOST (of measuring, 280): what is missing then is said. Options given here replace those below.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONSAFEPATH  # python -m finds this repository's modules in this folder

out=$1
shift
preset=${PRESET:-7b}
dtype=${DTYPE:-float16}
work=${WORK:-/dev/shm/qwen-vl}
export QWEN_VL_OPS=${QWEN_VL_OPS:-$PWD/build/ops/gpu/libqwen_vl_ops.so}
read -ra variables <<< "${PADDLE_ENV:-}"
paddle=(env "${variables[@]}" "${PADDLE_PYTHON:-.venv/bin/python}")
torch=${TORCH_PYTHON:-.venv/bin/python}
options=()
for variable in "${variables[@]}"; do
    options+=(--paddle-env "$variable")
done
cases=(--batches "1,2,4,8,16" --lengths "1,16,64,128,256" --case-budget 15 --budget 40
    --deadline "${SECONDS_AT_MOST:-280}")
mkdir -p "$out" "$work"

step() {
    echo "== $(date +%T) $*"
}

step "every operator against the CPU"
timeout 120 "${paddle[@]}" -m ops.selfcheck --device gpu 2>&1 | tee "$out/selfcheck.txt" ||
    echo "operators are wrong here: the arm that uses them will refuse to run"
step "checkpoint and graphs of preset $preset in $dtype"
asked=("${paddle[@]}" -m scripts.gpu_work "$work" --preset "$preset" --dtype "$dtype")
status=0
"${asked[@]}" || status=$?
if ((status == 3)); then  # core.errors.NO
    rm -f "$work/made.json"
    "$torch" -m export.synthetic --preset "$preset" --dtype "$dtype" "$work/checkpoint"
    "${paddle[@]}" -m export all "$work/checkpoint" "$work/exported" --dtype "$dtype" --impl fused
    "${asked[@]}" --record
elif ((status)); then
    exit "$status"
fi
if [[ ${GPU_TESTS:-yes} != no ]]; then
    step "tests that need a GPU"
    scripts/gpu_tests.sh "$out/tests"
fi
step "measure"
"$torch" -m bench run --checkpoint "$work/checkpoint" --exported-fused "$work/exported" --preset "$preset" \
    --dtype "$dtype" --device gpu --paddle-python "${PADDLE_PYTHON:-.venv/bin/python}" --torch-python "$torch" \
    "${options[@]}" --out "$out" "${cases[@]}" "$@"
step "done"

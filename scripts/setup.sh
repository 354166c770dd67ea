#!/usr/bin/env bash
# Make .venv from requirements.txt. Variables: PYTHON (interpreter to use), DEVICE (gpu: Paddle's GPU wheel and what
# requirements-gpu.txt lists), CXX.
#   scripts/setup.sh          make it, or bring it up to date; .venv/.ready is written last
#   scripts/setup.sh --check  print why it has to be made or brought up to date, or nothing
#   scripts/setup.sh --find   print the interpreter that would be used
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
ready=$venv/.ready            # "<python version> <cpu|gpu>" of a finished installation
installing=$venv/.installing  # there while packages are installed: an environment that has it is made anew
wanted="3.11 3.12"

fail() {
    echo "error: $*" >&2
    exit 1
}

version_of() {  # of an interpreter as "3.11"; nothing when it cannot be run
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

installed_wheel() {  # cpu, gpu, or nothing
    local found
    for found in "$venv"/lib/python3.*/site-packages/paddlepaddle*.dist-info; do
        case ${found##*/} in
            paddlepaddle_gpu-*) echo gpu ;;
            paddlepaddle-*) echo cpu ;;
        esac
    done
}

wheel_wanted() {  # DEVICE=gpu asks for the GPU wheel; otherwise what is installed stays (it runs on the CPU as well)
    if [[ ${DEVICE:-auto} == gpu ]]; then echo gpu; else installed_wheel | grep . || echo cpu; fi
}

check() {
    local has version
    if [[ ! -e $ready || requirements.txt -nt $ready || requirements-gpu.txt -nt $ready || scripts/setup.sh -nt $ready ]]; then
        echo "$ready is missing or old"
        return
    fi
    has=$(<"$ready")
    version=$(version_of "$venv/bin/python")
    if [[ $has != "$version $(wheel_wanted)" ]]; then
        echo "$ready says $has"
    elif [[ -n ${PYTHON:-} && $(version_of "$PYTHON") != "$version" ]]; then
        echo "PYTHON is another version"
    fi
}

find_python() {
    local candidate version without_venv=""
    for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
        version=$(version_of "$candidate")
        if [[ -z $version || " $wanted " != *" $version "* ]]; then
            [[ -z ${PYTHON:-} ]] || fail "PYTHON=$PYTHON is ${version:-no interpreter that runs}: 3.11 or 3.12 is needed"
        elif "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            command -v "$candidate"
            return
        else
            without_venv=$version
        fi
    done
    [[ -z $without_venv ]] ||
        fail "Python $without_venv cannot make environments: apt install python3-venv (or python$without_venv-venv)"
    fail "no Python 3.11 or 3.12 found: apt install python3.11-venv (or python3.12-venv), or set PYTHON= to one"
}

make_environment() {
    local python version
    version=$(version_of "$venv/bin/python")
    if [[ -e $installing || -z $version || " $wanted " != *" $version "* ]] ||
        [[ -n ${PYTHON:-} && $(version_of "$PYTHON") != "$version" ]]; then
        python=$(find_python)
        echo "making $venv with $python (Python $(version_of "$python"))"
        "$python" -m venv --clear "$venv" || fail "$python could not make $venv: apt install python3-venv"
    fi
}

in_environment() {  # a module of this repository
    PYTHONPATH=. "$venv/bin/python" -m "$@"
}

install() {
    local wheel requirements=requirements.txt
    wheel=$(wheel_wanted)
    if [[ ${DEVICE:-auto} == gpu ]]; then in_environment ops.cuda_libraries --driver; fi
    touch "$installing"
    if [[ $wheel == gpu ]]; then
        requirements=$venv/requirements-gpu.txt
        # a build of torch for the CPU has the same version with "+cpu" behind it
        sed -E 's/^paddlepaddle==/paddlepaddle-gpu==/; s/^torch==([^ ]+)/&,!=\1+cpu/' \
            requirements.txt requirements-gpu.txt > "$requirements"
    fi
    if [[ -n $(installed_wheel) && $(installed_wheel) != "$wheel" ]]; then
        in_environment core.pip uninstall --yes paddlepaddle paddlepaddle-gpu
    fi
    echo "installing $requirements into $venv (several GB; minutes the first time)"
    in_environment core.pip install --requirement "$requirements" |
        { grep --line-buffered -v '^Requirement already satisfied' || true; } ||
        fail "pip could not install $requirements (its message is above); make setup tries again"
    rm "$installing"
}

# One set-up at a time: another one waits for its end, and what pip has left running counts as one too.
alone() {
    flock --nonblock 9 && return
    echo "another make is setting up $venv: waiting for it"
    flock 9
    [[ -n $(check) ]]
}

setup() {
    exec 9< scripts/setup.sh
    alone || return 0
    rm -f "$ready"
    make_environment
    in_environment ops.compiler > /dev/null  # what is missing is better known before gigabytes are fetched
    install
    "$venv/bin/python" -c 'import zlib, paddle' > /dev/null 2> "$venv/import.log" ||
        fail "Paddle is installed but cannot be imported: $(tail -n 1 "$venv/import.log")"
    echo "$(version_of "$venv/bin/python") $(installed_wheel)" > "$ready"
}

shown() {  # standard input, as long as somebody reads the output; a reader that leaves (| head) ends no installation
    trap '' PIPE
    cat 2> /dev/null || cat > /dev/null
}

case ${1:-} in
    --check) check ;;
    --find) find_python ;;
    *) setup | shown ;;
esac

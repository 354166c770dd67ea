#!/usr/bin/env bash
# Make .venv from requirements.txt or, with Paddle 3, requirements-3.txt. Variables: PYTHON (interpreter to use), PADDLE
# (2.6 or 3; without it, what .venv has, else 2.6 where the interpreter allows it), DEVICE (gpu: Paddle's GPU wheel and
# what requirements-gpu.txt lists), CXX.
#   scripts/setup.sh          make it, or bring it up to date; .venv/.ready is written last
#   scripts/setup.sh --check  print why it has to be made or brought up to date, or nothing
#   scripts/setup.sh --find   print the interpreter that would be used
#   scripts/setup.sh --pins   print the name of the file of requirements that would be used
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
ready=$venv/.ready            # "<python version> <cpu|gpu> <2.6|3>" of a finished installation
installing=$venv/.installing  # there while packages are installed: an environment that has it is made anew
for_paddle_2="3.11 3.12"
for_paddle_3="3.11 3.12 3.13"

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

installed_paddle() {  # 2.6, 3, or nothing
    local found
    for found in "$venv"/lib/python3.*/site-packages/paddlepaddle*.dist-info; do
        case ${found##*/} in
            paddlepaddle*-3.*) echo 3 ;;
            paddlepaddle*-[0-9]*) echo 2.6 ;;
        esac
    done
}

paddle_wanted() {  # of the Python version $1, without which that of .venv decides
    local version=${1:-$(version_of "$venv/bin/python")}
    [[ -n $version ]] || version=$(version_of "$(find_python 2> /dev/null)")
    if [[ -n ${PADDLE:-} ]]; then
        echo "$PADDLE"
    elif [[ -z ${1:-} ]] && installed_paddle | grep .; then
        return
    elif [[ " $for_paddle_2 " == *" ${version:-3.11} "* ]]; then
        echo 2.6
    else
        echo 3
    fi
}

fits() {  # whether a Python version can have the Paddle that is wanted
    local versions=$for_paddle_3
    [[ ${PADDLE:-} != 2.6 ]] || versions=$for_paddle_2
    [[ -n $1 && " $versions " == *" $1 "* ]]
}

pins() {
    if [[ $(paddle_wanted) == 3 ]]; then echo requirements-3.txt; else echo requirements.txt; fi
}

wheel_wanted() {  # DEVICE=gpu asks for the GPU wheel; otherwise what is installed stays (it runs on the CPU as well)
    if [[ ${DEVICE:-auto} == gpu ]]; then echo gpu; else installed_wheel | grep . || echo cpu; fi
}

check() {
    local has version file
    for file in requirements*.txt scripts/setup.sh; do
        if [[ ! -e $ready || $file -nt $ready ]]; then
            echo "$ready is missing or old"
            return
        fi
    done
    has=$(<"$ready")
    version=$(version_of "$venv/bin/python")
    if [[ $has != "$version $(wheel_wanted) $(paddle_wanted)" ]]; then
        echo "$ready says $has"
    elif [[ -n ${PYTHON:-} && $(version_of "$PYTHON") != "$version" ]]; then
        echo "PYTHON is another version"
    fi
}

find_python() {
    local candidate version without_venv="" needed="3.11, 3.12 or 3.13"
    local way="such as \`uv python install 3.12\` brings (pipx install uv)"
    [[ ${PADDLE:-} != 2.6 ]] || needed="3.11 or 3.12"
    needed+="${PADDLE:+ for PADDLE=$PADDLE}"
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.13}; do
        version=$(version_of "$candidate")
        if ! fits "$version"; then
            [[ -z ${PYTHON:-} ]] ||
                fail "PYTHON=$PYTHON is ${version:-no interpreter that runs}: Python $needed is what works, $way"
        elif "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            command -v "$candidate"
            return
        else
            without_venv=$version
        fi
    done
    [[ -z $without_venv ]] ||
        fail "Python $without_venv cannot make environments: apt install python3-venv (or python$without_venv-venv)"
    fail "no Python $needed found: apt install python3.11-venv (or python3.12-venv)," \
        "or set PYTHON= to one, $way"
}

make_environment() {
    local python version
    version=$(version_of "$venv/bin/python")
    if [[ -e $installing ]] || ! fits "$version" || [[ -n ${PYTHON:-} && $(version_of "$PYTHON") != "$version" ]] ||
        [[ -n $(installed_paddle) && $(installed_paddle) != "$(paddle_wanted)" ]]; then
        python=$(find_python)
        version=$(version_of "$python")
        echo "making $venv with $python (Python $version, Paddle $(paddle_wanted "$version"))"
        "$python" -m venv --clear "$venv" || fail "$python could not make $venv: apt install python3-venv"
    fi
}

in_environment() {  # a module of this repository
    PYTHONPATH=. "$venv/bin/python" -m "$@"
}

install() {
    local wheel requirements remedy="its message is above"
    wheel=$(wheel_wanted) requirements=$(pins)
    if [[ ${DEVICE:-auto} == gpu ]]; then in_environment ops.cuda_libraries --driver; fi
    touch "$installing"
    if [[ $wheel == gpu ]]; then
        if [[ $requirements == requirements-3.txt ]]; then
            remedy="PyPI has no GPU wheel of Paddle 3: set PIP_EXTRA_INDEX_URL to the index that Paddle's installation"
            remedy+=" page names for the driver's CUDA, or PIP_FIND_LINKS to the folder of the wheel's file"
        fi
        # a build of torch for the CPU has the same version with "+cpu" behind it
        sed -E '/^-r /d; s/^paddlepaddle==/paddlepaddle-gpu==/; s/^torch==([^ ]+)/&,!=\1+cpu/' \
            requirements-common.txt "$requirements" requirements-gpu.txt > "$venv/requirements-gpu.txt"
        requirements=$venv/requirements-gpu.txt
    fi
    if [[ -n $(installed_wheel) && $(installed_wheel) != "$wheel" ]]; then
        in_environment core.pip uninstall --yes paddlepaddle paddlepaddle-gpu
    fi
    echo "installing $requirements into $venv (several GB; minutes the first time)"
    in_environment core.pip install --requirement "$requirements" |
        { grep --line-buffered -v '^Requirement already satisfied' || true; } ||
        fail "pip could not install $requirements ($remedy); make setup tries again"
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
    echo "$(version_of "$venv/bin/python") $(installed_wheel) $(installed_paddle)" > "$ready"
}

shown() {  # standard input, as long as somebody reads the output; a reader that leaves (| head) ends no installation
    trap '' PIPE
    cat 2> /dev/null || cat > /dev/null
}

case ${1:-} in
    --check) check ;;
    --find) find_python ;;
    --pins) pins ;;
    *) setup | shown ;;
esac

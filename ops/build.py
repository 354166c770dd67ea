"""Build the operator library: `python -m ops.build [--out build/ops/cpu]`.

Compiler and linker flags come from the installed Paddle wheel's extension tooling; ninja compiles in parallel and
only what changed, headers included.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zlib  # noqa: F401  before paddle
from pathlib import Path

from core.errors import UserError, run_cli

ROOT = Path(__file__).resolve().parent.parent
BINDINGS = ROOT / "ops" / "paddle"
NAME = "libqwen_vl_ops.so"


def sources():
    """Every file that the CPU library is made of, headers included, sorted."""
    return sorted(p for p in BINDINGS.rglob("*") if p.suffix in (".cc", ".h"))


def source_version():
    """A short hash of the sources: what manifests and the library carry as the operators' version."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def ninja_file(march):
    """The build description for ninja, as text."""
    import paddle

    include, libraries = Path(paddle.sysconfig.get_include()), Path(paddle.sysconfig.get_lib())
    lines = [
        f"compiler = {os.environ.get('CXX', 'g++')}",
        f"common = -std=c++17 -fPIC -Wall -fopenmp -I{ROOT}",
        "binding = -O2 -DPADDLE_NO_PYTHON -D_GLIBCXX_USE_CXX11_ABI=1"
        f" -isystem {include} -isystem {include / 'third_party'}",
        f"kernel = -O3 -march={march} -fno-math-errno -fno-trapping-math",
        "rule compile",
        "  command = $compiler $common $flags -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = compile $in",
        "rule link",  # with Paddle's OpenMP runtime: a second one would fight it for the cores
        f"  command = $compiler -shared -o $out $in -L{libraries} -L{include.parent / 'base'}"
        " -l:libpaddle.so -l:libdnnl.so.3 -l:libiomp5.so",
        "  description = link $out",
    ]
    objects = []
    for source in sources():
        if source.suffix != ".cc":
            continue
        inside = source.relative_to(BINDINGS)
        name = inside.with_suffix(".o").as_posix().replace("/", ".")
        lines += [f"build {name}: compile {source}", f"  flags = {'$kernel' if 'cpu' in inside.parts else '$binding'}"]
        if source.stem == "version":
            lines[-1] += f" '-DQWEN_VL_OPS_VERSION=\"{source_version()}\"'"
        objects.append(name)
    return "\n".join([*lines, f"build {NAME}: link {' '.join(objects)}", f"default {NAME}", ""])


def check_compiler():
    """Raise UserError unless a C++17 compiler and ninja can be run."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise UserError(f"no C++ compiler ({compiler}): apt install g++")
    version = subprocess.run([compiler, "-dumpversion"], capture_output=True, text=True).stdout.strip()
    major = version.split(".")[0]
    if Path(compiler).name.startswith("g++") and major.isdigit() and int(major) < 9:
        raise UserError(f"{compiler} {version} is too old for Paddle's headers: apt install g++-12 and set CXX=g++-12")


def build(out, march):
    """Compile and link into the folder `out`; only what changed is compiled. Returns the library's path."""
    check_compiler()
    import ninja

    out.mkdir(parents=True, exist_ok=True)
    text = ninja_file(march)
    description = out / "build.ninja"
    if not description.exists() or description.read_text() != text:
        description.write_text(text)
    jobs = str(len(os.sched_getaffinity(0)))
    done = subprocess.run([Path(ninja.BIN_DIR) / "ninja", "-C", out, "-j", jobs])
    if done.returncode != 0:
        raise UserError(f"building the operators failed (see the compiler's message above; folder {out})")
    return out / NAME


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "ops" / "cpu")
    parser.add_argument("--march", default="native", help="processor to compile for (g++ -march)")
    parser.add_argument("--print-version", action="store_true", help="print the sources' version and do nothing else")
    args = parser.parse_args()
    if args.print_version:
        print(source_version())
    else:
        print(build(args.out.resolve(), args.march))


if __name__ == "__main__":
    sys.exit(run_cli(main))

"""Build the operator library: `python -m ops.build [--device cpu|gpu|kernels] [--out build/ops/cpu]`.

ninja compiles in parallel and only what changed, headers included. `gpu` needs Paddle's GPU wheel and nvcc, but no
GPU, and also leaves the kernels alone as libqwen_vl_kernels.so; `kernels` makes only that and needs no Paddle.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from core.errors import UserError, run_cli
from ops import toolchain

ROOT = Path(__file__).resolve().parent.parent
BINDINGS, KERNELS = ROOT / "ops" / "paddle", ROOT / "ops" / "kernels"
NAME, KERNELS_NAME = "libqwen_vl_ops.so", "libqwen_vl_kernels.so"


def sources(folder, *suffixes):
    """The files of a folder with one of the suffixes, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix in suffixes)


def source_version():
    """A short hash of all sources: what manifests and the library carry as the operators' version."""
    digest = hashlib.sha256()
    for path in sources(BINDINGS, ".cc", ".h") + sources(KERNELS, ".cu", ".cuh", ".h"):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def rule_lines(march, compiler, cuda=None):
    """The rules `compile` (with $flags), `link` (with $libraries) and, with `cuda`, `device`, as lines for ninja."""
    lines = [
        f"compiler = {compiler}",
        f"common = -std=c++17 -fPIC -Wall -fopenmp -I{ROOT}",
        f"kernel = -O3 -march={march} -fno-math-errno -fno-trapping-math",
        "rule compile",
        "  command = $compiler $common $flags -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = compile $in",
        "rule link",
        "  command = $compiler -shared -o $out $in $libraries",
        "  description = link $out",
    ]
    if cuda is not None:
        codes = " ".join(f"-gencode arch=compute_{a},code=sm_{a}" for a in cuda.architectures)
        lines += [
            f"nvcc = {cuda.nvcc} -ccbin {compiler} -std=c++17 -O3 -I{ROOT} -Xcompiler -fPIC {codes}"
            f" {' '.join(f'-isystem {path}' for path in cuda.includes)}",
            "rule device",
            "  command = $nvcc -MMD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
            "  description = nvcc $in",
        ]
    return lines


def binding_flags(paddle, cuda=None):
    """Compiler flags of a source that includes Paddle's headers."""
    include = paddle.package / "include"
    flags = ["-O2", "-DPADDLE_NO_PYTHON", "-D_GLIBCXX_USE_CXX11_ABI=1", f"-isystem {include}",
             f"-isystem {include / 'third_party'}"]
    if cuda is not None:
        flags += ["-DPADDLE_WITH_CUDA", *(f"-isystem {path}" for path in cuda.includes)]
    return flags


def paddle_libraries(paddle, cuda=None):
    """Linker flags of Paddle's own libraries."""
    libraries = [f"-L{paddle.package / 'libs'}", f"-L{paddle.package / 'base'}", "-l:libpaddle.so"]
    if cuda is not None:
        libraries.append("-l:libphi.so")
    # libiomp5 is Paddle's OpenMP runtime: a second one would fight it for the cores
    return [*libraries, "-l:libiomp5.so"]


def runtime_libraries(cuda=None):
    """Linker flags of the CUDA runtime, none without CUDA."""
    return [f"-L{cuda.runtime}", "-l:libcudart_static.a", "-ldl", "-lrt", "-lpthread"] if cuda is not None else []


def ninja_file(march, compiler, paddle=None, cuda=None):
    """The build description for ninja, as text: the operator library over `paddle`, with CUDA kernels if `cuda` is
    given; without `paddle` the kernels alone."""
    lines, device_objects = rule_lines(march, compiler, cuda), []
    runtime = runtime_libraries(cuda)
    if cuda is not None:
        for source in sources(KERNELS, ".cu"):
            device_objects.append(f"kernels.{source.stem}.o")
            lines.append(f"build {device_objects[-1]}: device {source}")
        lines += [f"build {KERNELS_NAME}: link {' '.join(device_objects)}", f"  libraries = {' '.join(runtime)}"]
    if paddle is not None:
        lines += _operator_lines(paddle, cuda, device_objects, runtime)
    return "\n".join([*lines, ""])


def _operator_lines(paddle, cuda, device_objects, runtime):
    """Bindings, CPU kernels and the operator library itself."""
    libraries = [*paddle_libraries(paddle, cuda), "-l:libdnnl.so.3", *runtime]
    lines, objects = [], []
    for source in sources(BINDINGS, ".cc"):
        inside = source.relative_to(BINDINGS)
        objects.append(inside.with_suffix(".o").as_posix().replace("/", "."))
        lines += [f"build {objects[-1]}: compile {source}",
                  f"  flags = {'$kernel' if 'cpu' in inside.parts else ' '.join(binding_flags(paddle, cuda))}"]
        if source.stem == "version":
            lines[-1] += f" '-DQWEN_VL_OPS_VERSION=\"{source_version()}\"'"
    return [*lines, f"build {NAME}: link {' '.join(objects + device_objects)}",
            f"  libraries = {' '.join(libraries)}"]


def run_ninja(text, out):
    """Build in folder `out` what the description `text` says; raises UserError if that fails."""
    try:
        import ninja
    except ImportError:
        raise UserError(f"{sys.executable} has no ninja: {sys.executable} -m pip install ninja") from None

    out.mkdir(parents=True, exist_ok=True)
    description = out / "build.ninja"
    if not description.exists() or description.read_text() != text:
        description.write_text(text)
    jobs = str(len(os.sched_getaffinity(0)))
    done = subprocess.run([Path(ninja.BIN_DIR) / "ninja", "-C", out, "-j", jobs],
                          restore_signals=False)  # SIGPIPE stays ignored: a reader that leaves ends no build
    if done.returncode != 0:
        raise UserError(f"building the operators failed (see the compiler's message above; folder {out})")


def build(device, out, march="native", architectures=""):
    """Compile and link into the folder `out`; only what changed is compiled. Returns the library's path.

    device: "cpu", "gpu", or "kernels" for the CUDA kernels without any framework.
    """
    compiler, paddle, cuda = toolchain.compiler(), None, None
    if device != "kernels":
        paddle = toolchain.paddle()
    if device == "gpu" and not paddle.gpu:
        raise UserError(f"{paddle.package} is Paddle's CPU wheel: run `make setup DEVICE=gpu` first")
    if device != "cpu":
        cuda = toolchain.cuda(architectures)
        left_out = "90" in cuda.architectures and cuda.version < toolchain.OLDEST_CUDA_FOR_90A
        print(f"kernels for {' '.join(f'sm_{a}' for a in cuda.architectures)}, CUDA {'.'.join(map(str, cuda.version))}"
              + " (without those of sm_90a, which need CUDA 12 or newer)" * left_out, flush=True)
    run_ninja(ninja_file(march, compiler, paddle, cuda), out)
    return out / (KERNELS_NAME if paddle is None else NAME)


def command_line(description, build, devices, folder):
    """Run `build(device, out, march, architectures)` as the command line says and print what it returns.

    devices: what --device may be, the default first; folder: where --out lies by default, a folder per device.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=devices, default=devices[0])
    parser.add_argument("--out", type=Path, help=f"folder, default {folder.relative_to(ROOT)}/<device>")
    parser.add_argument("--march", default="native", help="processor to compile for (g++ -march)")
    parser.add_argument("--cuda-archs", default=os.environ.get("CUDA_ARCHS", ""), help='for example "80 90a"')
    args = parser.parse_args()
    print(build(args.device, (args.out or folder / args.device).resolve(), args.march, args.cuda_archs))


def main():
    command_line(__doc__, build, ["cpu", "gpu", "kernels"], ROOT / "build" / "ops")


if __name__ == "__main__":
    run_cli(main)

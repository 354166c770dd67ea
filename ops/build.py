"""Build the operator library: `python -m ops.build [--device cpu|gpu|kernels] [--out build/ops/cpu]`.

ninja compiles in parallel and only what changed, headers included. `gpu` needs Paddle's GPU wheel and nvcc, but no
GPU, and also leaves the kernels alone as libqwen_vl_kernels.so; `kernels` makes only that and needs no Paddle.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from core.errors import UserError, run_cli
from ops import compiler, target, toolchain

ROOT = Path(__file__).resolve().parent.parent
BINDINGS, KERNELS, FORMATS = (ROOT / "ops" / name for name in ("paddle", "kernels", "formats"))
NAME, KERNELS_NAME = "libqwen_vl_ops.so", "libqwen_vl_kernels.so"
FLAGS = "-std=c++17 -fPIC -Wall -fopenmp"                      # of every source
BINDING_FLAGS = "-O2 -DPADDLE_NO_PYTHON -D_GLIBCXX_USE_CXX11_ABI=1"
KERNEL_FLAGS = "-O3 -fno-math-errno -fno-trapping-math"        # of CPU kernels, with -march
DEVICE_FLAGS = "-std=c++17 -O3 -Xcompiler=-fPIC"               # of CUDA sources, by nvcc
READ_BY_COMPILERS = ("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH",
                     "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS")
DESCRIPTION = "built_for.cc"


def sources(folder, *suffixes):
    """The files of a folder with one of the suffixes, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix in suffixes)


def digest(files=(), text=""):
    """A short hash of a text and of files, their names included."""
    hasher = hashlib.sha256(text.encode())
    for path in files:
        hasher.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()[:12]


def source_version():
    """A short hash of all sources: what manifests and the library carry as the operators' version."""
    return digest(sources(BINDINGS, ".cc", ".h") + sources(KERNELS, ".cu", ".cuh", ".h")
                  + sources(FORMATS, ".cu", ".cuh", ".h"))


def describe(version, march, cxx, paddle=None, cuda=None):
    """What a library of sources `version` is built for: the dict that ops.target reads from it, in JSON's types.

    Another one means another library. `instructions` is what the code may use; `cpu` what the CPU has that it is built
    on, which matters for march "native" alone: the code serves CPUs that have the same.
    """
    instructions, here = cxx.instruction_sets(march), target.cpu()
    if march == "native":  # the kernel may not list what a compiler knows: that cannot be compared later
        instructions = [name for name in instructions if name in here]
    return {
        "sources": version, "march": march, "instructions": instructions, "cpu": here if march == "native" else [],
        "compiler": f"{cxx}: {cxx.version}", "flags": [FLAGS, BINDING_FLAGS, KERNEL_FLAGS, DEVICE_FLAGS],
        "environment": {name: os.environ[name] for name in READ_BY_COMPILERS if os.environ.get(name)},
        "paddle": paddle and paddle.wheel, "cuda": cuda and ".".join(map(str, cuda.version)),
        "architectures": list(cuda.architectures) if cuda else [], "ptx": cuda and cuda.ptx}


def _seed(description, *names):
    """An option that changes no code. It makes commands of what they do not show (the compiler's version, the CPU that
    "native" means), so that ninja compiles again when that changes, and ccache takes no other CPU's code for it."""
    return f"-frandom-seed={digest(text=json.dumps([description[name] for name in names]))}"


def _word(value):
    """A word of a command, as ninja hands it to the shell."""
    return shlex.quote(str(value)).replace("$", "$$")


def place(path):
    """A file's name, as ninja reads it."""
    return re.sub(r"([$ :])", r"$\1", str(path))


def object_of(source):
    """The name of the object that a source is compiled to."""
    return source.relative_to(ROOT / "ops").with_suffix(".o").as_posix().replace("/", ".")


def rule_lines(description, cxx, cuda=None):
    """The rules `compile` (with $flags), `link` (with $libraries) and, with `cuda`, `device`, as lines for ninja; and
    the object that holds `description`."""
    command = " ".join(map(_word, cxx.words))
    lines = [
        f"compiler = {command}",
        f"common = {FLAGS} {_seed(description, 'compiler', 'instructions', 'environment')} {_word(f'-I{ROOT}')}",
        f"kernel = {KERNEL_FLAGS} {_word('-march=' + description['march'])}",
        "rule compile",
        "  command = $compiler $common $flags -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = compile $in",
        "rule link",
        "  command = $compiler -shared -o $out $in $libraries",
        "  description = link $out",
        f"build built_for.o: compile {DESCRIPTION}",
    ]
    if cuda is not None:
        codes = [f"-gencode arch=compute_{a},code=sm_{a}" for a in cuda.architectures]
        codes.append(f"-gencode arch=compute_{cuda.ptx},code=compute_{cuda.ptx}")
        words = [cuda.nvcc, *cxx.as_host, f"-I{ROOT}", *(word for path in cuda.includes for word in ("-isystem", path))]
        lines += [
            f"nvcc = {' '.join(map(_word, words))} {DEVICE_FLAGS}"
            f" -Xcompiler={_seed(description, 'compiler', 'cuda', 'environment')} {' '.join(codes)}",
            "rule device",
            "  command = $nvcc -MMD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
            "  description = nvcc $in",
        ]
    return lines


def binding_flags(paddle, cuda=None):
    """Compiler flags of a source that includes Paddle's headers."""
    include = paddle.include
    folders = [include, include / "third_party", *(cuda.includes if cuda is not None else ())]
    return " ".join([BINDING_FLAGS, *["-DPADDLE_WITH_CUDA"] * (cuda is not None),
                     *(f"-isystem {_word(folder)}" for folder in folders)])


def paddle_libraries(paddle, cuda=None):
    """Linker flags of Paddle's own libraries."""
    libraries = [*(_word(f"-L{paddle.package / folder}") for folder in ("libs", "base")), "-l:libpaddle.so"]
    if cuda is not None:
        libraries.append("-l:libphi.so")
    # libiomp5 is Paddle's OpenMP runtime: a second one would fight it for the cores
    return [*libraries, "-l:libiomp5.so"]


def runtime_libraries(cuda=None):
    """Linker flags of the CUDA runtime, none without CUDA."""
    if cuda is None:
        return []
    return [_word(f"-L{cuda.runtime}"), "-l:libcudart_static.a", "-ldl", "-lrt", "-lpthread"]


def ninja_file(description, cxx, paddle=None, cuda=None):
    """The build description for ninja, as text: the operator library over `paddle`, with CUDA kernels if `cuda` is
    given; without `paddle` the kernels alone."""
    lines, device_objects = rule_lines(description, cxx, cuda), ["built_for.o"]
    runtime = runtime_libraries(cuda)
    if cuda is not None:
        for source in sources(KERNELS, ".cu") + sources(FORMATS, ".cu"):
            device_objects.append(object_of(source))
            lines.append(f"build {device_objects[-1]}: device {place(source)}")
        lines += [f"build {KERNELS_NAME}: link {' '.join(device_objects)}", f"  libraries = {' '.join(runtime)}"]
    if paddle is not None:
        lines += _operator_lines(paddle, cuda, device_objects, runtime)
    return "\n".join([*lines, ""])


def _operator_lines(paddle, cuda, device_objects, runtime):
    """Bindings, CPU kernels and the operator library itself."""
    libraries = [*paddle_libraries(paddle, cuda), "-l:libdnnl.so.3", *runtime]
    lines, objects = [], []
    for source in sources(BINDINGS, ".cc"):
        objects.append(object_of(source))
        lines += [f"build {objects[-1]}: compile {place(source)}",
                  f"  flags = {'$kernel' if source.parent.name == 'cpu' else binding_flags(paddle, cuda)}"]
    return [*lines, f"build {NAME}: link {' '.join(objects + device_objects)}",
            f"  libraries = {' '.join(libraries)}"]


def run_ninja(text, description, out):
    """Build in folder `out` what ninja's file `text` says, with `description`; raises UserError if that fails."""
    try:
        import ninja
    except ImportError:
        raise UserError(f"{sys.executable} has no ninja: {sys.executable} -m pip install ninja") from None

    built_for = (f'__attribute__((used)) static const char built_for[] =\n    "{target.MARK.decode()}"\n'
                 f'    R"built_for({json.dumps(description)})built_for";\n')
    out.mkdir(parents=True, exist_ok=True)
    for name, content in (("build.ninja", text), (DESCRIPTION, built_for)):
        if not (out / name).is_file() or (out / name).read_text(encoding="utf-8") != content:
            (out / name).write_text(content, encoding="utf-8")
    jobs = str(len(os.sched_getaffinity(0)))
    done = subprocess.run([Path(ninja.BIN_DIR) / "ninja", "-C", out, "-j", jobs],
                          restore_signals=False)  # SIGPIPE stays ignored: a reader that leaves ends no build
    if done.returncode != 0:
        raise UserError(f"building the operators failed (see the compiler's message above; folder {out})")


def march_wanted():
    """What to compile for unless the command line says: the variable MARCH, else this machine's CPU."""
    return os.environ.get("MARCH") or "native"


def plan(device, march="native", architectures=""):
    """(what the library is built for, Compiler, Paddle or None, Cuda or None) here and now; raises UserError.

    device: "cpu", "gpu", or "kernels" for the CUDA kernels without any framework.
    """
    cxx, paddle, cuda = compiler.find(), None, None
    if device != "kernels":
        paddle = toolchain.paddle()
    if device == "gpu" and not paddle.gpu:
        raise UserError(f"{paddle.package} is Paddle's CPU wheel: run `make setup DEVICE=gpu` first")
    if device != "cpu":
        cuda = toolchain.cuda(architectures)
    return describe(source_version(), march, cxx, paddle, cuda), cxx, paddle, cuda


def build(device, out, march="native", architectures=""):
    """Compile and link into the folder `out`; only what changed is compiled. Returns the library's path.

    device: as for `plan`.
    """
    description, cxx, paddle, cuda = plan(device, march, architectures)
    if cuda is not None:
        left_out = "90" in cuda.architectures and cuda.version < toolchain.OLDEST_CUDA_FOR_90A
        print(f"kernels for {' '.join(f'sm_{a}' for a in cuda.architectures)}, CUDA {'.'.join(map(str, cuda.version))}"
              + " (without those of sm_90a, which need CUDA 12 or newer)" * left_out, flush=True)
    run_ninja(ninja_file(description, cxx, paddle, cuda), description, out)
    return out / (KERNELS_NAME if paddle is None else NAME)


def command_line(description, build, devices, folder):
    """Run `build(device, out, march, architectures)` as the command line says and print what it returns.

    devices: what --device may be, the default first; folder: where --out lies by default, a folder per device.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=devices, default=devices[0])
    parser.add_argument("--out", type=Path, help=f"folder, default {folder.relative_to(ROOT)}/<device>")
    parser.add_argument("--march", default=march_wanted(), help="processor to compile for (g++ -march), default $MARCH")
    parser.add_argument("--cuda-archs", default=os.environ.get("CUDA_ARCHS", ""), help='for example "80 90a"')
    args = parser.parse_args()
    print(build(args.device, (args.out or folder / args.device).resolve(), args.march, args.cuda_archs))


def main():
    command_line(__doc__, build, ["cpu", "gpu", "kernels"], ROOT / "build" / "ops")


if __name__ == "__main__":
    run_cli(main)

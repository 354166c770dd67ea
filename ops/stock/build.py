"""Build the packages paddlenlp_ops and fused_ln: `python -m ops.stock.build [--device auto|cpu|gpu] [--out DIR]`.

DIR/packages is then a project that pip installs, and a folder for PYTHONPATH. `auto` builds CUDA kernels where Paddle's
GPU wheel and nvcc are found, else kernels for the CPU alone. Nothing is done when DIR is up to date.
"""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

from core.errors import NotHere, UserError, run_cli
from core.files import atomic_dir
from ops import build as operators
from ops import compiler, target, toolchain

BINDINGS, KERNELS, PACKAGES = (operators.ROOT / "ops" / "stock" / name for name in ("bindings", "kernels", "packages"))
LIBRARY = "libpaddlenlp_ops.so"
PADDLE_VERSION, PADDLENLP_VERSION = "2.6.2", "2.8.1"
HEADERS = (("cuda_runtime_api.h", "nvidia-cuda-runtime"), ("thrust/complex.h", "nvidia-cuda-cccl"))
WRAPPERS = "import sys; from ops.framework.operators import wrappers; print(wrappers(sys.argv[1]))"


def check_versions(paddle):
    """Raise UserError unless the wheels are those that the packages serve, NotHere for another Paddle."""
    if paddle.version != PADDLE_VERSION:
        raise NotHere(f"paddlenlp_ops and the stock pipeline are for Paddle {PADDLE_VERSION}, {paddle.package} is "
                      f"{paddle.version}: make setup PADDLE=2.6")
    try:
        installed = importlib.metadata.version("paddlenlp")
    except importlib.metadata.PackageNotFoundError:
        return  # it may come later
    if installed != PADDLENLP_VERSION:
        raise UserError(f"paddlenlp {installed} is installed, paddlenlp_ops is for {PADDLENLP_VERSION}: "
                        f"pip install paddlenlp=={PADDLENLP_VERSION}")


def find_cuda(device, paddle, architectures):
    """(toolkit, why there is none): the toolkit to build CUDA kernels with, or None for the CPU alone.

    Raises UserError when `device` is "gpu" and it cannot be.
    """
    if device == "cpu":
        return None, "DEVICE=cpu"
    if device == "auto" and not paddle.gpu:
        return None, "Paddle's CPU wheel is installed"
    if not paddle.gpu:
        raise UserError(f"{paddle.package} is Paddle's CPU wheel: run `make setup DEVICE=gpu` first")
    if device == "auto" and toolchain.find_nvcc() is None:
        return None, "no nvcc: make setup DEVICE=gpu brings it"
    return toolchain.cuda(architectures, HEADERS), None


def source_version():
    """Version of the packages' sources: paddlenlp's, and a short hash of the sources."""
    shared = [*(operators.KERNELS / "common" / name for name in ("arguments.h", "vector.cuh")),
              operators.BINDINGS / "checks.h", Path(target.__file__), Path(__file__)]
    return f"{PADDLENLP_VERSION}+" + operators.digest([
        *operators.sources(BINDINGS, ".cc", ".h"), *operators.sources(KERNELS, ".cu", ".h"),
        *operators.sources(PACKAGES, ".py", ".toml"), *shared])


def version(description):
    """Version of the packages: paddlenlp's, and a short hash of the sources and of what they are built for."""
    return f"{PADDLENLP_VERSION}+{operators.digest(text=json.dumps(description))}"


def ninja_file(description, cxx, paddle, cuda):
    """The build description for ninja, as text."""
    lines, objects = operators.rule_lines(description, cxx, cuda), ["built_for.o"]
    for source in operators.sources(BINDINGS, ".cc"):
        objects.append(f"{source.stem}.o")
        lines += [f"build {objects[-1]}: compile {operators.place(source)}",
                  f"  flags = $kernel {operators.binding_flags(paddle, cuda)}"]
    for source in operators.sources(KERNELS, ".cu") if cuda else []:
        objects.append(f"{source.stem}.cu.o")
        lines.append(f"build {objects[-1]}: device {operators.place(source)}")
    libraries = [*operators.paddle_libraries(paddle, cuda), *operators.runtime_libraries(cuda)]
    return "\n".join([*lines, f"build {LIBRARY}: link {' '.join(objects)}", f"  libraries = {' '.join(libraries)}", ""])


def plan(device, march="native", architectures=""):
    """(what the library is built for, Compiler, Paddle, Cuda or None, why without CUDA) here and now.

    Raises UserError where it cannot be built.
    """
    cxx, paddle = compiler.find(), toolchain.paddle()
    check_versions(paddle)
    cuda, reason = find_cuda(device, paddle, architectures)
    return operators.describe(source_version(), march, cxx, paddle, cuda), cxx, paddle, cuda, reason


def build(device, out, march="native", architectures=""):
    """Compile, link and assemble the packages in `out`/packages, unless they are up to date; returns that folder."""
    description, cxx, paddle, cuda, reason = plan(device, march, architectures)
    packages, package_version = out / "packages", version(description)
    if (packages / "VERSION").is_file() and (packages / "VERSION").read_text() == package_version:
        return packages
    print(f"paddlenlp_ops and fused_ln with CPU kernels only ({reason})" if cuda is None else
          f"paddlenlp_ops and fused_ln for {' '.join(f'sm_{a}' for a in cuda.architectures)} and the CPU", flush=True)
    operators.run_ninja(ninja_file(description, cxx, paddle, cuda), description, out)
    wrappers = subprocess.run([sys.executable, "-c", WRAPPERS, out / LIBRARY], cwd=operators.ROOT, capture_output=True,
                              text=True)
    if wrappers.returncode:
        raise UserError(f"Paddle does not load {out / LIBRARY} ({wrappers.stderr.strip().splitlines()[-1]}): remove "
                        f"{out} and run `make ops` again")
    with atomic_dir(packages) as folder:
        shutil.copytree(PACKAGES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        inside = folder / "paddlenlp_ops"
        shutil.copyfile(out / LIBRARY, inside / LIBRARY)
        shutil.copyfile(target.__file__, inside / "target.py")
        (inside / "generated.py").write_text(wrappers.stdout, encoding="utf-8")
        (inside / "built.py").write_text(f'VERSION = "{package_version}"\n', encoding="utf-8")
        (folder / "VERSION").write_text(package_version)
    return packages


def build_where_served(device, out, march="native", architectures=""):
    """`build`, or with another Paddle a folder that says in its empty VERSION that there are none."""
    try:
        return build(device, out, march, architectures)
    except NotHere as e:
        with atomic_dir(out / "packages") as folder:
            (folder / "VERSION").write_text("")
        return f"not built: {e}"


def main():
    operators.command_line(__doc__, build_where_served, ["auto", "cpu", "gpu"], operators.ROOT / "build" / "stock")


if __name__ == "__main__":
    run_cli(main)

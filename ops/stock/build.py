"""Build the packages paddlenlp_ops and fused_ln: `python -m ops.stock.build [--device auto|cpu|gpu] [--out DIR]`.

DIR/packages is then a project that pip installs, and a folder for PYTHONPATH. `auto` builds CUDA kernels where Paddle's
GPU wheel and nvcc are found, else kernels for the CPU alone. Nothing is done when DIR is up to date.
"""

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from core.errors import UserError, run_cli
from core.files import atomic_dir
from ops import build as operators
from ops import toolchain

ROOT = Path(__file__).resolve().parents[2]
BINDINGS, KERNELS, PACKAGES = (ROOT / "ops" / "stock" / name for name in ("bindings", "kernels", "packages"))
LIBRARY = "libpaddlenlp_ops.so"
PADDLE_VERSION, PADDLENLP_VERSION = "2.6.2", "2.8.1"
HEADERS = (("cuda_runtime_api.h", "nvidia-cuda-runtime"), ("thrust/complex.h", "nvidia-cuda-cccl"))
WRAPPERS = """
import sys, zlib
from paddle.utils.cpp_extension import load_op_meta_info_and_register_op
from paddle.utils.cpp_extension.extension_utils import _custom_api_content
for name in load_op_meta_info_and_register_op(sys.argv[1]):
    print(_custom_api_content(name))
"""


def check_versions(paddle):
    """Raise UserError unless the wheels are those that the packages serve."""
    if paddle.version != PADDLE_VERSION:
        raise UserError(f"{paddle.package} is Paddle {paddle.version}, paddlenlp_ops is for {PADDLE_VERSION}: "
                        f"pip install paddlepaddle{'-gpu' if paddle.gpu else ''}=={PADDLE_VERSION}")
    try:
        found = importlib.metadata.version("paddlenlp")
    except importlib.metadata.PackageNotFoundError:
        return  # it may come later
    if found != PADDLENLP_VERSION:
        raise UserError(f"paddlenlp {found} is installed, paddlenlp_ops is for {PADDLENLP_VERSION}: "
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


def version(march, paddle, cuda):
    """Version of the packages: paddlenlp's, and a short hash of the sources and of what they are built for."""
    target = (march, paddle.version, paddle.gpu, cuda and (cuda.version, cuda.architectures))
    digest = hashlib.sha256(repr(target).encode())
    shared = [operators.KERNELS / "common" / "vector.cuh", operators.BINDINGS / "checks.h", Path(operators.__file__),
              Path(__file__)]
    for path in [*operators.sources(BINDINGS, ".cc", ".h"), *operators.sources(KERNELS, ".cu", ".h"),
                 *operators.sources(PACKAGES, ".py", ".toml"), *shared]:
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return f"{PADDLENLP_VERSION}+{digest.hexdigest()[:12]}"


def ninja_file(march, compiler, paddle, cuda):
    """The build description for ninja, as text."""
    lines, objects = operators.rule_lines(march, compiler, cuda), []
    for source in operators.sources(BINDINGS, ".cc"):
        objects.append(f"{source.stem}.o")
        lines += [f"build {objects[-1]}: compile {source}",
                  f"  flags = $kernel {' '.join(operators.binding_flags(paddle, cuda))}"]
    for source in operators.sources(KERNELS, ".cu") if cuda else []:
        objects.append(f"{source.stem}.cu.o")
        lines.append(f"build {objects[-1]}: device {source}")
    libraries = [*operators.paddle_libraries(paddle, cuda), *operators.runtime_libraries(cuda)]
    return "\n".join([*lines, f"build {LIBRARY}: link {' '.join(objects)}", f"  libraries = {' '.join(libraries)}", ""])


def build(device, out, march="native", architectures=""):
    """Compile, link and assemble the packages in `out`/packages, unless they are up to date; returns that folder."""
    compiler, paddle = toolchain.compiler(), toolchain.paddle()
    check_versions(paddle)
    cuda, reason = find_cuda(device, paddle, architectures)
    packages, made = out / "packages", version(march, paddle, cuda)
    if (packages / "VERSION").is_file() and (packages / "VERSION").read_text() == made:
        return packages
    print(f"paddlenlp_ops and fused_ln with CPU kernels only ({reason})" if cuda is None else
          f"paddlenlp_ops and fused_ln for {' '.join(f'sm_{a}' for a in cuda.architectures)} and the CPU", flush=True)
    operators.run_ninja(ninja_file(march, compiler, paddle, cuda), out)
    wrappers = subprocess.run([sys.executable, "-c", WRAPPERS, out / LIBRARY], capture_output=True, text=True)
    if wrappers.returncode:
        raise UserError(f"Paddle does not load {out / LIBRARY} ({wrappers.stderr.strip().splitlines()[-1]}): remove "
                        f"{out} and run `make ops` again")
    with atomic_dir(packages) as folder:
        shutil.copytree(PACKAGES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        inside = folder / "paddlenlp_ops"
        shutil.copyfile(out / LIBRARY, inside / LIBRARY)
        (inside / "generated.py").write_text(wrappers.stdout, encoding="utf-8")
        (inside / "built.py").write_text(f'PADDLE = "{paddle.version}"\nVERSION = "{made}"\n', encoding="utf-8")
        (folder / "VERSION").write_text(made)
    return packages


def main():
    operators.command_line(__doc__, build, ["auto", "cpu", "gpu"], ROOT / "build" / "stock")


if __name__ == "__main__":
    run_cli(main)

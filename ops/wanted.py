"""Says in a file what a library has to be: what is there if that serves, else what would be built here and now.

`python -m ops.wanted library|stock --device DEVICE --out DIR` writes DIR/target.json, by this CPU, compiler, Paddle and
MARCH, CUDA_ARCHS or cards. It is one of the files that the library is made from (scripts/stamp.py).
"""

import argparse
import json
import os
from pathlib import Path

from core.errors import UserError, run_cli
from core.files import atomic_file
from ops import build, target

FILE = "target.json"


def is_wanted(built, wanted):
    """Whether a library built for `built` serves where `wanted` would be built. More GPUs' code than that of the cards
    seen is as good, unless CUDA_ARCHS says what there shall be."""
    if built and not os.environ.get("CUDA_ARCHS") and set(built["architectures"]) >= set(wanted["architectures"]):
        wanted = {**wanted, "architectures": built["architectures"], "ptx": built["ptx"]}
    return built == wanted


def renew(library, plan, out):
    """Write `out`/target.json: what `library` was built for if it serves, else what `plan()` would have built.

    Where nothing can be built, a library that this machine can run serves.
    """
    built = target.read(library) if library.is_file() else {}
    try:
        wanted, *_ = plan()
        serves = is_wanted(built, wanted)
    except UserError:
        wanted, serves = {}, bool(built) and target.fault(built) is None
    with atomic_file(out / FILE, "w") as f:
        json.dump(built if serves else wanted, f, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["library", "stock"])
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.what == "stock":
        from ops.stock import build as stock
        library, plan = args.out / "packages" / "paddlenlp_ops" / stock.LIBRARY, stock.plan
    else:
        library, plan = args.out / build.NAME, build.plan
    asked = args.device, build.march_wanted(), os.environ.get("CUDA_ARCHS", "")
    renew(library, lambda: plan(*asked), args.out)


if __name__ == "__main__":
    run_cli(main)

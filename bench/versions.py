"""Two versions of this repository side by side: git worktrees below build/versions, each built by its own Makefile."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.git import environment, git, is_changed
from bench.process import FIRST_PROTOCOL
from bench.worker import PROTOCOL
from core.errors import UserError
from core.files import atomic_dir
from core.identity import checkpoint_files, hashes, identity
from ops.build import NAME
from ops.formats import registry_names

# What a make inherits and a version's own make must not: of make, of Python, and this repository's.
MAKE_VARIABLES = set("""
    MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES PYTHONPATH PYTHONSAFEPATH QWEN_VL_OPS QWEN_VL_STOCK QWEN_VL_MAKE
    QWEN_VL_INHERITED QWEN_VL_VARIABLES PRESET CKPT DTYPE DEVICE IMPL WEIGHTS IMAGE PROMPT ALLOW_URL FONT NEW_TOKENS
    TEMPERATURE TOP_P TOP_K REPETITION_PENALTY MIN_NEW_TOKENS SEED STOP SYSTEM ARMS LAUNCHES ROUNDS BATCH CASES BUDGET
    BATCHES LENGTHS VERDICT BASE UPDATE ACCEPT HASHES TESTS OUT BUILD PADDLE PADDLE_OTHER_PYTHON""".split())


@dataclass(frozen=True)
class Version:
    """A commit and the worktree that holds it."""

    name: str     # as the user wrote it
    sha: str
    tree: Path


def commit_of(name):
    """Full sha of a git reference; UserError when there is none of that name."""
    shallow = git("rev-parse", "--is-shallow-repository") == "true"  # first: fails where there is no repository
    try:
        return git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
    except UserError as e:
        remedy = "run `git fetch --unshallow`, as this clone is shallow, or " if shallow else ""
        raise UserError(f"BASE={name} is no commit of this repository ({e}): {remedy}give a branch, a tag or a "
                        "sha") from None


def check_out(name, build):
    """The Version of a git reference, in a worktree below the folder `build`; UserError if it is too old."""
    sha = commit_of(name)
    tree = Path(build).resolve() / "versions" / sha[:12]
    if not (tree / ".git").exists():
        git("worktree", "prune")
        tree.parent.mkdir(parents=True, exist_ok=True)
        git("worktree", "add", "--detach", "--force", str(tree), sha)
    if not _holds(tree, sha):
        raise UserError(f"{tree} does not hold {sha[:12]} unchanged: delete it, and run `git worktree prune`")
    protocol_file = tree / "bench" / "protocol.json"
    protocol = json.loads(protocol_file.read_bytes()) if protocol_file.is_file() else FIRST_PROTOCOL
    if protocol != PROTOCOL or not (tree / "bench" / "worker.py").is_file():
        raise UserError(f"{name} ({sha[:12]}) does not speak worker protocol {PROTOCOL} of this version: choose a "
                        "later BASE=")
    return Version(name, sha, tree)


def format_names(version):
    """Names of a version's weight formats, which are the folders that its registry has a line for; none of one that is
    older than formats."""
    registry = version.tree / "ops" / "formats" / "registry.h"
    return registry_names(registry.read_text(encoding="utf-8")) if registry.is_file() else ()


def linked(checkpoint, folder):
    """A folder below `folder`, called by the content of a checkpoint, with links to the checkpoint's files.

    Older versions know a checkpoint by its path and its files' times, and their Makefiles read the path as make and
    a shell do: this one is another for other files, and holds nothing that they read as anything but a name.
    """
    files = checkpoint_files(checkpoint)
    place = Path(folder).resolve() / identity(hashes(files, {})[0])
    with atomic_dir(place) as links:
        for name, path in files.items():
            (links / name).symlink_to(path.resolve())
    return place


def _holds(tree, sha):
    """Whether a folder is a worktree of this repository, at the commit `sha` and without changes."""
    try:
        own = git("rev-parse", "--show-toplevel")
        stores = [Path(folder, git("rev-parse", "--git-common-dir", tree=folder)) for folder in (own, tree)]
        return (os.path.samefile(*stores) and git("rev-parse", "HEAD", tree=tree) == sha
                and not is_changed(tree=tree, untracked=False))
    except UserError:  # of another repository, which may be gone
        return False


def build(version, checkpoint, dtype, device, impl, python, log):
    """Build a version's operators and export the checkpoint (from `linked`) with them; returns the exported folder.

    `python` is {framework: interpreter}. What make prints goes to the file `log`. UserError when it fails.
    """
    exported = version.tree / "build" / "compare" / Path(checkpoint).name / f"{impl}-{dtype}"
    env = {name: value for name, value in environment().items() if name not in MAKE_VARIABLES}
    interpreters = [f"{name.upper()}_PYTHON={os.path.abspath(path) if os.sep in path else path}"
                    for name, path in python.items()]
    with open(log, "wb") as output:
        done = subprocess.run(["make", "-C", str(version.tree), "export", f"CKPT={checkpoint}",
                               f"OUT={exported}", f"DTYPE={dtype}", f"DEVICE={device}", f"IMPL={impl}", *interpreters],
                              env=env, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        faults = [line for line in lines if "error" in line.lower() and not line.startswith("make")] or lines or [""]
        raise UserError(f"{version.name} ({version.sha[:12]}) cannot be built: {faults[-1][:300]} (all of it: {log})")
    return exported


def operators(version, device):
    """Environment of a worker that runs this version's operators."""
    return {"QWEN_VL_OPS": str(version.tree / "build" / "ops" / device / NAME)}

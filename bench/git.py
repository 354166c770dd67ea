"""git, asked about this repository and no other one, whatever the caller's environment points at."""

import os
import subprocess
from pathlib import Path

from core.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
# Of git's variables those that say how it runs; all others, as hooks have them, say which repository, index or paths.
SETTINGS = ("GIT_CONFIG", "GIT_EXEC_PATH", "GIT_SSH", "GIT_SSL", "GIT_ASKPASS", "GIT_TERMINAL_PROMPT")


def environment():
    """This process's environment without what points git at a repository."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith("GIT_") or name.startswith(SETTINGS)}


def git(*args, tree=None):
    """Output of git in the folder `tree`, by default this repository's root; raises UserError with its reason when it
    fails, or when the folder is not the top of a repository (one around it is another project)."""
    tree = Path(tree or ROOT)
    top = _run(tree, "rev-parse", "--show-toplevel")
    if not top or not os.path.samefile(top, tree):
        raise UserError("not a git repository of its own (one around it is another project's): use a clone")
    return _run(tree, *args)


def is_changed(*paths, tree=None, untracked=True):
    """Whether files below the `paths` (default: all) differ from the commit in the tree; `untracked`: or are new."""
    return bool(git("status", "--porcelain", f"--untracked-files={'normal' if untracked else 'no'}", "--", *paths,
                    tree=tree))


def _ask(tree, *args):
    try:
        return subprocess.run(["git", "-C", str(tree), *args], capture_output=True, text=True, errors="replace",
                              env={**environment(), "LC_ALL": "C"})
    except OSError as e:
        raise UserError(f"cannot run git ({e.strerror}): apt install git") from None


def _run(tree, *args):
    done = _ask(tree, *args)
    if done.returncode and _ask(tree, "rev-parse").returncode and not _ask(tree, "-c", "safe.directory=*",
                                                                          "rev-parse").returncode:
        raise UserError("git refuses this folder, which belongs to another user: "
                        'git config --global --add safe.directory "$PWD"')
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise UserError(f"git {args[0]}: {next((line for line in lines if line.startswith('fatal')), lines[-1])}")
    return done.stdout.strip()

"""Where a command may write: never into its input, never over something it did not make."""

from pathlib import Path

from core.errors import UserError


def holding(name):
    """For output_folder: whether a folder has the file `name`, which the command alone writes."""
    return lambda folder: (folder / name).exists()


def output_folder(out, is_own, source=None):
    """The folder `out`, resolved, after checking that replacing it loses nothing.

    An existing folder must be empty or one that the command made, by `is_own(folder)`; `source` must lie outside it and
    must not hold it.
    """
    try:
        out = Path(out).resolve()
    except (OSError, RuntimeError) as e:   # the latter for a loop of links, before Python 3.13
        raise UserError(f"OUT={out} leads nowhere ({e}): choose another OUT=") from None
    if source is not None:
        source = Path(source).resolve()
        if out == source or source in out.parents:
            raise UserError(f"OUT={out} lies in the checkpoint {source}, which is never changed: choose another OUT=")
        if out in source.parents:
            raise UserError(f"OUT={out} holds the checkpoint {source} and would replace it: choose another OUT=")
    if out.exists():
        if not out.is_dir():
            raise UserError(f"OUT={out} is a file: choose another OUT=")
        if any(out.iterdir()) and not is_own(out):
            raise UserError(f"OUT={out} holds other files and would be replaced: choose another OUT=")
    return out

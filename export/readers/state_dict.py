"""What a pickled file of weights must hold: a dictionary of tensors, nothing around it."""

from core.errors import UserError
from export.names import listed


def entries(path, saved):
    """The items of the dictionary `saved`; raises UserError when it is none, or holds dictionaries itself."""
    if not isinstance(saved, dict):
        raise UserError(f"{path} holds no dictionary of tensors")
    nested = [name for name, value in saved.items() if isinstance(value, dict)]
    if nested:
        raise UserError(f"{path} is a training program's checkpoint, with {listed(nested)} inside: load it with that "
                        "program and save the state_dict() of the model alone")
    return saved.items()

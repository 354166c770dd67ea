"""Static inference: image and text in, text out, through the two exported graphs.

`from infer import QwenVL` is the Python interface (docs/inference.md); it is imported when it is first asked for.
"""

__all__ = ["QwenVL"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from infer.model import QwenVL

    return QwenVL

"""What the tests that press Ctrl-C share."""

import signal


def heed_ctrl_c():
    """In a new process: Ctrl-C works there, also where the tests run in the background, where a shell ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

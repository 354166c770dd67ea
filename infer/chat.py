"""Chat on a terminal: `python -m infer.chat --exported DIR [--system TEXT]`."""

import contextlib
import os
import re
import shlex
import sys
from urllib.parse import unquote

from core.errors import ArgumentParser, UserError, run_cli
from core.terminal import require_reader
from core.text import escaped
from infer.image import load_image
from infer.model import QwenVL
from infer.options import add_options, in_words, loaded, sampling_of, show
from infer.prompt import MAX_WINDOW, SYSTEM
from infer.sampling_parameters import Sampling

MAX_LINE = 1 << 20  # characters of a line of input that is no terminal's
UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")  # the marks that it begins with, as bytes that are no UTF-8
FILE_ADDRESS = re.compile("file:(//(localhost)?)?(?=/(?!/))", re.IGNORECASE)
HELP = """/image FILE  show a picture with the next message
/reset       forget the conversation
/quit        end (as does the end of input)
/help        these lines
Ctrl-C stops an answer. A message that begins with / begins with a space here."""


def file_named(text):
    """The file that the text after /image means: its name as it is, or as shells and file managers write one.

    That is in quotes or with backslashes, with ~ for the home folder, or as a file:// address.
    """
    if os.path.exists(text):
        return text
    with contextlib.suppress(ValueError):  # a quotation mark that belongs to the name
        words = shlex.split(text)
        text = words[0] if len(words) == 1 else text
    address = FILE_ADDRESS.match(text)
    return unquote(text[address.end():], errors="surrogateescape") if address else os.path.expanduser(text)


class Unreadable(UserError):
    """Standard input is none that lines could be read from."""


def read_line(prompt):
    """The next line of input without its end.

    EOFError when there is none, UserError for one that is too long, Unreadable for input that is no text.
    """
    try:
        if sys.stdin.isatty():
            return input(prompt)
        print(prompt, end="", flush=True)
        line = sys.stdin.readline(MAX_LINE)
    except (OSError, ValueError) as e:  # open for writing alone; another encoding than the one that was set
        reason = getattr(e, "strerror", None) or e
        raise Unreadable(f"standard input cannot be read ({reason}): give it lines of text") from None
    if not line:
        raise EOFError
    if line.startswith(UTF_16):
        raise Unreadable("standard input is UTF-16: give it UTF-8, as iconv -f utf-16 -t utf-8 makes it")
    if len(line) < MAX_LINE or line.endswith("\n"):
        return line.removesuffix("\n")
    while (rest := sys.stdin.readline(MAX_LINE)) and not rest.endswith("\n"):
        pass
    raise UserError(f"a line of input has more than {MAX_LINE} characters: send a shorter message")


class Terminal:
    """The commands and messages that come from the terminal."""

    def __init__(self, conversation, options):
        self._conversation, self._options, self._images = conversation, options, []

    def take(self, line):
        """Do what one line of input says; returns False when it is the end."""
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return False
        if command == "/image":
            if not rest.strip():
                raise UserError("/image needs the name of a file")
            file = file_named(rest.strip())
            load_image(file)
            self._images.append(file)
            print(f"{len(self._images)} with the next message")
        elif command == "/reset":
            self._conversation.reset()
            self._images = []
            print("forgotten")
        elif command.startswith("/"):
            print(HELP if command == "/help" else f"unknown command {escaped(command)}\n{HELP}")
        elif line.strip():
            self._answer(line.strip())
        return True

    def _answer(self, text):
        try:
            answer = self._conversation.ask(text, self._images, **self._options, stream=show)
        except KeyboardInterrupt:
            print("\n[stopped]")
        else:
            fresh = answer.prompt_tokens - answer.reused_tokens
            cut = "" if answer.finish == "stop" else "; cut off: raise NEW_TOKENS="
            print(f"\n[{in_words(answer.times)}; prefilled {fresh} of {answer.prompt_tokens} tokens{cut}]")
        self._images = []


def main():
    parser = ArgumentParser(prog="python -m infer.chat", description=__doc__)
    parser.add_argument("--system", default=SYSTEM, help=f"text that the conversation begins with ({SYSTEM!r})")
    parser.add_argument("--max-new-tokens", type=int, help="of an answer (default: 512, or what there is room for)")
    parser.add_argument("--max-window", type=int, default=MAX_WINDOW,
                        help=f"tokens of context; older turns are left out (default {MAX_WINDOW})")
    add_options(parser)
    args = parser.parse_args()
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  input() then edits lines and remembers them

    model = QwenVL(args.exported, args.device, image_folders=None, weights=args.weights)
    sampling = sampling_of(args)
    length = 1 if args.max_new_tokens is None else args.max_new_tokens
    model.settings(length, Sampling(**sampling), args.stop)  # what no answer can have is refused now
    options = sampling | {"stop": args.stop, "max_new_tokens": args.max_new_tokens}
    terminal = Terminal(model.chat(args.system, args.max_window), options)
    print(loaded(model.load()) + "; /help lists the commands", flush=True)
    more = True
    while more:
        try:
            more = terminal.take(read_line("> "))
        except EOFError:
            print()
            more = False
        except KeyboardInterrupt:
            print()
        except Unreadable:
            raise
        except UserError as e:
            print(f"error: {e}", file=sys.stderr, flush=True)
        require_reader()


if __name__ == "__main__":
    run_cli(main)

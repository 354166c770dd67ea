"""Chat on a terminal: `python -m infer.chat --exported DIR [--system TEXT]`."""

import argparse
import contextlib
import sys

from core.errors import UserError, run_cli
from infer.image import load_image
from infer.model import QwenVL
from infer.options import add_options, in_words, loaded, sampling_of, show
from infer.prompt import MAX_WINDOW, SYSTEM

HELP = """/image FILE  show a picture with the next message
/reset       forget the conversation
/quit        end (as does the end of input)
/help        these lines
Ctrl-C stops an answer. A message that begins with / begins with a space here."""


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
            load_image(rest.strip())
            self._images.append(rest.strip())
            print(f"{len(self._images)} with the next message")
        elif command == "/reset":
            self._conversation.reset()
            self._images = []
            print("forgotten")
        elif command.startswith("/"):
            print(HELP if command == "/help" else f"unknown command {command}\n{HELP}")
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
    parser = argparse.ArgumentParser(prog="python -m infer.chat", description=__doc__)
    parser.add_argument("--system", default=SYSTEM, help=f"text that the conversation begins with ({SYSTEM!r})")
    parser.add_argument("--max-new-tokens", type=int, help="of an answer (default: 512, or what there is room for)")
    parser.add_argument("--max-window", type=int, default=MAX_WINDOW,
                        help=f"tokens of context; older turns are left out (default {MAX_WINDOW})")
    add_options(parser)
    args = parser.parse_args()
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  input() then edits lines and remembers them

    model = QwenVL(args.exported, args.device)
    options = sampling_of(args) | {"stop": args.stop, "max_new_tokens": args.max_new_tokens}
    terminal = Terminal(model.chat(args.system, args.max_window), options)
    print(loaded(model.load()) + "; /help lists the commands", flush=True)
    more = True
    while more:
        try:
            more = terminal.take(input("> "))
        except EOFError:
            print()
            more = False
        except KeyboardInterrupt:
            print()
        except UserError as e:
            print(f"error: {e}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_cli(main)

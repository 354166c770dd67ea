"""Command line: `python -m bench run | report | baseline | history | reproduce`."""

import argparse
import os
import sys

from rich.console import Console

from bench.arms import ARMS, default_arms
from bench.baseline import baseline
from bench.compare import CompareOptions, compare
from bench.history import unreadable, write_history
from bench.html import RESULTS, publish
from bench.regress import RegressOptions, regress, told
from bench.report import show
from bench.reproduce import reproduce
from bench.results import report
from bench.run import Options, default_device, exit_status, run
from core.errors import UserError, run_cli
from core.placement import CHOICES, Placement
from infer.image import default_image
from infer.prompt import BENCHMARK_PROMPT

DTYPES = ("float32", "float16", "bfloat16")
FRAMEWORKS = ("torch", "paddle")


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def positives(text):
    return [positive(part) for part in text.split(",")]


def arm_list(text):
    names = list(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such arm: {', '.join(unknown)} (there are {', '.join(ARMS)})")
    return names


def assignment(text):
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def parse(argv):
    """Command line -> namespace; argparse exits with status 2 on a bad one."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--checkpoint", required=True, help="Hugging Face checkpoint folder")
    shared.add_argument("--image", help="photograph (default: the sample of the matplotlib package)")
    shared.add_argument("--prompt", default=BENCHMARK_PROMPT)
    shared.add_argument("--new-tokens", type=positive, default=32)
    shared.add_argument("--prompt-tokens", type=positive, default=0, metavar="N", help="repeat the prompt's text until "
                        "the prompt has N tokens, image included")
    shared.add_argument("--dtype", choices=DTYPES, default="float32")
    shared.add_argument("--device", choices=CHOICES, default="auto")
    shared.add_argument("--threads", type=positive, help="CPU threads of every arm (default: physical cores)")
    for framework in FRAMEWORKS:
        shared.add_argument(f"--{framework}-python", help=f"interpreter of the {framework} arms (default: "
                            f"${framework.upper()}_PYTHON, then this one)")
        shared.add_argument(f"--{framework}-env", type=assignment, action="extend", nargs="+", default=[],
                            metavar="NAME=VALUE", help=f"added to the environment of the {framework} arms")
    measured = commands.add_parser("run", parents=[shared], help="gate and measure the arms, write results")
    measured.add_argument("--exported-native", default="", help="exported folder of the native graphs")
    measured.add_argument("--exported-fused", default="", help="exported folder of the fused graphs")
    measured.add_argument("--exported-stock", default="", help="exported folder of the stock graphs")
    measured.add_argument("--out", default="results")
    measured.add_argument("--preset", default="", help="name in the results (default: the checkpoint folder's)")
    measured.add_argument("--arms", type=arm_list, help=f"of {','.join(ARMS)} (default: all; torch-compile on a GPU)")
    measured.add_argument("--rounds", type=positive, default=Options.rounds, help="the most rounds")
    measured.add_argument("--budget", type=float, default=Options.budget, metavar="SECONDS", help="of rounds; they "
                          "end before when every median is known well enough")
    measured.add_argument("--warmup", type=int, default=Options.warmup, help="the most warm-up passes of an arm")
    measured.add_argument("--batch", type=positive, default=1)
    measured.add_argument("--batches", type=positives, default=[], metavar="N,…", help="further cases: other batches")
    measured.add_argument("--lengths", type=positives, default=[], metavar="N,…",
                          help="further cases: other numbers of new tokens")
    measured.add_argument("--case-rounds", type=positive, default=3, help="rounds of the further cases")
    measured.add_argument("--case-arms", type=arm_list, default=[], help="arms that measure them (default: all)")
    measured.add_argument("--case-budget", type=float, default=Options.case_budget, metavar="SECONDS",
                          help="an arm that has spent this time on further cases begins no other one")
    measured.add_argument("--cold", type=int, default=Options.cold, metavar="PASSES",
                          help="passes with the L2 cache overwritten before each stage (GPU only; 0: none)")
    measured.add_argument("--sequential", action="store_true", help="load and measure one arm after the other "
                          "(a GPU that cannot hold all of them does so anyway)")
    measured.add_argument("--deadline", type=float, default=0, metavar="SECONDS",
                          help="begin nothing new after this time, so that results are written")
    again_published = commands.add_parser("reproduce", parents=[shared], help="the published comparison beside this "
                                          "machine's, by both protocols")
    again_published.add_argument("--exported-fused", required=True, help="exported folder of the fused graphs")
    again_published.add_argument("--out", default="results")
    again_published.add_argument("--preset", default="", help="name in the results (default: the checkpoint folder's)")
    again_published.add_argument("--rounds", type=positive, default=8)
    timeline = commands.add_parser("history", help="the timeline of all runs with its change points")
    timeline.add_argument("results_dir", nargs="?", default="results")
    again = commands.add_parser("report", help="make tables, plots, the HTML page and README's figures again from "
                                "stored rows")
    again.add_argument("results_dir", nargs="?", default=str(RESULTS))
    alone = commands.add_parser("baseline", parents=[shared], help="one pass of the torch baseline: times and text")
    alone.add_argument("--attention", choices=("eager", "sdpa"), default="sdpa")
    judged = argparse.ArgumentParser(add_help=False, parents=[shared])
    judged.add_argument("--out", default="results")
    judged.add_argument("--preset", default="", help="name in the results (default: the checkpoint folder's)")
    judged.add_argument("--impl", choices=("fused", "native"), default="fused")
    judged.add_argument("--budget", type=float, default=CompareOptions.budget, metavar="SECONDS", help="of rounds")
    judged.add_argument("--batch", type=positive, default=1)
    versions = commands.add_parser("compare", parents=[judged], help="two versions measured beside each other")
    versions.add_argument("--base", required=True, metavar="REF", help="git reference to compare with")
    versions.add_argument("--head", default="HEAD", metavar="REF", help="git reference to compare (default: HEAD)")
    versions.add_argument("--build", default="build", help="folder of the versions' worktrees")
    stored = commands.add_parser("regress", parents=[judged], help="this version against the stored baseline: status "
                                 "1 for a confirmed regression, 2 when that cannot be told")
    stored.set_defaults(budget=RegressOptions.budget)
    stored.add_argument("--exported-native", default="", help="exported folder of the native graphs")
    stored.add_argument("--exported-fused", default="", help="exported folder of the fused graphs")
    stored.add_argument("--update", action="store_true", help="store a new baseline instead")
    stored.add_argument("--verdict", default="", metavar="FILE", help="where to write status and verdicts, as JSON")
    return parser.parse_args(argv)


JUDGED = {"compare": CompareOptions, "regress": RegressOptions}


def to_options(args):
    """Options of the sub-command's class; fields that the sub-command does not have keep their defaults. UserError."""
    kind = JUDGED.get(args.command, Options)
    values = {name: value for name, value in vars(args).items() if name in kind.__dataclass_fields__}
    values["image"] = args.image or str(default_image())
    values["device"] = default_device() if args.device == "auto" else args.device
    if args.dtype not in Placement(values["device"]).dtypes:
        raise UserError("CPU runs are float32: leave DTYPE= away or use DEVICE=gpu")
    values["threads"] = args.threads or 0
    values["arms"] = values.get("arms") or default_arms(values["device"])
    values["python"] = {name: getattr(args, f"{name}_python") or os.environ.get(f"{name.upper()}_PYTHON")
                        or sys.executable for name in FRAMEWORKS}
    values["environment"] = {name: dict(getattr(args, f"{name}_env")) for name in FRAMEWORKS}
    return kind(**{"out": "", **values})


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    if args.command == "report":
        for folder, rows in report(args.results_dir):
            show(rows, console)
            console.print(f"{folder}", markup=False, highlight=False)
        for written in publish(args.results_dir):
            console.print(f"{written}", markup=False, highlight=False)
        return 0
    if args.command == "history":
        text, written = write_history(args.results_dir)
        console.print(text, *written, sep="\n", markup=False, highlight=False, soft_wrap=True)
        return 0
    arguments = ["python", "-m", "bench", *argv]
    if args.command == "regress":
        return told(lambda: regress(to_options(args), arguments, console), console, args.verdict)
    options = to_options(args)
    if args.command == "baseline":
        return baseline(options, args.attention, console)
    if args.command == "reproduce":
        folder, rows, text = reproduce(options, arguments)
        console.print(text, f"results: {folder}", sep="\n", markup=False, highlight=False, soft_wrap=True)
        return exit_status(rows)
    if args.command == "compare":
        return compare(options, arguments, console)
    folder, rows = run(options, arguments)
    show(rows, console)
    console.print(f"results: {folder}", markup=False, highlight=False)
    if fault := unreadable(args.out):
        console.print(f"note: {fault}", markup=False, highlight=False, soft_wrap=True)
    return exit_status(rows)


if __name__ == "__main__":
    run_cli(main)

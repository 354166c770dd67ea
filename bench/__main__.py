"""Command line: `python -m bench run | sweep | report | baseline | history | reproduce | compare | regress`."""

import sys
from dataclasses import replace

from rich.console import Console

from bench import compare, engines, regress
from bench.arms import QUANTISED, default_arms
from bench.baseline import baseline
from bench.history import unreadable, write_history
from bench.options import EXPORTS, CaseOptions, FurtherCases, Limits, RunOptions, Sources, add, read
from bench.publish import RESULTS, publish
from bench.report import markdown_table, show
from bench.reproduce import reproduce
from bench.results import report
from bench.run import exit_status, run
from bench.sweep import frame
from core.errors import ArgumentParser, UserError, run_cli
from core.placement import Placement
from infer.formats import AUTO

CASE = ("image", "prompt", "prompt_tokens", "new_tokens", "dtype", "device")   # options of the case in every command


def parse(argv):
    """Command line -> namespace; argparse exits with status 2 on a bad one."""
    parser = ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    measured = commands.add_parser("run", help="gate and measure the arms, write results")
    add(measured, CaseOptions, device="auto")
    Sources.add(measured, EXPORTS)
    for part in (Limits, FurtherCases, RunOptions):
        add(measured, part)

    swept = commands.add_parser("sweep", help="engines over batch and length, as sweep.csv")
    add(swept, CaseOptions, *CASE, "preset", device="auto")
    Sources.add(swept, EXPORTS)
    add(swept, Limits, launches=1, rounds=engines.ROUNDS, cold=0, new_lengths=0, sequential=True)
    add(swept, FurtherCases, batches=engines.BATCHES, lengths=engines.LENGTHS, case_rounds=engines.ROUNDS)
    add(swept, RunOptions)

    published = commands.add_parser("reproduce", help="the published comparison beside this machine's, by both "
                                    "protocols")
    add(published, CaseOptions, *CASE, "preset", device="auto")
    Sources.add(published, ["exported_fused"], required=True)
    add(published, Limits, "rounds", rounds=8)
    add(published, RunOptions, "out", "weights")

    alone = commands.add_parser("baseline", help="one pass of the torch baseline: times and text")
    add(alone, CaseOptions, *CASE, device="auto")
    Sources.add(alone)
    alone.add_argument("--attention", choices=("eager", "sdpa"), default="sdpa")

    versions = commands.add_parser("compare", help="two versions measured beside each other")
    versions.add_argument("--base", required=True, metavar="REF", help="git reference to compare with")
    versions.add_argument("--head", default="HEAD", metavar="REF", help="git reference to compare (default: HEAD)")
    versions.add_argument("--build", default="build", help="folder of the versions' worktrees")
    stored = commands.add_parser("regress", help="this version against the stored baseline: status 1 for a confirmed "
                                 "regression, 2 when that cannot be told")
    stored.add_argument("--update", action="store_true", help="store a new baseline instead")
    stored.add_argument("--accept", default="", metavar="REASON", help="keep what is found slower as a known step, "
                        "with this reason, and end with status 0")
    stored.add_argument("--verdict", default="", metavar="FILE", help="where to write status and verdicts, as JSON")
    for judged, exports in ((versions, ()), (stored, ("exported_native", "exported_fused"))):
        judged.add_argument("--impl", choices=("fused", "native"), default="fused")
        add(judged, CaseOptions, device="auto")
        Sources.add(judged, exports)
        add(judged, Limits, "launches", "rounds", "deadline", rounds=0)
        add(judged, RunOptions, "out", "weights")

    timeline = commands.add_parser("history", help="the timeline of all runs with its change points")
    timeline.add_argument("results_dir", nargs="?", default="results")
    again = commands.add_parser("report", help="make tables, plots, the HTML page and README's figures again from "
                                "stored rows")
    again.add_argument("results_dir", nargs="?", default=str(RESULTS))
    return parser.parse_args(argv)


def options_of(args):
    """The RunOptions of a command that measures; UserError for what nothing here can compute."""
    options = read(RunOptions, args, sources=Sources.read(args))
    if options.case.dtype not in Placement(options.case.device).dtypes:
        raise UserError("CPU runs are float32: leave DTYPE= away or use DEVICE=gpu")
    if options.weights not in (AUTO, options.case.dtype, *QUANTISED):
        raise UserError(f"WEIGHTS={options.weights}: the run is in {options.case.dtype}: use "
                        f"WEIGHTS={options.case.dtype}, or leave it out")
    if options.weights != AUTO and getattr(args, "impl", "fused") != "fused":
        raise UserError(f"WEIGHTS={options.weights} is for the fused graphs: leave out IMPL={args.impl}")
    if options.weights in QUANTISED and args.command == "reproduce":
        raise UserError(f"WEIGHTS={options.weights} rounds, which the published protocol does not: leave it out")
    default = engines.engines if args.command == "sweep" else default_arms
    arms = options.arms or default(options.case.device, Sources.named_frameworks(args))
    added = [QUANTISED[options.weights]] if options.weights in QUANTISED else []
    return replace(options, arms=tuple(dict.fromkeys([*arms, *added])))


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    plain = {"markup": False, "highlight": False}
    console = Console(**plain)
    if not console.is_terminal:
        console = Console(width=160, **plain)
    if args.command == "report":
        for folder, rows in report(args.results_dir):
            show(rows, console)
            console.print(f"{folder}")
        for written in publish(args.results_dir):
            console.print(f"{written}")
        return 0
    if args.command == "history":
        text, written = write_history(args.results_dir)
        console.print(text, *written, sep="\n", soft_wrap=True)
        return 0
    arguments = ["python", "-m", "bench", *argv]
    if args.command == "regress":
        def judge():
            return regress.regress(options_of(args), args.impl, args.update, args.accept, arguments,
                                   console)
        return regress.report_outcome(judge, console, args.verdict)
    options = options_of(args)
    if args.command == "baseline":
        return baseline(options, args.attention, console)
    if args.command == "sweep":
        folder, rows = engines.sweep(options, arguments)
        table = frame(rows).drop(columns=["machine", "commit", "date"]).set_index("arm").round(2).astype(str)
        console.print(markdown_table(table, "arm"), f"results: {folder}", sep="\n", soft_wrap=True)
        return exit_status(rows)
    if args.command == "reproduce":
        folder, rows, text = reproduce(options, arguments)
        console.print(text, f"results: {folder}", sep="\n", soft_wrap=True)
        return exit_status(rows)
    if args.command == "compare":
        return compare.compare(options, (args.base, args.head), args.impl, args.build, arguments, console)
    folder, rows = run(options, arguments)
    show(rows, console)
    console.print(f"results: {folder}")
    if fault := unreadable(args.out):
        console.print(f"note: {fault}", soft_wrap=True)
    return exit_status(rows)


if __name__ == "__main__":
    run_cli(main)

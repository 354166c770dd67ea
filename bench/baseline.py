"""The torch baseline alone, over one image and prompt: stage times and text."""

import tempfile
from pathlib import Path

from bench.arms import ARMS
from bench.contest import Contest
from bench.progress import Progress
from bench.schema import Case
from bench.session import Session, read_inputs
from bench.statistics import summary
from core.errors import UserError
from core.ranks import VOCABULARY
from infer.options import visible
from infer.tokenizer import Tokenizer

STAGES = ("preprocess", "vision", "prefill", "decode", "token", "end_to_end")


def baseline(options, attention, console):
    """Print the text and the stage times of one pass after one warm-up; UserError when the arm fails."""
    checkpoint, image, ids = read_inputs(options)
    if checkpoint.note:
        console.print(checkpoint.note, soft_wrap=True)
    config, case_options = checkpoint.config, options.case
    name = f"torch-{attention}"
    case = Case("", case_options.dtype, case_options.device, case_options.batch, len(ids), case_options.new_tokens)
    with (tempfile.TemporaryDirectory(prefix="bench-") as scratch, Progress() as progress,
          Contest([name], scratch, progress) as contest):
        session = Session(options, ARMS, image, ids, scratch)
        session.spawn(contest, contest.entries)
        session.load_group(contest, case)
        entry, = contest.entries
        for step in ("warm-up", "measuring"):
            progress.doing(f"{name}: {step}")
            result = entry.call("measure") if entry.worker else None
            if result is None:
                raise UserError(f"{name}: {entry.reason}")
    tokenizer = Tokenizer(Path(options.sources.checkpoint) / VOCABULARY, config.image_start_id)
    console.print(visible(tokenizer.decode(result["tokens"][0])))
    for stage in STAGES:
        figures = summary(result["stages"][stage])
        if figures:
            console.print(f"{stage:12} {figures['median']:10.2f} ms")
    console.print(f"{name}, {case.dtype}, {case.device}, {options.sources.cpu_threads} CPU threads, "
                  f"{case.prompt_tokens} prompt + {case.new_tokens} new tokens, load {entry.samples['load'][0]:.0f} ms")
    return 0

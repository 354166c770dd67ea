"""What each format of the matrices takes and costs, a line per arm of ours: for README and the table of a run."""

import pandas as pd

from bench.arms import ARMS, in_order
from bench.headline import count, median
from bench.limits import shares_of, work_of
from bench.lossy import is_lossy
from bench.report import arm_state, by_arm, cell, of_first_case
from bench.sweep import bits_of
from ops import formats


def ours(rows):
    """{arm: {stage: row}} of the fused graphs in every format that was measured, fewest bits last."""
    arms = {arm: stages for arm, stages in by_arm(of_first_case(rows)).items()
            if (arm not in ARMS or ARMS[arm].source == "exported_fused") and arm_state(stages)[0] == "ok"
            and "decode_bytes" in work_of(stages)}
    return {arm: arms[arm] for arm in sorted(in_order(arms), key=lambda arm: -bits_of(arms[arm]))}


def has_sizes(rows):
    """Whether a run has the arms of more than one format, one of which rounds."""
    return any(is_lossy(stages["end_to_end"]) for stages in ours(rows).values()) and len(ours(rows)) > 1


def sizes_frame(rows):
    """A line per arm: what the matrices are kept in, bits, bytes that a step reads, memory, its time, what is lost."""
    lines = {}
    for arm, stages in ours(rows).items():
        conditions, work, share = stages["end_to_end"].provenance, work_of(stages), shares_of(stages).get("token")
        lost = conditions.get("lossy", {})
        memory = next((stage for stage in ("device_memory", "peak_memory") if median(stages, stage)), None)
        lines[arm] = {
            "matrices": formats.describe(work.get("weights", stages["end_to_end"].case.dtype)),
            "bits": f"{bits_of(stages):g}", "read per token (MB)": f"{work['decode_bytes'] / 1e6:.1f}",
            f"{(memory or 'peak_memory').replace('_', ' ')} (MiB)": cell(stages[memory]) if memory else "-",
            "decode / token (ms)": cell(stages["token"]) if "token" in stages else "-",
            "share of limit": "-" if share is None else f"{100 * share:.0f} %",
            "KL over a text (nats)": f"{lost['text_kl']:.2g}" if "text_kl" in lost else "-" if lost else "0",
            "same likeliest token": f"{100 * lost['text_top1']:.1f} %" if "text_top1" in lost else "-" if lost else
                                    "100 %",
            "n": str(count(stages))}
    return pd.DataFrame.from_dict(lines, orient="index").fillna("-")

"""The further cases of a run beside the gated one, as tables; bench/curves.py draws them."""

import pandas as pd

from bench.report import arm_state, by_arm, conditions_line, markdown_table, markdown_text
from bench.statistics import summary

FIGURES = {"end_to_end": "end to end (ms)", "ttft": "TTFT (ms)", "token": "decode / token (ms)"}


def has_cases(rows):
    """Whether there are others than the gated case."""
    return any(row.case != rows[0].case for row in rows)


def _median(stages, stage):
    figures = summary(stages[stage].samples) if stage in stages else None
    return None if figures is None or stages["end_to_end"].reason.startswith("gate failed") else figures["median"]


def case_lines(rows):
    """A dict per case and arm, ordered by batch, new tokens and arm: status, medians (ms), tokens per second."""
    cases = {}
    for row in rows:
        cases.setdefault(row.case, []).append(row)
    lines = []
    for case in sorted(cases, key=lambda case: (case.batch, case.new_tokens)):
        for arm, stages in by_arm(cases[case]).items():
            status, reason = arm_state(stages)
            line = {"batch": case.batch, "new_tokens": case.new_tokens, "arm": arm, "status": status, "reason": reason}
            line |= {f"{stage}_ms": _median(stages, stage) for stage in FIGURES}
            figures = summary(stages["end_to_end"].samples) if line["end_to_end_ms"] is not None else None
            line |= {f"end_to_end_{name}_ms": figures[name] if figures else None for name in ("min", "p90")}
            end_to_end_ms, token_ms = line["end_to_end_ms"], line["token_ms"]
            line["tokens_per_s"] = case.batch * case.new_tokens / end_to_end_ms * 1e3 if end_to_end_ms else None
            line["decode_tokens_per_s"] = case.batch / token_ms * 1e3 if token_ms else None
            line["compile_ms"] = _median(stages, "compile")
            lines.append(line)
    return lines


def cases_frame(rows):
    return pd.DataFrame(case_lines(rows))


def cases_markdown(rows):
    """One table: a line per case and arm."""
    columns = {**{f"{stage}_ms": label for stage, label in FIGURES.items()}, "tokens_per_s": "tokens/s, end to end",
               "decode_tokens_per_s": "tokens/s, decode", "compile_ms": "compile (ms)"}
    lines = case_lines(rows)
    if all(line["compile_ms"] is None for line in lines):
        del columns["compile_ms"]
    texts = [{"new tokens": str(line["new_tokens"]), "arm": line["arm"], "status": line["status"],
              **{label: "-" if line[name] is None else f"{line[name]:.2f}" for name, label in columns.items()}}
             for line in lines]
    frame = pd.DataFrame(texts, index=[str(line["batch"]) for line in lines])
    reasons = [f"Batch {line['batch']}, {line['new_tokens']} new tokens, {line['arm']}: {line['status']}: "
               f"{line['reason']}" for line in lines if line["reason"]]
    return "\n\n".join([markdown_text(f"The gated case: {conditions_line(rows)}"), markdown_table(frame, "batch"),
                        "Medians; the other cases have fewer rounds, one arm after the other.",
                        *map(markdown_text, reasons)]) + "\n"

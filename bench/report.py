"""Tables from rows: pandas for files, rich for the screen."""

import re

import pandas as pd
from rich.table import Table
from rich.text import Text

from bench.arms import BASELINES, HOST_PACED
from bench.limits import limit_notes, packed_notes, share_text, shares_of, work_of
from bench.lossy import apart, is_lossy, losses_frame, losses_notes
from bench.schema import COLD_STAGES, GPU_STAGES, OPTIONAL, STAGES
from bench.statistics import ratio_interval, speed_up, summary
from bench.stopping import NARROW, OUT_OF_TIME, ROUNDS_AT_LEAST
from core.text import plural, shell_line

LABELS = {"preprocess": "preprocess", "vision": "vision", "prefill": "prefill", "ttft": "TTFT",
          "token": "decode / token", "published": "published protocol", "end_to_end": "end to end",
          "without_preprocess": "end to end without preprocess",
          "vision_gpu": "vision, GPU clock", "prefill_gpu": "prefill, GPU clock",
          "token_gpu": "decode / token, GPU clock", "host_step": "host / token",
          "vision_cold": "vision, GPU clock, cold L2", "prefill_cold": "prefill, GPU clock, cold L2",
          "token_cold": "decode / token, GPU clock, cold L2", "first_run": "first run",
          "new_length": "TTFT, first of a new length", "load": "load", "compile": "compile",
          "peak_memory": "peak memory", "device_memory": "device memory", "beyond_weights": "memory beyond the weights"}
LAUNCHES = "launches x rounds"
LOAD_RATE = "load (s/GB of weights)"
ENDED = {"narrow": f"until the medians were known to {100 * NARROW:.0f} %", "budget": "until the budget was spent",
         "planned": "as many for every arm as fit", "rounds": "as many as asked for",
         "deadline": "until the deadline", "interrupted": "interrupted"}
OTHERS_SHARE = 0.1   # share of the cores in the hands of other programs from which on that is said
HOST_BOUND = 0.9   # of the GPU's time for a step: a host that needs more to launch it leaves the GPU waiting


def of_first_case(rows):
    """The rows of the gated case, which come first."""
    return [row for row in rows if row.case == rows[0].case]


def by_arm(rows):
    """{arm: {stage: row}} of one case's rows, in their order."""
    arms = {}
    for row in rows:
        arms.setdefault(row.arm, {})[row.stage] = row
    return arms


def arm_state(stages):
    """(status, reason) of an arm: those of its end-to-end row."""
    row = stages["end_to_end"]
    return row.status, row.reason


def is_host_paced(baseline, rows):
    """Whether an arm's time was that of its host's launches."""
    return baseline in HOST_PACED and rows[0].case.device == "gpu"


def baselines(arms):
    """The baselines that are among the arms, on a GPU those last that the host paces."""
    rows = [stages["end_to_end"] for stages in arms.values() if "end_to_end" in stages]
    return sorted((name for name in BASELINES if name in arms), key=lambda name: is_host_paced(name, rows))


def speed_up_of(arms, arm, baseline):
    """Speed-up end to end against a baseline arm, or the text that stands in its place."""
    for name in (arm, baseline):
        if name not in arms:
            return "not run"
        status, reason = arm_state(arms[name])
        if reason.startswith("gate failed"):
            return reason if name == arm else f"{name}: {reason}"
        if status != "ok":
            return status if name == arm else f"{name} {status}"
    return speed_up(arms[baseline]["end_to_end"].by_launch, arms[arm]["end_to_end"].by_launch)


def interval_of(arms, arm, baseline):
    """(low, high) of the speed-up's 95 % interval over launches; None where there is no speed-up or only one launch."""
    if not isinstance(speed_up_of(arms, arm, baseline), float) or arm == baseline:
        return None
    _, low, high = ratio_interval(arms[baseline]["end_to_end"].by_launch, arms[arm]["end_to_end"].by_launch)
    return None if low is None else (low, high)


def has_intervals(rows):
    """Whether any speed-up of the rows of one case has an interval."""
    arms = by_arm(rows)
    return any(interval_of(arms, arm, baseline) for arm in arms for baseline in baselines(arms))


def speed_up_text(arms, arm, baseline):
    """`speed_up_of` with its interval, as tables show it."""
    factor, interval = speed_up_of(arms, arm, baseline), interval_of(arms, arm, baseline)
    if not isinstance(factor, float):
        return factor or "-"
    return f"{factor:.2f}x" + (f" [{interval[0]:.2f}..{interval[1]:.2f}]" if interval else "")


def summary_frame(rows):
    """A line per arm: status, reason, median, min, p90 and number of samples of every stage, speed-ups."""
    arms = by_arm(rows)
    lines = []
    for arm, stages in arms.items():
        status, reason = arm_state(stages)
        line = {"arm": arm, "status": status, "reason": reason, "launches": len(stages["end_to_end"].by_launch)}
        if is_lossy(stages["end_to_end"]):
            line |= {f"lossy_{name}": value for name, value in stages["end_to_end"].provenance["lossy"].items()}
        for stage, row in stages.items():
            for name, value in (summary(row.samples) or {}).items():
                line[f"{stage}_{name}" + ("" if name == "n" else f"_{STAGES[stage][0]}")] = value
        line.update({f"{stage}_share_of_limit": share for stage, share in shares_of(stages).items()})
        line["load_s_per_gb"] = load_rate(stages)
        for baseline in baselines(arms):
            line[f"speedup_vs_{baseline}"] = speed_up_of(arms, arm, baseline)
            low, high = interval_of(arms, arm, baseline) or (None, None)
            line |= {f"speedup_vs_{baseline}_low": low, f"speedup_vs_{baseline}_high": high}
        lines.append(line)
    return pd.DataFrame(lines).set_index("arm")


def _number(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(row):
    """median [min..p90], one number for a single sample, a dash for none."""
    figures = summary(row.samples)
    if figures is None:
        return "-"
    if figures["n"] == 1:
        return _number(figures["median"])
    return f"{_number(figures['median'])} [{_number(figures['min'])}..{_number(figures['p90'])}]"


def launches_cell(row):
    """How many launches made a row, and their rounds."""
    counts = [len(samples) for samples in row.by_launch]
    spread = f"{min(counts)} to {max(counts)}" if len(set(counts)) > 1 else f"{counts[0]}" if counts else ""
    return f"{len(counts)} x {spread}" if counts else "-"


def load_rate(stages):
    """Seconds of loading per GB (1e9 bytes) of weights of one arm; None where one of them is not known."""
    figures, weights = summary(stages["load"].samples), work_of(stages).get("weights_bytes")
    return figures["median"] / 1e3 / (weights / 1e9) if figures and weights else None


def display_frame(rows, spreads=None):
    """What people read: a column per arm, lines for status, passes, stages, shares of the limits and speed-ups.

    `spreads` are those of bench.hosts: they stand beside speed-ups against arms that the host paces.
    """
    arms = by_arm(rows)
    shares = {arm: shares_of(stages) for arm, stages in arms.items()}
    rates = {arm: load_rate(stages) for arm, stages in arms.items()}
    limited = [stage for stage in LABELS if any(stage in share for share in shares.values())]
    lines = [stage for stage in LABELS if stage not in OPTIONAL or any(stage in stages for stages in arms.values())]
    columns = {}
    for arm, stages in arms.items():
        column = {"status": arm_state(stages)[0], LAUNCHES: launches_cell(stages["end_to_end"]),
                  "passes (n)": str(len(stages["end_to_end"].samples))}
        for stage in lines:
            column[f"{LABELS[stage]} ({STAGES[stage][0]})"] = cell(stages[stage]) if stage in stages else "-"
            if stage == "load" and any(rates.values()):
                column[LOAD_RATE] = "-" if rates[arm] is None else _number(rates[arm])
        for stage in limited:
            column[f"{LABELS[stage]}, share of limit"] = share_text(stages, stage)
        for baseline in baselines(arms):
            paced = ", which its host paces" if is_host_paced(baseline, rows) else ""
            spread = (spreads or {}).get((arm, baseline), "") if paced else ""
            column[f"speed-up vs {baseline}{paced}"] = "; ".join(
                filter(None, [speed_up_text(arms, arm, baseline), str(spread)]))
        columns[arm] = column
    return pd.DataFrame(columns)


def lossy_frame(rows):
    """The lossy arms' table: how far they are off, then their times; no speed-ups, as they compute something else."""
    frame = display_frame(rows)
    kept = frame.loc[[name for name in frame.index if not name.startswith("speed-up")]]
    return pd.concat([kept.iloc[:2], losses_frame(by_arm(rows)), kept.iloc[2:]])


def device_name(rows):
    """Name of the GPU that the arms ran on, or would have run on where none did; None for the CPU."""
    names = [row.provenance["versions"].get("device_name") for row in rows]
    if rows[0].case.device == "gpu" and isinstance(gpu := rows[0].provenance.get("gpu"), dict):
        names.append(gpu["name"])
    return next((name for name in names if name), None)


def rounds_made(rows):
    """{arm: rounds that it made of the gated case}, without the arms that made none."""
    done_by_arm = {row.arm: row.provenance["rounds"]["done"] for row in of_first_case(rows)}
    return {arm: done for arm, done in done_by_arm.items() if done}


def has_enough_rounds(rows):
    """Whether any arm made as many rounds as an interval of a median needs."""
    return max(rounds_made(rows).values(), default=0) >= ROUNDS_AT_LEAST


def rounds_notes(rows):
    """That the table is incomplete, if arms that are fine did not all make the same rounds, and enough of them."""
    arms = by_arm(of_first_case(rows))
    done = {arm: stages["end_to_end"].provenance["rounds"]["done"] for arm, stages in arms.items()
            if arm_state(stages)[0] == "ok" or arm_state(stages)[1] == OUT_OF_TIME}
    if not done or (min(done.values()) >= ROUNDS_AT_LEAST and len(set(done.values())) == 1):
        return []
    texts = ", ".join(f"{arm} {rounds}" for arm, rounds in done.items())
    return [f"Incomplete: every arm should have made the same rounds, {ROUNDS_AT_LEAST} or more. Made: {texts}."]


def case_line(rows):
    """Machine, threads, dtype, preset, weights and tokens, in one line."""
    case, conditions = rows[0].case, rows[0].provenance
    weights = "synthetic weights" if conditions["checkpoint"]["synthetic"] else "weights not marked as synthetic"
    return "; ".join([
        device_name(rows) or f"{conditions['cpu']}, {plural(conditions['cores'], 'core')}",
        plural(conditions["threads"], "CPU thread"), f"preset {case.preset}", case.dtype, weights,
        f"batch {case.batch}", f"{case.prompt_tokens} prompt + {plural(case.new_tokens, 'new token')}"])


def conditions_line(rows):
    """`case_line`, how many rounds were made, and how they ended."""
    conditions = rows[0].provenance
    rounds, arms = conditions["rounds"], [row.provenance["rounds"] for row in of_first_case(rows)]
    done, ended = max(arm["done"] for arm in arms), dict.fromkeys(arm.get("stopped") for arm in arms if arm["done"])
    return "; ".join([
        case_line(rows),
        plural(done, "round") + (f" of {rounds['asked']}, interrupted" if rounds["interrupted"] else
                                 "".join(f", {ENDED[how]}" for how in ended if how))
        + (", incomplete" if rounds_notes(rows) else ""),
        "one arm after the other" if conditions.get("sequential") else "arms interleaved"])


def notes(rows):
    """Lines under a table: how to read it, what memory counts, which Paddles, why an arm has no figures."""
    counted = sorted({row.counted for row in rows if row.counted})
    interval = (" of launches [95 % interval, launches and their rounds drawn anew]" if has_intervals(rows) else
                ", without an interval: one launch of an arm does not say how launches differ")
    lines = ["Times are median [min..p90] over passes, decode / token the mean of a pass's steps; speed-ups are ratios "
             f"of end-to-end medians{interval}."]
    lines += rounds_notes(rows) + busy_notes(rows)
    if counted:
        lines.append(f"Memory: {', '.join(counted)}; peak since the arm began.")
    lines += gpu_clock_notes(rows) + limit_notes(rows[0].provenance.get("ceilings")) + packed_notes(by_arm(rows))
    lines += losses_notes(rows)
    paddles = {arm: stages["end_to_end"].provenance["versions"].get("paddle") for arm, stages in by_arm(rows).items()}
    if len(set(paddles.values()) - {None}) > 1:
        lines.append(f"{', '.join(f'{arm} on Paddle {version}' for arm, version in paddles.items() if version)}.")
    for arm, stages in by_arm(rows).items():
        status, reason = arm_state(stages)
        chosen = stages["end_to_end"].provenance["versions"].get("chosen")
        lines += [f"{arm}: {chosen}."] if chosen else []
        lines += [f"{arm}: {status}: {reason}"] if status != "ok" else []
    return lines


def gpu_clock_notes(rows):
    """How to read the GPU's clock, and whether the host or the GPU sets the pace of each arm's decode."""
    lines, stages_seen = [], {row.stage for row in rows if row.samples}
    if stages_seen & set(GPU_STAGES):
        lines.append("GPU clock: between CUDA events on the arm's stream, waiting for launches included; what the "
                     "synchronised host clock shows beyond it is the host's: preparing, launching, copying, waking up.")
    if stages_seen & set(COLD_STAGES):
        lines.append("Cold L2: the cache was overwritten before the stage, and before each decode step.")
    for arm, stages in by_arm(rows).items():
        host, gpu = (summary(stages[stage].samples) if stage in stages else None
                     for stage in ("host_step", "token_gpu"))
        if host and gpu:
            share = host["median"] / gpu["median"]
            lines.append(f"{arm}: the host launches a decode step in {100 * share:.0f} % of the GPU's time for it"
                         + (": the host sets the pace." if share >= HOST_BOUND else "."))
    return lines


def _figure_text(value, unit):
    if isinstance(value, dict):
        return f"{_number(value['median'])} [{_number(value['min'])}..{_number(value['max'])}] {unit}"
    return str(value)


def during_text(during):
    """One line of what was sampled while the run measured."""
    parts = [f"load average {_figure_text(during['load_average'], '')}".strip(),
             f"cores used by other programs {_figure_text(during['others_cores'], '')}".strip(),
             f"CPU clock {_figure_text(during['cpu_mhz'], 'MHz')}"]
    gpu = during["gpu"]
    if isinstance(gpu, str):
        return "; ".join([*parts, f"GPU {gpu}"])
    parts += [f"GPU clock {_figure_text(gpu['sm_mhz'], 'MHz')}", f"memory {_figure_text(gpu['memory_mhz'], 'MHz')}",
              _figure_text(gpu["temperature_c"], "°C"), _figure_text(gpu["power_w"], "W")]
    events = gpu["events"]
    event_texts = events if isinstance(events, str) else ", ".join(
        f"{name} in {100 * share:.0f} % of the looks" for name, share in events.items()) or "none"
    return "; ".join([*parts, f"clock events {event_texts}"])


def _versions_text(versions):
    loaded = versions.get("loaded", {})
    wheels = [f"{name} {version}" for name, version in sorted(versions.items()) if isinstance(version, str)]
    files = [f"{family} {', '.join(f'{name} ({version})' for name, version in found.items())}"
             for family, found in loaded.items()]
    return "; ".join([", ".join(wheels), f"loaded: {', '.join(files) or 'not recorded'}",
                      *([f"inside torch: {', '.join(versions['linked'])}"] if versions.get("linked") else [])])


def provenance_notes(rows):
    """Lines beside a table: what was measured with what, and where."""
    conditions, missing = rows[0].provenance, "not recorded"
    git, checkpoint = conditions.get("git", {}), conditions.get("checkpoint", {})
    image, gpu = conditions.get("image", {}), conditions.get("gpu", missing)
    facts = gpu if isinstance(gpu, str) else ", ".join(f"{name} {value}" for name, value in gpu.items())
    sha = git.get("sha")
    lines = [f"Measured {conditions.get('time', missing)}, git {sha or git.get('reason', missing)}"
             f"{' with uncommitted changes' if git.get('dirty') else ''}, benchmark version {rows[0].benchmark}, "
             f"row schema {rows[0].schema}.",
             f"Weights {checkpoint.get('hash')} ({'synthetic' if checkpoint.get('synthetic') else 'not synthetic'}"
             f", seed {conditions.get('seeds', {}).get('weights', missing)}); image {image.get('name', missing)} "
             f"{image.get('xxh3_128', '')}; decoding greedy.",
             f"Machine: {conditions['platform']}; governor: {conditions.get('governor', missing)}; "
             f"load average before: {conditions['load_average']:.2f}; GPU: {facts}.",
             f"While measuring: {during_text(conditions['during']) if 'during' in conditions else missing}."]
    lines += [f"{arm}: {_versions_text(stages['end_to_end'].provenance['versions'])}." for arm, stages in
              by_arm(rows).items() if stages["end_to_end"].provenance["versions"]]
    return lines


def repro_of(rows):
    """The command that measures the same again."""
    return rows[0].provenance.get("repro") or shell_line(rows[0].provenance["argv"])


def provenance_markdown(rows):
    """`provenance_notes` as a list, and the command to measure it again."""
    return ["\n".join(f"* {markdown_text(line)}" for line in provenance_notes(rows)), again_markdown(rows)]


def again_markdown(rows):
    """The command that measures the same again, as code."""
    command = repro_of(rows)
    fence = "`" * (1 + max(map(len, re.findall("`+", command)), default=0))
    pad = " " if "`" in (command[:1], command[-1:]) else ""
    return f"Measure it again: {fence}{pad}{command}{pad}{fence}"


def busy_notes(rows):
    """That other programs took part of the machine while this was measured, if they did.

    What ran before, as the build that `make bench` begins with, does not count."""
    cores = rows[0].provenance["cores"]
    others = [row.provenance.get("during", {}).get("others_cores") for row in rows]
    used = max((figures["median"] for figures in others if isinstance(figures, dict)), default=0)
    return [f"Other programs used {used:.1f} of {plural(cores, 'core')} while this was measured: measure again on an "
            "idle machine before trusting differences."] if used > OTHERS_SHARE * cores else []


def markdown_text(text):
    """A text as Markdown that shows it: no HTML, code or column begins in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("`", "&#96;").replace("|", "&#124;")


def markdown_table(frame, corner=""):
    """A frame of texts as a Markdown table, its index in the first column, all others right-aligned."""
    lines = [[markdown_text(str(text)) for text in line] for line in (
        [corner, *frame.columns],
        *([name, *line] for name, line in zip(frame.index, frame.itertuples(index=False), strict=True)))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = [" | ".join([line[0].ljust(widths[0]), *(text.rjust(width) for text, width in
                                                     zip(line[1:], widths[1:], strict=True))]) for line in lines]
    rule = "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([f"| {texts[0]} |", f"|{rule}|", *(f"| {text} |" for text in texts[1:])])


def markdown(rows, spreads=None):
    """The table with its conditions as Markdown; lossy arms have one of their own."""
    exact, lossy = apart(rows)
    tables = [markdown_table(display_frame(exact, spreads))] if exact else []
    if lossy:
        tables += ["Arms whose weights are not the checkpoint's any more, not to be set beside those above as equals:",
                   markdown_table(lossy_frame(lossy))]
    return "\n\n".join([markdown_text(conditions_line(rows)), *tables,
                        *map(markdown_text, notes(rows)), *provenance_markdown(rows)]) + "\n"


def show(rows, console):
    """Print the gated case's table with its conditions."""
    rows = of_first_case(rows)
    exact, lossy = apart(rows)
    for frame in [*([display_frame(exact)] if exact else []), *([lossy_frame(lossy)] if lossy else [])]:
        table = Table("")
        for arm in frame.columns:
            table.add_column(arm, justify="right")
        for name, line in zip(frame.index, frame.itertuples(index=False), strict=True):
            table.add_row(name, *map(Text, line))
        console.print(table)
    for line in [conditions_line(rows), *notes(rows)]:
        console.print(line)

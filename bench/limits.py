"""How near an arm is to what the device can do: bytes at the measured read rate, operations at the measured rate."""

from bench.statistics import summary
from ops import formats

LIMITS = {  # stage -> what it needs, of bench.work; the rate that limits it, of bench.ceilings
    "vision": ("vision_flops", "vision_flop_per_s"), "prefill": ("prefill_flops", "prefill_flop_per_s"),
    "token": ("decode_bytes", "read_bytes_per_s")}


def work_of(stages):
    """What the case asks of one arm, see bench.work; {} of rows that do not say."""
    return stages["end_to_end"].provenance.get("work") or {}


def limits_of(stages):
    """{stage: (needed, rate)} of one arm, bytes or operations and how many a second, where the rate was measured."""
    ceilings, work = stages["end_to_end"].provenance.get("ceilings") or {}, work_of(stages)
    return {stage: (work[needed], ceilings[rate]) for stage, (needed, rate) in LIMITS.items()
            if rate in ceilings and needed in work}


def shares_of(stages):
    """{stage: share of the device's measured limit} of one arm, for the stages whose limit was measured."""
    shares = {}
    for stage, (needed, rate) in limits_of(stages).items():
        figures = summary(stages[stage].samples) if stage in stages else None
        if figures:
            shares[stage] = needed / rate / (figures["median"] / 1e3)
    return shares


def share_text(stages, stage):
    """The share with its two terms: "89 % (14.20 GB at 4410 GB/s)"; a dash where it is not known."""
    if stage not in (shares := shares_of(stages)):
        return "-"
    needed, rate = limits_of(stages)[stage]
    terms = (f"{needed / 1e9:.2f} GB at {rate / 1e9:.0f} GB/s" if stage == "token" else
             f"{needed / 1e12:.2f} TFLOP at {rate / 1e12:.0f} TFLOP/s")
    return f"{100 * shares[stage]:.0f} % ({terms})"


def limit_notes(ceilings):
    """What the shares of limits are shares of, and why one is missing."""
    if not ceilings:
        return []
    if "reason" in ceilings:
        return [f"No shares of the device's limits: {ceilings['reason']}"]
    lines = []
    if "read_bytes_per_s" in ceilings:
        lines.append(f"Limit of a decode step: the bytes of decoder and lm_head at the measured read rate of "
                     f"{ceilings['read_bytes_per_s'] / 1e9:.0f} GB/s ({ceilings['read_way']}).")
    for part in ("vision", "prefill"):
        if f"{part}_flop_per_s" in ceilings:
            lines.append(f"Limit of {part}: its operations at the rate of torch.matmul measured at its shapes, "
                         f"{ceilings[f'{part}_flop_per_s'] / 1e12:.0f} TFLOP/s.")
    return lines + [f"No {part} limit: {ceilings[f'{part}_reason']}" for part in ("read", "vision", "prefill")
                    if f"{part}_reason" in ceilings]


def packed_notes(arms):
    """Which arms keep matrices in fewer bits than the dtype has, and what a decode step reads there and elsewhere."""
    works = {arm: work_of(stages) for arm, stages in arms.items()}
    packed = {arm: work for arm, work in works.items() if "weights" in work}
    others = next((work["decode_bytes"] for arm, work in works.items() if work and arm not in packed), None)
    elsewhere = f", that of the other arms {others / 1e9:.2f} GB" if others else ""
    return [f"{arm} keeps the language model's matrices in {formats.describe(work['weights'])}: its decode step "
            f"reads {work['decode_bytes'] / 1e9:.2f} GB of weights{elsewhere}." for arm, work in packed.items()]

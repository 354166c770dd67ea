"""Arms that lose what others keep (ArmSpec.lossy): told apart, and how far they are off."""

import pandas as pd


def is_lossy(row):
    """Whether the row's arm loses what others keep."""
    return "lossy" in row.provenance


def apart(rows):
    """(rows of the arms that may be set beside each other, rows of lossy arms)."""
    return [row for row in rows if not is_lossy(row)], [row for row in rows if is_lossy(row)]


def losses_frame(arms):
    """A column per lossy arm of {arm: {stage: row}}: what it loses, and what the gate measured of that."""
    columns = {}
    for arm, stages in arms.items():
        lossy = stages["end_to_end"].provenance["lossy"]
        kl, steps = lossy.get("kl"), lossy.get("steps")
        columns[arm] = {
            "what is lost": lossy["what"], "KL from float32 (nats)": "-" if kl is None else f"{kl:.3g}",
            "likeliest token the same": f"{100 * lossy['top1']:.0f} % of {steps}" if steps else "-"}
        if "text_kl" in lossy:
            columns[arm] |= {
                "KL over a text (nats)": f"{lossy['text_kl']:.3g}",
                "likeliest token the same, text": f"{100 * lossy['text_top1']:.1f} % of {lossy['text_positions']}"}
    return pd.DataFrame(columns).fillna("-")


def losses_notes(rows):
    """That losses of random weights say nothing of a model's quality."""
    synthetic = any(is_lossy(row) and row.provenance["checkpoint"]["synthetic"] for row in rows)
    return ["The weights are random: what is lost here is no measure of a model's quality."] if synthetic else []

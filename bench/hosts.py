"""Speed-ups against arms that the host paces: how far they spread over the stored runs of the same card and case."""

from dataclasses import dataclass
from pathlib import Path

from bench.arms import HOST_PACED
from bench.history import FILE, read, unreadable
from bench.provenance import machine_name
from bench.report import device_name
from core.text import plural


@dataclass(frozen=True)
class Spread:
    """Least and largest speed-up, the number of runs they are of, and of hosts (0: the history does not say)."""

    low: float
    high: float
    runs: int
    hosts: int

    def __str__(self):
        hosts = f" on {plural(self.hosts, 'host')}" if self.hosts else ""
        return f"{self.low:.2f}..{self.high:.2f}x in {plural(self.runs, 'stored run')}{hosts}"


def spreads(out, rows):
    """{(arm, baseline): Spread} of the history in the results folder `out`, for the card and case of these rows; {} on
    a CPU, and where there is no history that can be read."""
    if rows[0].case.device != "gpu" or not (Path(out) / FILE).is_file() or unreadable(out):
        return {}
    place = machine_name(rows[0].provenance, device_name(rows)), rows[0].case.slug, "end_to_end"
    runs = {}   # arm -> date of the run -> its line
    for key, lines in read(out)[0].items():
        if (key.machine, key.case, key.stage) == place:
            runs.setdefault(key.arm, {}).update({line["date"]: line for line in lines})
    found = {}
    for baseline in runs.keys() & set(HOST_PACED):
        for arm in runs.keys() - {baseline}:
            dates = runs[arm].keys() & runs[baseline].keys()
            ratios = [runs[baseline][date]["median"] / runs[arm][date]["median"] for date in dates]
            hosts = {runs[arm][date].get("host") for date in dates} - {None}
            if ratios:
                found[arm, baseline] = Spread(min(ratios), max(ratios), len(ratios), len(hosts))
    return found

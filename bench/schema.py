"""The row that everything measured is stored as: one arm, one stage, the raw ordered samples, and all conditions.

A results folder holds them as rows.jsonl, one JSON object a line; tables, plots and exports derive from it alone.
docs/results-schema.md describes every field.
"""

import dataclasses
import json
from dataclasses import dataclass, field

from core import json_lines
from core.errors import UserError
from core.files import atomic_file
from core.text import escaped, escaped_texts

SCHEMA = 4              # of a row's fields and stages
READABLE = (1, 2, 3, 4)    # 1 lacks `benchmark`, which was 1 then, and some of the provenance; 2 the stages of GPU
# clocks; 3 the stage without preprocessing
BENCHMARK = 3        # what the stages' times mean: raised when figures before and after cannot be compared
STAGES = {  # stage -> (unit, what is measured)
    "preprocess": ("ms", "decoded image to normalised pixels"),
    "vision": ("ms", "pixels to image features, upload included, and the host's preparing of the prompt meanwhile"),
    "prefill": ("ms", "prepared prompt and image features to the first token on the host"),
    "ttft": ("ms", "decoded image to the first token: preprocess + vision + prefill"),
    "token": ("ms", "one decode step: the whole decode divided by its steps"),
    "decode": ("ms", "first token to last token"),
    "vision_gpu": ("ms", "vision on the GPU's clock, waiting for launches included"),
    "prefill_gpu": ("ms", "prefill on the GPU's clock"),
    "token_gpu": ("ms", "the decode on the GPU's clock, divided by its steps"),
    "vision_cold": ("ms", "vision on the GPU's clock after the L2 cache was overwritten"),
    "prefill_cold": ("ms", "prefill likewise"),
    "token_cold": ("ms", "one decode step likewise, the cache overwritten before each"),
    "end_to_end": ("ms", "decoded image to last token"),
    "without_preprocess": ("ms", "normalised pixels to last token: end_to_end less preprocess"),
    "host_step": ("ms", "what the host needs to launch one decode step, where it does not wait for it; mean of a pass"),
    "published": ("ms", "image file to text by the published comparison's protocol, see bench/reproduce.py"),
    "first_run": ("ms", "the first pass end to end, before any warm-up, in no other figure"),
    "new_length": ("ms", "image to first token of the first request of a prompt length, with what is compiled for it"),
    "load": ("ms", "weights to ready, without importing the framework"),
    "compile": ("ms", "compiling and capturing for this case, in no other figure"),
    "peak_memory": ("MiB", "since the process began; `counted` says what"),
    "device_memory": ("MiB", "largest use of the whole device less that before the arm began"),
    "beyond_weights": ("MiB", "device_memory less the weights' bytes as the device keeps them"),
}
GPU_STAGES = ("vision_gpu", "prefill_gpu", "token_gpu")
COLD_STAGES = ("vision_cold", "prefill_cold", "token_cold")
OPTIONAL = ("without_preprocess", *GPU_STAGES, *COLD_STAGES, "host_step", "first_run", "new_length", "published",
            "compile", "device_memory", "beyond_weights")   # rows only if measured
CASE_STAGES = ("preprocess", "vision", "prefill", "ttft", "token", "decode", "end_to_end", "without_preprocess",
               *GPU_STAGES, "host_step", "first_run", "compile")
TIMED = ("preprocess", "vision", "prefill", "ttft", "token", "decode", "end_to_end")
STATUSES = ("ok", "skipped", "failed", "oom")


@dataclass(frozen=True)
class Case:
    """What was computed."""

    preset: str
    dtype: str
    device: str          # "cpu" | "gpu"
    batch: int
    prompt_tokens: int   # per row, image slots included
    new_tokens: int      # per row

    @property
    def slug(self):
        """Name of the case's folder."""
        return f"{self.preset}-{self.dtype}-{self.device}-b{self.batch}-p{self.prompt_tokens}-n{self.new_tokens}"


@dataclass(frozen=True)
class Row:
    """One stage of one arm. `samples` is empty unless something was measured; `reason` is empty for status ok.

    Its texts are printable and one line each, whatever a file's name, a prompt or an error held: see core.text.escaped.
    """

    arm: str
    stage: str
    status: str
    reason: str
    samples: list
    case: Case
    provenance: dict     # bench/provenance.py
    counted: str = ""    # what peak_memory and device_memory count
    unit: str = field(init=False)
    schema: int = SCHEMA
    benchmark: int = BENCHMARK

    def __post_init__(self):
        if self.stage not in STAGES or self.status not in STATUSES:
            raise ValueError(f"stage {self.stage!r} or status {self.status!r} is not in the schema")
        if not (isinstance(self.benchmark, int) and isinstance(self.samples, list)
                and all(isinstance(sample, (int, float)) for sample in self.samples)):
            raise ValueError("benchmark is no number or samples are no list of numbers")
        if (self.status == "ok") == bool(self.reason):
            raise ValueError(f"status {self.status!r} with reason {self.reason!r}")
        object.__setattr__(self, "unit", STAGES[self.stage][0])
        object.__setattr__(self, "reason", escaped(self.reason))
        object.__setattr__(self, "provenance", escaped_texts(self.provenance))

    def to_json(self):
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, raw):
        """Raises UserError for another schema version, ValueError, KeyError or TypeError for anything else amiss."""
        if raw.get("schema") not in READABLE:
            raise UserError(f"rows of schema {raw.get('schema')!r}, this version reads "
                            f"{' and '.join(map(str, READABLE))}: measure again")
        if not all(type(sample) in (int, float) for sample in raw["samples"]):
            raise ValueError("a sample that is no number")
        del raw["unit"]
        return cls(**{"benchmark": 1, **raw, "case": Case(**escaped_texts(raw["case"]))})  # schema 1 does not name it


def check_comparable(rows, others):
    """Raise UserError in one line when two sets of rows were not measured by the same version of the benchmark."""
    versions = sorted({row.benchmark for row in [*rows, *others]})
    if len(versions) > 1:
        raise UserError(f"rows of benchmark versions {' and '.join(map(str, versions))} cannot be compared: "
                        "measure both again with this version")


def write_rows(path, rows):
    """Write a rows.jsonl file."""
    with atomic_file(path, "w") as f:
        f.writelines(row.to_json() + "\n" for row in rows)


def read_rows(path, again="measure again with make bench"):
    """Rows of a rows.jsonl file, in order; raises UserError when it is none. `again` says how such a file is made."""
    remedy, rows = f"git checkout HEAD -- {{path}} brings a stored one back, else {again}", []
    for number, raw in json_lines.read(path, remedy):
        try:
            rows.append(Row.from_dict(raw))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise json_lines.fault(path, number, f"is no row of this benchmark ({e})", remedy) from None
    if not rows:
        raise UserError(f"{path} holds no rows: {again}")
    check_comparable(rows, [])
    return rows

"""A weight format is a folder and a line of the registry: one is added to a copy of the sources, where the operators
are built anew and the tiny model runs with it on the CPU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
NEEDED = ("core", "ops", "export", "infer")
IN_PYTHON = '''
import numpy as np

from ops.formats.base import Packed


class Halves(Packed):
    values, bits, extra, description = "float32", 32, "low", "two halves"

    def is_usable(self, config, placement):
        return not placement.on_gpu

    def pack(self, matrices):
        halves = matrices.view("<u2").reshape(*matrices.shape, 2)
        return [np.ascontiguousarray(half).view(np.int32) for half in (halves[..., 1] ^ 0x5A5A, halves[..., 0])]


FORMAT = Halves()
'''
IN_CPP = '''
#pragma once
#include <cstring>

namespace qwen {
struct Halves : Format<kFloat32, false, 16> {
    static constexpr std::string_view kName = "halves";
    static constexpr int64_t extra_bytes(int64_t rows, int64_t columns) { return rows * columns * 2; }
    static void unpack(const void* matrix, const void* extra, int64_t first, int64_t rows, int64_t columns, float* to) {
        const uint16_t* const high = static_cast<const uint16_t*>(matrix) + first * columns;
        const uint16_t* const low = static_cast<const uint16_t*>(extra) + first * columns;
        for (int64_t i = 0; i < rows * columns; ++i) {
            const uint32_t bits = static_cast<uint32_t>(high[i] ^ 0x5A5A) << 16 | low[i];
            std::memcpy(to + i, &bits, sizeof bits);
        }
    }
};
}  // namespace qwen
QWEN_VL_FORMAT(Halves)
'''
IN_REGISTRY = '#include "ops/formats/halves/format.h"\n'
PROGRAM = '''
import json

import numpy as np

from core.placement import CPU
from export.__main__ import export
from export.synthetic import write_checkpoint
from infer.engine import Engine
from ops import selfcheck

export(("vision", "language"), write_checkpoint("tiny", "checkpoint"), "exported")
rng, found = np.random.default_rng(0), []
prompts = [rng.integers(0, 256, length).tolist() for length in (5, 90, 17)]
for weights in ("auto", "float32"):
    engine = Engine("exported", CPU, weights)
    tokens = [engine.generate([prompt], max_new_tokens=8) for prompt in prompts]
    tokens += engine.generate(prompts * 3, max_new_tokens=8)
    run = engine.start(prompts)
    run.prefill()
    found.append({"weights": engine.weights, "step_bytes": engine.step_bytes, "tokens": tokens,
                  "logits": run.logits().ravel().tolist()})
checked = [name for name, error in selfcheck.operator_errors(CPU, "float32") if error < 1e-4]
print(json.dumps({"packed": found[0], "plain": found[1], "checked": checked}))
'''


def test_a_folder_and_a_line(tmp_path):
    for name in NEEDED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / "ops" / "formats" / "halves"
    folder.mkdir()
    (folder / "__init__.py").write_text(IN_PYTHON)
    (folder / "format.h").write_text(IN_CPP)
    registry = tmp_path / "ops" / "formats" / "registry.h"
    lines = registry.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if line.endswith('/format.h"\n'))
    registry.write_text("".join([*lines[:last + 1], IN_REGISTRY, *lines[last + 1:]]))

    def run(*command):
        environment = {key: value for key, value in os.environ.items() if key not in ("QWEN_VL_OPS", "PYTHONPATH")}
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    run("-m", "ops.build")
    found = json.loads(run("-c", PROGRAM).splitlines()[-1])
    packed, plain = found["packed"], found["plain"]
    assert (packed["weights"], plain["weights"]) == ("halves", "float32")
    assert packed["tokens"] == plain["tokens"] and packed["step_bytes"] == plain["step_bytes"]
    np.testing.assert_allclose(packed["logits"], plain["logits"], rtol=1e-5, atol=1e-5)
    # decoder twice and head four times, for two batch sizes
    assert sum("weights in halves" in name for name in found["checked"]) == 12

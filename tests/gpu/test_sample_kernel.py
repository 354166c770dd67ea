"""The sampling kernel: the CPU kernel's state on the same logits, the distribution, the reference, CUDA graphs."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from scipy import stats

from infer.sampling_parameters import Sampling, records
from tests.gpu.kernels import ROOT, need_gpu
from tests.sampling_reference import drawn, probabilities

need_gpu()
import torch  # noqa: E402

pytestmark = pytest.mark.gpu
pytest_plugins = ["tests.gpu.prefill_fixtures"]

FILTERS = [
    dict(temperature=1.0), dict(temperature=0.5), dict(temperature=3.0, top_k=7), dict(temperature=1.0, top_p=0.6),
    dict(temperature=2.0, top_p=0.9, top_k=25), dict(temperature=1.5, repetition_penalty=1.7, top_p=0.95),
    dict(temperature=1.0, min_new_tokens=3), dict(temperature=0.7, top_k=1), dict(repetition_penalty=1.4), dict(),
]
STOPS, NO_IMAGE, SLOTS = [3, 9], 10**9, 4


@pytest.fixture(scope="module")
def cpu(tmp_path_factory):
    """The CPU kernel alone, which needs no framework: a function over a struct of pointers to host memory."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++ for the CPU kernel")
    path = tmp_path_factory.mktemp("cpu") / "sample.so"
    subprocess.run(["g++", "-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC",
                    "-shared", f"-I{ROOT}", ROOT / "ops" / "paddle" / "cpu" / "sample.cc", "-o", path], check=True)
    return ctypes.CDLL(str(path))["_ZN7qwen_vl3cpu6sampleERK12QwenVlSample"]


def make_state(logits, samplings, prompts, finished=()):
    """Tensors of one call on the CPU; logits f32 [batch, columns, vocab]."""
    batch, _, vocab = logits.shape
    zeros = torch.zeros(batch, dtype=torch.int32)
    state = {"logits": torch.from_numpy(logits), "lengths": zeros + 1, "stop_tokens": torch.tensor(STOPS),
             "sampling": torch.from_numpy(records(samplings, prompts, vocab, NO_IMAGE)),
             "positions": torch.arange(batch, dtype=torch.int32) * 100, "next_tokens": zeros.long() - 1,
             "generated": torch.zeros(batch, SLOTS, dtype=torch.int64), "counts": zeros.clone(),
             "finished": zeros.clone()}
    state["finished"][list(finished)] = 1
    return state


def arguments(state):
    batch, columns, vocab = state["logits"].shape
    return dict(state, batch=batch, columns=columns, vocab=vocab, stop_count=len(STOPS), generated_slots=SLOTS)


def on_gpu(state):
    return {name: tensor.cuda() for name, tensor in state.items()}


def random_logits(batch, vocab, columns=1, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal([batch, columns, vocab]) * rng.uniform(0.5, 12, [batch, 1, 1])).astype(np.float32)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("vocab", [12, 61, 3001, 151936, 64 * 4095])
def test_state_is_the_cpu_kernel_s(kernels, cpu, vocab, columns):
    batch = len(FILTERS)
    logits = random_logits(batch, vocab, columns)
    logits[1, -1, ::3] = -np.inf
    logits[2, -1, 1] = np.nan
    logits[3] = np.round(logits[3])  # many equal ones
    samplings = [Sampling(**given, seed=row * 2**35 + 1) for row, given in enumerate(FILTERS)]
    host = make_state(logits, samplings, [[0, 5]] * batch, finished=[9])
    device = on_gpu(host)
    choose = kernels.prepare_stage("sample", **arguments(device))
    struct = kernels.struct("sample", **arguments(host))
    for _ in range(SLOTS + 1):
        cpu(ctypes.byref(struct))
        choose()
        for name in set(host) - {"logits"}:
            assert torch.equal(device[name].cpu(), host[name]), name
    assert int(device["next_tokens"][9]) == -1


def test_distribution(kernels):
    vocab, draws = 61, 2000
    logits = random_logits(1, vocab, seed=1) / 4
    for given in FILTERS[:7]:
        samplings = [Sampling(**given, seed=i) for i in range(draws)]
        state = on_gpu(make_state(np.repeat(logits, draws, 0), samplings, [[3, 4, 17]] * draws))
        kernels.stage("sample", **arguments(state))
        counts = np.bincount(state["next_tokens"].cpu().numpy(), minlength=vocab)
        expected = draws * probabilities(logits[0, 0], **given, seen=[3, 4, 17], stop_tokens=STOPS)
        assert counts[expected == 0].sum() == 0
        order = np.argsort(expected)
        bins = (np.cumsum(expected[order]) // 10).astype(int)
        observed, wanted = (np.bincount(bins, weights=values[order]) for values in (counts, expected))
        assert stats.chisquare(observed[wanted > 0], wanted[wanted > 0]).pvalue > 1e-3


def test_whole_vocabulary_draws_what_the_reference_draws(kernels):
    batch, vocab = 8, 151936
    logits = random_logits(batch, vocab, seed=2) / 6
    given = dict(temperature=0.9, top_p=0.8, top_k=1000)
    state = on_gpu(make_state(logits, [Sampling(**given, seed=row) for row in range(batch)], [[]] * batch))
    kernels.stage("sample", **arguments(state))
    expected = [drawn(probabilities(logits[row, 0], **given), row, row * 100 + 1) for row in range(batch)]
    assert state["next_tokens"].tolist() == expected


def test_in_a_cuda_graph(kernels):
    logits = random_logits(3, 5000, seed=3) / 6
    samplings = [Sampling(1.0, seed=row) for row in range(3)]
    direct, replayed = (on_gpu(make_state(logits, samplings, [[]] * 3)) for _ in range(2))
    choose = kernels.prepare_stage("sample", **arguments(direct))
    for _ in range(SLOTS):
        choose()
    again = kernels.prepare_stage("sample", **arguments(replayed))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        again()
    for _ in range(SLOTS):
        graph.replay()
    assert torch.equal(direct["generated"], replayed["generated"]) and direct["generated"].unique().numel() > 4


def test_vocabulary_out_of_range_is_refused(kernels):
    with pytest.raises(RuntimeError, match="do not cover this shape"):
        kernels.stage("sample", **arguments(on_gpu(make_state(random_logits(1, 64 * 4095 + 1), [Sampling(1.0)], [[]]))))

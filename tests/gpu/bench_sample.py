"""Times the sampling kernel on the published vocabulary: python -m tests.gpu.bench_sample

Logits as a model gives them (normal, standard deviation 3), by replay of a CUDA graph; microseconds a call.
"""

import statistics

import torch

from infer.sampling_parameters import Sampling, records
from tests.gpu.prefill_library import Library

VOCABULARY, CALLS, REPEATS = 151936, 64, 7
FILTERS = [dict(temperature=1.0), dict(temperature=1.0, top_k=50), dict(temperature=1.0, top_p=0.9),
           dict(temperature=0.7, top_k=50, top_p=0.9, repetition_penalty=1.1, min_new_tokens=8)]


def microseconds(kernels, batch, given):
    """Median time of one call."""
    state = records([Sampling(**given, seed=row) for row in range(batch)], [[1, 2, 3]] * batch, VOCABULARY, -1)
    zeros = torch.zeros(batch, dtype=torch.int32, device="cuda")
    tensors = {"logits": torch.randn(batch, 1, VOCABULARY, device="cuda") * 3, "lengths": zeros + 1,
               "stop_tokens": torch.tensor([151643, 151645], device="cuda"),
               "sampling": torch.from_numpy(state).cuda(), "positions": zeros.clone(), "next_tokens": zeros.long(),
               "generated": torch.zeros(batch, 8, dtype=torch.int64, device="cuda"), "counts": zeros.clone(),
               "finished": zeros.clone()}
    choose = kernels.prepare_stage("sample", **tensors, batch=batch, columns=1, vocab=VOCABULARY, stop_count=0,
                                   generated_slots=8)  # no stop token: every call works
    choose()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            choose()
    times = []
    for _ in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / CALLS)
    return statistics.median(times)


def main():
    kernels = Library()
    print(torch.cuda.get_device_name())
    for batch in (1, 8):
        for given in FILTERS:
            print(f"batch {batch}: {microseconds(kernels, batch, given):7.1f} us  {given}")
    kernels.close()


if __name__ == "__main__":
    main()

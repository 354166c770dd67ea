"""The device's own ceilings, in a worker of their own: how fast memory is read, how fast matrices are multiplied."""

import ctypes

import torch

READ_BYTES = 4 << 30      # far beyond every cache
READ_WAYS = {"loads": (0, (4, 8, 16)), "bulk": (1, (4096, 8192, 16384, 32768))}   # ops/kernels/measure/read_rate.h
COLD_BYTES = 256 << 20    # matrices in turn fill at least this, so that none is found in the cache
PASSES = 10
PRODUCTS = 20             # of one shape in a pass


def seconds_of(launch, passes=PASSES):
    """Median device time of `launch(i)`, for i from 0 on, after one pass for warming up."""
    launch(0)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(passes + 1)]
    marks[0].record()
    for i in range(passes):
        launch(i + 1)
        marks[i + 1].record()
    torch.cuda.synchronize()
    return sorted(a.elapsed_time(b) for a, b in zip(marks, marks[1:], strict=False))[passes // 2] / 1e3


def read_rate(library):
    """(bytes per second, way) of the fastest read kernel in the kernel library; OSError if it cannot be loaded."""
    read = ctypes.CDLL(library).qwen_vl_read_rate
    read.restype = ctypes.c_size_t
    read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    buffer = torch.zeros(READ_BYTES, dtype=torch.uint8, device="cuda")
    sink = torch.zeros(1, dtype=torch.int32, device="cuda")
    best = 0.0, ""
    for name, (way, pieces) in READ_WAYS.items():
        for piece in pieces:
            def launch(_, way=way, piece=piece):
                return read(buffer.data_ptr(), READ_BYTES, way, piece, sink.data_ptr(),
                            torch.cuda.current_stream().cuda_stream)
            covered = launch(0)
            if covered:
                best = max(best, (covered / seconds_of(launch), f"{name}, {piece}"))
    if not best[0]:
        raise OSError("no read kernel runs on this device")
    return best


def products_graph(shape, dtype):
    """A CUDA graph of PRODUCTS products of one shape, (rows, out, in), over weights that no cache holds."""
    rows, out, width = shape
    size = out * width * dtype.itemsize
    weights = torch.randn(max(1, -(-COLD_BYTES // size)), out, width, device="cuda").to(dtype)
    x = torch.randn(rows, width, device="cuda").to(dtype)
    torch.matmul(x, weights[0].T)  # cuBLAS makes its handle outside the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # short products would wait for their launches
        for i in range(PRODUCTS):
            torch.matmul(x, weights[i % len(weights)].T)
    graph.reads = weights, x  # live as long as what reads them
    return graph


def matrix_rate(shapes, dtype):
    """Operations per second of torch.matmul over `shapes`, (rows, out, in) each."""
    operations = seconds = 0
    for rows, out, width in shapes:
        graph = products_graph((rows, out, width), dtype)
        seconds += seconds_of(lambda _, graph=graph: graph.replay()) / PRODUCTS
        operations += 2 * rows * out * width
        del graph
    return operations / seconds


class Ceilings:
    """Target of a worker."""

    def ceilings(self, library, dtype, shapes):
        """{"read_bytes_per_s", "read_way", "<part>_flop_per_s" for every part of `shapes`} with "<name>_reason" in
        the place of what could not be measured."""
        ceilings = {}
        try:
            ceilings["read_bytes_per_s"], ceilings["read_way"] = read_rate(library)
        except (OSError, AttributeError, RuntimeError, AssertionError) as e:
            ceilings["read_reason"] = str(e).split("\n")[0]
        torch.cuda.empty_cache()
        for part, products in shapes.items():
            try:
                ceilings[f"{part}_flop_per_s"] = matrix_rate(products, getattr(torch, dtype))
            except (RuntimeError, AssertionError) as e:  # torch without CUDA asserts
                ceilings[f"{part}_reason"] = str(e).split("\n")[0]
        return ceilings

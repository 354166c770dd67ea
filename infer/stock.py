"""The stock pipeline: `python -m infer.stock --exported DIR [--prompt TEXT] --image FILE …`, on a GPU.

DIR/language is paddlenlp's own graph (export.stock): one call runs the whole generation and leaves every token in a
file of the working directory, as published. DIR/vision is the graph of Paddle's own layers.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np

from core.config import QUERIES
from core.errors import ArgumentParser, NotHere, UserError, run_cli
from core.placement import CHOICES
from core.ranks import VOCABULARY
from infer.generation import NO_STOP
from infer.graph import Graph, Manifest, check_pair
from infer.image import default_image, load_image, to_pixels
from infer.options import loaded, visible
from infer.prompt import BENCHMARK_PROMPT, image_spans, with_image
from infer.tokenizer import Tokenizer
from ops import cuda_libraries, toolchain
from ops.framework import devices, import_paddle
from ops.framework.predictor import Predictor
from ops.stock import build

TOKEN_FILES = "real_time_save.temp_ids_rank_0_step_{}"
EMPTY = -100  # in the graph's list of tokens so far


def graph_inputs(config, prompts, features, max_new_tokens, end, dtype):
    """The graph's inputs but the KV caches, in its order, as (numpy array, type or None for the array's own).

    prompts: B rows of equal length, each with an image; features: numpy [N, 256, H], in order of appearance; the
    sampling inputs ask for the most likely token. Raises UserError for prompts that the graph cannot take.
    """
    batch, length, slots = len(prompts), len(prompts[0]), config.max_position_embeddings
    starts = [(row, start) for row, prompt in enumerate(prompts)
              for start in image_spans(prompt, config.image_start_id)]
    if {len(prompt) for prompt in prompts} != {length}:
        raise UserError("the stock graph takes prompts of equal length: use one prompt, or IMPL=fused")
    if not starts or len(starts) != len(features):
        raise UserError(f"the prompts hold {len(starts)} images, features of {len(features)} were given, and the stock "
                        "graph needs one at least: use IMAGE=, or IMPL=fused for text alone")
    if length + max_new_tokens + 1 > slots:
        raise UserError(f"{length} prompt and {max_new_tokens} new tokens exceed the model's {slots} positions: "
                        "shorten the prompt or NEW_TOKENS=")
    spans = [(row, start - 1, start + features.shape[1]) for row, start in starts]  # <img> and </img>
    mask = np.zeros([batch, 1, slots, slots], np.float32)
    mask[:, 0, :length, :length] = np.tril(np.ones([length, length], np.float32))

    def column(value, kind):
        return np.full([batch, 1], value, kind), None

    return [
        (np.array(prompts, np.int64), None), (np.asarray(features, np.float32), None),
        (np.array(spans, np.int64), None), (mask, dtype),
        (np.tile(np.arange(length, dtype=np.int64), [batch, 1]), None),
        column(1, np.float32), column(0, np.float32), column(0, np.float32),  # repetition, frequency, presence
        column(1, np.int64), column(max_new_tokens + 1, np.int64),            # the graph makes its last token an end
        column(1, np.float32), column(0, np.float32),                         # temperature, top-p
        (np.array([end], np.int64), None), column(length, np.int32), column(length, np.int32),
        column(0, np.int64), column(False, bool), column(0, np.int64), column(length - 1, np.int64),
        (np.ones([batch, 1, 1, slots], np.float32), dtype), (np.full([batch, slots], EMPTY, np.int64), None),
        (np.array([batch], np.int64), None)]


def read_tokens(folder, count):
    """(tokens int64 [B, steps], when each step's file was written, seconds since the epoch); at most `count` steps."""
    steps, times = [], []
    for step in range(1, count + 1):
        path = Path(folder) / TOKEN_FILES.format(step)
        if not path.is_file():
            break
        content = path.read_bytes()
        if content[:2] != b"11":
            raise UserError(f"{path.name} holds no tokens: is paddlenlp_ops the one that `make ops` built?")
        steps.append(np.frombuffer(content[2:], np.int64))
        times.append(path.stat().st_mtime_ns / 1e9)
    if not steps:
        raise UserError("the stock graph left no tokens: is paddlenlp_ops the one that `make ops` built?")
    return np.stack(steps, 1), times


def until_end(tokens, end):
    """Each row's tokens as a list, up to its first end token and with it."""
    return [row[:row.index(end) + 1] if end in row else row for row in tokens.tolist()]


def usable_gpu(device):
    """The GPU's Placement; raises NotHere, with the reason, where the stock graph cannot run on DEVICE= `device`."""
    build.check_versions(toolchain.paddle())
    if device == "cpu" or not devices.has_gpu():
        raise NotHere("the stock graph needs an NVIDIA GPU and the paddlepaddle-gpu wheel, Paddle has no CPU kernels "
                      "for its operators: use IMPL=fused")
    cuda_libraries.check()
    from ops import selfcheck

    placement = devices.placement("gpu")
    wrong = selfcheck.wrong_in_paddle(placement)
    if wrong:
        raise NotHere(f"Paddle's own {', '.join(wrong)} give wrong results on this GPU: this Paddle wheel has no "
                      "kernels for it (it has them for sm_61 to sm_86), so the stock graph cannot run: use IMPL=fused")
    return placement


class StockEngine:
    """The stock graphs, loaded. Attributes: config (ModelConfig), dtype and impl (str), placement, load_seconds."""

    impl = "stock"

    def __init__(self, exported, device="auto"):
        """Load `exported`; raises NotHere where the stock graph cannot run, UserError for what cannot be trusted."""
        start = time.perf_counter()
        exported = Path(exported)
        language = Manifest(exported / "language")
        self.config, self.dtype = language.config, language.dtype
        self._paddle, self.placement = import_paddle(), usable_gpu(device)
        try:
            import paddlenlp_ops  # noqa: F401  registers its operators
        except ImportError as e:
            raise UserError(f"the stock graph needs paddlenlp_ops ({e}): run `make ops DEVICE=gpu`") from None
        if language.impl != "stock":
            raise UserError(f"{exported / 'language'} is no graph of the stock pipeline: run `make export-stock`")
        language.check_files()
        devices.use(self.placement)
        self._vision = Graph(exported / "vision", self.placement)
        check_pair(self._vision.manifest, language, exported, "export-stock")
        if self._vision.manifest.impl == "fused":
            from ops import product_timing  # imports Paddle, which must have its settings first

            product_timing.time_products(self.config, self._vision.operator_weights(), self.dtype, self.placement)
        files = (exported / "language" / name for name in ("model.pdmodel", "model.pdiparams"))
        self._language = Predictor(*files, self.placement, reserve_mib=100, reuse_memory=False)
        self.load_seconds = time.perf_counter() - start

    def vision(self, pixels):
        """Image features [N, 256, H] of normalised pixels, f32 [N, 3, S, S], as a tensor on the GPU."""
        features = self._paddle.empty([len(pixels), QUERIES, self.config.hidden_size], self.dtype)
        self._vision.bind(pixels=self._paddle.to_tensor(pixels), image_features=features)
        self._vision.run()
        return features

    def generate(self, prompts, features, max_new_tokens=32, end=NO_STOP):
        """Greedy: (tokens int64 [B, steps], when the host knew each step, time.perf_counter() seconds).

        The KV caches are made anew, as published. The times are those of files, as fine as the file system's clock.
        """
        paddle = self._paddle
        values = features.astype("float32").numpy()
        inputs = graph_inputs(self.config, prompts, values, max_new_tokens, end, self.dtype)
        tensors = [paddle.to_tensor(array) if kind is None else paddle.to_tensor(array).astype(kind)
                   for array, kind in inputs]
        shape = [2, len(prompts), self.config.num_attention_heads, self.config.max_position_embeddings,
                 self.config.kv_channels]
        tensors += [paddle.zeros(shape, self.dtype) for _ in range(self.config.num_hidden_layers)]
        offset = time.time() - time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            self._language.run(tensors)
            tokens, times = read_tokens(folder, max_new_tokens)
        return tokens, [moment - offset for moment in times]

    def synchronize(self):
        """Wait until the device has done what was launched."""
        devices.synchronize()


def main():
    parser = ArgumentParser(prog="python -m infer.stock", description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--exported", type=Path, help="folder with vision/ and language/")
    task.add_argument("--check", action="store_true", help="only say whether this machine can run the stock graph")
    parser.add_argument("--prompt", default=BENCHMARK_PROMPT)
    parser.add_argument("--image", nargs="+", default=[], help="image files, put before the text in this order")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--device", choices=CHOICES, default="auto")
    args = parser.parse_args()
    if args.max_new_tokens < 1:
        raise UserError(f"--max-new-tokens {args.max_new_tokens}: at least one token must be generated")
    if args.check:
        usable_gpu(args.device)
        return
    files = args.image or [default_image()]
    engine = StockEngine(args.exported, args.device)
    tokenizer = Tokenizer(args.exported / "language" / VOCABULARY, engine.config.image_start_id)
    ids = tokenizer.encode(with_image(args.prompt, len(files)))
    pixels = to_pixels([load_image(file) for file in files], engine.config.visual.image_size)
    print(loaded(engine), flush=True)
    start = time.perf_counter()
    tokens, times = engine.generate([ids], engine.vision(pixels), args.max_new_tokens, tokenizer.end_of_text)
    (row,) = until_end(tokens, tokenizer.end_of_text)
    text = tokenizer.decode(row, skip_special=True)
    print(visible(text))
    print(f"TTFT {(times[0] - start) * 1e3:.1f} ms, end to end {(times[-1] - start) * 1e3:.1f} ms")


if __name__ == "__main__":
    run_cli(main)

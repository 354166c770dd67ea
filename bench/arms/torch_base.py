"""What all arms on torch do alike."""

import gc
import re

import torch

from bench.arms.base import Arm, peak_resident_mib


def linked_libraries(configuration):
    """The lines of torch's own account of itself that name numeric libraries inside it, which are no files."""
    return [line.strip(" -") for line in configuration.splitlines() if re.search("MKL|OpenMP|BLAS_INFO", line)
            and "CXX_FLAGS" not in line]


class TorchBase(Arm):
    """Its `open` calls `use`, and sets `model`, whose `geometry` is a core.config.ModelConfig."""

    def use(self, threads, dtype):
        """Set torch up for a device, CPU threads and a dtype."""
        torch.set_num_threads(threads)
        self.device = torch.device("cuda" if self.on_gpu else "cpu")
        if dtype == "float32":  # TF32 is no float32
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    @property
    def image_size(self):
        return self.model.geometry.visual.image_size

    def to_numpy(self, features):
        return features.float().cpu().numpy()

    def synchronize(self):
        if self.on_gpu:
            torch.cuda.synchronize()

    def stream(self):
        return torch.cuda.current_stream().cuda_stream

    def release(self):
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def versions(self):
        versions = {"torch": torch.__version__, "linked": linked_libraries(torch.__config__.show())}
        if self.on_gpu:
            versions |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version()),
                         "device_name": torch.cuda.get_device_name()}
        return versions

    def peak_memory(self):
        if self.on_gpu:
            return torch.cuda.max_memory_reserved() / 2**20, "device memory reserved by torch"
        return peak_resident_mib(), "resident memory of the process"

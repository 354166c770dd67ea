"""What this machine has, read with the standard library alone."""

import re
from pathlib import Path


def _text(path):
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def memory():
    """(total, available) bytes, 0 where unknown; a container's limit counts as total."""
    info = dict(re.findall(r"^(\w+):\s+(\d+) kB", _text("/proc/meminfo"), re.MULTILINE))
    total, available = (int(info.get(key, 0)) * 1024 for key in ("MemTotal", "MemAvailable"))
    limit = _text("/sys/fs/cgroup/memory.max").strip()
    if limit.isdigit():
        used = int(_text("/sys/fs/cgroup/memory.current").strip() or 0)
        total, available = min(total, int(limit)), min(available, max(0, int(limit) - used))
    return total, available

"""A checkpoint in several files, with an index that says which tensor lies in which."""

import json
from pathlib import Path

from core.errors import UserError
from export.stored import Source

MAX_INDEX_BYTES = 64 << 20


def read(index_path, read_file):
    """Tensors named by `index_path`, each shard opened with `read_file`; raises UserError."""
    index_path = Path(index_path)
    source = Source(index_path)
    if source.size > MAX_INDEX_BYTES:
        raise UserError(f"{index_path} is larger than 64 MiB: not a checkpoint's index")
    try:
        index = json.loads(source.read(0, source.size).tobytes())
    except (ValueError, RecursionError) as e:
        raise UserError(f"{index_path} is not valid JSON ({type(e).__name__})") from None
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(v, str) for v in places.values()):
        raise UserError(f"{index_path} has no weight_map of tensor names to file names")

    shards = {}
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard or "\\" in shard or "\0" in shard:
            raise UserError(f"{index_path} names {shard[:200]!r}: a shard must be a file beside its index")
        shards[shard] = read_file(index_path.parent / shard)
    absent = [name for name, shard in places.items() if name not in shards[shard]]
    if absent:
        raise UserError(f"{index_path}: {len(absent)} tensors are not in the shard named, such as {absent[0][:200]!r}")
    return {name: shards[shard][name] for name, shard in places.items()}

"""A checkpoint in several files, with an index that says which tensor lies in which."""

import json
import re
from pathlib import Path

from core.errors import UserError
from core.text import plural
from export.stored import MAX_STRUCTURE_BYTES, Source

LONGEST_NAME = 255                       # bytes of a file's name
NO_TEXT = re.compile("[\ud800-\udfff]")   # JSON can write halves of characters, which no name has


def places(index_path):
    """Tensor name -> file name of its shard, as an index says; raises UserError."""
    index_path = Path(index_path)
    source = Source(index_path)
    if source.size > MAX_STRUCTURE_BYTES:
        raise UserError(f"{index_path} is larger than {MAX_STRUCTURE_BYTES >> 20} MiB: not a checkpoint's index")
    try:
        index = json.loads(source.read(0, source.size).tobytes())
    except (ValueError, RecursionError) as e:
        raise UserError(f"{index_path} is not valid JSON ({type(e).__name__})") from None
    shard_of = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shard_of, dict) or not shard_of or not all(isinstance(v, str) for v in shard_of.values()):
        raise UserError(f"{index_path} has no weight_map of tensor names to file names")
    for shard in sorted(set(shard_of.values())):
        if (shard in ("", ".", "..") or Path(shard).name != shard or "\\" in shard or "\0" in shard
                or len(shard.encode(errors="surrogatepass")) > LONGEST_NAME or NO_TEXT.search(shard)):
            raise UserError(f"{index_path} names {ascii(shard[:200])}: a shard must be a file beside its index")
    return shard_of


def read(index_path, read_file):
    """Tensors named by `index_path`, each shard opened with `read_file`; raises UserError."""
    shard_of, wanted, tensors = places(index_path), {}, {}
    for name, shard in shard_of.items():
        wanted.setdefault(shard, []).append(name)
    for shard in sorted(wanted):  # of each only what is named is kept: any number of shards may hold any number more
        in_shard = read_file(Path(index_path).parent / shard)
        tensors |= {name: in_shard[name] for name in wanted[shard] if name in in_shard}
    absent = [name for name in shard_of if name not in tensors]
    if absent:
        raise UserError(f"{index_path}: {plural(len(absent), 'tensor')} missing in the shard named, such as "
                        f"{absent[0][:200]!r}")
    return {name: tensors[name] for name in shard_of}

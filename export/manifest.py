"""manifest.json beside an exported graph: what it is, what it was made from and what its files must hash to."""

import json

from core.files import file_hash

SCHEMA = 2
MANIFEST = "manifest.json"


def write_manifest(folder, graph, config, dtype, impl, operators, paddle_version, checkpoint):
    """Write the manifest of every file that lies in `folder` now.

    operators: version of the operator library, "" for impl "native"; checkpoint: {"hash", "synthetic"}.
    """
    content = {
        "schema": SCHEMA, "graph": graph, "config": config.to_dict(), "dtype": dtype, "impl": impl,
        "operators": operators, "paddle": paddle_version, "checkpoint": checkpoint,
        "files": {path.name: {"bytes": path.stat().st_size, "xxh3_128": file_hash(path)}
                  for path in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

"""manifest.json beside an exported graph: what it is, what it was made from and what its files must hash to."""

import json
from dataclasses import asdict

from core.files import file_hash

SCHEMA = 3
MANIFEST = "manifest.json"


def write_manifest(folder, graph, config, dtype, impl, operators, paddle_version, checkpoint,
                   quantised=None):
    """Write the manifest of every file that lies in `folder` now.

    operators: version of the operator library, "" for impl "native"; checkpoint: {"hash", "synthetic"};
    quantised: the Quantisation of the decoder's matrices, if they are kept as codes.
    """
    content = {
        "schema": SCHEMA, "graph": graph, "config": config.to_dict(), "dtype": dtype, "impl": impl,
        "operators": operators, "paddle": paddle_version, "checkpoint": checkpoint,
        **({"quantised": asdict(quantised)} if quantised else {}),
        "files": {path.name: {"bytes": path.stat().st_size, "xxh3_128": file_hash(path)}
                  for path in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

"""Which operators of a model take the time: python benchmarks/operators.py [MODEL.onnx …]

One thread of onnxruntime, eight photos at once, as `classify` runs it; onnxruntime's own profile of each operator after
its optimisations. Without a name, of the shipped models.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort

from gendercls.classify.session import CPU_BATCH
from gendercls.modelfile import read_model_file, shipped_models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", help="default: those that ship")
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    for path in options.models or shipped_models().values():
        spent, count = profile(path, options.rounds)
        whole = sum(spent.values())
        print(f"\n{path.name}: {whole:.2f} ms a photo\n\n| operator | how many | ms a photo | share |")
        print("| --- | ---: | ---: | ---: |")
        for kind, milliseconds in spent.most_common():
            if milliseconds > whole / 1000:
                print(f"| {kind} | {count[kind]} | {milliseconds:.2f} | {100 * milliseconds / whole:.1f} % |")


def profile(path: Path, rounds: int) -> tuple[Counter[str], Counter[str]]:
    """Of each kind of operator: milliseconds of a photo, and how many there are."""
    pre = read_model_file(path).spec.preprocessing
    images = np.random.default_rng(0).integers(0, 256, (CPU_BATCH, pre.height, pre.width, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(scratch, "profile")
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(rounds):
            session.run(["probabilities"], {"images": images})
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: Counter[str] = Counter()
    names: dict[str, set[str]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            spent[kind] += event["dur"] / 1000 / rounds / CPU_BATCH
            names.setdefault(kind, set()).add(event["name"])
    return spent, Counter({kind: len(found) for kind, found in names.items()})


if __name__ == "__main__":
    main()

"""Measure drawing, text encoder, training, tokenizer and saving on one GPU, most worth first, into one JSON file.

``python -m benchmarks.gpu`` on a machine with a CUDA device. Every case runs in a process of its own and ends after
``--limit`` seconds, so that a case that does not fit costs only itself. A run that was cut short goes on where it
stopped. ``--phantom`` prints what is predicted from counted work, without a GPU. ``--device cpu --model tiny`` shows
that every case runs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.cases import GROUPS, Case, cases
from benchmarks.gpu.measuring import measure_apart
from infinity.scales import Size


def run(wanted: list[Case], device: torch.device, file: Path, limit_s: float) -> dict[str, Any]:
    """Measure what the file does not have yet, and write the file after every case."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    about = {"device": name, "torch": torch.__version__}
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"about": about, "cases": {}}
    if found["about"] != about:
        raise SystemExit(f"{file}: holds figures of {found['about']}, this is {about}; name another file with --out")
    for case in wanted:
        if case.key in found["cases"]:
            continue
        figures = measure_apart(case, device, limit_s)
        found["cases"][case.key] = figures
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(found, indent=1))
        draft.replace(file)
        print(json.dumps({"case": case.key, **figures}), flush=True)
    return found


def main() -> None:
    """Parse the command line, and measure or predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="2B-released", help="named layout (2B-released)")
    parser.add_argument("--size", default="1024", choices=("256", "512", "1024"), help="class of the pictures (1024)")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to see that a tiny layout runs (cuda)")
    parser.add_argument("--groups", default=",".join(GROUPS), help="groups, separated by commas (all)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="file of results (gpu.json)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds per case (60)")
    parser.add_argument("--phantom", action="store_true", help="print what is predicted, without a GPU")
    args = parser.parse_args()
    if unknown := set(args.groups.split(",")) - set(GROUPS):
        raise SystemExit(f"--groups: expected some of {', '.join(GROUPS)}, got {', '.join(sorted(unknown))}")
    size: Size = args.size
    found = cases(args.model, size, "8B-released" if args.model == "2B-released" else None)
    wanted = [case for case in found if case.group in args.groups.split(",")]
    if args.phantom:
        from benchmarks.gpu.predicting import print_predictions

        print_predictions(wanted, args.out)
        return
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --phantom predicts, --device cpu --model tiny --size 256 runs")
    run(wanted, torch.device(args.device), args.out, args.limit)


if __name__ == "__main__":
    main()

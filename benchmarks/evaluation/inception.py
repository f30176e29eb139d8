"""Throughput of the Inception network per core against pytorch-fid's, and the time of a Fréchet distance.

``python -m benchmarks.evaluation.inception --reference <folder>`` prints one JSON line; the folder comes from ``pip
install --no-deps --target <folder> pytorch-fid torchvision`` (torchvision from PyTorch's index for CPUs, of torch's own
version). Both networks hold the same random weights and see the same 8-bit pictures; they take turns, so that other
programs on the machine slow both. Processor time is told beside wall clock for the same reason. Without ``--reference``
the layer by layer form of our network, which is what the reference computes, stands in.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from infinity.evaluation.fid.frechet import GaussianStats, frechet_distance
from infinity.evaluation.fid.fused_inception import FusedInception
from infinity.evaluation.fid.inception import Inception, InceptionFeatures
from infinity.evaluation.fid.preparation import PREPARATIONS, Convention

Run = Callable[[torch.Tensor], torch.Tensor]


def ours(network: Inception, convention: Convention) -> Run:
    """Return our network's run, the way an evaluation takes features."""
    folded = FusedInception(network)

    @torch.inference_mode()
    def run(images: torch.Tensor) -> torch.Tensor:
        features: InceptionFeatures = folded(PREPARATIONS[convention](images))
        return features.features_2048

    return run


def layer_by_layer(network: Inception) -> Run:
    """Return the same layers as the public implementations, one after the other."""

    @torch.no_grad()
    def run(images: torch.Tensor) -> torch.Tensor:
        features: InceptionFeatures = network(PREPARATIONS["pytorch_fid"](images))
        return features.features_2048

    return run


def pytorch_fid(network: Inception, folder: str) -> Run:
    """Return a run of pytorch-fid's own network and resize with our weights; nothing is downloaded."""
    sys.path.insert(0, folder)
    import pytorch_fid.inception as theirs

    return _theirs(theirs, network)


def _theirs(theirs: Any, network: Inception) -> Run:
    loaded = theirs.load_state_dict_from_url
    theirs.load_state_dict_from_url = lambda *_, **__: network.state_dict()
    try:
        model = theirs.InceptionV3([3]).eval()
    finally:
        theirs.load_state_dict_from_url = loaded

    @torch.no_grad()
    def run(images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(images.permute(0, 3, 1, 2).float() / 255)[0]
        return found.flatten(1)

    return run


def random_network() -> Inception:
    """Return weights that keep the features' size from layer to layer."""
    network, generator = Inception(), torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.ndim > 1:
            value.normal_(std=(2 / value[0].numel()) ** 0.5, generator=generator)
        elif value.is_floating_point():
            value.fill_(1.0 if name.endswith(("bn.weight", "running_var")) else 0.0)
    return network


def seconds(run: Run, images: torch.Tensor) -> tuple[float, float]:
    """Return wall clock and processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    run(images)
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Parse the command line and print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", help="folder with pytorch_fid and torchvision")
    parser.add_argument("--pictures", type=int, default=32, help="in a batch (32, as an evaluation has)")
    parser.add_argument("--size", type=int, default=256, help="side of a picture in px (256)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=4096, help="of each cloud of the Fréchet distance (4096)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (args.pictures, args.size, args.size, 3), dtype=torch.uint8, generator=generator)
    network = random_network()
    theirs = pytorch_fid(network, args.reference) if args.reference else layer_by_layer(network)
    runs = {"ours": ours(network, "pytorch_fid"), "reference": theirs}
    difference = float((runs["ours"](images) - runs["reference"](images)).abs().max())
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name, run in runs.items():
            times[name].append(seconds(run, images))
    result: dict[str, object] = {"item": "inception", "reference": "pytorch-fid" if args.reference else "layers"}
    for column, kind in enumerate(("wall", "processor")):
        medians = {name: statistics.median(pair[column] for pair in pairs) for name, pairs in times.items()}
        result |= {f"{name}_pictures_per_{kind}_s": args.pictures / value for name, value in medians.items()}
        result[f"ratio_{kind}"] = medians["reference"] / medians["ours"]
    result |= {"largest_difference": difference, **distance(args.rows)}
    about = {"threads": args.threads, "batch": args.pictures, "size_px": args.size, "load": os.getloadavg()[0]}
    print(json.dumps({**result, **about}), flush=True)


def distance(rows: int) -> dict[str, float]:
    """Return the seconds of sums and of one Fréchet distance over 2048 features, and the process's most memory."""
    clouds = [torch.rand(rows, 2048, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3)]
    start, processor = time.perf_counter(), time.process_time()
    stats = [GaussianStats.of(cloud) for cloud in clouds]
    summed, summed_processor = time.perf_counter(), time.process_time()
    frechet_distance(*stats)
    return {
        "sums_s": summed - start,
        "sums_processor_s": summed_processor - processor,
        "frechet_s": time.perf_counter() - summed,
        "frechet_processor_s": time.process_time() - summed_processor,
        "rows": rows,
        "most_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()

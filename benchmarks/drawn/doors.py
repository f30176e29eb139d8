"""One picture, every door: random prompts and settings through Python, batches, a new process, nodes, CLI and server.

    infinity serve runs/demo &
    python -m benchmarks.drawn.doors runs/demo --server http://127.0.0.1:8000 --pictures 500

It prints for every door the pictures whose pixels differ from Python alone, and the share of bits behind them; it exits
with 1 if there is one. To ask a server after a restart too, restart it and run the command again.
"""

from __future__ import annotations

import argparse
import base64
import io
import random
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks.drawn.comfyui_host import load_custom_node, run_node
from benchmarks.measuring.timing import apart
from infinity import InfinityPipeline, PipelineResult
from infinity.cli import app
from infinity.generation.sampling import SamplingConfig

_WORDS = ["red", "green", "blue", "circle", "star", "square", "two", "large", "a photo of", "under", "and", "☃", "пёс"]


@dataclass(frozen=True)
class Wanted:
    """A picture: prompt, seed, aspect ratio, guidance, temperature."""

    prompt: str
    seed: int
    ratio: float
    guidance: float
    temperature: float

    @property
    def sampling(self) -> SamplingConfig:
        """Settings of the sampling."""
        return SamplingConfig(guidance=self.guidance, temperature=self.temperature)


def wanted_pictures(count: int, seed: int) -> list[Wanted]:
    """Return random pictures; few settings, so that batches come about."""
    draw = random.Random(seed)
    return [
        Wanted(
            " ".join(draw.choices(_WORDS, k=draw.randrange(8))), draw.randrange(10**6), draw.choice([1.0, 0.5, 2.0]),
            draw.choice([1.0, 2.0, 3.0]), draw.choice([0.5, 1.0]),
        )
        for _ in range(count)
    ]  # fmt: skip


def in_batches(
    pipe: InfinityPipeline, wanted: list[Wanted], seed: int
) -> tuple[dict[int, np.ndarray], dict[int, torch.Tensor]]:
    """Draw in random order and random batches of equal settings."""
    draw, groups = random.Random(seed), defaultdict(list)
    for index in draw.sample(range(len(wanted)), len(wanted)):
        groups[(wanted[index].ratio, wanted[index].sampling)].append(index)
    pictures, bits = {}, {}
    for (ratio, sampling), members in groups.items():
        while members:
            batch = [members.pop() for _ in range(min(len(members), draw.randrange(1, 9)))]
            prompts, seeds = [wanted[i].prompt for i in batch], [wanted[i].seed for i in batch]
            found = pipe.draw(prompts, seeds, sampling, ratio, output_type="np")
            for row, index in enumerate(batch):
                pictures[index], bits[index] = found.pixels()[row], found.bits.bits_BLC[row]
    return pictures, bits


def through_server(url: str, wanted: list[Wanted], clients: int) -> dict[int, np.ndarray]:
    """Draw by concurrent clients."""

    def one(item: Wanted) -> np.ndarray:
        body = {"prompt": item.prompt, "seed": item.seed, "aspect_ratio": item.ratio, "guidance": item.guidance,
                "temperature": item.temperature}  # fmt: skip
        response = httpx.post(f"{url}/v1/images/generations", json=body, timeout=600)
        response.raise_for_status()
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(response.json()["data"][0]["b64_json"]))))

    with ThreadPoolExecutor(clients) as pool:
        return dict(enumerate(pool.map(one, wanted)))


def through_cli(model: str, wanted: list[Wanted]) -> dict[int, np.ndarray]:
    """Draw by the command ``infinity generate``, one call per picture."""
    found = {}
    for index, item in enumerate(wanted):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["generate", "-c", model, "-p", item.prompt, "--seed", item.seed, "--aspect-ratio", item.ratio,
                         "--guidance", item.guidance, "--temperature", item.temperature, "-o", folder]  # fmt: skip
            CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
            found[index] = np.asarray(Image.open(next(Path(folder).iterdir())))
    return found


def through_node(model: str, wanted: list[Wanted]) -> dict[int, np.ndarray]:
    """Draw by the nodes for ComfyUI, and save as its SaveImage does."""
    nodes = load_custom_node(Path(__file__).resolve().parents[2] / "integrations" / "comfyui")
    (loaded,) = run_node(nodes["InfinityLoadModel"], {"model": model, "device": "cpu"})
    found = {}
    for index, item in enumerate(wanted):
        inputs = {"model": loaded, "prompt": item.prompt, "seed": item.seed, "guidance": item.guidance,
                  "temperature": item.temperature, "width": 1024, "height": round(1024 * item.ratio)}  # fmt: skip
        images, _ = run_node(nodes["InfinityDraw"], inputs)
        found[index] = np.clip(255.0 * images[0].numpy(), 0, 255).astype(np.uint8)
    return found


def drawn_alone(model: str, wanted: list[Wanted]) -> list[PipelineResult]:
    """Load a model and draw every picture alone."""
    pipe = InfinityPipeline.from_pretrained(model, device="cpu")
    return [pipe.draw([w.prompt], [w.seed], w.sampling, w.ratio, output_type="np") for w in wanted]


def _pixels_alone(model: str, wanted: list[Wanted]) -> list[np.ndarray]:
    return [result.pixels()[0] for result in drawn_alone(model, wanted)]


def in_a_new_process(model: str, wanted: list[Wanted]) -> dict[int, np.ndarray]:
    """Draw in the reverse order in a process that has drawn nothing before."""
    return dict(enumerate(apart(_pixels_alone, model, wanted[::-1])[::-1]))


def differing(pictures: dict[int, np.ndarray], alone: list[np.ndarray]) -> list[int]:
    """Return the numbers of the pictures that differ from Python alone in any pixel."""
    return [index for index, picture in pictures.items() if not np.array_equal(picture, alone[index])]


def main() -> None:
    """Read the arguments, draw through every door, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--server", help="address of a running server of the same model")
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--cli", type=int, default=30, help="pictures through the command line")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    wanted = wanted_pictures(given.pictures, given.seed)
    results = drawn_alone(given.model, wanted)
    alone = [result.pixels()[0] for result in results]
    batches, bits = in_batches(InfinityPipeline.from_pretrained(given.model, device="cpu"), wanted, given.seed)
    doors = {
        "random batches": batches,
        "new process": in_a_new_process(given.model, wanted),
        "node": through_node(given.model, wanted),
        "command line": through_cli(given.model, wanted[: given.cli]),
    }
    if given.server:
        doors["server"] = through_server(given.server, wanted, given.clients)
    for door, pictures in doors.items():
        print(f"{door}: {len(differing(pictures, alone))} of {len(pictures)} pictures differ from Python alone")
    flipped = [float((bits[i] != results[i].bits.bits_BLC[0]).float().mean()) for i in bits]
    print(f"bits that differ in random batches: {np.mean(flipped):.2e} of all, {max(flipped):.2e} at most in a picture")
    sys.exit(int(any(differing(pictures, alone) for pictures in doors.values())))


if __name__ == "__main__":
    main()

"""One picture, every door: random prompts and settings through Python, batches, a new process, nodes, CLI and server.

    infinity serve runs/demo &
    python -m benchmarks.drawn.doors runs/demo --server http://127.0.0.1:8000 --pictures 500

It prints for every door the pictures whose pixels differ from Python alone, and the share of bits behind them; it exits
with 1 if there is one. To ask a server after a restart too, restart it and run the command again. ``--wide`` draws from
all shapes, lists of guidance and temperature, top-p and negative prompts; the node, which has single numbers, leaves
out the lists. A server must be started with the same ``--quantize`` and ``--cache``, and with ``--lora door=PLACE``.
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
from infinity.scales import ASPECT_RATIOS
from infinity.transformer.adapters.lora_files import parse_adapter
from infinity.transformer.cache import CACHE_FORMS, CacheForm
from infinity.transformer.number_formats.quantized import WEIGHT_FORMS, WeightForm

_MOST_SCALES = 20
"""More than any model has; a list may be longer than the scales."""
_WORDS = ["red", "green", "blue", "circle", "star", "square", "two", "large", "a photo of", "under", "and", "☃", "пёс"]


@dataclass(frozen=True)
class Wanted:
    """A picture: prompt, seed, aspect ratio, and the settings of its sampling."""

    prompt: str
    seed: int
    ratio: float
    guidance: float | tuple[float, ...]
    temperature: float | tuple[float, ...]
    top_p: float = 0.97
    negative: str | None = None

    @property
    def sampling(self) -> SamplingConfig:
        """Settings of the sampling."""
        return SamplingConfig(
            guidance=self.guidance, temperature=self.temperature, nucleus=self.top_p, negative_prompt=self.negative
        )

    @property
    def has_lists(self) -> bool:
        """Whether a setting is one number per scale."""
        return isinstance(self.guidance, tuple) or isinstance(self.temperature, tuple)


@dataclass(frozen=True)
class Loaded:
    """A model folder, and how it is loaded at every door."""

    model: str
    quantize: WeightForm | None = None
    cache: CacheForm | None = None
    lora: str | None = None
    scale: float = 1.0

    def pipe(self) -> InfinityPipeline:
        """Load it on the CPU."""
        found = InfinityPipeline.from_pretrained(self.model, device="cpu", quantize=self.quantize, cache=self.cache)
        if self.lora:
            found.set_adapters([(self.lora, self.scale)])
        return found

    @property
    def options(self) -> list[object]:
        """Options of the command line."""
        given: dict[str, str | None] = {"--quantize": self.quantize, "--cache": self.cache}
        given["--lora"] = f"{self.lora}:{self.scale}" if self.lora else None
        return [each for name, value in given.items() if value for each in (name, value)]


def wanted_pictures(count: int, seed: int, *, wide: bool = False) -> list[Wanted]:
    """Return random pictures; few settings, so that batches come about."""
    draw = random.Random(seed)
    ratios = list(ASPECT_RATIOS) if wide else [1.0, 0.5, 2.0]
    lists = [tuple(draw.choice([1.0, 1.5, 3.0]) for _ in range(_MOST_SCALES)) for _ in range(2 * wide)]
    colds = [tuple(draw.choice([0.3, 1.0, 2.0]) for _ in range(_MOST_SCALES)) for _ in range(2 * wide)]
    guidances: list[float | tuple[float, ...]] = [1.0, 2.0, 3.0, *lists]
    temperatures: list[float | tuple[float, ...]] = [0.5, 1.0, *colds]
    more: list[tuple[float, str | None]] = [(0.97, None), (1.0, None), (0.9, "a blue star"), (0.97, "пёс ☃")]
    return [
        Wanted(
            " ".join(draw.choices(_WORDS, k=draw.randrange(8))), draw.randrange(10**6), draw.choice(ratios),
            draw.choice(guidances), draw.choice(temperatures), *(draw.choice(more) if wide else ()),
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


def through_server(url: str, loaded: Loaded, wanted: list[Wanted], clients: int) -> dict[int, np.ndarray]:
    """Draw by concurrent clients."""
    loras = {"door": loaded.scale} if loaded.lora else {}

    def one(item: Wanted) -> np.ndarray:
        body = {"prompt": item.prompt, "seed": item.seed, "aspect_ratio": item.ratio, "guidance": item.guidance,
                "temperature": item.temperature, "top_p": item.top_p, "negative_prompt": item.negative,
                "loras": loras}  # fmt: skip
        response = httpx.post(f"{url}/v1/images/generations", json=body, timeout=600)
        response.raise_for_status()
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(response.json()["data"][0]["b64_json"]))))

    with ThreadPoolExecutor(clients) as pool:
        return dict(enumerate(pool.map(one, wanted)))


def through_cli(loaded: Loaded, wanted: list[Wanted]) -> dict[int, np.ndarray]:
    """Draw by the command ``infinity generate``, one call per picture."""
    found = {}
    for index, item in enumerate(wanted):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["generate", "-c", loaded.model, "-p", item.prompt, "--seed", item.seed, "--aspect-ratio",
                         item.ratio, "--guidance", _spelled(item.guidance), "--temperature",
                         _spelled(item.temperature), "--top-p", item.top_p, "-o", folder, *loaded.options]  # fmt: skip
            arguments += [] if item.negative is None else ["--negative-prompt", item.negative]
            CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
            found[index] = np.asarray(Image.open(next(Path(folder).iterdir())))
    return found


def _spelled(value: float | tuple[float, ...]) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def through_node(given: Loaded, wanted: list[Wanted]) -> dict[int, np.ndarray]:
    """Draw by the nodes for ComfyUI, and save as its SaveImage does."""
    nodes = load_custom_node(Path(__file__).resolve().parents[2] / "integrations" / "comfyui")
    forms = {"quantize": given.quantize or "none", "cache": given.cache or "none"}
    (loaded,) = run_node(nodes["InfinityLoadModel"], {"model": given.model, "device": "cpu", **forms})
    if given.lora:
        adapter = {"model": loaded, "adapter": given.lora, "scale": given.scale}
        (loaded,) = run_node(nodes["InfinityLoadAdapter"], adapter)
    found = {}
    for index, item in enumerate(wanted):
        if item.has_lists:
            continue
        inputs = {"model": loaded, "prompt": item.prompt, "seed": item.seed, "guidance": item.guidance,
                  "temperature": item.temperature, "width": 1024, "height": round(1024 * item.ratio),
                  "top_p": item.top_p, "negative_prompt": item.negative or ""}  # fmt: skip
        images, _ = run_node(nodes["InfinityDraw"], inputs)
        found[index] = np.clip(255.0 * images[0].numpy(), 0, 255).astype(np.uint8)
    return found


def drawn_alone(loaded: Loaded, wanted: list[Wanted]) -> list[PipelineResult]:
    """Load a model and draw every picture alone."""
    pipe = loaded.pipe()
    return [pipe.draw([w.prompt], [w.seed], w.sampling, w.ratio, output_type="np") for w in wanted]


def _pixels_alone(loaded: Loaded, wanted: list[Wanted]) -> list[np.ndarray]:
    return [result.pixels()[0] for result in drawn_alone(loaded, wanted)]


def in_a_new_process(loaded: Loaded, wanted: list[Wanted]) -> dict[int, np.ndarray]:
    """Draw in the reverse order in a process that has drawn nothing before."""
    return dict(enumerate(apart(_pixels_alone, loaded, wanted[::-1])[::-1]))


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
    parser.add_argument("--wide", action="store_true", help="all shapes and kinds of settings")
    parser.add_argument("--quantize", choices=WEIGHT_FORMS)
    parser.add_argument("--cache", choices=CACHE_FORMS)
    parser.add_argument("--lora", help="adapter, with a scale behind a colon")
    given = parser.parse_args()
    lora, scale = parse_adapter(given.lora) if given.lora else (None, 1.0)
    loaded = Loaded(given.model, given.quantize, given.cache, lora, scale)
    wanted = wanted_pictures(given.pictures, given.seed, wide=given.wide)
    results = drawn_alone(loaded, wanted)
    alone = [result.pixels()[0] for result in results]
    batches, bits = in_batches(loaded.pipe(), wanted, given.seed)
    doors = {
        "random batches": batches,
        "new process": in_a_new_process(loaded, wanted),
        "node": through_node(loaded, wanted),
        "command line": through_cli(loaded, wanted[: given.cli]),
    }
    if given.server:
        doors["server"] = through_server(given.server, loaded, wanted, given.clients)
    for door, pictures in doors.items():
        print(f"{door}: {len(differing(pictures, alone))} of {len(pictures)} pictures differ from Python alone")
    flipped = [float((bits[i] != results[i].bits.bits_BLC[0]).float().mean()) for i in bits]
    print(f"bits that differ in random batches: {np.mean(flipped):.2e} of all, {max(flipped):.2e} at most in a picture")
    sys.exit(int(any(differing(pictures, alone) for pictures in doors.values())))


if __name__ == "__main__":
    main()

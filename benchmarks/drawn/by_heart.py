"""One picture learned by heart and drawn again, bit for bit: ``python -m benchmarks.drawn.by_heart picture.png``.

A small tokenizer learns drawn scenes, unless one is given; a small transformer learns the bits of the picture under its
caption; the released way of drawing (guidance, bits drawn at random) then has to give exactly these bits, and the
pixels that they stand for, for every seed. Exit status 1 where it does not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import torch

from benchmarks.switches.data import make_manifest, nobody, train_alone
from benchmarks.switches.data import make_tokenizer as small_tokenizer
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import BatchIds, load_images
from infinity.generation.generate import to_uint8
from infinity.generation.pipeline import Pipeline
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.dataset.build import MANIFEST_FILE, BuildDatasetSpec, fingerprint
from infinity.jobs.dataset.build import run as build_dataset
from infinity.jobs.training import transformer as train_transformer
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.scales import Resolution
from infinity.text import BuiltinTextConfig
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.saved import load_tokenizer
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.learner import LoopConfig
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.transformer.config import TransformerConfig

DRAWN = SamplingConfig()
"""Guidance 3, bits drawn at random with nucleus 0.97: as people draw."""


def one_picture(folder: Path, picture: Path, caption: str) -> str:
    """Return a data set of one picture."""
    (folder / "one").mkdir(parents=True)
    shutil.copy(picture, folder / "one" / picture.name)
    line = json.dumps({"file_name": picture.name, "text": caption})
    (folder / "one" / "metadata.jsonl").write_text(line + "\n")
    source = str(folder / "one")
    spec = BuildDatasetSpec(output=str(folder), source=source, fingerprint=fingerprint(source), validation_share=0.0)
    spec = spec.replace(filters=spec.filters.replace(min_side_px=8))
    with in_process():
        build_dataset(spec)
    return f"{spec.folder}/{MANIFEST_FILE}"


def learn(folder: Path, manifest: str, tokenizer: str, resolution: Resolution, num_steps: int) -> str:
    """Train a transformer on the picture alone and return the model folder."""
    num_bits = load_tokenizer(tokenizer).config.token_bits
    spec = TrainTransformerSpec(
        output=str(folder),
        manifest=manifest,
        tokenizer=tokenizer,
        resolution=resolution,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=10, decay="linear"),
        loop=LoopConfig(num_steps=num_steps, batch_size=4, log_every_steps=num_steps),
        model=TransformerConfig(
            width=64, num_heads=4, depth=2, num_bits=num_bits, text_channels=32, max_text_tokens=64
        ),
        text=BuiltinTextConfig(channels=32, max_tokens=64),
        workers=WorkersConfig(num_workers=1, threads=1),
        self_correction=0.0,
    )
    session = train_transformer.build(spec, ProcessGroup(), torch.device("cpu"), nobody)
    train_alone(spec, session, ProcessGroup())
    session.export(str(folder / "model"))
    return str(folder / "model")


@torch.no_grad()
def drawn_again(model: str, manifest: str, num_seeds: int) -> dict[str, object]:
    """Return how many of the drawings have exactly the bits, and exactly the pixels, of the picture."""
    pipeline, data = Pipeline.load(model), Manifest.load(manifest)
    (ratio,) = {float(value) for value in data.aspect_ratios}
    ids = BatchIds(ratio, (0,))
    schedule = pipeline.config.resolution.schedule(ratio)
    picture = torch.from_numpy(load_images(data, ids.rows, schedule.image_size_px(pipeline.tokenizer.config.stride_px)))
    known = pipeline.tokenizer.quantize(pipeline.tokenizer.encode(to_pixels(picture, "cpu")), schedule)
    prompts = [*data.captions(ids.rows)] * num_seeds
    drawn = pipeline.generate(prompts, aspect_ratio=ratio, seeds=range(num_seeds), sampling=DRAWN)
    wrong = (drawn.labels.bits_BLC != known.labels.bits_BLC).flatten(1).sum(dim=1)
    rebuilt = to_uint8(pipeline.tokenizer.decode(known.summed_BCHW.repeat(num_seeds, 1, 1, 1)))
    same = [torch.equal(a, b) for a, b in zip(drawn.images_BHW3, rebuilt, strict=True)]
    return {
        "caption": prompts[0],
        "size_px": list(picture.shape[1:3]),
        "bits": known.labels.bits_BLC.numel(),
        "drawings": num_seeds,
        "wrong_bits": wrong.tolist(),
        "equal_pixels": sum(same),
    }


def main() -> None:
    """Train, draw, and compare the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, help="any picture of at least 8 px")
    parser.add_argument("--caption", default="one picture", help="what it is drawn for")
    parser.add_argument("--tokenizer", help="tokenizer folder; a small one learns drawn scenes where none is given")
    parser.add_argument("--sides", default="1,2,4,6", help="grid sides of a square picture, coarse to fine (1,2,4,6)")
    parser.add_argument("--steps", type=int, default=400, help="updates of the transformer (400)")
    parser.add_argument("--seeds", type=int, default=8, help="drawings (8)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    resolution = Resolution(sides=tuple(int(side) for side in args.sides.split(",")))
    picture, given = args.picture.absolute(), args.tokenizer and str(Path(args.tokenizer).absolute())
    # Inside of the folder, since names of data sets hold their paths, and the order of pictures follows from the names.
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path()
        manifest = one_picture(folder, picture, args.caption)
        tokenizer = given or small_tokenizer(folder, make_manifest(folder / "scenes", mixed=True))
        found = drawn_again(learn(folder, manifest, tokenizer, resolution, args.steps), manifest, args.seeds)
    print(json.dumps(found))
    if any(found["wrong_bits"]) or found["equal_pixels"] != args.seeds:  # type: ignore[arg-type]
        raise SystemExit(1)


if __name__ == "__main__":
    main()

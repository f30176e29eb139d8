"""A transformer that learned one picture by heart gives exactly its bits back through the public way of drawing."""

from pathlib import Path

import torch

from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import BatchIds, load_images
from infinity.generation.generate import to_uint8
from infinity.generation.pipeline import Pipeline
from infinity.generation.sampling import SamplingConfig
from infinity.tokenizer.pixels import to_pixels
from infinity.training.optimizers.optimizer import OptimizerConfig
from tests.fixtures.data.training_pictures import RESOLUTION, make_data
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, train_here, transformer_spec

DRAWN = SamplingConfig()
"""Guidance 3, bits drawn at random with nucleus 0.97: as people draw."""


def test_one_picture_learned_by_heart_comes_back_bit_for_bit(tmp_path: Path) -> None:
    make_data(tmp_path / "many")
    tokenizer = make_tokenizer(tmp_path, str(tmp_path / "many" / "manifest.parquet"), num_steps=20)
    uri = make_data(tmp_path / "one", num_train=1, num_validation=0)
    spec = transformer_spec(
        tmp_path,
        uri,
        tokenizer,
        self_correction=0.0,
        optimizer=OptimizerConfig(learning_rate=5e-3, warmup_steps=10, decay="linear"),
        loop=LOOP.replace(num_steps=200, batch_size=2, log_every_steps=200, save_every_steps=200),
    )
    made = train_here(spec)
    made.export(str(tmp_path / "model"))

    pipeline = Pipeline.load(str(tmp_path / "model"))
    manifest = Manifest.load(uri)
    ids = BatchIds(1.0, (0,))
    (caption,) = manifest.captions(ids.rows)
    schedule = RESOLUTION.schedule(1.0)
    size_px = schedule.image_size_px(pipeline.tokenizer.config.stride_px)
    picture = torch.from_numpy(load_images(manifest, ids.rows, size_px))
    with torch.no_grad():
        quantized = pipeline.tokenizer.quantize(pipeline.tokenizer.encode(to_pixels(picture, "cpu")), schedule)

    seeds = (0, 1, 2)
    drawn = pipeline.generate([caption] * len(seeds), seeds=seeds, sampling=DRAWN)
    for number in range(len(seeds)):
        assert torch.equal(drawn.labels.bits_BLC[number], quantized.labels.bits_BLC[0])
    with torch.no_grad():
        rebuilt = to_uint8(pipeline.tokenizer.decode(quantized.summed_BCHW.repeat(len(seeds), 1, 1, 1)))
    assert torch.equal(drawn.images_BHW3, rebuilt)

"""A version of a data set in a stranger's training loop, through webdataset."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from infinity import storage
from infinity.data.curation.filters import FilterConfig
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.decoding import MAX_PIXELS, decode
from infinity.data.loading.other_trainers import as_webdataset
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import build
from infinity.scenes.drawing import ScenesConfig
from tests.fixtures.limits import AGES_S


def built(output: str) -> Manifest:
    spec = build.BuildDatasetSpec(
        output=output, scenes=ScenesConfig(count=40, size_px=32), filters=FilterConfig(min_side_px=32),
        samples_per_shard=8, validation_share=0.25,
    )  # fmt: skip
    with in_process():
        return Manifest.load(build.run(spec).manifest)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return built(str(tmp_path_factory.mktemp("data")))


def told(sample: tuple[object, str]) -> tuple[str, bytes]:
    image, caption = sample
    return caption, np.asarray(image).tobytes()


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("shuffle", [0, 16])
def test_an_epoch_has_every_picture_of_the_split_once_with_its_caption(
    manifest: Manifest, split: str, shuffle: int
) -> None:
    rows = manifest.rows(split)
    ours = [
        (caption, np.asarray(decode(manifest.read_image(int(row)), MAX_PIXELS).image).tobytes())
        for row, caption in zip(rows, manifest.captions(rows), strict=True)
    ]
    theirs = [told(sample) for sample in as_webdataset(manifest, split, shuffle=shuffle)]
    assert Counter(theirs) == Counter(ours)


def test_the_order_is_a_function_of_seed_and_epoch(manifest: Manifest) -> None:
    one, again, other = (as_webdataset(manifest, shuffle=16, seed=seed) for seed in (1, 1, 2))
    first, second = ([told(sample) for sample in one] for _ in range(2))
    assert [told(sample) for sample in again] == first
    assert [told(sample) for sample in other] != first
    assert second != first
    assert sorted(second) == sorted(first)


STRANGER = """
import json, sys
import torch
from infinity import Manifest, as_webdataset
data = as_webdataset(Manifest.load(sys.argv[1]), shuffle=16)
loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=2, collate_fn=list)
print(json.dumps([caption for batch in loader for _, caption in batch]))
"""


def test_a_torch_loop_reads_it_in_two_lines(manifest: Manifest) -> None:
    loader = torch.utils.data.DataLoader(as_webdataset(manifest, shuffle=16), batch_size=4, collate_fn=list)
    captions = Counter(caption for batch in loader for _, caption in batch)
    assert captions == Counter(manifest.captions(manifest.rows("train")))


def test_workers_of_a_strangers_torch_loop_share_out_the_shards(manifest: Manifest) -> None:
    """In a process of its own, as at a stranger: workers forked from this one inherit threads of all other tests."""
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, manifest.uri], capture_output=True, text=True, timeout=AGES_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Counter(json.loads(done.stdout)) == Counter(manifest.captions(manifest.rows("train")))


def test_shards_in_s3_are_read_too(s3_server: str) -> None:
    manifest = built(storage.join(s3_server, "data"))
    assert len(list(as_webdataset(manifest))) == len(manifest.rows("train"))


def test_an_empty_split_is_told_at_once(tmp_path: Path) -> None:
    spec = build.BuildDatasetSpec(
        output=str(tmp_path), scenes=ScenesConfig(count=4, size_px=32), filters=FilterConfig(min_side_px=32),
        validation_share=0.0,
    )  # fmt: skip
    with in_process():
        manifest = Manifest.load(build.run(spec).manifest)
    with pytest.raises(ValueError, match="expected pictures in the split 'validation', found none"):
        as_webdataset(manifest, "validation")

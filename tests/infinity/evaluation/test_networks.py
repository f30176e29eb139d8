"""What a worker holds is loaded once: networks by their configuration, the target's own parts by their loader."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from infinity.config import Config
from infinity.evaluation.benchmark import EvalContext, EvalTarget
from infinity.evaluation.model import loaded_pipeline, picture_store
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.store import Drawing
from infinity.generation.sampling import SamplingConfig
from tests.fixtures.data.small_world import eval_target, write_model


@dataclass(frozen=True, kw_only=True, slots=True)
class One(Config):
    weights: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Other(Config):
    weights: str


def test_equal_configurations_share_a_network_and_kinds_are_kept_apart() -> None:
    networks, loads = Networks("cpu"), []

    def load(config: One | Other, device: str) -> object:
        loads.append((type(config).__name__, config.weights, device))
        return object()

    first = networks.get(One(weights="a"), load)
    assert networks.get(One(weights="a"), load) is first
    assert networks.get(One(weights="b"), load) is not first
    assert networks.get(Other(weights="a"), load) is not first
    assert loads == [("One", "a", "cpu"), ("One", "b", "cpu"), ("Other", "a", "cpu")]


def test_a_load_that_failed_is_tried_again() -> None:
    networks, tries = Networks("cpu"), []

    def load(config: One, device: str) -> int:
        tries.append(device)
        if len(tries) == 1:
            raise ValueError("no weights")
        return len(tries)

    with pytest.raises(ValueError, match="no weights"):
        networks.get(One(weights="a"), load)
    assert networks.get(One(weights="a"), load) == 2
    assert networks.get(One(weights="a"), load) == 2


def test_the_model_is_loaded_once_per_context_and_networks_outlive_it(tmp_path: Path) -> None:
    target, networks = eval_target(write_model(tmp_path), "no manifest"), Networks("cpu")
    first, second = (EvalContext(target, networks) for _ in range(2))
    assert loaded_pipeline(first) is loaded_pipeline(first)
    assert loaded_pipeline(first) is not loaded_pipeline(second)
    assert first.networks is second.networks is networks


def test_pictures_are_kept_only_where_a_store_is_named_and_by_model_sampling_and_device() -> None:
    plain: EvalTarget = eval_target("/model", "/manifest")
    assert picture_store(plain) is None
    kept = replace(plain, store="/store", model_digest="ab" * 8)
    changes: tuple[dict[str, object], ...] = (
        {}, {"model_digest": "cd" * 8}, {"sampling": SamplingConfig(greedy=False)}, {"device": "cuda"},
    )  # fmt: skip
    stores = [picture_store(replace(kept, **change)) for change in changes]  # type: ignore[arg-type]
    uris = {store.uri(Drawing("a dog", 1)) for store in stores if store is not None}
    assert len(uris) == len(changes)
    assert all(uri.startswith("/store/pictures/") for uri in uris)
    same = picture_store(replace(kept, seed=9, batch_size=1, split="train"))
    assert same == stores[0]

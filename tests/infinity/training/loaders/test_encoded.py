"""A store of latents and text features gives the training that computing them gives, or is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infinity import storage
from infinity.bits import BitLabels
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import BatchIds
from infinity.data.loading.captions import CaptionConfig, CaptionDraw
from infinity.data.loading.stored import ReadingConfig
from infinity.jobs.cluster.actors import WorkersError
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.training import encode
from infinity.jobs.training import transformer as train_transformer
from infinity.jobs.training.encode import EncodeReport, EncodeSpec
from infinity.storage.retries import DamagedError
from infinity.text.builtin import BuiltinTextEncoder
from infinity.tokenizer.saved import load_tokenizer, save_tokenizer
from infinity.tokenizer.self_correction import teacher_forcing, teacher_forcing_of_bits
from infinity.training.loaders import encoding
from infinity.training.loaders.encoded import EncodedCaptions, EncodedFiles, EncodedIndex, TextHead, hash_of
from tests.fixtures.data.training_pictures import RESOLUTION, TEXT, make_data
from tests.fixtures.jobs.toy_training import assert_same
from tests.fixtures.jobs.training_sessions import make_tokenizer, session, train_here, transformer_spec, untimed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A manifest and a tokenizer."""
    folder = tmp_path_factory.mktemp("data")
    manifest = make_data(folder, num_train=150)
    return manifest, make_tokenizer(folder, manifest, num_steps=10)


def spec_of(folder: Path | str, data: tuple[str, str], **changes: object) -> EncodeSpec:
    spec = EncodeSpec(
        output=str(folder),
        manifest=data[0],
        tokenizer=data[1],
        text=TEXT,
        resolution=RESOLUTION,
        pictures_per_part=64,
        workers=WorkersConfig(threads=1),
    )
    return spec.replace(**changes)


def encoded(spec: EncodeSpec) -> EncodeReport:
    with in_process():
        return encode.run(spec)


@pytest.mark.parametrize(("kind", "rate"), [("features", 0.3), ("features", 0.0), ("bits", 0.0)])
def test_training_from_a_store_equals_training_without(
    tmp_path: Path, data: tuple[str, str], kind: str, rate: float
) -> None:
    """The same losses and weights bit for bit, with and without self-correction."""
    report = encoded(spec_of(tmp_path, data, latents=kind))
    plain = transformer_spec(tmp_path, *data, self_correction=rate)
    stored = plain.replace(encoded=report.index)
    train_transformer.check(stored)
    made = train_here(plain), train_here(stored)
    assert_same(made[0].state, made[1].state)
    assert untimed(made[0].state.history) == untimed(made[1].state.history)
    torch.testing.assert_close(made[0].loader.usage(), made[1].loader.usage())


def test_bits_are_a_fraction_of_the_features(tmp_path: Path, data: tuple[str, str]) -> None:
    features, bits = (
        encoded(spec_of(tmp_path, data, text=None, latents=kind)).num_bytes for kind in ("features", "bits")
    )
    assert features == 150 * 4 * 4 * 8 * 4
    assert bits == 150 * (1 + 4 + 16)


def test_bits_alone_give_the_inputs_and_labels_of_plain_encoding(data: tuple[str, str]) -> None:
    tokenizer, schedule = load_tokenizer(data[1]), RESOLUTION.schedule(1.0)
    features = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    kind = tokenizer.config.quantizer
    from_features = teacher_forcing(features, schedule, kind=kind)
    from_bits = teacher_forcing_of_bits(BitLabels(schedule, from_features.labels.bits_BLC), kind=kind)
    assert torch.equal(from_features.inputs_BMC, from_bits.inputs_BMC)


def test_every_caption_that_may_be_drawn_is_there(tmp_path: Path, data: tuple[str, str]) -> None:
    captions = CaptionConfig(short_probability=0.5, cut_probability=0.5)
    report = encoded(spec_of(tmp_path, data, captions=captions, tokenizer=None))
    plain = transformer_spec(tmp_path, *data, captions=captions)
    assert_same(train_here(plain).state, train_here(plain.replace(encoded=report.index)).state)


@pytest.mark.parametrize("is_exact", [True, False])
def test_text_features_come_back_as_they_were_in_half_the_bytes_where_that_is_exact(
    tmp_path: Path, data: tuple[str, str], is_exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_exact:  # as an encoder that computes in bfloat16
        real = BuiltinTextEncoder.encode
        monkeypatch.setattr(
            BuiltinTextEncoder,
            "encode",
            lambda self, texts: replace(found := real(self, texts), features_TD=found.features_TD.bfloat16().float()),
        )
    report = encoded(spec_of(tmp_path, data, tokenizer=None))
    manifest, encoder = Manifest.load(data[0]), BuiltinTextEncoder(TEXT)
    draw = CaptionDraw(manifest, CaptionConfig(), 0, encoder.num_tokens, encoder.max_tokens)
    index = EncodedIndex.parse(storage.read_text(report.index))
    captions = EncodedCaptions(manifest, index, EncodedFiles(storage.parent(report.index), ReadingConfig()), draw)
    ids = BatchIds(1.0, (3, 149, 64, 3), (0, 0, 0, 0))
    expected = encoder.encode(draw(ids.rows, ids.visits))
    found = captions(ids)
    assert torch.equal(found.features_TD, expected.features_TD)
    assert found.lengths == expected.lengths
    heads = [
        TextHead.parse(storage.read_bytes(storage.join(storage.parent(report.index), part.text.path)))
        for part in index.parts
        if part.text is not None
    ]
    assert {head.dtype for head in heads} == {torch.bfloat16 if is_exact else torch.float32}


def test_more_texts_than_go_through_the_encoder_at_once_are_all_there() -> None:
    texts = [f"picture {'very ' * (number % 5)}{number}" for number in range(2 * encoding._TEXTS + 3)]
    encoder = BuiltinTextEncoder(TEXT)
    data = encoding._text_features(texts, encoder)
    head = TextHead.parse(data)
    assert list(head.places) == [hash_of(text) for text in texts]
    assert np.diff(head.edges).tolist() == [len(each) for each in encoder.encode(texts).unpack()]
    numbers = torch.frombuffer(bytearray(data[head.num_bytes :]), dtype=head.dtype).view(-1, head.channels)
    assert torch.equal(numbers.float(), encoder.encode(texts).features_TD)


def test_an_interrupted_job_goes_on_and_a_finished_one_does_nothing(
    tmp_path: Path, data: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, done = spec_of(tmp_path, data), []
    real = encoding.encode_part

    def part(manifest: object, part_range: object, *rest: object) -> object:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(part_range)
        return real(manifest, part_range, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(encode, "encode_part", part)
        with pytest.raises(KeyboardInterrupt):
            encoded(spec)
    assert not storage.exists(spec.index)
    monkeypatch.setattr(encode, "encode_part", lambda *given: done.append(given[1]) or real(*given))
    report = encoded(spec)
    assert len(done) == len(set(done)) == 3
    assert encoded(spec) == report
    assert len(done) == 3
    assert report.num_pictures == 150
    assert report.index == spec.index


@pytest.mark.ray
def test_actors_in_a_bucket_store_the_same(
    local_ray: None, s3_server: str, tmp_path: Path, data: tuple[str, str]
) -> None:
    here = EncodedIndex.parse(storage.read_text(encoded(spec_of(tmp_path, data)).index))
    there = encode.run(spec_of(s3_server, data, workers=WorkersConfig(num_workers=2, threads=1)))
    assert EncodedIndex.parse(storage.read_text(there.index)).parts == here.parts
    spec = transformer_spec(tmp_path, *data, encoded=there.index)
    with pytest.raises(ValueError, match=r"is read through a cache; set reading\.cache_folder"):
        session(spec)
    cached = spec.replace(reading=spec.reading.replace(cache_folder=str(tmp_path / "cache")))
    assert cached.folder == spec.folder
    assert_same(train_here(cached).state, train_here(spec.replace(encoded=None)).state)


@pytest.mark.ray
def test_a_cluster_without_room_for_a_worker_is_told(local_ray: None, tmp_path: Path, data: tuple[str, str]) -> None:
    with pytest.raises(WorkersError, match="wants 64 CPUs"):  # Ray alone would wait without end
        encode.run(spec_of(tmp_path, data, workers=WorkersConfig(threads=64)))


def test_a_store_of_something_else_is_refused(tmp_path: Path, data: tuple[str, str]) -> None:
    index = encoded(spec_of(tmp_path, data, latents="bits")).index
    spec = transformer_spec(tmp_path, *data, encoded=index, self_correction=0.0)
    with pytest.raises(ValueError, match=r"holds bits, but self_correction 0\.3 needs the encoder's features"):
        train_transformer.check(spec.replace(self_correction=0.3))
    with pytest.raises(ValueError, match=r"was made for captions .* encode again"):
        train_transformer.check(spec.replace(captions=CaptionConfig(cut_probability=1.0)))
    with pytest.raises(ValueError, match="was made for augment"):
        train_transformer.check(spec.replace(augment=spec.augment.replace(flip=0.5)))
    tokenizer = load_tokenizer(data[1])
    with torch.no_grad():
        tokenizer.encoder.conv_out.weight.mul_(1.5)
    save_tokenizer(str(tmp_path / "other"), tokenizer)
    with pytest.raises(ValueError, match="was made for tokenizer"):
        train_transformer.check(spec.replace(tokenizer=str(tmp_path / "other")))
    other = make_data(tmp_path / "other-data", num_train=30)
    with pytest.raises(ValueError, match=f"was made for manifest {Manifest.load(data[0]).digest}"):
        train_transformer.check(spec.replace(manifest=other))


def test_damage_is_found_before_use(tmp_path: Path, data: tuple[str, str]) -> None:
    report = encoded(spec_of(tmp_path, data, text=None))
    part = EncodedIndex.parse(storage.read_text(report.index)).parts[0].latents
    assert part is not None
    uri = storage.join(storage.parent(report.index), part.path)
    storage.write_bytes(uri, bytes(part.num_bytes))
    with pytest.raises(DamagedError, match=r"expected the checksum .* encode again"):
        session(transformer_spec(tmp_path, *data, encoded=report.index))


def test_a_spec_that_asks_for_nothing_is_refused(data: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="expected a tokenizer, a text encoder or both"):
        spec_of("/a", data, tokenizer=None, text=None)
    with pytest.raises(ValueError, match="expected a multiple of 64, got 100"):
        spec_of("/a", data, pictures_per_part=100)
    assert EncodeSpec.parse(spec_of("/a", data).dump()) == spec_of("/a", data)


def test_a_training_and_its_store_find_each_other(tmp_path: Path, data: tuple[str, str]) -> None:
    plain = transformer_spec(tmp_path, *data, self_correction=0.0)
    stored = encode.from_store(plain)
    assert encode.store_for(plain).latents == "bits"
    assert encode.store_for(stored) == encode.store_for(plain)
    assert encode.store_for(plain.replace(self_correction=0.1)).latents == "features"
    assert encode.store_for(plain.replace(augment=plain.augment.replace(flip=0.5))).tokenizer is None
    assert encoded(encode.store_for(plain)).index == stored.encoded
    train_transformer.check(stored)
    assert_same(train_here(plain).state, train_here(stored).state)
    assert stored.folder == plain.folder  # the same job: its weights are the same
    assert stored.replace(seed=9).folder == plain.replace(seed=9).folder != plain.folder


def test_moving_pictures_have_a_store_of_captions_alone(tmp_path: Path, data: tuple[str, str]) -> None:
    plain = transformer_spec(tmp_path, *data)
    plain = plain.replace(augment=plain.augment.replace(flip=0.5))
    stored = encode.from_store(plain)
    encoded(encode.store_for(plain))
    train_transformer.check(stored)
    assert_same(train_here(plain).state, train_here(stored).state)

"""The T5 encoder, on tiny random weights with real small tokenizers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
import torch
import transformers

from infinity.data.loading.batches import BatchIds
from infinity.generation import SamplingConfig, generate
from infinity.scales import ScaleSchedule
from infinity.text import T5TextConfig, T5TextEncoder, TextCondition, build_text_encoder
from infinity.text.t5 import TextDtype
from infinity.training.loaders.encoded import TextHead
from infinity.training.loaders.encoding import _text_features
from infinity.training.loaders.latents import CaptionFeatures
from infinity.transformer import Decoding, Transformer
from tests.fixtures.models.tiny_pipeline import SCHEDULE, tiny_tokenizer
from tests.fixtures.models.tiny_transformer import tiny_config

SENTENCES = [
    f"{count} {colour} {shape} {place} a {other}"
    for count in ("one", "two", "three", "a")
    for colour in ("red", "blue", "green", "yellow")
    for shape in ("cube", "ball", "star", "triangle")
    for place in ("above", "below", "left of", "right of")
    for other in ("white ring", "black cross")
]


def save_weights(folder: Path, vocab_size: int) -> None:
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=vocab_size, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def sentencepiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 as published: config.json, weights and spiece.model."""
    folder = tmp_path_factory.mktemp("t5-sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_prefix=str(folder / "spiece"),
        vocab_size=40,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0}), encoding="utf-8"
    )
    save_weights(folder, vocab_size=64)
    return folder


@pytest.fixture(scope="session")
def tokenizers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 with tokenizer.json."""
    folder = tmp_path_factory.mktemp("t5-tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=60, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    save_weights(folder, vocab_size=64)
    return folder


@pytest.fixture(params=["sentencepiece_folder", "tokenizers_folder"])
def folder(request: pytest.FixtureRequest) -> Path:
    result: Path = request.getfixturevalue(request.param)
    return result


def test_padding_changes_nothing(folder: Path) -> None:
    encoder = build_text_encoder(T5TextConfig(model=str(folder)))
    prompts = ["a red cube", "", "three yellow triangle left of a black cross"]
    batch = encoder.encode(prompts)
    assert batch.channels == encoder.channels == 32
    assert batch.features_TD.dtype == torch.float32
    assert batch.lengths[1] == 1  # the closing token
    for prompt, features in zip(prompts, batch.unpack(), strict=True):
        torch.testing.assert_close(encoder.encode([prompt]).features_TD, features, atol=1e-5, rtol=1e-5)


def test_tokens_are_those_of_sentencepiece_and_a_closing_one(sentencepiece_folder: Path) -> None:
    encoder = T5TextEncoder(T5TextConfig(model=str(sentencepiece_folder)))
    model = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_folder / "spiece.model"))
    prompt = "two green star above a white ring"
    expected = [*model.encode(prompt), 1]
    reference = transformers.T5EncoderModel.from_pretrained(sentencepiece_folder)
    with torch.no_grad():
        hidden = reference(input_ids=torch.tensor([expected])).last_hidden_state[0]
    torch.testing.assert_close(encoder.encode([prompt]).features_TD, hidden, atol=1e-6, rtol=1e-6)


def test_long_captions_are_cut_and_closed(folder: Path) -> None:
    encoder = build_text_encoder(T5TextConfig(model=str(folder), max_tokens=8))
    assert encoder.encode(["red cube " * 30, "a"]).lengths[0] == 8


def test_small_batches_give_the_same_features(folder: Path) -> None:
    whole = build_text_encoder(T5TextConfig(model=str(folder))).encode(SENTENCES[:5])
    parts = build_text_encoder(T5TextConfig(model=str(folder), batch_size=2)).encode(SENTENCES[:5])
    torch.testing.assert_close(whole.features_TD, parts.features_TD, atol=1e-5, rtol=1e-5)


def test_half_precision_weights_give_float32_features(folder: Path) -> None:
    exact = build_text_encoder(T5TextConfig(model=str(folder))).encode(["a red cube"]).features_TD
    rough = build_text_encoder(T5TextConfig(model=str(folder), dtype="bfloat16")).encode(["a red cube"]).features_TD
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("around", [torch.bfloat16, torch.float16])
def test_an_autocast_around_it_changes_no_feature(
    sentencepiece_folder: Path, dtype: TextDtype, around: torch.dtype
) -> None:
    encoder = T5TextEncoder(T5TextConfig(model=str(sentencepiece_folder), dtype=dtype, batch_size=3))
    outside = encoder.encode(SENTENCES[:5])
    with torch.autocast("cpu", around):
        inside = encoder.encode(SENTENCES[:5])
    assert inside.features_TD.dtype == torch.float32
    assert torch.equal(inside.features_TD, outside.features_TD)
    assert inside.lengths == outside.lengths


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("autocast", [False, True])
def test_training_store_and_drawing_read_the_same_features(
    sentencepiece_folder: Path, dtype: TextDtype, autocast: bool
) -> None:
    """Whether they compute under autocast or not: drawing does on a GPU, and training does not."""
    encoder = T5TextEncoder(T5TextConfig(model=str(sentencepiece_folder), dtype=dtype, max_tokens=8, batch_size=1))
    texts, drawn = SENTENCES[:3], []

    class Watched(Transformer):
        def start_decoding(
            self, text: TextCondition, schedule: ScaleSchedule, shares: Sequence[float] = ()
        ) -> Decoding:
            drawn.append(text.features_TD)
            return super().start_decoding(text, schedule, shares)

    model = Watched(tiny_config(text_channels=encoder.channels)).eval()
    model.init_weights(torch.Generator().manual_seed(0))
    sampling = SamplingConfig(guidance=2.0, negative_prompt=texts[2])
    expected = encoder.encode(texts).unpack()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        draw: Any = lambda _rows, _visits: texts  # noqa: E731
        trained = CaptionFeatures(draw, encoder)(BatchIds(1.0, (0, 1, 2), (0, 0, 0)))
        stored = _text_features(texts, encoder)
        generate(model, tiny_tokenizer(), encoder, texts[:2], schedule=SCHEDULE, sampling=sampling, seeds=(0, 0))
    assert torch.equal(trained.features_TD, torch.cat(expected))
    assert torch.equal(drawn[0], torch.cat([*expected[:2], expected[2], expected[2]]))
    head = TextHead.parse(stored)
    numbers = torch.frombuffer(bytearray(stored[head.num_bytes :]), dtype=head.dtype).float()
    assert torch.equal(numbers, torch.cat(expected).flatten())


def test_the_decoder_of_a_whole_t5_is_left_out(sentencepiece_folder: Path, tmp_path: Path) -> None:
    for file in ("spiece.model", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((sentencepiece_folder / file).read_bytes())
    config = transformers.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    whole = transformers.T5ForConditionalGeneration(config)
    whole.save_pretrained(tmp_path)
    encoder = T5TextEncoder(T5TextConfig(model=str(tmp_path)))
    hidden = whole.eval().encoder(input_ids=encoder._tokenizer("a red cube", return_tensors="pt").input_ids)
    torch.testing.assert_close(encoder.encode(["a red cube"]).features_TD, hidden.last_hidden_state[0].detach())


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no T5 text encoder could be loaded .* does not exist"):
        T5TextEncoder(T5TextConfig(model=str(tmp_path / "nowhere")))


def test_an_empty_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no T5 text encoder could be loaded .*config\.json"):
        T5TextEncoder(T5TextConfig(model=str(tmp_path)))


def test_another_kind_of_model_is_a_clear_error(tmp_path: Path) -> None:
    config = transformers.CLIPTextConfig(
        hidden_size=32, intermediate_size=32, num_attention_heads=2, num_hidden_layers=1
    )
    transformers.CLIPTextModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no T5 .*clip_text_model"):
        T5TextEncoder(T5TextConfig(model=str(tmp_path)))


def test_weights_without_a_tokenizer_are_a_clear_error(tmp_path: Path) -> None:
    save_weights(tmp_path, vocab_size=64)
    with pytest.raises(ValueError, match="tokenizer"):
        T5TextEncoder(T5TextConfig(model=str(tmp_path)))


def test_a_tokenizer_of_another_model_is_a_clear_error(sentencepiece_folder: Path, tmp_path: Path) -> None:
    for file in ("spiece.model", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((sentencepiece_folder / file).read_bytes())
    save_weights(tmp_path, vocab_size=30)
    with pytest.raises(ValueError, match="different models"):
        T5TextEncoder(T5TextConfig(model=str(tmp_path)))


@pytest.mark.parametrize("change", [{"model": " "}, {"max_tokens": 0}, {"batch_size": 0}])
def test_impossible_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="T5TextConfig"):
        T5TextConfig(**({"model": "some/name"} | change))  # type: ignore[arg-type]

"""HPSv3: the numbers of its network written out, sizes of pictures, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from infinity.checkpoint import CheckpointError
from infinity.perception.preference.hps3 import Hps3, Hps3Config, fitting_size, read_instruction
from infinity.storage.pinned import PinnedFile
from tests.fixtures.models.published_networks import HPS3_TEXTS, write_hps3

PROMPTS = ("a red cup", "two dog and a cat left of the bench", "x", "a red cup")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Hps3Config:
    return write_hps3(tmp_path_factory.mktemp("hps3"))


@pytest.fixture(scope="module")
def network(config: Hps3Config) -> Hps3:
    return Hps3(config)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (*size, 3), dtype=np.uint8) for size in ((30, 17), (112, 12), (7, 40), (24, 24))]


def test_a_batch_gives_the_numbers_of_the_network_written_out(network: Hps3, pictures: list[np.ndarray]) -> None:
    found = network(pictures, PROMPTS)
    for picture, prompt, score in zip(pictures, PROMPTS, found, strict=True):
        assert np.isclose(score, _written_out(network, picture, prompt), atol=1e-4)
    assert np.ptp(found) > 0.1
    assert not np.isclose(found[0], found[3])  # the same prompt, another picture
    assert network([], []).shape == (0,)


def _written_out(network: Hps3, picture: np.ndarray, prompt: str) -> float:
    """Return the score as the published code reaches it: picture into the embeddings, positions counted through."""
    inputs = network.prepare([picture], [prompt])
    model = network._network.model
    vectors = model.language_model.embed_tokens(inputs["input_ids"])
    seen = model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
    at_picture = inputs["input_ids"] == model.config.image_token_id
    vectors[at_picture] = seen
    places = torch.arange(vectors.shape[1])[None]
    hidden = model.language_model(inputs_embeds=vectors, position_ids=places).last_hidden_state
    token = int((inputs["input_ids"][0] == network._reward_id).nonzero())
    return float(network._head(hidden[0, token])[0])


def test_positions_are_counted_through_the_picture(network: Hps3, pictures: list[np.ndarray]) -> None:
    """Positions by rows and columns, which Qwen2-VL takes by itself, give other numbers."""
    inputs = network.prepare(pictures[:1], PROMPTS[:1])
    rows = inputs["input_ids"] == network._network.config.image_token_id
    hidden = network._network.model(**inputs, mm_token_type_ids=rows.long()).last_hidden_state
    by_rows = network._head(hidden[inputs["input_ids"] == network._reward_id])[0, 0]
    assert not np.isclose(float(by_rows), network(pictures[:1], PROMPTS[:1])[0], atol=1e-3)


def test_the_prompt_matters_and_stands_in_the_instruction(network: Hps3, pictures: list[np.ndarray]) -> None:
    same = [pictures[0]] * 2
    red, green = network(same, ["a red cup", "a green cup"])
    assert not np.isclose(red, green)
    tokens = network.prepare(same[:1], ["a red cup"])["input_ids"]
    text = network._tokenizer.decode(tokens[0])
    assert "picture of a red cup ? answer" in text
    assert text.count("<|Reward|>") == 1


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((448, 448), (448, 448)), ((1024, 1024), (448, 448)), ((64, 64), (448, 448)), ((768, 1344), (336, 588))],
)
def test_pictures_get_as_many_pixels_as_the_published_code_gives_them(
    size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert fitting_size(*size, 256 * 28 * 28) == wanted


def test_no_side_is_shorter_than_a_square() -> None:
    assert fitting_size(10, 20_000, 256 * 28 * 28) == (28, 20020)
    assert fitting_size(20, 100_000, 4 * 28 * 28) == (28, 3948)


def test_control_tokens_in_a_prompt_are_refused(network: Hps3, pictures: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"prompt without control tokens, found <\|image_pad\|>"):
        network(pictures[:1], ["a <|image_pad|>"])
    with pytest.raises(ValueError, match="as many prompts as pictures, got 1 and 2"):
        network(pictures[:2], ["a cup"])


def test_another_instruction_than_the_weights_were_trained_with_is_refused(config: Hps3Config, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the weights were trained with another text"):
        read_instruction(config.replace(instruction_sha256="0" * 64))
    for text, message in {
        HPS3_TEXTS.replace("{text_prompt}", "it"): r"expected INSTRUCTION with \{text_prompt\}",
        HPS3_TEXTS.replace("<|Reward|>", ""): "prompt_with_special_token",
        "404: Not Found": "expected a Python file, found one that cannot be parsed",
        "": "found no texts",
    }.items():
        (tmp_path / "texts.py").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_instruction(config.replace(instruction=PinnedFile(uri=str(tmp_path / "texts.py"))))


def test_files_of_other_models_are_refused(config: Hps3Config, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(config.weights.uri)
    elsewhere = config.replace(weights=PinnedFile(uri=str(tmp_path / "HPSv3.safetensors")))
    for changed, message in (
        ({name: value for name, value in tensors.items() if "rm_head" not in name}, r"expected a tensor 0\.weight"),
        ({name: value for name, value in tensors.items() if "layers.1" not in name}, "tensors more"),
        (tensors | {"model.embed_tokens.weight": tensors["model.embed_tokens.weight"][:20]}, "expected the tokenizer"),
        (tensors | {"other": torch.zeros(1)}, "has no other"),
    ):
        save_file(changed, tmp_path / "HPSv3.safetensors")
        with pytest.raises((ValueError, CheckpointError), match=message):
            Hps3(elsewhere)
    (tmp_path / "HPSv3.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        Hps3(elsewhere)


def test_what_a_score_depends_on_changes_the_digest(config: Hps3Config, tmp_path: Path) -> None:
    (tmp_path / "texts.py").write_text(HPS3_TEXTS.replace("answer", "say"))
    others = [
        config.replace(pixels=28 * 28), config.replace(dtype="bfloat16"),
        config.replace(instruction=PinnedFile(uri=str(tmp_path / "texts.py"))),
    ]  # fmt: skip
    assert len({each.weights_digest() for each in [config, *others]}) == 4
    assert config.replace(batch_size=1).weights_digest() == config.weights_digest()

"""HPSv2 and ImageReward: the numbers of networks written out under the published names, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from infinity.checkpoint import CheckpointError
from infinity.perception.preference.hps import Hps, HpsConfig, clean, fit
from infinity.perception.preference.image_reward import ImageReward, ImageRewardConfig
from infinity.storage import FileMissingError
from infinity.storage.pinned import PinnedFile, PinnedFileError
from tests.fixtures.models.published_networks import OpenClip, OriginalImageReward, write_hps, write_image_reward

PROMPTS = ("a red cup", "two dogs and a cat left of the bench", "x", "a red cup")


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [
        random.integers(0, 255, size, dtype=np.uint8) for size in ((30, 17, 3), (12, 12, 3), (7, 40, 3), (24, 24, 3))
    ]


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory) -> tuple[HpsConfig, OpenClip]:
    return write_hps(tmp_path_factory.mktemp("hps"))


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageRewardConfig, OriginalImageReward]:
    return write_image_reward(tmp_path_factory.mktemp("reward"))


def test_hps_gives_the_numbers_of_open_clip(hps: tuple[HpsConfig, OpenClip], pictures: list[np.ndarray]) -> None:
    config, network = hps
    ours = Hps(config)
    torch.testing.assert_close(ours.embed_pictures(pictures), network.visual(ours.prepare(pictures)))
    for prompt, found in zip(PROMPTS, ours.embed_texts(PROMPTS), strict=True):
        # The public tokenizer fills up with zeros behind the closing token, which has the largest number.
        tokens = ours.tokens([prompt])["input_ids"][0]
        padded = torch.zeros(1, 77, dtype=torch.long)
        padded[0, : len(tokens)] = tokens
        torch.testing.assert_close(found, network.read(padded)[0])


def test_image_reward_gives_the_numbers_of_the_original(
    reward: tuple[ImageRewardConfig, OriginalImageReward], pictures: list[np.ndarray]
) -> None:
    config, network = reward
    ours = ImageReward(config)
    found = ours(pictures, PROMPTS)
    for picture, prompt, value in zip(pictures, PROMPTS, found, strict=True):
        tokens = ours._tokenizer([prompt], truncation=True, max_length=9, return_tensors="pt")
        wanted = network(ours.prepare([picture]), tokens["input_ids"], tokens["attention_mask"])
        torch.testing.assert_close(torch.tensor([value]), wanted, atol=1e-4, rtol=1e-4)
    assert np.ptp(found) > 1e-3
    assert not np.isclose(found[0], found[3])  # the same prompt, another picture
    assert ours([], []).shape == (0,)


def test_image_reward_cuts_the_middle_out_of_the_picture(
    reward: tuple[ImageRewardConfig, OriginalImageReward], pictures: list[np.ndarray]
) -> None:
    ours = ImageReward(reward[0])
    seen = ours.prepare([pictures[0]])[0]  # 30 x 17 becomes 21 x 12: torchvision cuts the length, rounds the offset
    small = np.asarray(Image.fromarray(pictures[0]).resize((12, 21), Image.Resampling.BICUBIC))[4:16]
    mean, deviation = np.array((0.48145466, 0.4578275, 0.40821073)), np.array((0.26862954, 0.26130258, 0.27577711))
    np.testing.assert_allclose(seen.permute(1, 2, 0), (small / 255 - mean) / deviation, atol=1e-6)


def test_hps_fits_the_whole_picture_in_with_black_around() -> None:
    wide = np.full((6, 12, 3), 255, np.uint8)
    seen = fit(wide, 24, antialias=True)
    assert seen.shape == (3, 24, 24)
    assert (seen[:, :6] == 0).all()
    assert (seen[:, 18:] == 0).all()
    torch.testing.assert_close(seen[:, 6:18], torch.ones(3, 12, 24))
    assert (fit(np.full((12, 6, 3), 255, np.uint8), 24, antialias=True)[:, :, [5, 18]] == 0).all()
    assert fit(np.zeros((1, 2000, 3), np.uint8), 24, antialias=True).shape == (3, 24, 24)


def test_averaging_while_shrinking_is_a_choice_that_shows() -> None:
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::4] = 255
    smooth, rough = (fit(stripes, 24, antialias=averaging) for averaging in (True, False))
    assert float((smooth[:, 4:-4, 4:-4] - 0.25).abs().max()) < 0.02
    assert not torch.allclose(smooth, rough, atol=0.05)


def test_prompts_are_mended_as_the_public_tokenizer_does() -> None:
    assert clean("A  Cup &amp;amp; a\tdog’s â€” ﬁsh ") == "a cup & a dog's — fish"


def damaged(config_file: PinnedFile, folder: Path, change: str, *names: str) -> PinnedFile:
    """A copy of a file with tensors renamed, dropped or cut."""
    data = torch.load(config_file.uri, weights_only=True)
    tensors: dict[str, Tensor] = data.get("state_dict", data)
    for name in names:
        value = tensors.pop(name)
        if change == "cut":
            tensors[name] = value[:-1].clone()
        if change == "rename":
            tensors[f"{name}.other"] = value
    torch.save(tensors, folder / "damaged.pt")
    return PinnedFile(uri=str(folder / "damaged.pt"))


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ("drop", "visual.conv1.weight", r"expected a tensor visual\.conv1\.weight, found none"),
        ("drop", "ln_final.bias", r"has 1 tensors more: text_model\.final_layer_norm\.bias"),
        ("drop", "visual.transformer.resblocks.1.attn.in_proj_weight", "has 3 tensors more: .*self_attn.k_proj"),
        ("rename", "ln_final.bias", r"text_model\.final_layer_norm\.bias"),
        ("cut", "visual.ln_post.bias", "these tensors are not those of a CLIPModel"),
    ],
)  # fmt: skip
def test_hps_files_that_are_not_whole_are_refused(
    hps: tuple[HpsConfig, OpenClip], tmp_path: Path, change: str, name: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Hps(hps[0].replace(weights=damaged(hps[0].file, tmp_path, change, name)))


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ("drop", "blip.visual_encoder.pos_embed", r"expected a tensor blip\.visual_encoder\.pos_embed"),
        ("drop", "blip.text_encoder.encoder.layer.2.crossattention.self.key.bias", "has 1 tensors more"),
        ("drop", "mlp.layers.7.weight", r"missing layers\.7\.weight"),
        ("rename", "blip.visual_encoder.norm.weight", r"post_layernorm\.weight"),
        ("cut", "blip.visual_encoder.norm.weight", "these tensors are not those of a BlipVisionModel"),
    ],
)
def test_image_reward_files_that_are_not_whole_are_refused(
    reward: tuple[ImageRewardConfig, OriginalImageReward], tmp_path: Path, change: str, name: str, message: str
) -> None:
    with pytest.raises((ValueError, CheckpointError), match=message):
        ImageReward(reward[0].replace(weights=damaged(reward[0].weights, tmp_path, change, name)))


def test_missing_and_other_files_are_named(
    hps: tuple[HpsConfig, OpenClip], reward: tuple[ImageRewardConfig, OriginalImageReward], tmp_path: Path
) -> None:
    nowhere, text = PinnedFile(uri=str(tmp_path / "nowhere.pt")), tmp_path / "text.pt"
    text.write_text("no tensors")
    for load in (
        lambda file: Hps(hps[0].replace(weights=file)),
        lambda file: ImageReward(reward[0].replace(weights=file)),
    ):
        with pytest.raises(FileMissingError, match=r"nowhere\.pt"):
            load(nowhere)
        with pytest.raises(ValueError, match=r"text\.pt: expected a PyTorch file of tensors"):
            load(PinnedFile(uri=str(text)))
        with pytest.raises(PinnedFileError, match="expected sha256 00000000, found"):
            load(PinnedFile(uri=hps[0].file.uri, sha256="00000000"))
    with pytest.raises(ValueError, match="no tokenizer could be loaded"):
        Hps(hps[0].replace(tokenizer=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="expected a tensor visual"):
        Hps(hps[0].replace(weights=reward[0].weights))
    with pytest.raises(ValueError, match=r"expected tensors of an ImageReward .*found"):
        ImageReward(reward[0].replace(weights=hps[0].file))
    with pytest.raises(ValueError, match="whose closing token is"):
        Hps(hps[0].replace(tokenizer=reward[0].tokenizer))


def test_digests_name_all_that_numbers_follow_from(hps: tuple[HpsConfig, OpenClip], tmp_path: Path) -> None:
    config = hps[0]
    copy = tmp_path / "copy.pt"
    copy.write_bytes(Path(config.file.uri).read_bytes())
    same = config.replace(weights=PinnedFile(uri=str(copy)), batch_size=1)
    assert same.weights_digest() == config.weights_digest()
    assert config.replace(antialias=False).weights_digest() != config.weights_digest()
    other = damaged(config.file, tmp_path, "drop", "logit_scale")
    assert config.replace(weights=other).weights_digest() != config.weights_digest()

"""The border between 8-bit pictures and the models."""

import torch

from infinity.tokenizer.pixels import to_images, to_pixels


def test_every_value_comes_back() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    pixels = to_pixels(images)
    assert (pixels.min(), pixels.max()) == (-1.0, 1.0)
    assert torch.equal(to_images(pixels), images)


def test_values_outside_are_clamped_and_others_rounded_to_nearest() -> None:
    pixels = torch.tensor([-3.0, 3.0, 0.0, 0.001]).reshape(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert to_images(pixels)[0, 0, :, 0].tolist() == [0, 255, 128, 128]

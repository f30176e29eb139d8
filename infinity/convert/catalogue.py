"""The published files: which there are, where, and what belongs together (repository README, issue 17)."""

from __future__ import annotations

from dataclasses import dataclass

from infinity.convert.arguments import size_in_name
from infinity.scales import Size

REPOSITORY = "FoundationVision/Infinity"
"""Repository of the published files on the Hugging Face hub."""
TEXT_MODEL = "google/flan-t5-xl"


class UnknownModelError(ValueError):
    """A name is not that of a published model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedModel:
    """A published model, or a tokenizer alone.

    Attributes:
        transformer: File, or folder of shards, in the repository; None for a tokenizer alone.
        tokenizer: File of the tokenizer in the repository.
        fold: Whether 2x2 positions of the tokenizer make one token.
        text_model: Text encoder that the transformer was trained with, on the same hub.
        default_size: Class of the pictures where the file's name has none.
    """

    transformer: str | None
    tokenizer: str
    fold: bool = False
    text_model: str = TEXT_MODEL
    default_size: Size = "1024"

    @property
    def size(self) -> Size:
        """Class of the pictures: that in the transformer's name, or the default."""
        return (size_in_name(self.transformer) if self.transformer else None) or self.default_size

    @property
    def sources(self) -> tuple[str, ...]:
        """Files and folders of the repository that belong to the model."""
        return tuple(each for each in (self.tokenizer, self.transformer) if each is not None)


_FOLDED = "infinity_vae_d56_f8_14_patchify.pth"
CATALOGUE: dict[str, PublishedModel] = {
    "125m": PublishedModel(transformer="infinity_125M_256x256.pth", tokenizer="infinity_vae_d16.pth"),
    "2b": PublishedModel(transformer="infinity_2b_reg.pth", tokenizer="infinity_vae_d32reg.pth"),
    "8b": PublishedModel(transformer="infinity_8b_weights", tokenizer=_FOLDED, fold=True),
    "8b-512": PublishedModel(transformer="infinity_8b_512x512_weights", tokenizer=_FOLDED, fold=True),
    "vae-d16": PublishedModel(transformer=None, tokenizer="infinity_vae_d16.pth"),
    "vae-d24": PublishedModel(transformer=None, tokenizer="infinity_vae_d24.pth"),
    "vae-d32": PublishedModel(transformer=None, tokenizer="infinity_vae_d32.pth"),
    "vae-d64": PublishedModel(transformer=None, tokenizer="infinity_vae_d64.pth"),
}
"""Published models by the name of ``infinity pull``."""


def published_model(name: str) -> PublishedModel:
    """Return a published model by its name, in any case.

    Raises:
        UnknownModelError: There is none of this name; the message lists them.
    """
    if (found := CATALOGUE.get(name.lower())) is None:
        raise UnknownModelError(f"pull: expected one of {', '.join(CATALOGUE)}, got {name!r:.60}")
    return found

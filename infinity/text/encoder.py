"""The interface of a text encoder, and the choice between Flan-T5 and the built-in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from infinity.text.builtin import BuiltinTextConfig, BuiltinTextEncoder
from infinity.text.condition import TextCondition
from infinity.text.t5 import T5TextConfig, T5TextEncoder
from infinity.text.t5_folder import look_at, place_of

TextConfig = BuiltinTextConfig | T5TextConfig
"""Settings of either text encoder; the key ``kind`` tells them apart in JSON."""


def with_found_folder(config: T5TextConfig, *, channels: int | None = None) -> T5TextConfig:
    """Return the settings with the absolute folder and the fingerprint of the T5, if it lies on this machine.

    Args:
        config: Settings with a folder or a hub name.
        channels: Channels that the transformer reads; None accepts any.

    Raises:
        ValueError: The path has no T5, or one with other channels.
    """
    config = config.replace(model=place_of(config.model))
    found = look_at(config.model)
    if found is None:
        return config
    if channels is not None and found.channels != channels:
        raise ValueError(
            f"text model {config.model}: the transformer reads {channels} text channels, this T5 gives "
            f"{found.channels}; expected the T5 that the transformer was trained with"
        )
    return config.replace(fingerprint=found.fingerprint)


def difference(first: TextConfig, second: TextConfig) -> str | None:
    """Describe how the features of two encoders differ in meaning; None if they do not, as far as known here.

    Folder, data type, batch size and largest length of a T5 change no meaning.
    """
    if first.kind != second.kind:
        return f"{first.kind} and {second.kind}"
    if isinstance(first, BuiltinTextConfig) and isinstance(second, BuiltinTextConfig):
        names = [name for name in ("channels", "seed") if getattr(first, name) != getattr(second, name)]
        return ", ".join(f"{name} {getattr(first, name)} and {getattr(second, name)}" for name in names) or None
    assert isinstance(first, T5TextConfig)
    assert isinstance(second, T5TextConfig)
    if first.model == second.model and None in (first.fingerprint, second.fingerprint):
        return None
    one, other = (each.fingerprint or _fingerprint(each.model) for each in (first, second))
    if one is None or other is None or one == other:
        return None
    return f"the weights of {first.model} ({one}) and {second.model} ({other})"


def _fingerprint(model: str) -> str | None:
    try:
        found = look_at(model)
    except ValueError:  # the folder is gone or changed; loading the encoder raises a clear error
        return None
    return None if found is None else found.fingerprint


class TextEncoder(Protocol):
    """Encodes captions to packed features; frozen and deterministic.

    The configuration alone decides the data type of the computation: an autocast around a call changes no feature.
    """

    @property
    def channels(self) -> int:
        """Channels Dt of the features."""
        ...

    @property
    def max_tokens(self) -> int:
        """Largest number of tokens; longer captions are cut."""
        ...

    def num_tokens(self, prompt: str) -> int:
        """Return the number of tokens of a caption before it is cut, including the end token."""
        ...

    def encode(self, prompts: Sequence[str]) -> TextCondition:
        """Return float32 features of every prompt, at least one token each."""
        ...


def build_text_encoder(config: TextConfig, device: str = "cpu") -> TextEncoder:
    """Build the encoder of a configuration.

    Args:
        config: Settings of either encoder.
        device: Device of a T5; the built-in encoder always runs on the CPU.
    """
    if isinstance(config, BuiltinTextConfig):
        return BuiltinTextEncoder(config)
    return T5TextEncoder(config, device)

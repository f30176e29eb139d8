"""What a text encoder is, and which ones exist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from infinity.text.builtin import BuiltinTextConfig, BuiltinTextEncoder
from infinity.text.condition import TextCondition
from infinity.text.t5 import T5TextConfig, T5TextEncoder
from infinity.text.t5_folder import look_at, place_of

TextConfig = BuiltinTextConfig | T5TextConfig
"""Which encoder turns captions into features; the key ``kind`` tells them apart in JSON."""


def with_found_folder(config: T5TextConfig, *, channels: int | None = None) -> T5TextConfig:
    """The same encoder by its absolute folder and with its fingerprint, if it lies on this machine.

    Args:
        config: Names a folder or a hub name.
        channels: That a transformer reads; anything if None.

    Raises:
        ValueError: A path without a T5, or one of other channels.
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
    """In what the features of two encoders differ in meaning; None where they do not, as far as can be known here.

    Where a T5 lies, in which type and in what batches it computes and where it cuts captions change no meaning.
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
    except ValueError:  # gone, or something else now; loading it will say so
        return None
    return None if found is None else found.fingerprint


class TextEncoder(Protocol):
    """Captions in, packed features out; frozen and deterministic.

    Its configuration alone decides in which type it computes: an autocast around a call changes no feature.
    """

    @property
    def channels(self) -> int:
        """Dt, the channels of the features."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longer captions are cut to this many tokens."""
        ...

    def num_tokens(self, prompt: str) -> int:
        """Tokens of a caption before it is cut, the closing token included."""
        ...

    def encode(self, prompts: Sequence[str]) -> TextCondition:
        """Float32 features of every prompt, at least one token each."""
        ...


def build_text_encoder(config: TextConfig, device: str = "cpu") -> TextEncoder:
    """The encoder that a configuration names.

    Args:
        config: Of either kind.
        device: Where a T5 runs; the built-in encoder always runs on the CPU.
    """
    if isinstance(config, BuiltinTextConfig):
        return BuiltinTextEncoder(config)
    return T5TextEncoder(config, device)

"""Which caption is trained on: short or long, and how much of a long one.

The published recipe takes a short caption with probability 0.5, and cuts long ones at random to a whole number of
sentences. Where a picture has several captions of one kind, one of them is drawn, each as likely as the others. What
is drawn follows from the key of the plan, row and visit alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from infinity.config import Config
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.draws import key_of, uniform_at
from infinity.ranges import Share

# A sentence ends with a mark, quotes or brackets that close behind it, and a space before what begins the next one. CJK
# marks need no space. "4.5 cm" and "e.g. a cup" go on: no space, or a small letter behind it.
_END = re.compile(r"""(?:[.!?…]+["'”’)\]]*\s+(?=["'“‘(\[]*[^\Wa-z_])|[。！？]+["'”’）」』]*\s*)""")
_TITLES = re.compile(r"(?:\b(?:mr|mrs|ms|dr|prof|st|no|vs|fig|approx)|\b[A-Za-z])\.$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionConfig(Config):
    """Settings of the choice between captions at each visit.

    Attributes:
        short_probability: Probability of the short caption where a row has a short and a long one; 0.5 in the
            published recipe. None for the one caption that the data set was built with.
        cut_probability: Probability that a long caption is cut to its first n sentences, n uniform from 1 to all of
            them.
        fit_tokens: Whether a caption that is longer than the text encoder reads loses whole sentences from its end, so
            that none breaks off in the middle; a single sentence that is too long stays, and the encoder cuts it.
    """

    short_probability: Share | None = None
    cut_probability: Share = 0.0
    fit_tokens: bool = False

    @property
    def changes_nothing(self) -> bool:
        """True where a picture has the same caption at every visit."""
        return self.short_probability in (None, 0.0, 1.0) and self.cut_probability == 0.0


def sentences(text: str) -> list[str]:
    """Return a text in whole sentences; joined they are the text."""
    parts: list[str] = []
    start = 0
    for end in _END.finditer(text):
        if _TITLES.search(text[start : end.end()].rstrip()):
            continue
        parts.append(text[start : end.end()])
        start = end.end()
    return [*parts, text[start:]] if start < len(text) or not parts else parts


class CaptionDraw:
    """The caption of every visit of a data set's pictures."""

    def __init__(
        self, manifest: Manifest, config: CaptionConfig, key: int, num_tokens: Callable[[str], int], max_tokens: int
    ) -> None:
        """Prepare the draw; captions are read from the manifest's table when they are needed.

        Args:
            manifest: The data set.
            config: Settings of the choice.
            key: Key of the plan, from which all random draws follow.
            num_tokens: Function that counts the tokens of a caption for the text encoder.
            max_tokens: Most tokens that the encoder reads.
        """
        self._manifest = manifest
        self._config, self._key = config, key
        self._num_tokens, self._max_tokens = num_tokens, max_tokens

    def __call__(self, rows: tuple[int, ...], visits: tuple[int, ...]) -> list[str]:
        """Return one caption per picture, in their order."""
        columns = zip(*self._texts(rows), strict=True)
        return [self._draw(row, visit, *texts) for row, visit, texts in zip(rows, visits, columns, strict=True)]

    def _texts(self, rows: tuple[int, ...]) -> list[list[Any]]:
        """Return taken, long, short and further captions of some rows; long and short None where there is but one."""
        texts = [self._manifest.values(name, rows) for name in ("caption", "caption_long", "caption_short")]
        return [*texts, self._manifest.further(rows)]

    def possible(self, row: int) -> list[str]:
        """Return every caption that some visit of a row may take, without repetition."""
        config = self._config
        ((chosen,), (long,), (short,), (further,)) = self._texts((row,))
        found: list[str] = []
        texts = [(chosen, True)]
        if config.short_probability is not None and long is not None and short is not None:
            texts = [(long, True)] * (config.short_probability < 1) + [(short, False)] * (config.short_probability > 0)
        texts += [(text, is_long) for other, is_long in texts if other == chosen for text in further]
        for text, is_long in texts:
            if is_long and config.cut_probability > 0:
                parts = sentences(text)
                found += ["".join(parts[:number]).rstrip() for number in range(1, len(parts) + 1)]
            if not is_long or config.cut_probability < 1:
                found.append(text)
        return list(dict.fromkeys(self._finished(row, text) for text in found))

    def _draw(self, row: int, visit: int, chosen: str, long: str | None, short: str | None, further: list[str]) -> str:
        config = self._config
        text, is_long = chosen, True
        random = np.zeros(3)
        if not config.changes_nothing:
            random = uniform_at(key_of(self._key, "caption", row, visit), np.arange(3))
        if config.short_probability is not None and long is not None and short is not None:
            is_long = not random[0] < config.short_probability
            text = long if is_long else short
        if further and text == chosen:
            texts = (chosen, *further)
            text = texts[int(uniform_at(key_of(self._key, "captions", row, visit), np.arange(1))[0] * len(texts))]
        if is_long and random[1] < config.cut_probability:
            parts = sentences(text)
            text = "".join(parts[: 1 + int(random[2] * len(parts))]).rstrip()
        return self._finished(row, text)

    def _finished(self, row: int, text: str) -> str:
        """Return a drawn caption with what its data set puts around it, and short enough."""
        text = self._manifest.dress(row, text)
        return self._fitted(text) if self._config.fit_tokens else text

    def _fitted(self, text: str) -> str:
        if self._num_tokens(text) <= self._max_tokens:
            return text
        parts = sentences(text)
        low, high = 1, len(parts)  # the first ``low`` sentences fit, or there is only one
        while high - low > 0:
            middle = (low + high + 1) // 2
            fits = self._num_tokens("".join(parts[:middle]).rstrip()) <= self._max_tokens
            low, high = (middle, high) if fits else (low, middle - 1)
        return "".join(parts[:low]).rstrip()

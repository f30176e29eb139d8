"""The languages of captions, told by py3langid: a naive Bayes classifier over parts of words, with its model inside.

The package is an optional extra and needs no network. Its probabilities say little about a few words, so a rule on them
should only drop what is clearly in another language. Source: Lui and Baldwin (2012), ``langid.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

_MODEL = "data/model.npz.xz"
_CODE = re.compile("[a-z]{2,3}")


class LanguageError(ValueError):
    """A language is asked for that nothing here can tell."""


def check_codes(languages: Sequence[str]) -> None:
    """Require codes of languages as ISO 639 has them.

    Raises:
        ValueError: A code is none.
    """
    for code in languages:
        if not _CODE.fullmatch(code):
            raise ValueError(f"expected codes of two or three small letters, such as en, got {code!r}")


def check_languages(languages: Sequence[str]) -> None:
    """Require that captions in these languages can be told from others; nothing is required for none.

    Raises:
        LanguageError: The package is not installed, or does not know a language.
    """
    known = _identifier().labels if languages else ()
    if unknown := [code for code in languages if code not in known]:
        raise LanguageError(
            f"filters.captions.languages: py3langid does not know {', '.join(unknown)}; expected some of "
            f"{', '.join(sorted(known))}"
        )


def language_shares(captions: Iterable[str], languages: Sequence[str]) -> Float[np.ndarray, " n"]:
    """Return the probability of each caption to be in one of some languages, 0 to 1.

    All languages are about equally likely, 0.007 each, for a caption that says nothing about its language. A caption
    without letters is in all of them: 1.

    Args:
        captions: Cleaned captions.

    Raises:
        LanguageError: The package is not installed, or does not know a language.
    """
    check_languages(languages)
    wanted = frozenset(languages)
    rank = _identifier().rank

    def share(caption: str) -> float:
        if not any(map(str.isalpha, caption)):
            return 1.0
        return float(sum(p for code, p in rank(caption) if code in wanted))

    return np.fromiter(map(share, captions), np.float64)


@lru_cache(maxsize=1)
def _identifier() -> Any:
    try:
        from py3langid.langid import LanguageIdentifier
    except ImportError as error:
        raise LanguageError(
            "filters.captions.languages: telling languages needs py3langid, which is not installed; install it with: "
            f"pip install 'infinity-t2i[languages]' ({error})"
        ) from error
    return LanguageIdentifier.from_model_file(_MODEL, norm_probs=True)

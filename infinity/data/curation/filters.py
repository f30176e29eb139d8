"""Which pictures are left out: settings, and rules that are thresholds on scores.

A caption is cleaned first: white space of all kinds becomes single blanks, and invisible marks and control characters
go, see ``caption_cleaning``. A caption that holds a NUL byte or half a surrogate pair is not repaired but dropped: it
was damaged before it came here, and nobody knows how much.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from infinity.config import Config
from infinity.data.curation.languages import check_codes
from infinity.data.dedup.config import CaptionDuplicates, NearDuplicates
from infinity.data.images.decoding import MAX_PIXELS
from infinity.ranges import Count, Natural, NotNegative, Range, Share, ShareAboveZero

CAPTION_MISSING = "caption_missing"
CAPTION_DAMAGED = "caption_control_characters"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"
CAPTION_DUPLICATE = "caption_near_duplicate"
EVALUATION_PICTURE = "evaluation_picture"
EVALUATION_CAPTION = "evaluation_caption"

Nonsense = Literal["placeholder", "file_name", "entities", "markup"]
"""Kinds of captions that describe nothing."""

MODEL_SCORES = ("clip_similarity", "aesthetic", "watermark", "nsfw", "text_area")
"""Columns that models write beside the facts, one number a readable picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRule(Config):
    """Drop pictures whose score lies outside of [minimum, maximum]; without both the rule is off.

    Attributes:
        reason: The slug that is counted.
        score: Name of the score.
        minimum: Smallest score that is kept, or None.
        maximum: Largest score that is kept, or None.
        score_range: Range of the histogram of a user's own score; values outside are counted in its first or last bin.
    """

    reason: str
    score: str
    minimum: float | None = None
    maximum: float | None = None
    score_range: tuple[float, float] = (0.0, 1.0)

    @property
    def is_on(self) -> bool:
        """True where a minimum or a maximum is set."""
        return self.minimum is not None or self.maximum is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionFilters(Config):
    """Rules on captions beyond the shortest length; None switches a rule off. See ``caption_scores`` for the scores.

    Attributes:
        max_chars: Longest caption.
        min_words: Fewest words.
        max_words: Most words.
        min_letters: Smallest share of letters among all characters that are not blank, 0 to 1.
        max_char_run: Longest run of one character.
        max_word_repeats: Largest share of words that repeat the commonest one, 0 to 1.
        script: Script that letters are counted against, as the first word of their Unicode names.
        min_script: Smallest share of letters of that script, 0 to 1.
        min_english: Smallest share of English function words, 0 to 1; 0.1 keeps sentences.
        rejects: Kinds of captions that describe nothing and are dropped: "placeholder" ("nan", "untitled"), "file_name"
            ("IMG_2034.jpg"), "entities" ("&amp;") and "markup" ("<b>").
        languages: Codes of the languages (ISO 639, such as "en") that captions may be in; empty for all. Needs the
            extra ``languages``.
        min_language: Smallest probability, 0 to 1, that a caption is in one of them; a caption that says nothing about
            its language has about 0.007 for each.
    """

    later: ClassVar[frozenset[str]] = frozenset({"rejects", "languages", "min_language"})

    max_chars: Count | None = None
    min_words: Count | None = None
    max_words: Count | None = None
    min_letters: Share | None = None
    max_char_run: Count | None = None
    max_word_repeats: Share | None = None
    script: str = "LATIN"
    min_script: Share | None = None
    min_english: Share | None = None
    rejects: tuple[Nonsense, ...] = ()
    languages: tuple[str, ...] = ()
    min_language: Share = 0.005

    def to_json(self) -> dict[str, Any]:
        """Return the rules as JSON, without later fields at their defaults: older manifests keep their bytes."""
        return self.identity()

    def __post_init__(self) -> None:
        check_codes(self.languages)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFilters(Config):
    """Thresholds on the scores of pretrained networks; None switches a rule off, and its score need not be there.

    Attributes:
        min_clip_similarity: Smallest cosine between picture and caption, -1 to 1. CLIP reads 77 tokens of mostly
            English text: for longer captions and other languages the figure says little.
        min_aesthetic: Smallest aesthetic score, about 1 to 10.
        max_watermark: Largest probability of a watermark, 0 to 1.
        max_nsfw: Largest probability of unsafe content, 0 to 1.
        max_text_area: Largest share of the picture that text covers, 0 to 1.
        max_own_output: Largest -log10 of the p-value of a model's own watermark; 6 drops what chance makes once in a
            million.
    """

    later: ClassVar[frozenset[str]] = frozenset({"max_own_output"})

    min_clip_similarity: float | None = None
    min_aesthetic: float | None = None
    max_watermark: float | None = None
    max_nsfw: float | None = None
    max_text_area: float | None = None
    max_own_output: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the rules as JSON, without later fields at their defaults: older manifests keep their bytes."""
        return self.identity()

    def rules(self) -> tuple[ScoreRule, ...]:
        """Return all rules in the order in which they are asked; the one against own output only where it is on."""
        own = ScoreRule(reason="own_output", score="own_output", maximum=self.max_own_output, score_range=(0.0, 20.0))
        return (
            ScoreRule(reason="low_clip_similarity", score="clip_similarity", minimum=self.min_clip_similarity),
            ScoreRule(reason="low_aesthetic", score="aesthetic", minimum=self.min_aesthetic),
            ScoreRule(reason="watermark", score="watermark", maximum=self.max_watermark),
            ScoreRule(reason="nsfw", score="nsfw", maximum=self.max_nsfw),
            ScoreRule(reason="text_area", score="text_area", maximum=self.max_text_area),
            *((own,) if own.is_on else ()),
        )

    def needed(self) -> tuple[str, ...]:
        """Return names of the scores that some rule asks for."""
        return tuple(rule.score for rule in self.rules() if rule.is_on)


PAPER_FILTERS = ModelFilters(max_text_area=0.1, max_watermark=0.5, min_aesthetic=4.75)
"""The three scores by which the paper chose its data (4.1); it gives no thresholds, these are ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decontamination(Config):
    """Evaluation sets that must not be trained on; without any, nothing is compared.

    Attributes:
        prompts: URIs of prompt lists: .jsonl (field prompt or text), .txt with a prompt per line, .csv with a column
            prompt, or a folder of .txt files with one prompt each.
        pictures: URIs of sources of pictures: whatever a data set can be built from.
        ngram: Words of the sequences that are compared; prompts with fewer words must be equal to a caption.
        containment: Smallest share of the sequences of the shorter text that the longer one holds, above 0 to 1.
        near: What counts as nearly the same picture.
    """

    prompts: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    ngram: Annotated[int, Range(2)] = 8
    containment: ShareAboveZero = 0.5
    near: NearDuplicates = field(default_factory=NearDuplicates)


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig(Config):
    """Which pictures are left out; None switches a rule off.

    Attributes:
        min_side_px: Shortest side that is kept, in pixels.
        min_pixels: Smallest width times height that is kept.
        max_elongation: Largest longer side divided by shorter side that is kept; the longest trained ratio is 3.
        min_caption_chars: Shortest caption that is kept, after cleaning.
        min_contrast: Smallest standard deviation of the levels [0, 255]; below 1 a picture is one flat colour.
        min_sharpness: Smallest variance of the Laplacian; what is blurred depends on the kind of pictures.
        duplicates: What counts as an exact duplicate: the same pixels ("picture"), the same pixels with the same
            caption ("picture_and_caption", for sources with several captions per picture), or nothing ("keep").
        near_duplicates: What counts as a near duplicate; None keeps them, as drawn scenes need it, which differ little.
        caption_duplicates: What counts as a repeated caption; None keeps them.
        evaluation: Evaluation sets that the data must not hold.
        max_pixels: Pictures with more pixels are unreadable; the header decides. A worker may need eight bytes of
            memory for each, and 64 MB.
        captions: Further rules on captions.
        models: Rules on the scores of pretrained networks.
    """

    min_side_px: Count = 24
    min_pixels: Natural | None = None
    max_elongation: Annotated[float, Range(1)] = 3.5
    min_caption_chars: Count = 2
    min_contrast: NotNegative | None = 1.0
    min_sharpness: NotNegative | None = None
    duplicates: Literal["picture", "picture_and_caption", "keep"] = "picture"
    near_duplicates: NearDuplicates | None = None
    caption_duplicates: CaptionDuplicates | None = None
    evaluation: Decontamination = field(default_factory=Decontamination)
    max_pixels: Annotated[int, Range(1, MAX_PIXELS)] = 64_000_000
    captions: CaptionFilters = field(default_factory=CaptionFilters)
    models: ModelFilters = field(default_factory=ModelFilters)

    def rules(self) -> tuple[ScoreRule, ...]:
        """Return all rules in the order in which they are asked; the first that drops a row is its reason."""
        return (*self._caption_rules(), *self._picture_rules(), *self.models.rules())

    def _caption_rules(self) -> Iterator[ScoreRule]:
        limits = self.captions
        yield ScoreRule(reason="caption_too_short", score="caption_chars", minimum=self.min_caption_chars)
        yield ScoreRule(reason="caption_too_long", score="caption_chars", maximum=limits.max_chars)
        yield ScoreRule(reason="caption_few_words", score="caption_words", minimum=limits.min_words)
        yield ScoreRule(reason="caption_many_words", score="caption_words", maximum=limits.max_words)
        yield ScoreRule(reason="caption_few_letters", score="caption_letters", minimum=limits.min_letters)
        yield ScoreRule(reason="caption_repeats_character", score="caption_char_run", maximum=limits.max_char_run)
        yield ScoreRule(reason="caption_repeats_word", score="caption_word_repeats", maximum=limits.max_word_repeats)
        yield ScoreRule(reason="caption_script", score="caption_script", minimum=limits.min_script)
        yield ScoreRule(reason="caption_language", score="caption_english", minimum=limits.min_english)
        if limits.languages:
            yield ScoreRule(reason="caption_other_language", score="language_share", minimum=limits.min_language)

    def _picture_rules(self) -> Iterator[ScoreRule]:
        yield ScoreRule(reason="small_side", score="side_px", minimum=self.min_side_px)
        yield ScoreRule(reason="few_pixels", score="num_pixels", minimum=self.min_pixels)
        yield ScoreRule(reason="aspect_ratio", score="elongation", maximum=self.max_elongation)
        yield ScoreRule(reason="blank", score="contrast", minimum=self.min_contrast)
        yield ScoreRule(reason="blurred", score="sharpness", minimum=self.min_sharpness)


def clean_caption(text: str | None) -> str:
    """Return one line, single blanks, composed characters (NFC), nothing around it; empty for None."""
    return unicodedata.normalize("NFC", " ".join((text or "").split()))

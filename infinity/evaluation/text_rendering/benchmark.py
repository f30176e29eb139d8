"""Text rendering as a benchmark over prompts (like CVTG, LongText), read by an OCR whose wheel brings its networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar

from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.bootstrap import mean_interval
from infinity.evaluation.networks import Networks
from infinity.evaluation.prompts.benchmark import Judge, JudgedPrompts, PromptItem, judge_each
from infinity.evaluation.prompts.listed import ListedBenchmark
from infinity.evaluation.prompts.lists import describe, entries_of
from infinity.evaluation.score import Score
from infinity.evaluation.text_rendering.scoring import TextScore, quoted, text_score, words_of
from infinity.perception.detection.ocr import TextArea, TextAreaConfig
from infinity.storage.pinned import PinnedFile

RULES = "text-rendering/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRenderingBenchmark(ListedBenchmark):
    """Words that prompts ask for, read in the pictures.

    Attributes:
        prompts: ``.txt`` with one prompt per line, ``.jsonl`` with an object per line, or ``.json`` with a list. An
            object has ``prompt``, perhaps ``id``, and perhaps ``text``, the wanted text or a list of texts. Without it,
            what stands in quotation marks in the prompt is wanted.
    """

    prompts: PinnedFile
    ocr: TextAreaConfig = field(default_factory=lambda: TextAreaConfig(min_confidence=0.5))

    metric: ClassVar[str] = "text_rendering"

    def all_items(self) -> tuple[PromptItem, ...]:
        """Return all prompts, each with its wanted words.

        Raises:
            ValueError: A line cannot be read, a prompt asks for no text, an id is there twice, or there is no prompt.
            StorageError: The file is missing.
        """
        uri = self.prompts.uri
        items: dict[str, PromptItem] = {}
        for number, (where, entry) in enumerate(entries_of(self.prompts.read(), uri)):
            item = _item(where, entry, number)
            if items.setdefault(item.id, item) is not item:
                raise ValueError(f"{where}: the id {item.id!r} is there twice")
        if not items:
            raise ValueError(f"{uri}: expected prompts that ask for text, found none")
        return tuple(items.values())

    def judge_settings(self) -> Mapping[str, Any]:
        """Return the settings that the read words depend on.

        Raises:
            ValueError: The OCR is not installed.
        """
        return {"rules": RULES, "ocr": self.ocr.weights_digest()}

    def judge(self, networks: Networks) -> Judge:
        """Return the judge, with its networks loaded; an item's record holds the texts of its pictures."""
        ocr = networks.get(self.ocr, lambda config, device: TextArea(config))
        return judge_each(lambda _, pictures: {"read": [[word.text for word in ocr.words(one)] for one in pictures]})

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Return ``<name>.overall`` (word accuracy), ``.edit_distance`` and ``.exact``, means over prompts."""
        scored = {
            sample.item.id: [text_score(sample.item.about["words"], _words(read)) for read in record["read"]]
            for sample, record in results
            if "read" in record
        }
        note = results.missing_note()
        parts: dict[str, Callable[[TextScore], float]] = {
            "overall": lambda score: score.accuracy,
            "edit_distance": lambda score: score.edit_distance,
            "exact": lambda score: float(score.exact),
        }
        figures = {
            part: {item: sum(map(figure, scores)) / len(scores) for item, scores in scored.items()}
            for part, figure in parts.items()
        }
        protocol = self._protocol(results)
        return BenchmarkResult(
            scores=tuple(_score(f"{self.name}.{part}", values, protocol, note) for part, values in figures.items()),
            records={f"{self.name}_words.jsonl": results.lines()},
            items={f"{self.name}.overall": figures["overall"]} if scored else {},
        )

    def _protocol(self, results: JudgedPrompts) -> str:
        return (
            f"{RULES}: rapidocr {version('rapidocr')} (digest {self.ocr.weights_digest()}), words in lower case "
            "without punctuation, of Han and kana each character; accuracy is the share of wanted words read exactly, "
            "edit distance that of TIIF; "
            f"{describe([sample.item for sample in results.samples])}, {self.pictures_per_prompt} pictures each, mean "
            f"of the prompts' means, {self.drawing()}"
        )


def _words(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for word in words_of(text)]


def _score(metric: str, values: Mapping[str, float], protocol: str, note: str) -> Score:
    if not values:
        return Score.not_measured(metric, "share", protocol=protocol, reason=note or "there was no prompt")
    mean, interval = sum(values.values()) / len(values), mean_interval(list(values.values()))
    return Score.resampled(metric, mean, "share", len(values), interval, protocol=protocol, note=note)


def _item(where: str, entry: object, number: int) -> PromptItem:
    data: Mapping[str, Any] = {"prompt": entry} if isinstance(entry, str) else entry  # type: ignore[assignment]
    if not isinstance(data, Mapping) or not isinstance(prompt := data.get("prompt"), str) or not prompt.strip():
        raise ValueError(f"{where}: expected a prompt, found {str(entry)[:80]!r}")
    texts = data.get("text", quoted(prompt))
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: expected a text or a list of texts as text, found {str(texts)[:80]!r}")
    words = [word for text in texts for word in words_of(text)]
    if not words:
        raise ValueError(
            f"{where}: expected a text in quotation marks, or the field text, found {prompt[:80]!r} which asks for none"
        )
    return PromptItem(id=str(data.get("id", f"{number:05d}")), prompt=prompt.strip(), about={"words": words})

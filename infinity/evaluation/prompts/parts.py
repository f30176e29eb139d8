"""Work of benchmarks over prompts, in parts that any worker can do and that leave their results in storage.

A part is drawn or judged as a whole. So batches are the same whether a run was interrupted or not, and rounding, which
may differ between batches, makes no difference (decision 21).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.config import ConfigError, digest_of
from infinity.evaluation.benchmark import EvalContext
from infinity.evaluation.contents import judged_by
from infinity.evaluation.drawn import draw
from infinity.evaluation.pictures.store import Drawing, PictureStore
from infinity.evaluation.prompts.benchmark import PromptBenchmark, PromptSample, Record
from infinity.evaluation.prompts.rewriting import InstructRewriter
from infinity.perception.language.instruct import InstructModel
from infinity.storage.json_files import read_object

VERDICTS_FOLDER, REWRITINGS_FOLDER = "verdicts", "rewritings"
_DAMAGED = "delete the file, and it is computed again"


@dataclass(frozen=True, slots=True)
class DrawPart:
    """A batch of drawings of one aspect ratio, drawn together and put into the store."""

    store: PictureStore
    drawings: tuple[Drawing, ...]

    @property
    def num_pictures(self) -> int:
        """Number of pictures that are drawn."""
        return len(self.drawings)

    def compute(self, context: EvalContext) -> int:
        """Draw all, keep those that are missing, and return how many there are."""
        return len(draw(context, self.drawings))


def draw_parts(store: PictureStore, wanted: Iterable[Drawing], batch_size: int) -> list[DrawPart]:
    """Return parts that draw what is wanted, each drawing once; only those in which a drawing is missing.

    The batches depend on the wanted drawings alone, not on the present ones.
    """
    by_ratio: dict[float, list[Drawing]] = {}
    for drawing in dict.fromkeys(wanted):
        by_ratio.setdefault(drawing.aspect_ratio, []).append(drawing)
    present = store.present()
    parts = [
        DrawPart(store, tuple(chosen[start : start + batch_size]))
        for _, chosen in sorted(by_ratio.items())
        for start in range(0, len(chosen), batch_size)
    ]
    return [part for part in parts if any(store.key(drawing) not in present for drawing in part.drawings)]


@dataclass(frozen=True, slots=True)
class JudgePart:
    """Some items of a benchmark, whose verdicts are kept below ``folder``."""

    benchmark: PromptBenchmark
    samples: tuple[PromptSample, ...]
    folder: str

    @property
    def num_pictures(self) -> int:
        """Number of pictures that are judged."""
        return sum(len(sample.places) for sample in self.samples)

    def compute(self, context: EvalContext) -> tuple[Record, ...]:
        """Return the record of every item; read from storage if all records of the part are there."""

        def judge() -> Sequence[Record]:
            return self.benchmark.judge(context.networks)(self.samples, [sample.pictures() for sample in self.samples])

        return _kept(self.folder, [sample.digest() for sample in self.samples], judge)


def judge_parts(
    benchmark: PromptBenchmark, samples: Sequence[PromptSample], folder: str, batch_size: int
) -> list[JudgePart]:
    """Return the items in parts of about ``batch_size`` pictures."""
    size = max(1, batch_size // max(1, benchmark.pictures_per_prompt))
    rules, weights = benchmark.judge_settings(), judged_by(benchmark)
    settings = digest_of([rules, weights] if weights else rules)
    below = storage.join(folder, VERDICTS_FOLDER, settings)
    return [JudgePart(benchmark, tuple(samples[start : start + size]), below) for start in range(0, len(samples), size)]


@dataclass(frozen=True, slots=True)
class RewritePart:
    """Some prompts that a language model rewrites, and whose rewritings are kept below ``folder``."""

    rewriter: InstructRewriter
    prompts: tuple[str, ...]
    folder: str

    @property
    def num_pictures(self) -> int:
        """Number of prompts; each counts as much as a picture."""
        return len(self.prompts)

    def compute(self, context: EvalContext) -> tuple[str, ...]:
        """Return the rewriting of every prompt.

        Raises:
            ValueError: The model returns an empty answer.
            ConfigError: A rewriting that was kept is damaged.
        """

        def rewrite() -> list[Record]:
            model = context.networks.get(self.rewriter.model, InstructModel)
            answers = model.answer(self.rewriter.questions(self.prompts))
            if empty := [prompt for prompt, answer in zip(self.prompts, answers, strict=True) if not answer]:
                raise ValueError(
                    f"{self.rewriter.model.model}: expected a rewritten prompt, got an empty answer for "
                    f"{empty[0]!r} (and {len(empty) - 1} others of {len(answers)}); take another model"
                )
            return [{"rewritten": answer} for answer in answers]

        names = [digest_of(prompt) for prompt in self.prompts]
        texts = [record.get("rewritten") for record in _kept(self.folder, names, rewrite)]
        for name, text in zip(names, texts, strict=True):
            if not isinstance(text, str):
                uri = _place(self.folder, name)
                raise ConfigError(f"{uri}: expected a text under 'rewritten', found {text!r:.80}; {_DAMAGED}")
        return tuple(map(str, texts))


def rewrite_parts(rewriter: InstructRewriter, prompts: Sequence[str], folder: str) -> list[RewritePart]:
    """Return the distinct prompts in parts of one batch of the language model."""
    below, size = storage.join(folder, REWRITINGS_FOLDER, rewriter.digest()), rewriter.model.batch_size
    unique = list(dict.fromkeys(prompts))
    return [RewritePart(rewriter, tuple(unique[at : at + size]), below) for at in range(0, len(unique), size)]


def _kept(folder: str, names: Sequence[str], compute: Callable[[], Sequence[Record]]) -> tuple[Record, ...]:
    """Return records by name from storage if all are there; else compute all and write the missing ones."""
    uris = [_place(folder, name) for name in names]
    if all(storage.exists(uri) for uri in uris):
        return tuple(read_object(uri, remedy=_DAMAGED) for uri in uris)
    return tuple(_keep(uri, record) for uri, record in zip(uris, compute(), strict=True))


def _place(folder: str, name: str) -> str:
    return storage.join(folder, name[:2], f"{name}.json")


def _keep(uri: str, record: Record) -> Any:
    """Write a record if there is none; return the stored one. A record with a passing gap is not kept."""
    if record.get("passing"):
        return json.loads(json.dumps(record))
    try:
        storage.write_text(uri, json.dumps(record, ensure_ascii=False) + "\n", if_absent=True)
    except storage.FileAlreadyThereError:
        return read_object(uri, remedy=_DAMAGED)
    return json.loads(json.dumps(record))

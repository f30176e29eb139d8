"""Where an evaluation stands: its scores beside published ones of the same protocol, and beside no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from infinity import storage
from infinity.evaluation.dpg.benchmark import DpgBenchmark
from infinity.evaluation.geneval.benchmark import MORE_PICTURES, OFFICIAL_PROMPTS, GenevalBenchmark
from infinity.evaluation.geneval.coco_detector import CocoDetectorConfig
from infinity.evaluation.geneval.scoring import GenevalConfig
from infinity.evaluation.preference.benchmark import (
    HPS_PROMPTS,
    IMAGE_REWARD_PROMPTS,
    FitBenchmark,
    HpsBenchmark,
    ImageRewardBenchmark,
)
from infinity.evaluation.promotion.leaderboard import LeaderboardEntry, leaderboard, ours
from infinity.evaluation.prompts.benchmark import PromptBenchmark
from infinity.evaluation.prompts.lists import PromptList
from infinity.evaluation.score import Score, benchmark_of
from infinity.jobs.evaluation.results import Evaluated
from infinity.perception.preference.image_reward import STANDARD
from infinity.reporting.scores.standing import StandingPage, StandingSection
from infinity.storage.pinned import PinnedFile

INCOMPLETE = "INCOMPLETE"
MAX_SAMPLES = 12
"""Most pictures of a benchmark without a sheet on a page."""


@dataclass(frozen=True, slots=True)
class ProtocolMatch:
    """The published protocol by which a benchmark was run.

    Attributes:
        protocol: Protocol in the table of published scores.
        differences: Settings in which the evaluation differs; it has that protocol only if there are none.
    """

    protocol: str
    differences: tuple[str, ...]


def match(benchmark: PromptBenchmark, prompts_digest: str = "") -> ProtocolMatch | None:
    """Return how a benchmark compares with the published protocol, or None where nothing was published by its name.

    Args:
        prompts_digest: First digits of the checksum of the prompt file, where the settings name it by place only.
    """
    for kind, rule in _RULES.items():
        if isinstance(benchmark, kind):
            found: ProtocolMatch = rule(benchmark, prompts_digest)
            return found
    return None


def entries_of(found: Evaluated, model: str) -> list[LeaderboardEntry]:
    """Return the scores of an evaluation for the leaderboard; those of a published protocol stand under its name."""
    entries: list[LeaderboardEntry] = []
    for score in found.report.scores:
        named = score
        if not differences(found, score) and (matched := _match_of(found, score)) is not None:
            note = f"measured as {score.protocol}"
            named = score.replace(protocol=matched.protocol, note=f"{score.note}; {note}" if score.note else note)
        entries += ours(
            found.label(score.metric, model), [named], found.folder,
            sampling=found.sampling(score.metric), repeat=found.repeat,
        )  # fmt: skip
    return entries


def differences(found: Evaluated, score: Score) -> tuple[str, ...]:
    """Return in what the way of a score differs from the published one; empty also where nothing was published."""
    matched = _match_of(found, score)
    if matched is None:
        return ()
    missing = ("pictures are missing",) if INCOMPLETE in score.note else ()
    more = ("more pictures per prompt",) if MORE_PICTURES in score.note else ()
    corrected = ("corrected rules",) if "_corrected" in score.metric.partition(".")[0] else ()
    return (*matched.differences, *corrected, *missing, *more)


def standing_of(found: Evaluated, published: Sequence[LeaderboardEntry]) -> StandingPage:
    """Return everything that the page of an evaluation shows.

    Args:
        published: Published scores; those of other metrics or protocols are left out.
    """
    foreign = not found.spec.model
    model = found.title
    own = entries_of(found, model)
    known = {(entry.metric, entry.protocol) for entry in own if entry.value is not None}
    beside = [entry for entry in published if (entry.metric, entry.protocol) in known]
    groups = leaderboard([*own, *beside])
    sections = []
    for name, benchmark in _by_name(found).items():
        mine = [group for group in groups if _belongs(group.metric, name)]
        if not mine:
            continue
        measured = [score for score in found.report.scores if _belongs(score.metric, name) and score.value is not None]
        reasons = tuple(dict.fromkeys(reason for score in measured for reason in differences(found, score)))
        sheets = [sheet for key, sheet in found.report.pictures.items() if _belongs(key, name)]
        sections.append(
            StandingSection(
                name=name,
                is_published=benchmark is not None and match(benchmark) is not None,
                groups=tuple(mine),
                differences=reasons,
                sheets=tuple(sheets),
                samples=() if sheets else tuple(islice(_samples(found, name), MAX_SAMPLES)),
            )
        )
    return StandingPage(
        title=model,
        is_foreign=foreign,
        origins=tuple(dict.fromkeys(found.report.origins.values())),
        digest=found.report.model_digest,
        sampling=found.sampling(),
        folder=found.folder,
        repeat=found.repeat,
        sections=tuple(sections),
    )


def _samples(found: Evaluated, name: str) -> Iterator[tuple[str, str]]:
    """Yield prompts of a benchmark, each with its first picture that is still there."""
    for drawn in found.drawings():
        if drawn.benchmark == name:
            yield from ((drawn.prompt, uri) for uri in drawn.pictures[:1] if storage.exists(uri))


def _by_name(found: Evaluated) -> dict[str, PromptBenchmark | None]:
    """Return the benchmarks by the first part of their metrics' names; None for those on a data set."""
    named: dict[str, PromptBenchmark | None] = {each.name: each for _, each in found.spec.prompt_benchmarks()}
    for score in found.report.scores:
        first = score.metric.split(".")[0]
        if not any(_belongs(first, name) for name in named):
            named[first] = None
    return named


def _belongs(metric: str, name: str) -> bool:
    return benchmark_of(metric) == name


def _match_of(found: Evaluated, score: Score) -> ProtocolMatch | None:
    for _, benchmark in found.spec.prompt_benchmarks():
        if _belongs(score.metric, benchmark.name):
            digest = found.report.inputs.get(f"{benchmark.name.removesuffix('_rewritten')}.prompts.file", "")
            return match(benchmark, digest)
    return None


def _geneval(benchmark: GenevalBenchmark, prompts_digest: str) -> ProtocolMatch:
    own = benchmark.prompts.sha256 or prompts_digest or ""
    official = OFFICIAL_PROMPTS.sha256 or ""
    is_official = len(own) >= 16 and official.startswith(own)
    reasons = [] if is_official else ["other prompts than the official file"]
    if benchmark.prompts_per_task is not None:
        reasons.append("a part of the prompts")
    if benchmark.pictures_per_prompt != 4:
        reasons.append(f"{benchmark.pictures_per_prompt} pictures per prompt, not 4")
    if benchmark.thresholds != GenevalConfig():
        reasons.append("other thresholds")
    # mmdetection's own training of the same network is not published in a format of transformers.
    if isinstance(benchmark.detector, CocoDetectorConfig):
        reasons.append(f"objects found by {benchmark.detector.objects.model}, not by mmdetection's weights")
    else:
        reasons.append(f"{benchmark.detector.describe()}, not Mask2Former")
    drawn = "prompts as they are" if benchmark.rewriter is None else "prompts rewritten by a language model"
    return ProtocolMatch(f"GenEval, official prompts and detector; {drawn}", tuple(reasons))


def _dpg(benchmark: DpgBenchmark, _: str) -> ProtocolMatch:
    reasons = [f"questions answered by {benchmark.vqa.model}, not by mPLUG-large"]
    if benchmark.pictures_per_prompt != 4:
        reasons.append(f"{benchmark.pictures_per_prompt} pictures per prompt, not 4")
    if benchmark.num_prompts is not None:
        reasons.append("a part of the prompts")
    return ProtocolMatch("DPG-Bench, mPLUG-large, four pictures in 2x2 tiles, reference script", tuple(reasons))


def _image_reward(benchmark: ImageRewardBenchmark, _: str) -> ProtocolMatch:
    reasons = _fit_differences(benchmark, (IMAGE_REWARD_PROMPTS,), 10)
    if not _same_file(benchmark.network.weights, STANDARD):
        reasons.append("other weights")
    if benchmark.network.max_tokens != 35:
        reasons.append(f"prompts cut to {benchmark.network.max_tokens} tokens, not 35")
    return ProtocolMatch("ImageReward v1.0, benchmark prompts, 10 pictures each", tuple(reasons))


def _hps(benchmark: HpsBenchmark, _: str) -> ProtocolMatch:
    reasons = _fit_differences(benchmark, HPS_PROMPTS, 1)
    if benchmark.network.version != "v2.1":
        reasons.append(f"HPS {benchmark.network.version}, not v2.1")
    if benchmark.network.weights is not None:
        reasons.append("other weights")
    return ProtocolMatch("HPSv2.1, benchmark prompts of all four styles, 1 picture each", tuple(reasons))


def _fit_differences(benchmark: FitBenchmark, prompts: tuple[PromptList, ...], pictures: int) -> list[str]:
    pairs = zip(benchmark.prompts, prompts, strict=False)
    is_same = len(benchmark.prompts) == len(prompts) and all(
        one.category == other.category and _same_file(one.file, other.file) for one, other in pairs
    )
    reasons = [] if is_same else ["other prompts than the benchmark's"]
    if benchmark.pictures_per_prompt != pictures:
        reasons.append(f"{benchmark.pictures_per_prompt} pictures per prompt, not {pictures}")
    if benchmark.num_prompts is not None:
        reasons.append("a part of the prompts")
    if benchmark.rewriter is not None:
        reasons.append("rewritten prompts")
    return reasons


def _same_file(one: PinnedFile, other: PinnedFile) -> bool:
    """Return whether two names mean one content: one checksum, or one place without other checksums."""
    for first, second in ((one.sha256, other.sha256), (one.git_blob, other.git_blob)):
        if first and second:
            return first == second
    return one.uri == other.uri and one.sha256 == other.sha256 and one.git_blob == other.git_blob


_RULES: dict[type, Callable[..., ProtocolMatch]] = {
    GenevalBenchmark: _geneval,
    DpgBenchmark: _dpg,
    ImageRewardBenchmark: _image_reward,
    HpsBenchmark: _hps,
}

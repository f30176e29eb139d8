"""Commands about scores: evaluate models, compare two, list published scores, write a model's card."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infinity.cli.console import WorkersDevice, bar, clear_errors, out, show_table
from infinity.cli.evaluation import about_pictures
from infinity.cli.evaluation.standing import Published, published_scores

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infinity.evaluation.promotion.leaderboard import Group
    from infinity.evaluation.score import Score
    from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec


Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Another setting of the evaluation as path=JSON, such as sampling.guidance=3."),
]
Workers = Annotated[int, typer.Option(min=1, help="Number of parallel processes; changes no score.")]


def evaluate(
    checkpoints: Annotated[
        list[str] | None, typer.Argument(help="Model folders: paths or s3:// URIs; leave out with --pictures.")
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            "-b",
            help="Benchmark to run; may be repeated. A name such as scenes, reconstruction or validation, or a name "
            'with settings as JSON, scenes={"pictures_per_prompt": 2}. An unknown name lists all.',
        ),
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option(
            help="Pictures that another model drew: a folder in the benchmark's layout (or with a folder of that name "
            "for each benchmark), or a table of prompt and file (.csv, .tsv, .jsonl, .json, .parquet)."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Model that drew --pictures; by default the folder's name.")] = "",
    manifest: Annotated[str | None, typer.Option(help="Manifest of a data set, for benchmarks that need one.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder that gets one folder per evaluation.")] = (
        "runs/evaluations"
    ),
    settings: Settings = None,
    workers: Workers = 1,
    device: WorkersDevice = "cpu",
) -> None:
    """Score models, or pictures that other models drew. Finished evaluations are read, not computed again."""
    with clear_errors():
        from infinity import storage
        from infinity.jobs.evaluation.evaluate import run_all
        from infinity.jobs.evaluation.spec import EvaluateSpec

        spec: dict[str, Any] = {
            "manifest": None if manifest is None else storage.absolute(manifest),
            "output": storage.absolute(output),
            "workers": {"num_workers": workers, "threads": 1, "use_gpu": device.startswith("cuda")},
        }
        spec |= chosen_benchmarks(EvaluateSpec, benchmark or [])
        for text in settings or ():
            put(spec, text)
        specs = [
            EvaluateSpec.from_json(each, where="evaluate")
            for each in about_pictures.specs(spec, checkpoints or [], pictures, name)
        ]
        with bar(f"scoring {len(specs)} model{'s' if len(specs) > 1 else ''}") as report:
            reports = run_all(specs, progress=lambda progress: report(progress.fraction))
        unmeasured = [line for each, found in zip(specs, reports, strict=True) for line in _shown(each, found)]
        if unmeasured:
            raise ValueError("\n".join(unmeasured))


def _shown(spec: EvaluateSpec, report: EvaluateReport) -> list[str]:
    """Print the scores of one model; return what could not be measured, a line each."""
    whose = f"{spec.model}  digest {report.model_digest}" if spec.model else f"pictures of {spec.pictures_of}"
    out.say(whose)
    show_scores(report.scores)
    for line in _about(spec, report):
        out.say(line)
    return about_pictures.unmeasured(spec, report)


def chosen_benchmarks(spec_type: type[Any], benchmarks: list[str]) -> dict[str, Any]:
    """Return the settings of the chosen benchmarks, and None for all others."""
    names = _benchmarks(spec_type)
    chosen: dict[str, Any] = dict.fromkeys(names)
    if not benchmarks:
        raise ValueError(f"--benchmark: expected at least one of {', '.join(names)}, got none")
    for text in benchmarks:
        name, _, value = text.partition("=")
        if name in chosen and chosen[name] is not None:
            raise ValueError(f"--benchmark: {name} is there twice; expected it once per command")
        if name not in names:
            raise ValueError(f"--benchmark: expected one of {', '.join(names)}, got {name!r}")
        chosen[name] = json_value(f"--benchmark {name}", value) if value else {}
    return chosen


def scored_model(
    model: str,
    benchmarks: list[str],
    settings: list[str],
    *,
    output: str,
    workers: int,
    device: str,
    manifest: str | None = None,
) -> EvaluateSpec:
    """Return the evaluation of one model that options describe; a run's folder stands for its last model."""
    from infinity import storage
    from infinity.generation.files.model_folder import of_run
    from infinity.jobs.evaluation.spec import EvaluateSpec

    spec: dict[str, Any] = {
        "model": of_run(storage.absolute(model)),
        "manifest": None if manifest is None else storage.absolute(manifest),
        "output": storage.absolute(output),
        "workers": {"num_workers": workers, "threads": 1, "use_gpu": device.startswith("cuda")},
    }
    spec |= chosen_benchmarks(EvaluateSpec, benchmarks)
    for text in settings:
        put(spec, text)
    return EvaluateSpec.from_json(spec, where="evaluation")


def _benchmarks(spec_type: type[Any]) -> list[str]:
    """Return the fields of a spec that are a configuration or None: the benchmarks that may be left out."""
    from infinity.config import Config

    hints = typing.get_type_hints(spec_type)
    names = []
    for field in dataclasses.fields(spec_type):
        options = typing.get_args(hints[field.name])
        if isinstance(hints[field.name], types.UnionType) and types.NoneType in options:
            kinds = [option for option in options if isinstance(option, type) and issubclass(option, Config)]
            names += [field.name] if kinds else []
    return names


def put(spec: dict[str, Any], text: str) -> None:
    """Set ``a.b=JSON`` in a spec."""
    path, equals, value = text.partition("=")
    *groups, last = path.split(".")
    if not equals or not all((*groups, last)):
        raise ValueError(f"--set: expected path=JSON such as sampling.guidance=3, got {text!r}")
    place = spec
    for group in groups:
        place = place.setdefault(group, {})
        if not isinstance(place, dict):
            raise ValueError(f"--set {path}: {group!r} has no fields; name its benchmark with -b first")
    place[last] = json_value(f"--set {path}", value)


def json_value(where: str, text: str) -> Any:
    from infinity.config import ConfigError, parse_json

    try:
        return parse_json(text, where=where)
    except ConfigError as error:
        reason = str(error).removeprefix(f"{where}: ")
        raise ValueError(f"{where}: expected JSON (texts in double quotes), got {text!r:.80} ({reason})") from None


def show_scores(scores: Iterable[Score]) -> None:
    """Print scores with their intervals, protocols and notes as a table; what was not measured is named below."""
    from infinity.reporting.comparison import number

    rows: list[tuple[str, ...]] = []
    missing: dict[str, list[str]] = {}
    for score in scores:
        if score.value is None:
            missing.setdefault(score.note, []).append(score.metric)
            continue
        interval = "" if score.low is None else f"{number(score.low)} to {number(score.high)}"
        value = f"{number(score.value)} {score.unit}".strip()
        rows.append((score.metric, value, interval, f"{score.n:,}", score.protocol, score.note))
    columns = ("metric", "value", "95 % interval", "n", "protocol", "note")
    show_table(columns, rows, notes=("protocol", "note"))
    show_table(("", ""), [(", ".join(metrics), reason) for reason, metrics in missing.items()])


def _about(spec: EvaluateSpec, report: EvaluateReport) -> list[str]:
    """Return how pictures were drawn, the command that repeats the evaluation, and where its files are."""
    from infinity.jobs.evaluation.results import Evaluated

    found = Evaluated(spec.located().folder, spec, report)
    drawn = next(filter(None, (found.sampling(score.metric) for score in report.scores)), "")
    return [*([f"drawn with: {drawn}"] if drawn else []), f"repeat: {found.repeat}", f"files: {found.folder}"]


def compare(
    first: Annotated[str, typer.Argument(help="Folder of an evaluation, of a run, or of a model inside a run.")],
    second: Annotated[str, typer.Argument(help="Folder of the second evaluation, of a run, or of a model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the page.")] = Path("comparison"),
    prompts: Annotated[int, typer.Option(min=1, help="Most prompts on the page.")] = 120,
) -> None:
    """Compare two models: the same prompts and seeds under a slider, and paired scores with intervals."""
    with clear_errors():
        from infinity.evaluation.promotion.margins import GateConfig
        from infinity.jobs.evaluation.comparing import write_comparison
        from infinity.jobs.evaluation.results import find
        from infinity.reporting.comparison import comparison_row

        before, after = find(first), find(second)
        files, report, refusal = write_comparison(
            before,
            after,
            str(output),
            titles=_titles((before.title, first), (after.title, second)),
            config=GateConfig(),
            max_prompts=prompts,
        )
        if report is None:
            out.say(f"no paired scores: {refusal}")
        else:
            names = ("metric", "champion", "candidate", "gain", "interval", "delta", "n", "verdict")
            protocols = {score.metric: score.protocol for score in before.report.scores}
            found = [[row[name] for name in names] for row in map(comparison_row, report.comparisons)]
            show_table(("metric", "first", "second", "gain", "95 % interval", "δ", "n", "verdict"), found)
            show_table(("", ""), [(row[0], protocols[row[0]]) for row in found])
        for name, side in (("first", before), ("second", after)):
            out.say(f"{name} drawn with: {side.sampling() or 'no model of ours'}")
            out.say(f"repeat: {side.repeat}")
        out.say(files.html)


def _titles(first: tuple[str, str], second: tuple[str, str]) -> tuple[str, str]:
    """Return the names of two models; of equal names, the parts in which the two paths differ.

    Args:
        first: Name of the first model, and path of its evaluation.
        second: The same of the second one.
    """
    if first[0] != second[0]:
        return first[0], second[0]
    parts = [uri.rstrip("/").split("/") for _, uri in (first, second)]
    for one, other in zip(*parts, strict=False):
        if one != other:
            return one, other
    return "first", "second"


def leaderboard(
    evaluations: Annotated[
        list[str] | None, typer.Argument(help="Our evaluations: folders of evaluations, runs, or models inside runs.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Only metrics that begin with this, such as geneval.overall.")] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write, .md, .html, .csv, .json or .tex, instead of tables on the terminal."
        ),
    ] = None,
    published: Published = None,
) -> None:
    """List our scores beside published ones, each among scores of its own protocol."""
    with clear_errors():
        from infinity import storage
        from infinity.evaluation.promotion.leaderboard import leaderboard as ranked
        from infinity.jobs.evaluation.results import find
        from infinity.jobs.evaluation.standing import entries_of
        from infinity.reporting.scores.exports import leaderboard_csv, leaderboard_json, leaderboard_latex
        from infinity.reporting.scores.leaderboard import leaderboard_html, leaderboard_markdown

        entries = published_scores(published)
        seen: set[str] = set()
        for uri in evaluations or ():
            found = find(uri)
            if found.folder in seen:
                raise ValueError(f"{found.folder}: expected every evaluation once, got it twice; leave one out")
            seen.add(found.folder)
            entries += entries_of(found, f"{found.title} (ours)" if found.spec.model else found.title)
        groups = [group for group in ranked(entries) if group.metric.startswith(metric)]
        if not groups:
            raise ValueError(f"--metric: no metric begins with {metric!r}")
        if output is None:
            _print_groups(groups)
            return
        writers = {
            ".md": leaderboard_markdown, ".html": leaderboard_html, ".csv": leaderboard_csv, ".json": leaderboard_json,
            ".tex": leaderboard_latex,
        }  # fmt: skip
        if output.suffix not in writers:
            raise ValueError(f"--output: expected a file ending in {', '.join(writers)}, got {output}")
        storage.write_text(str(output), writers[output.suffix](groups))
        out.say(str(output))


def _print_groups(groups: Iterable[Group]) -> None:
    from infinity.reporting.scores.leaderboard import interval, shown_source, shown_value

    for group in groups:
        rows = [
            (
                entry.model, shown_value(entry), interval(entry), "" if entry.n is None else f"{entry.n:,}",
                shown_source(entry),
            )
            for entry in group.entries
        ]  # fmt: skip
        out.print()
        title = f"{group.metric} ({group.protocol})"
        show_table(("model", "value", "95 % interval", "n", "source"), rows, notes=("source",), title=title)


def card(
    model: Annotated[str, typer.Argument(help="Model folder, or folder of a run, which stands for its last model.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder to write; by default 'card' beside the model folder.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights, in words; by default none is stated.")] = "",
    use: Annotated[str, typer.Option(help="Intended use, in words; by default none is stated.")] = "",
) -> None:
    """Write a model's card from its records: README.md with pictures, and one card.html."""
    with clear_errors():
        from infinity import storage
        from infinity.jobs.evaluation.card import gather
        from infinity.reporting.scores.card import write_card

        found = gather(model, licence=" ".join(licence.split()).rstrip("."), use=" ".join(use.split()).rstrip("."))
        files = write_card(found, output or storage.join(storage.parent(found.model), "card"))
        for uri in (files.markdown, files.html):
            out.say(uri)

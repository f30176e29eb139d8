"""``infinity rate``: a human-preference study over pairs of pictures."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import clear_errors, out, show_table

if TYPE_CHECKING:
    from infinity.evaluation.rating.votes import VotedFigure

app = typer.Typer(no_args_is_help=True, help="Human-preference studies: make a page for raters, score their files.")


@app.command()
def make(
    evaluations: Annotated[
        list[str],
        typer.Argument(help="Evaluations: <model's name>=<folder of an evaluation, run or model>; at least two."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of the study.")] = "study",
    prompts: Annotated[int, typer.Option(min=1, help="Most prompts per pair of models.")] = 100,
    benchmark: Annotated[str, typer.Option(help="Benchmark whose pictures are shown; by default the first.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of sides and names; not known to raters.")] = 0,
) -> None:
    """Write a blind page for raters (folder raters) and the key to its pairs (key.json)."""
    with clear_errors():
        from infinity import storage
        from infinity.jobs.evaluation.rating import make_rating
        from infinity.jobs.evaluation.results import find

        named = [text.partition("=") for text in evaluations]
        if wrong := [
            text for text, (name, sign, uri) in zip(evaluations, named, strict=True) if not (name and sign and uri)
        ]:
            raise ValueError(f"expected <model's name>=<folder>, got {wrong[0]!r}")
        name, number = Counter(name for name, _, _ in named).most_common(1)[0]
        if number > 1:
            raise ValueError(f"{name}: expected one evaluation per model's name, got {number}; give each its own name")
        found = {name: find(uri) for name, _, uri in named}
        files = make_rating(found, storage.absolute(output), most=prompts, seed=seed, benchmark=benchmark)
        out.say(f"{files.number} pairs")
        for line in (files.page, files.key):
            out.say(line)


@app.command()
def score(
    key: Annotated[str, typer.Argument(help="File key.json of the study.")],
    raters: Annotated[list[str], typer.Argument(help="Files of raters, as the page saves them.")],
) -> None:
    """Compute win rates, Elo, and the agreement of raters with each other and with automatic scorers."""
    with clear_errors():
        from itertools import combinations

        from infinity import storage
        from infinity.evaluation.promotion.leaderboard import is_lower_better
        from infinity.evaluation.rating.votes import (
            RaterFile,
            elo,
            rater_agreement,
            scorer_agreement,
            votes_of,
            win_rate,
        )
        from infinity.jobs.evaluation.rating import RatingKey, shared_values
        from infinity.jobs.evaluation.results import load

        about = RatingKey.parse(storage.read_text(key), where=key)
        files = [(uri, RaterFile.parse(storage.read_text(uri), where=uri)) for uri in raters]
        votes = votes_of(about.pairs, about.study, files)
        models = sorted(about.evaluations)
        rows = [(f"Elo of {model}", *_cells(figure)) for model, figure in elo(votes, models).items()]
        for one, other in combinations(models, 2):
            rows.append((f"{one} wins against {other}", *_cells(win_rate(votes, one, other))))
        if (agreement := rater_agreement(votes)) is not None:
            figure, kappa = agreement
            rows.append(("equal choices of two raters", *_cells(figure)))
            rows.append(("Cohen's kappa", "undefined" if kappa is None else f"{kappa:.3f}", "", str(figure.n)))
        evaluated = [(name, load(folder)) for name, folder in about.evaluations.items()]
        for metric, values in shared_values(evaluated, about.pairs).items():
            found = scorer_agreement(votes, values, -1.0 if is_lower_better(metric) else 1.0)
            if found is not None:
                rows.append((f"agreement with {metric}", *_cells(found)))
        show_table(("figure", "value", "95 % interval", "n"), rows)
        pairs = len({vote.pair.id for vote in votes})
        out.say(
            f"study {about.study}: {len(files)} raters, {pairs} of {len(about.pairs)} pairs, {len(votes)} choices; "
            "ties count half; intervals from resampling prompts"
        )


def _cells(figure: VotedFigure) -> tuple[str, str, str]:
    interval = "" if figure.low is None else f"{figure.low:.4g} to {figure.high:.4g}"
    return f"{figure.value:.4g}", interval, f"{figure.n:,}"

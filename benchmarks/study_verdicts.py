"""Print the verdicts of finished studies as a table, and keep them as JSON without places.

``python -m benchmarks.study_verdicts runs/studies --keep benchmarks/study_verdicts.json`` reads every ``study.json`` of
the folder. Without a folder the kept verdicts are printed again. Of several results of one study the one with most
complete seeds counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from infinity.reporting.study import ContrastResult, StudyResult, mean_with_interval
from infinity.studies.running import JSON_FILE

KEPT = Path(__file__).with_suffix(".json")
HEAD = ("claim", "verdict", "contrast", "mean (95 % interval)", "seeds", "min")


def results(folder: Path) -> list[StudyResult]:
    """Return the result of every study of a folder, by the number of its claim.

    Raises:
        ValueError: The folder holds no result.
    """
    found: dict[str, StudyResult] = {}
    for path in sorted(folder.glob(f"*/{JSON_FILE}")):
        result = StudyResult.parse(path.read_text(encoding="utf-8"), where=str(path))
        other = found.get(result.name)
        if other is None or result.complete_seeds > other.complete_seeds:
            found[result.name] = result
    if not found:
        raise ValueError(f"{folder}: expected a folder with {JSON_FILE} in its folders, found none")
    return sorted(found.values(), key=lambda result: result.number)


def without_places(result: StudyResult) -> StudyResult:
    """Return a result that names no folder of this machine, and only the values of its figure."""
    shown = [row for row in result.rows if result.metric in row.values]
    rows = [row.replace(folders=(), values={result.metric: row.values[result.metric]}) for row in shown]
    return result.replace(rows=tuple(rows))


def table(found: Sequence[StudyResult]) -> str:
    """Return a Markdown table with a row per contrast; what was not run is told in one row."""
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    for result in found:
        claim = f"{result.number} {result.name}"
        if result.verdict == "not run":
            lines.append(_line([claim, "not run", "", "", f"0 of {len(result.seeds)}", ""]))
            continue
        for place, contrast in enumerate(result.contrasts):
            first = place == 0
            seeds = f"{len(contrast.per_seed)} of {len(result.seeds)}"
            lines.append(
                _line(
                    [claim if first else "", f"**{result.verdict}**" if first else "", contrast.name, _mean(contrast),
                     seeds, _minutes(result) if first else ""]
                )
            )  # fmt: skip
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(contrast: ContrastResult) -> str:
    return mean_with_interval(contrast) + ("" if contrast.mean is None else f": {contrast.verdict}")


def _minutes(result: StudyResult) -> str:
    seconds = result.cost.processor_s
    return "" if seconds is None else f"{seconds / 60:.1f}"


def main() -> None:
    """Print the table, and keep the results where asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="folder of the studies; without it the kept results")
    parser.add_argument("--keep", type=Path, help="file for the results without places")
    options = parser.parse_args()
    found = results(options.folder) if options.folder else kept()
    if options.keep:
        options.keep.write_text(
            "[\n" + ",\n".join(json.dumps(without_places(each).to_json()) for each in found) + "\n]\n"
        )
    print(table(found))


def kept() -> list[StudyResult]:
    """Return the results that were kept in the repository."""
    return [StudyResult.from_json(each) for each in json.loads(KEPT.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    main()

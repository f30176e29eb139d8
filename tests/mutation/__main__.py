"""``python -m tests.mutation``: sample mutants, run their tests, and write what survived."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.mutation.changed import changed_lines
from tests.mutation.hints import Hints
from tests.mutation.mutants import Mutant, mutants_of, sample
from tests.mutation.reach import Cache, Reach
from tests.mutation.running import NOT_RUN, ROOT, judged, warm_up

ROOMS = (
    "tokenizer", "transformer", "kernels", "generation", "training", "storage", "diagnosis", "studies", "submission",
)  # fmt: skip
"""Folders that belong to the core with all their files, wherever in the library they lie."""

MODULES = {
    "core": ("bits", "ranges", "scales"),
    "evaluation": (
        "anchors", "answers", "bootstrap", "chance", "contest", "distribution", "feature_distances", "floors",
        "found", "frechet", "gate", "gate_rule", "image_quality", "leaderboard", "lists", "margins", "mean_state",
        "published", "questions", "repeated_prompts", "resampling", "score", "scoring", "table", "validation",
        "verdicts",
    ),
    "data": (
        "alignment", "archives", "augment", "batches", "caption_lists", "captions", "colours", "components",
        "decisions", "decoding", "decontamination", "documents", "draws", "duplicates", "fence", "filters",
        "fingerprint", "fitting", "hamming", "histograms", "joining", "label_files", "layout", "minhash",
        "near_duplicates", "shards", "shuffle", "stated_colours", "stream", "table_rows", "takedown",
    ),
    "jobs": ("plans", "references", "removal", "rules", "seconds"),
}  # fmt: skip
"""Other files of the core by their names, wherever in a room they lie: arithmetic of evaluation, decisions on data."""

_NO_TESTS = (
    "tests/infinity/cli/[!t]*",
    "tests/infinity/cli/test_*",
    "tests/infinity/jobs/cluster/*",
    "tests/infinity/jobs/dataset/test_*",
    "tests/infinity/jobs/dataset/large/test_[!p]*",
    "tests/infinity/jobs/estimate/*",
    "tests/infinity/jobs/evaluation/*",
    "tests/infinity/jobs/test_*",
    "tests/infinity/reporting/*",
    "tests/infinity/perception/*",
)
EQUIVALENT = Path(__file__).with_name("equivalent.toml")


def room_of(path: Path) -> str | None:
    """The room of a source file of the core; None outside of it."""
    parts = path.relative_to(ROOT / "infinity").parts
    if parts[0] == "cli":  # commands of those rooms, whose tests are not asked
        return None
    if inside := [part for part in parts[:-1] if part in ROOMS]:
        return inside[0]
    return next((room for room, names in MODULES.items() if path.stem in names and room in (*parts[:-1], "core")), None)


def core(without: Sequence[str] = ()) -> dict[Path, str]:
    """Source files of the core with their rooms, but for those whose paths match a pattern."""
    found = {path: room for path in sorted((ROOT / "infinity").rglob("*.py")) if (room := room_of(path)) is not None}
    return {path: room for path, room in found.items() if not any(path.match(pattern) for pattern in without)}


def equivalents() -> dict[str, str]:
    """Reasons by the keys of mutants that nobody can notice."""
    if not EQUIVALENT.exists():
        return {}
    entries = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")).get("mutant", [])
    return {entry["key"]: entry["reason"] for entry in entries}


def tests_for(mutant: Mutant, reached: Mapping[str, Reach], budget_s: float) -> tuple[list[str], list[str]]:
    """Tests to run at once and, if it survives them, the others: quick ones and those of the mirrored file first.

    Code outside of functions is reached by whatever calls a function of the file, or imports the file. A test file may
    compute something once for all its tests; so the second list has all tests of the mirrored file.
    """
    function, mirrored = f"{mutant.path}::{mutant.function}", f"/test_{mutant.module}.py::"
    does = [t for t, r in reached.items() if any(c == function or c.startswith(f"{function}.") for c in r.calls)]
    if not does:
        dotted = mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        files = {test.partition("::")[0] for test in reached}
        importing = {file for file in files if f"{dotted} import" in (ROOT / file).read_text(encoding="utf-8")}
        does = [t for t, r in reached.items() if any(c.startswith(f"{mutant.path}::") for c in r.calls)]
        does += [t for t in reached if t.partition("::")[0] in importing and t not in set(does)]
    does = [t for t in does if reached[t].own_s + reached[t].shared_s <= budget_s / 2]
    order = sorted(does, key=lambda t: (mirrored not in t, reached[t].own_s + reached[t].shared_s))
    first = _within(order, reached, budget_s / 6)
    own = [test for test in reached if mirrored in test]
    return first, _within([t for t in dict.fromkeys([*order, *own]) if t not in set(first)], reached, budget_s)


def _within(tests: Sequence[str], reached: Mapping[str, Reach], budget_s: float) -> list[str]:
    """As many tests as fit; what tests of a file share is paid once."""
    chosen: list[str] = []
    shared: dict[str, float] = {}
    spent = 0.0
    for test in tests:
        file, cost = test.partition("::")[0], reached[test]
        spent += cost.own_s + max(0.0, cost.shared_s - shared.get(file, 0.0))
        if chosen and spent > budget_s:
            break
        shared[file] = max(cost.shared_s, shared.get(file, 0.0))
        chosen.append(test)
    return chosen


def stages(mutant: Mutant, files: Sequence[Path]) -> list[list[Path]]:
    """Divide test files by how near they are: those of the mirrored name; its folder; its room; importers; others."""
    dotted = mutant.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    package, _, module = dotted.rpartition(".")
    folder = ROOT / "tests" / Path(mutant.path).parent
    room = ROOT / "tests" / Path(*Path(mutant.path).parts[:2])
    found: list[list[Path]] = [[], [], [], [], []]
    for path in files:
        text = path.read_text(encoding="utf-8")
        imports = f"{dotted} import" in text or f"import {dotted}" in text
        imports = imports or re.search(rf"from {re.escape(package)} import [^\n]*\b{module}\b", text) is not None
        nearness = (path.name == f"test_{mutant.module}.py", path.parent == folder, room in path.parents, imports, True)
        found[nearness.index(True)].append(path)
    return found


def run(
    mutant: Mutant, near_first: Sequence[Sequence[Path]], reach_of: Callable[[Sequence[Path]], dict[str, Reach]],
    budget_s: float, hint: Mapping[str, float] = MappingProxyType({}),
) -> tuple[str, str]:  # fmt: skip
    """Outcome of a mutant and the test that decided; files further away are looked at only if it survives.

    A hint is the test that ended it earlier: if it ends it again, no other is asked.
    """
    if hint and (outcome := judged(mutant, hint))[0] == "killed":
        return outcome
    outcome = ("survived", "no test reaches it")
    for files in near_first:
        reached = reach_of(files)
        for tests in tests_for(mutant, reached, budget_s):
            allowed_s = {test: 10.0 + 10.0 * (reached[test].own_s + reached[test].shared_s) for test in tests}
            if tests and (outcome := judged(mutant, allowed_s))[0] != "survived":
                return outcome
    return outcome


def table(results: Sequence[Mapping[str, Any]], by: str) -> list[str]:
    """Rows of a Markdown table of outcomes."""
    kinds = ("killed", "timed out", "equivalent", "survived", "error")
    rows = [f"| {by} | mutants | " + " | ".join(kinds) + " |", "|---|" + "---|" * (len(kinds) + 1)]
    for name in [*sorted({str(result[by]) for result in results}), "all"]:
        counts = Counter(result["outcome"] for result in results if name in ("all", result[by]))
        rows.append(f"| {name} | {counts.total()} | " + " | ".join(str(counts[kind]) for kind in kinds) + " |")
    return rows


def report(results: Sequence[Mapping[str, Any]], args: argparse.Namespace, num_all: int) -> str:
    """What came out, as Markdown."""
    counts = Counter(result["outcome"] for result in results)
    good = counts["killed"] + counts["timed out"] + counts["equivalent"]
    lines = [
        f"# Mutation run: seed {args.seed}, {len(results)} of {num_all} mutants",
        f"{100 * good / max(1, len(results)):.1f} % killed, stopped by time, or equivalent with a reason. "
        f"Tests marked {NOT_RUN} were not run, and ../shared was absent.",
        "\n".join(table(results, "room")),
        "\n".join(table(results, "operator")),
    ]
    for kind in ("survived", "error"):
        found = [result for result in results if result["outcome"] == kind]
        lines.append(f"## {kind}: {len(found)}")
        lines += [f"- `{r['path']}:{r['number']}` {r['key']} ({r['by']})" for r in found]
    reasons = Counter(result["by"] for result in results if result["outcome"] == "equivalent")
    lines.append("## equivalent, by reason")
    lines += [f"- {number} x {reason}" for reason, number in reasons.most_common()]
    return "\n\n".join(lines) + "\n"


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--number", type=int, default=400, help="mutants in the sample (400)")
    parser.add_argument("--only", default="*", help="run the mutants of the sample whose keys match this pattern")
    parser.add_argument("--without", nargs="*", default=(), help="source files to leave out, as patterns")
    parser.add_argument("--since", help="only mutants of lines that were added or changed since this commit")
    parser.add_argument("--again", action="store_true", help="run mutants again that survived an earlier run")
    parser.add_argument(
        "--stages",
        type=int,
        default=5,
        choices=(1, 2, 3, 4, 5),
        help="1: tests of the mirrored file only; 2: also of its folder; 3: of its room; 4: of importers; 5: all (5)",
    )
    parser.add_argument(
        "--hints", type=Path, nargs="*", default=(), help="results.jsonl of earlier runs, whose tests are tried first"
    )
    parser.add_argument("--budget", type=float, default=60.0, help="processor seconds of tests a mutant (60)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "mutation", help="folder of results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run the sample; results of earlier runs in the same folder are kept."""
    args = parsed(arguments)
    rooms, known = core(args.without), equivalents()
    args.out.mkdir(parents=True, exist_ok=True)
    everything = [mutant for path in rooms for mutant in mutants_of(path, ROOT)]
    young = everything if args.since is None else _younger(everything, changed_lines(args.since, ROOT))
    chosen = sample(young, args.number, args.seed)
    if stale := sorted(set(known) - {mutant.key for mutant in everything}):
        print(f"{EQUIVALENT.name} names {len(stale)} mutants that are not there:", *stale, sep="\n  ", file=sys.stderr)
    warm_up()
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if _may_help(path)]
    cache = Cache(args.out / "reach.json", lambda line: print(line, flush=True))
    hints, log = Hints(args.hints), args.out / "results.jsonl"
    before = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {
        (result["path"], result["key"]): result
        for result in before
        if not (args.again and result["outcome"] != "killed")
    }
    results = []
    for place, mutant in enumerate(chosen, start=1):
        facts = {"key": mutant.key, "path": mutant.path, "number": mutant.number, "operator": mutant.operator}
        if mutant.key in known:
            results.append({**facts, "outcome": "equivalent", "by": known[mutant.key]})
        elif (mutant.path, mutant.key) in done:
            results.append({**done[mutant.path, mutant.key], **facts})
        elif fnmatchcase(mutant.key, args.only):
            near_first = stages(mutant, files)[: args.stages]
            outcome, by = run(mutant, near_first, cache.of, args.budget, hints.of(mutant.key))
            results.append({**facts, "outcome": outcome, "by": by})
            with log.open("a") as file:
                file.write(json.dumps(results[-1]) + "\n")
            print(f"{place}/{len(chosen)} {outcome}: {mutant.key} ({by})", flush=True)
    for result in results:
        result["room"] = rooms[ROOT / result["path"]]
    text = report(results, args, len(young))
    (args.out / "report.md").write_text(text, encoding="utf-8")
    (args.out / "report.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(text)
    return int(any(result["outcome"] in ("survived", "error") for result in results))


def _younger(mutants: Sequence[Mutant], lines: Mapping[str, set[int]]) -> list[Mutant]:
    return [mutant for mutant in mutants if mutant.number in lines.get(mutant.path, ())]


def _may_help(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return name.startswith(("tests/infinity/", "tests/parity/")) and not any(fnmatchcase(name, p) for p in _NO_TESTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

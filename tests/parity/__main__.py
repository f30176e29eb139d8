"""``python -m tests.parity <folder or file>...``: one line of JSON a case; exit code 1 if any failed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from tests.parity.replay import find_cases, replay
from tests.parity.scores.evaluation import find_files, passed_over, replay_file

_MOST_FAILURES = 20


def main(arguments: list[str]) -> int:
    """Replay the cases and the files of evaluation in and below the given folders."""
    if not arguments or set(arguments) & {"-h", "--help"}:
        print(f"usage: python -m tests.parity <folder or file>...\n\n{__doc__}", file=sys.stderr)
        return 0 if arguments else 2
    torch.set_num_threads(1)  # sums in one order, whatever the machine
    results = []
    for argument in map(Path, arguments):
        files = find_files(argument)
        cases = [] if files and not any(argument.rglob("case.json")) else find_cases(argument)
        for path in [*cases, *files]:
            results.append(replay(path) if path in cases else replay_file(path))
            print(json.dumps(results[-1], allow_nan=False), flush=True)
        if unknown := passed_over(argument):
            names = ", ".join(str(path.relative_to(argument)) for path in unknown)
            print(
                f"{argument}: {len(unknown)} files are of no kind of their own (inputs of others?): {names}",
                file=sys.stderr,
            )
    failed = [result for result in results if not result["passed"]]
    for result in failed:
        print(f"FAILED {result['case']}: " + "\n  ".join(result["failures"][:_MOST_FAILURES]), file=sys.stderr)
    print(f"{len(results) - len(failed)} of {len(results)} cases passed", file=sys.stderr)
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m tests.fuzz <door>... --seconds 60 --seed 0``; exit code 1 if a trial ended in a traceback or hung."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import tempfile
from pathlib import Path

from infra.environment import apply_common_environment


def main(arguments: list[str]) -> int:
    """Knock at each door for some seconds, and print one line of JSON a door."""
    apply_common_environment()
    os.environ.update({"HF_HUB_OFFLINE": "1", "AWS_EC2_METADATA_DISABLED": "true", "COLUMNS": "200"})
    os.environ.update(
        {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    )
    from tests.fuzz.trials import EVERY_DOOR, LIMIT_S, knock
    from tests.fuzz.world import build_world

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("door", nargs="+", choices=[*EVERY_DOOR, "all"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", type=int, help="Only this one, with its traceback.")
    parser.add_argument("--wall", type=float, default=LIMIT_S, help="Seconds on the clock of a trial; more if busy.")
    given = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    doors = list(EVERY_DOOR) if "all" in given.door else given.door
    failed = False
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        world = build_world(Path(folder))
        with contextlib.chdir(folder):  # where relative places that trials name are made
            for door in doors:
                found = knock(door, world, seconds=given.seconds, seed=given.seed, trial=given.trial, wall_s=given.wall)
                print(json.dumps(found.to_json()), flush=True)
                failed |= bool(found.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

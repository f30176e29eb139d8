"""Pictures of another model, scored and shown: ``python -m tests.browser.foreign_pictures --out shots``.

A GenEval folder, a folder of DPG grids and loose JPEG files with a table are made, scored by small networks with random
weights, and shown beside published rows of their own protocol; every page is looked at in headless Chromium.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from infinity.cli import app
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.evaluation.results import below, load
from tests.browser.screenshots import open_browser, why_no_browser
from tests.fixtures.models.tiny_networks import write_clip
from tests.infinity.jobs.evaluation.test_contents import draw, write_dpg, write_prompts


def run(*args: object) -> str:
    """Run a command and return what it prints."""
    with in_process():
        result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    if result.exit_code:
        raise SystemExit(result.output)
    return result.output


def sets(root: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield name, pictures and benchmark of three sets."""
    root.mkdir(parents=True)
    for number, shape in enumerate(("star", "heart")):
        for sample in range(4):
            draw(root / f"geneval/{number:05d}/samples/{sample:05d}.png", shape if sample else "circle")
    prompts = write_prompts(root / "prompts.jsonl")
    detector = {"prompts": {"uri": prompts.uri}, "detector": {"kind": "scenes"}}
    yield "geneval", root / "geneval", f"geneval={json.dumps(detector)}"
    dpg = write_dpg(root)
    questions = {"prompts": dpg.prompts, "questions": {"uri": dpg.questions.uri}, "vqa": {"model": dpg.vqa.model}}  # type: ignore[union-attr]
    yield "dpg", root / "grids", f"dpg={json.dumps(questions)}"
    lines = ["prompt,file"]
    for number in range(6):
        (root / "loose").mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (40 * number, 90, 200 - 30 * number)).save(root / f"loose/IMG_{number:04d}.JPEG")
        lines.append(f"colour number {number},loose/IMG_{number:04d}.JPEG")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    (root / "clip").mkdir()
    clip = {"clip": {"model": write_clip(root / "clip")}, "pictures_per_prompt": 1}
    yield "loose", root / "table.csv", f"clip_score={json.dumps(clip)}"


def page_of(name: str, pictures: Path, benchmark: str, out: Path) -> tuple[Path, str]:
    """Score one set, and write its page beside a row of its protocol and one of another; return page and sentence."""
    run("evaluate", "--pictures", pictures, "--name", "FLUX.9", "-b", benchmark, "-o", out / name)
    (folder,) = below(str(out / name))
    score = next(score for score in load(folder).report.scores if score.metric.endswith(".overall"))
    table = out / f"{name}.csv"
    table.write_text(
        "metric,model,value,unit,protocol,source\n"
        f'{score.metric},A rival,0.25,{score.unit},"{score.protocol}",a report of one\'s own\n'
        f"{score.metric},Never beside,0.99,{score.unit},another protocol,a report of one's own\n"
    )
    page = out / f"{name}.html"
    return page, run("standing", folder, "-o", page, "--published", table).splitlines()[0]


def main() -> int:
    """Write pages and screenshots; 1 where a page asks another machine, fails, or shows a row of another protocol."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out.resolve()
    if (reason := why_no_browser()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    pages = {}
    for name, pictures, benchmark in sets(out / "pictures"):
        pages[name], sentence = page_of(name, pictures, benchmark, out)
        print(sentence)
    wrong = [name for name, page in pages.items() if "A rival" not in page.read_text()]
    wrong += [name for name, page in pages.items() if "Never beside" in page.read_text()]
    with open_browser() as browser:
        for name, page in pages.items():
            browser.open(page.as_uri(), until=["FLUX.9"], settle_s=1.0)
            print(browser.shoot(out / f"{name}.png"))
        wrong += [*browser.errors(), *sorted(browser.asked_hosts())]
    for each in wrong:
        print(f"error: {each}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

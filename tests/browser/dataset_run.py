"""Pictures of the page of a data set's run: funnel, versions, examples of every reason, quarantine, scores.

    python -m tests.browser.dataset_run --out shots

Builds a source of real pictures (``../shared/data``) to which it adds what a filter should find: texts and thumbnails
that are too small, blank and blurred pictures, long strips, repeated and slightly changed pictures, repeated captions,
broken files. Runs the flow ``build-dataset`` on it twice on a Prefect server of its own, the second time as a child
version without some pictures, and looks at the run pages and their artifacts. Three minutes.
"""

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from infra.environment import apply_common_environment
from infra.settings import Settings
from infra.stack import Stack
from tests.browser.screenshots import Browser, open_browser, why_no_browser
from tests.fixtures.servers.prefect_api import ask

RUN = "looked-at"
REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("INFINITY_SHARED", REPOSITORY.parent / "shared"))
Line = tuple[str, bytes, str | None]
"""A file's name, its bytes and its caption."""


def make_source(folder: Path, pictures: Path, number: int) -> None:
    """An image folder of good pictures and of every kind of bad ones.

    Raises:
        FileNotFoundError: There are no pictures to start from.
    """
    folder.mkdir(parents=True)
    lines = []
    for name, data, caption in (*_good(pictures, number), *_toy(SHARED / "data" / "infinity_toy"), *_bad(pictures)):
        (folder / name).write_bytes(data)
        lines.append(json.dumps({"file_name": name, "text": caption}))
    lines.append(json.dumps({"file_name": "not-there.png", "text": "a picture that nobody uploaded"}))
    lines.append('{"file_name": "half a line')
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(pictures: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (pictures / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


def _good(pictures: Path, number: int) -> Iterator[Line]:
    rows = _rows(pictures)
    for row in rows[:: max(1, len(rows) // number)]:
        path = pictures / row["file_name"]
        yield path.name, path.read_bytes(), row["text"]


def _toy(folder: Path) -> Iterator[Line]:
    if folder.is_dir():
        for row in map(json.loads, (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()):
            path = folder / Path(row["image_path"]).name
            yield path.name, path.read_bytes(), str(row.get("long_caption") or row.get("text") or "")


def _bad(pictures: Path) -> Iterator[Line]:
    rows = _rows(pictures)[100:160]
    images = [Image.open(pictures / row["file_name"]).convert("RGB") for row in rows]
    captions = [str(row["text"]) for row in rows]
    random = np.random.default_rng(0)
    for place in range(6):
        image, caption = images[place], captions[place]
        yield f"tiny-{place}.png", _file(image.resize((20, 20))), f"{caption}, very small"
        yield f"strip-{place}.png", _file(image.resize((32, 200))), f"{caption} as a strip"
        colour = tuple(random.integers(0, 256, 3).tolist())
        yield f"blank-{place}.png", _file(Image.new("RGB", (96, 96), colour)), "a plain wall"
        image, caption = images[10 + place].resize((256, 256)), captions[10 + place]
        yield f"blurred-{place}.png", _file(image.filter(ImageFilter.GaussianBlur(9))), f"{caption} in fog"
        yield f"whole-{place}.png", _file(image), f"{caption}, enlarged"
        yield f"again-{place}.png", _file(image), f"{caption}, enlarged"
        yield f"resaved-{place}.jpg", _file(image, "JPEG", quality=70), f"{caption}, saved again"
        yield f"cropped-{place}.png", _file(image.crop((4, 4, 252, 252))), f"{caption}, cropped"
        yield f"unnamed-{place}.png", _file(images[30 + place]), ""
    for place, image in enumerate(images[40:44]):
        data = _file(image)
        yield f"cut-{place}.png", data[: len(data) // 3], captions[40 + place]
        yield f"text-{place}.png", b"<html>404: not found</html>", captions[40 + place]
    yield "empty.png", b"", "nothing at all"


def _file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def build(runs: Path, source: Path) -> list[str]:
    """Run the flow, and a second time with other thresholds as a child of the first; ids of the flow runs."""
    from flows.build_dataset import build_dataset
    from flows.forms.parameters import DatasetForm
    from infinity.data.dataset.versions import load_version

    first = DatasetForm(
        name="emoji", near_duplicates=True, min_sharpness=30.0, max_caption_chars=160, samples_per_shard=64
    )
    ids = []
    for number in (1, 2):
        parent = load_version(str(runs / RUN), "emoji").uri if number > 1 else None
        form = first if parent is None else first.model_copy(update={"parent": parent, "min_contrast": 40.0})
        state = build_dataset(run=RUN, data=str(source), recipe="emoji", dataset=form, return_state=True)
        print(f"version {number}: {state.name}: {state.message}", flush=True)
        ids.append(str(state.state_details.flow_run_id))
    return ids


def look(browser: Browser, api: str, runs: Sequence[str], out: Path) -> None:
    """Pictures of the run pages, their lists of artifacts, and every artifact."""
    ui = api.removesuffix("/api")
    for number, run in enumerate(runs, start=1):
        browser.open(f"{ui}/runs/flow-run/{run}")
        print(browser.shoot(out / f"dataset-{number}-run.png"))
        browser.open(f"{ui}/runs/flow-run/{run}", click="Artifacts")
        print(browser.shoot(out / f"dataset-{number}-artifacts.png"))
        for artifact in ask(api, "artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}}):
            if artifact["key"]:
                browser.open(f"{ui}/artifacts/artifact/{artifact['id']}")
                print(browser.shoot(out / f"dataset-{number}-{artifact['key']}.png"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command line; 0 when there is something to look at."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.dataset_run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--pictures", type=Path, default=SHARED / "data" / "noto_emoji", help="an image folder")
    parser.add_argument("--number", type=int, default=400, help="how many good pictures of it are taken (400)")
    options = parser.parse_args(arguments)
    if (reason := why_no_browser()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    if not (options.pictures / "metadata.jsonl").is_file():
        print(f"error: expected an image folder with metadata.jsonl, found none at {options.pictures}", file=sys.stderr)
        return 1
    apply_common_environment()
    folder = Path(tempfile.mkdtemp(prefix="inf-data-"))
    os.environ["INFINITY_RUNS"] = str(folder / "runs")
    os.environ.pop("PREFECT_API_URL", None)
    stack = Stack(Settings(state=folder / "state", runs=str(folder / "runs")))
    try:
        up = stack.server_up()
        stack.files_up()
        os.environ.update(stack.client_environment(up))  # before the flows are imported, which read it once
        make_source(folder / "source", options.pictures, options.number)
        runs = build(folder / "runs", folder / "source")
        with open_browser() as browser:
            browser.log_in(up.ui_url, os.environ["PREFECT_API_AUTH_STRING"])
            look(browser, up.api_url, runs, options.out)
    finally:
        stack.down()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The page of a data set says what became of every picture, and leads on."""

import re

import pytest

from flows.pages.dataset_page import dataset_page
from infinity.data.curation.filters import FilterConfig
from infinity.data.curation.takedown import TakedownList
from infinity.data.dataset.manifest import Manifest
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import build as build_dataset
from infinity.jobs.dataset.build import BuildDatasetReport, BuildDatasetSpec
from tests.fixtures.data.pictures_on_disk import encoded, good_folder, noise


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> BuildDatasetSpec:
    folder = tmp_path_factory.mktemp("page")
    source = good_folder(folder / "in", 24, sizes=[(16, 16), (24, 16), (8, 8)])
    (source / "images" / "003.png").write_bytes(b"no picture")
    (source / "images" / "004.png").write_bytes(encoded(noise(24, 16, seed=1)))  # as picture 1
    return BuildDatasetSpec(
        source=str(source), output=str(folder / "out"), filters=FilterConfig(min_side_px=9), name="toy"
    )


@pytest.fixture(scope="module")
def report(spec: BuildDatasetSpec) -> BuildDatasetReport:
    with in_process():
        return build_dataset.run(spec)


def page_of(report: BuildDatasetReport) -> str:
    return dataset_page(Manifest.load(report.manifest), {"manifest": report.manifest}, report.summary)


def test_the_page_begins_with_the_funnel_and_has_every_count(report: BuildDatasetReport) -> None:
    page, counts = page_of(report), report.summary.counts
    assert page.startswith(f"# {counts['kept']} of 24 pictures kept\n")
    lines = [line.split("|")[1:4] for line in page.splitlines()[2:] if line.startswith("|")][2:7]
    found = {what.strip(" *"): int(number) for what, number, _ in lines}
    assert found.pop("read") == 24 == sum(found.values())
    assert found["dropped: small\\_side"] == counts["dropped_small_side"] == 8
    assert (found["in quarantine"], found["kept"]) == (1, counts["kept"])
    assert "side\\_px at least 9" in page


def test_the_page_shows_pictures_of_every_reason_and_scores_with_their_thresholds(report: BuildDatasetReport) -> None:
    page = page_of(report)
    assert "### small\\_side: 8\n" in page
    shown = re.findall(r"!\[([^\]]*)\]\(data:image/", page)
    assert [text.split(":")[0] for text in shown[:-1]] == ["Pictures that are kept", *["Pictures left out"] * 2]
    assert shown[-1].startswith("Histograms of")
    assert "side\\_px" in shown[-1]


def test_the_page_says_how_to_look_closer_and_how_to_repair(report: BuildDatasetReport) -> None:
    page = page_of(report)
    assert page.count(f"MANIFEST={report.manifest}\n") == 2
    for command in ("gallery", "verify", "show", "quarantine", "replay"):
        assert f"infinity data {command} $MANIFEST" in page
    assert "not\\_a\\_picture" in page
    assert f"digest: `{Manifest.load(report.manifest).digest}`" in page
    assert "name: toy, version 1" in page
    assert "parent: none" in page
    assert "infinity data diff" not in page


def test_the_page_of_a_child_names_its_parent_and_what_was_taken_down(
    spec: BuildDatasetSpec, report: BuildDatasetReport
) -> None:
    parent = Manifest.load(report.manifest)
    gone = TakedownList(sha256=(parent.column("sha256")[0].as_py(),))
    with in_process():
        child = build_dataset.run(spec.replace(source=None, parent=parent.uri, takedown=gone))
    page = page_of(child)
    assert f"parent: `{parent.digest}`, `{parent.uri}`" in page
    assert f"PARENT={parent.uri}\ninfinity data diff $PARENT $MANIFEST" in page
    assert "name: toy, version 2" in page
    assert "taken down: 1 entries" in page
    assert "### small\\_side: 8\n" in page  # in words: the rows were not looked at again

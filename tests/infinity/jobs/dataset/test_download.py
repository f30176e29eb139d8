"""The download job on a local Ray: a list of addresses in, a source for the data stage out."""

import csv
from pathlib import Path

import pytest

from infinity.data.dataset.manifest import Manifest
from infinity.data.sources.download.config import DownloadConfig
from infinity.data.sources.opening import fingerprint, open_source
from infinity.data.sources.samples import SourceError
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset import build as build_dataset
from infinity.jobs.dataset.build import BuildDatasetSpec
from infinity.jobs.dataset.download import DownloadReport, DownloadSpec, _shared, run
from infinity.jobs.spec import is_done
from tests.fixtures.data.pictures_on_disk import encoded, good_folder, noise
from tests.fixtures.limits import AGES_S
from tests.fixtures.servers.picture_server import plain, serving, status

CONFIG = DownloadConfig(allow_hosts=("127.0.0.1",), timeout_s=AGES_S, retries=0)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_list_becomes_a_source_and_is_fetched_once(tmp_path: Path) -> None:
    with serving({"/a.png": plain(1), "/b.png": plain(2), "/gone.png": status(404)}) as site:
        with (tmp_path / "urls.csv").open("w", newline="") as file:
            rows = [("url", "caption"), *((site.url(f"/{n}.png", "127.0.0.1"), f"the {n}") for n in ("a", "gone", "b"))]
            csv.writer(file).writerows([*rows, ("http://169.254.169.254/", "a secret")])
        source = str(tmp_path / "urls.csv")
        spec = DownloadSpec(output=str(tmp_path), source=source, fingerprint=fingerprint(source), download=CONFIG)
        report = run(spec)
        assert (report.read, report.fetched) == (4, 2)
        assert report.failed == {"address_not_public": 1, "http_status": 1}
        records = [record for piece in open_source(report.pictures).slices for record in piece.read()]
        assert [record.caption for record in records if record.problem is None] == ["the a", "the b"]
        asked = len(site.asked)
        assert is_done(spec)
        assert run(spec) == report
        Path(spec.folder, "report.json").unlink()
        again = run(spec)
        assert again.replace(seconds=0.0) == report.replace(seconds=0.0)
        assert len(site.asked) == asked
        assert DownloadReport.parse(report.dump()) == report


def test_data_stage_downloads_a_list_and_accounts_for_every_address(tmp_path: Path) -> None:
    with serving({"/a.png": plain(1), "/b.png": plain(2), "/gone.png": status(404)}) as site:
        lines = [f"{site.url(f'/{n}.png', '127.0.0.1')}\tthe picture {n}" for n in ("a", "b", "gone")]
        (tmp_path / "urls.tsv").write_text("\n".join(["URL\tTEXT", *lines, "http://[::1]/x\ta secret"]) + "\n")
        spec = BuildDatasetSpec(source=str(tmp_path / "urls.tsv"), output=str(tmp_path / "out"), download=CONFIG)
        with in_process():
            report = build_dataset.run(spec)
            assert build_dataset.run(spec) == report
        assert site.counts() == {"/a.png": 1, "/b.png": 1, "/gone.png": 1}
    assert report.summary.counts == {"read": 4, "kept": 2, "unreadable": 2}
    assert report.unreadable == {"address_not_public": 1, "http_status": 1}
    manifest = Manifest.load(report.manifest)
    assert sorted(manifest.table["url"].to_pylist()) == [site.url(f"/{n}.png", "127.0.0.1") for n in ("a", "b")]


def test_what_lies_beside_a_list_is_told_when_the_list_is_downloaded(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "local.png").write_bytes(encoded(noise(seed=9)))
    (folder / "notes.md").write_text("about")
    with serving({"/a.png": plain(1)}) as site, in_process():
        (folder / "urls.csv").write_text(f"url,text\n{site.url('/a.png', '127.0.0.1')},the picture\n")
        report = build_dataset.run(
            BuildDatasetSpec(source=str(folder), output=str(tmp_path / "out"), download=CONFIG, validation_share=0.0)
        )
    assert report.summary.counts["kept"] == 1
    assert report.not_read == (
        "1 .md files, which are no part of a source, for example notes.md",
        "1 pictures without a caption beside a list of addresses, for example local.png",
    )


def test_source_with_pictures_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a list of addresses with captions, found a source of kind image"):
        run(DownloadSpec(output=str(tmp_path / "out"), source=str(good_folder(tmp_path / "in", 2))))


@pytest.mark.parametrize("workers", [1, 3, 8, 100])
def test_workers_together_keep_the_limits(workers: int) -> None:
    config = DownloadConfig(connections=20, per_host=7)
    at_once, limits = _shared(config, workers)
    assert at_once <= workers
    assert at_once * limits.connections <= 20
    assert at_once * limits.per_host <= 7

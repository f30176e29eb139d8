"""How documents are written: lines and tables that can be read, links that lead somewhere, facts that hold."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

from infinity.version import __version__
from tests.fixtures.documents import REPOSITORY, documents, name_of, prose_lines, tables, without_blocks

MAX_PROSE_CHARS = 100
MAX_COLUMNS = 6
MAX_CELL_CHARS = 250
MAX_TERMS = 30
MAX_WALK_FILES = 20

each_document = pytest.mark.parametrize("document", documents(), ids=name_of)


@each_document
def test_prose_is_not_wider_than_a_page(document: Path) -> None:
    wide = [
        (number, len(line))
        for number, line in prose_lines(document.read_text(encoding="utf-8"))
        if len(line) > MAX_PROSE_CHARS and " " in line.strip()
    ]
    assert not wide


@each_document
def test_tables_have_few_columns_and_no_paragraph_in_a_cell(document: Path) -> None:
    rows = list(tables(document.read_text(encoding="utf-8")))
    assert not [(number, len(cells)) for number, cells in rows if len(cells) > MAX_COLUMNS]
    assert not [(number, len(cell)) for number, cells in rows for cell in cells if len(cell) > MAX_CELL_CHARS]


@each_document
def test_no_document_names_a_place_of_one_machine(document: Path) -> None:
    found = re.findall(r"(?<![\w.:/])/(?:work|root|home|tmp|Users)/\S*", document.read_text(encoding="utf-8"))
    assert not found


@each_document
def test_links_to_files_lead_to_files(document: Path) -> None:
    text = without_blocks(document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^()\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            assert (document.parent / target.partition("#")[0]).exists(), target


def test_the_readme_is_short_and_begins_with_a_picture() -> None:
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert lines[2].startswith("![")


def test_the_glossary_has_few_terms_each_with_a_word_of_the_field() -> None:
    rows = [cells for _, cells in tables((REPOSITORY / "docs/concepts.md").read_text(encoding="utf-8"))][2:]
    assert 20 <= len(rows) <= MAX_TERMS
    assert all(len(cells) == 3 and all(cells) for cells in rows)


def test_ideas_of_the_paper_are_found_by_the_fields_words() -> None:
    """``grep`` for an idea's words finds its file, among few others."""
    text = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \|$", text.split("## Where is the paper")[1].split("\n## ")[0], re.MULTILINE
    )[1:]
    assert len(rows) == 12
    sources = {path: path.read_text(encoding="utf-8").casefold() for path in (REPOSITORY / "infinity").rglob("*.py")}
    for idea, cell in rows:
        word = re.split(r"[(,]| of | over ", idea)[0].strip().removesuffix("s").casefold()
        found = {path.relative_to(REPOSITORY) for path, source in sources.items() if word in source}
        named = [Path(name) for name in re.findall(r"`(infinity/[^`]+)`", cell)]
        assert named, idea
        assert len(found) <= 20, idea
        for name in named:
            assert any(path == name or name in path.parents for path in found), f"{word!r} is not found in {name}"


def test_walks_name_files_that_exist_and_not_too_many() -> None:
    text = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
    walks = text[text.index("## Three walks") : text.index("## Files of a run")]
    named = re.findall(r"^\d+\. `(\S+?\.py)`", walks, flags=re.MULTILINE)
    assert len(set(named)) <= MAX_WALK_FILES
    for path in [*named, *re.findall(r"`((?:infinity|flows|infra)/[\w/]+(?:\.py)?)`", text)]:
        assert (REPOSITORY / path).exists(), path


DECISIONS = sorted((REPOSITORY / "docs/decisions").glob("0*.md"))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_a_question_with_an_answer_that_the_index_repeats(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.match(r"# (\d+)\. ([^\n]+\?)\n\n\*\*Answer\.\*\* (.+?)\n\n", text, flags=re.DOTALL)
    assert found, "expected '# number. Question?' and a paragraph '**Answer.** …'"
    number, question, answer = found.groups()
    assert page.name.startswith(f"{int(number):04d}-")
    row = f"| {number} | [{question}]({page.name}) | {' '.join(answer.split())} |"
    assert row in (REPOSITORY / "docs/decisions/index.md").read_text(encoding="utf-8").splitlines(), row


def test_the_newest_release_is_the_version_of_the_package() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)$", changelog, flags=re.MULTILINE)
    assert newest
    assert newest[1] == __version__
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], str(citation["date-released"])) == newest.groups()


def test_the_page_of_switches_is_the_one_that_the_benchmark_writes() -> None:
    from benchmarks.switches.__main__ import page

    written = (REPOSITORY / "docs/switches.md").read_text(encoding="utf-8")
    for paragraph in page(()).split("\n\n"):
        assert paragraph.strip() in written


def test_every_page_of_the_site_is_in_its_navigation() -> None:
    config = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = set(re.findall(r"[\w/-]+\.md", str(config["nav"])))
    pages = {name_of(page).removeprefix("docs/") for page in documents() if name_of(page).startswith("docs/")}
    assert {page for page in pages if not re.match(r"decisions/0", page)} == listed


def test_a_broken_link_and_an_unknown_name_of_the_api_fail_the_site(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[0])
    good = "# Page\n\n[here](index.md)\n"
    for text, fails in ((good, False), (good + "[there](there.md)\n", True), (good + "::: no.such.name\n", True)):
        (tmp_path / "docs" / "index.md").write_text(text)
        build = [f"{sysconfig.get_path('scripts')}/zensical", "build", "--strict", "--clean"]
        done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr

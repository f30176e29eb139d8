"""Mutants are where they should be, do what they say, and are drawn alike whatever else changes."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import infinity
from tests.mutation.__main__ import EQUIVALENT, MODULES, ROOMS, core, equivalents, run, stages, table
from tests.mutation.mutants import Mutant, mutants_of, mutated_code, sample
from tests.mutation.reach import Reach
from tests.mutation.running import ROOT, MutantFinder


def found(tmp_path: Path, source: str) -> list[Mutant]:
    path = tmp_path / "some.py"
    path.write_text(source, encoding="utf-8")
    return mutants_of(path, tmp_path)


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("f(a < b)", {"a < b -> a <= b", "f(a < b) -> pass"}),
        ("x = a != b", {"a != b -> a == b"}),
        ("x = a is None", {"a is None -> a is not None"}),
        ("x = a - b", {"a - b -> a + b"}),
        ("x *= a", {"x *= a -> x /= a"}),
        ("x = 7", {"7 -> 8"}),
        ("x = 0, 1, True", {"0 -> 1", "1 -> 0", "True -> False"}),
        ("x = a and not b", {"a and (not b) -> a or not b", "not b -> b"}),
        ("x = -a", {"-a -> a"}),
        ("x = a[b:]", {"b: -> b + 1:"}),
        ("x = a[:b]", {":b -> :b - 1"}),
        ("x = max(a, b)", {"max(a, b) -> min(a, b)"}),
        ("x = a.gt_(b)", {"a.gt_(b) -> a.ge_(b)"}),
        ("def f():\n    return a", {"return a -> return None"}),
        ("def f():\n    return a and b", {"a and b -> a or b", "return a and b -> return not (a and b)"}),
    ],
)
def test_each_operator_makes_its_changes(tmp_path: Path, source: str, changes: set[str]) -> None:
    assert {mutant.change for mutant in found(tmp_path, source)} == changes


@pytest.mark.parametrize(
    "source",
    [
        '"""A text of 2 lines."""',
        "def f(a: List[1]) -> Array[2]: ...",
        "raise ValueError(f'expected {n + 1}, got {a[1:]}')",
        "logger.info('%d', n + 1)",
        "assert a is not None",
        "class A:\n    def __repr__(self):\n        return f'{self.a + 1}'",
        "x = zip(a, b, strict=True)",
        "if TYPE_CHECKING:\n    x = 1",
        "@dataclass(frozen=True)\nclass A:\n    a: int",
    ],
)
def test_texts_annotations_and_what_only_checks_the_programmer_stay(tmp_path: Path, source: str) -> None:
    assert found(tmp_path, source) == []


def test_a_mutant_changes_its_place_only(tmp_path: Path) -> None:
    source = "def f(a, b):\n    return a + b, a + b, a - b\n"
    results = []
    for mutant in found(tmp_path, source):
        space: dict[str, Any] = {}
        exec(mutated_code(source, "some.py", mutant), space)
        results.append(space["f"](5, 3))
    assert results == [None, (2, 8, 2), (8, 2, 2), (8, 8, 8)]


def test_equal_changes_of_equal_lines_have_keys_of_their_own(tmp_path: Path) -> None:
    keys = [mutant.key for mutant in found(tmp_path, "def f():\n    x = a + a + a\n    x = a + a + a\n")]
    assert len(set(keys)) == len(keys) == 4


def test_the_sample_depends_on_keys_alone(tmp_path: Path) -> None:
    """Neither folders nor line numbers matter, and what a change elsewhere adds replaces as many at most."""
    mutants = found(tmp_path, "\n".join(f"x{n} = a + {n}" for n in range(100)))
    (tmp_path / "deeper").mkdir()
    moved = found(tmp_path / "deeper", "# moved\n" + "\n".join(f"x{n} = a + {n}" for n in range(105)))
    before, after = ({mutant.key for mutant in sample(each, 50, seed=3)} for each in (mutants, moved))
    assert len(before) == 50
    assert len(before - after) <= 10
    assert before != {mutant.key for mutant in sample(mutants, 50, seed=4)}


def test_the_core_has_mutants_with_keys_nearly_all_of_their_own_that_compile() -> None:
    assert set(core().values()) == {*MODULES, *ROOMS}
    mutants = [mutant for path in core() for mutant in mutants_of(path, ROOT)]
    assert len({(mutant.path, mutant.key) for mutant in mutants}) == len(mutants) > 4000
    assert len({mutant.key for mutant in mutants}) > 0.99 * len(mutants)
    for mutant in sample(mutants, 20, seed=1):
        mutated_code((ROOT / mutant.path).read_text(encoding="utf-8"), mutant.path, mutant)


def test_every_name_of_the_core_is_a_file() -> None:
    """A file that is renamed or split must not leave the core unseen."""
    found = {(room, path.stem) for path, room in core().items()}
    assert {(room, name) for room, names in MODULES.items() for name in names} <= found
    folders = {part for path in core() for part in path.relative_to(ROOT / "infinity").parts[:-1]}
    assert set(ROOMS) <= folders


def test_tests_of_the_mirrored_file_come_first_then_its_folder_its_room_and_importers(tmp_path: Path) -> None:
    mutant = next(iter(mutants_of(ROOT / "infinity" / "storage" / "leases" / "owner.py", ROOT)))
    named, importing, absent = (tmp_path / f"test_{name}.py" for name in ("owner", "other", "absent"))
    for path, text in (
        (named, ""),
        (importing, "from infinity.storage.leases.owner import this_process\n"),
        (absent, "from infinity.storage.leases.owners import more\n"),
    ):
        path.write_text(text)
    room = ROOT / "tests" / "infinity" / "storage"
    beside, above = room / "leases" / "test_lease.py", room / "test_laws.py"
    assert stages(mutant, [absent, above, beside, importing, named]) == [
        [named], [beside], [above], [importing], [absent],
    ]  # fmt: skip


def test_a_mutant_that_survives_is_brought_to_tests_further_away() -> None:
    mutant = next(m for m in mutants_of(ROOT / "infinity" / "bits.py", ROOT) if m.function == "fold")
    asked: list[Sequence[Path]] = []

    def reach_of(files: Sequence[Path]) -> dict[str, Reach]:
        asked.append(files)
        return {}

    assert run(mutant, [[Path("near.py")], [Path("far.py")]], reach_of, 1.0) == ("survived", "no test reaches it")
    assert asked == [[Path("near.py")], [Path("far.py")]]


def test_an_import_gets_the_changed_module() -> None:
    path = ROOT / "infinity" / "bits.py"
    mutant = next(m for m in mutants_of(path, ROOT) if (m.function, m.change) == ("fold", "2 -> 3"))
    finder = MutantFinder(mutant)
    assert finder.find_spec("infinity.scales", infinity.__path__) is None
    spec = finder.find_spec("infinity.bits", infinity.__path__)
    assert spec is not None
    assert spec.loader is not None
    code = spec.loader.get_code("infinity.bits")  # type: ignore[attr-defined]
    assert code != importlib.util.find_spec("infinity.bits").loader.get_code("infinity.bits")  # type: ignore


def test_every_mutant_that_is_called_equivalent_has_a_reason() -> None:
    known = equivalents()
    assert all(len(reason) > 15 for reason in known.values())
    assert EQUIVALENT.read_text(encoding="utf-8").count("[[mutant]]") == len(known), "a key twice"
    there = {mutant.key for path in core() for mutant in mutants_of(path, ROOT)}
    assert sorted(set(known) - there) == [], "lines that have changed since"


def test_tables_add_up() -> None:
    results = [{"room": room, "outcome": outcome} for room in "ab" for outcome in ("killed", "survived", "killed")]
    assert table(results, "room")[2:] == [
        "| a | 3 | 2 | 0 | 0 | 1 | 0 |",
        "| b | 3 | 2 | 0 | 0 | 1 | 0 |",
        "| all | 6 | 4 | 0 | 0 | 2 | 0 |",
    ]

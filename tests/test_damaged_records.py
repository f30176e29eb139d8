"""Records of ours that are read back: a damaged one is one sentence with its place and what to do, never a trace."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.records.plan import load_plan, new_plan
from infinity.checkpoint import load_checkpoint, save_checkpoint
from infinity.cli.upkeep import local_prefect
from infinity.config import Config, digest_of
from infinity.data.dataset.shards import _from_index
from infinity.data.dataset.versions import versions
from infinity.evaluation.promotion.champions import Champions
from infinity.evaluation.prompts.parts import RewritePart
from infinity.generation.files.model_folder import model_folder
from infinity.jobs.dataset.build import BuildDatasetSpec
from infinity.jobs.evaluation import results
from infinity.jobs.evaluation.card import _trainings
from infinity.jobs.registry import KINDS, job_of, load_spec
from infinity.jobs.spec import load_report
from infinity.jobs.upkeep.fleet import fleet
from infinity.jobs.upkeep.inventory import take_inventory
from infinity.jobs.upkeep.plans import finished_models
from infinity.reporting.plots.beside_recipe import beside_recipe
from infinity.reporting.tracking.tracked import send
from infinity.studies.values import seconds_of
from infra.processes import Register
from infra.server import keys

SPEC = BuildDatasetSpec(source="pictures", output="runs")

DAMAGE = {
    "empty": b"", "blank": b" \n", "cut off": b'{"family": "demo", "number": 1', "cut off within a text": b'["runs/dem',
    "zeros of a lost disk block": bytes(512), "any bytes": bytes(range(256)), "UTF-16": "[1]".encode("utf-16"),
    "a number": b"7.5", "nothing": b"null", "a text": b'"runs/demo"', "a list of numbers": b"[1, 2]",
    "a list of nothing": b"[null]", "no field": b"{}", "a field of another type": b'{"number": [], "evaluation": 3}',
    "a field that nobody knows": b'{"colour": "red"}', "very deep": b"[" * 5000 + b"]" * 5000,
    "NaN": b'{"number": NaN}', "a huge number": b'{"number": ' + b"9" * 5000 + b"}", "a key twice": b'{"a": 1, "a": 2}',
    "half a character": b'{"family": "\\ud800"}',
}  # fmt: skip


def checkpoint(folder: Path) -> str:
    save_checkpoint(str(folder), kind="toy", config=Config(), tensors={"a": torch.zeros(1)})
    return str(folder)


def read_report(kind: str) -> Callable[[Path], Any]:
    return lambda root: load_report(SPEC.replace(output=str(root)), job_of(kind).report_type)


def read_training(root: Path) -> Any:
    (root / "t").mkdir(exist_ok=True)
    (root / "t" / "spec.json").write_text(json.dumps({"kind": "transformer", "spec": {}}))
    return list(_trainings(str(root / "t" / "model")))


def read_rewritings(root: Path) -> Any:
    return RewritePart(None, ("a",), str(root)).compute(None)  # type: ignore[arg-type]  # nothing is computed


def _name_of(prompt: str) -> str:
    digest = digest_of(prompt)
    return f"{digest[:2]}/{digest}.json"


JOB = SPEC.folder.partition("/")[2]
RECORDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "models of a run": ("models.json", lambda root: finished_models(str(root))),
    "plan of a run": ("run.json", lambda root: load_plan(str(root))),
    "plan of a run that has a model": ("run.json", lambda root: model_folder(str(root))),
    "spec": ("spec.json", lambda root: load_spec(str(root / "spec.json"))),
    "spec beside curves": ("spec.json", lambda root: beside_recipe(str(root / "metrics.jsonl"), {})),
    **{f"report of {kind}": (f"{JOB}/report.json", read_report(kind)) for kind in KINDS},
    "report of an evaluation": ("e/report.json", lambda root: results.load(str(root / "e"))),
    "report on a model's card": ("t/report.json", read_training),
    "champion": ("demo/000001.json", lambda root: Champions(str(root)).champion("demo")),
    "model beside the champion": ("demo/kept/a.json", lambda root: Champions(str(root)).kept("demo")),
    "version of a data set": ("versions/toy/000001.json", lambda root: versions(str(root), "toy")),
    "index of a shard": ("index/a.json", lambda root: _from_index(str(root / "index/a.json"), str(root))),
    "rewriting of a prompt": (_name_of("a"), read_rewritings),
    "scores for a tracker": ("job/scores.json", lambda root: sent(root)),
    "what a tracker got": ("sent/sent-tensorboard/demo-job.json", lambda root: sent(root)),
    "seconds of a study": (f"{JOB}/study-seconds.txt", lambda root: seconds_of(SPEC.replace(output=str(root)))),
    "services": ("stack/services.json", lambda root: Register(root / "stack" / "services.json").services()),
    "services that gc asks": ("stack/services.json", lambda root: local_prefect(None, root)),
    "checksums of a checkpoint": ("model/checksums.json", lambda root: load_checkpoint(str(root / "model"))),
    "configuration of a checkpoint": ("model/config.json", lambda root: load_checkpoint(str(root / "model"))),
    "mark of a checkpoint": ("model/COMMITTED", lambda root: load_checkpoint(str(root / "model"))),
}
"""File below a folder, and what reads it there."""


def sent(root: Path) -> Any:
    return send(str(root / "job"), "tensorboard", folder=root / "sent", project="demo")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    checkpoint(tmp_path / "model")
    (tmp_path / "e").mkdir()
    spec = new_plan("mini", None, str(tmp_path)).evaluation
    (tmp_path / "e" / "spec.json").write_text(json.dumps(spec.to_file()))
    return tmp_path


@pytest.mark.parametrize("record", RECORDS)
def test_a_damaged_record_is_one_sentence_with_its_place(root: Path, record: str) -> None:
    name, read = RECORDS[record]
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    fits = {
        "seconds of a study": {"a number"},
        "what a tracker got": {"no field"},
        "services": {"no field"},
        "report on a model's card": {"no field", "a field of another type", "a field that nobody knows"},  # no training
    }
    for damage, data in DAMAGE.items():
        path.write_bytes(data)
        if damage in fits.get(record, ()):
            continue
        with pytest.raises((ValueError, OSError)) as caught:
            read(root)
        told = str(caught.value)
        assert str(path) in told or str(path.parent) in told or str(root) in told, (damage, told)
        assert "\n" not in told, (damage, told)
        assert len(told) < 1200, (damage, told)
        assert any(word in told for word in ("expected", "not valid JSON", "missing", "unknown", "damaged")), told


def test_nothing_that_one_run_has_hides_the_other_runs(root: Path) -> None:
    """A person looks at all runs to find the damaged one."""
    for run in ("one", "two"):
        (root / run).mkdir()
        (root / run / "run.json").write_text("{}")
    for data in DAMAGE.values():
        (root / "one" / "run.json").write_bytes(data)
        assert [status.name for status in sorted(fleet(take_inventory(str(root))), key=lambda each: each.name)] == [
            "one", "two",
        ]  # fmt: skip


def test_a_damaged_secret_is_not_taken_for_a_secret(root: Path) -> None:
    path = keys.key_file(root, keys.PREFECT_AUTH)
    for data in (b"", b" \n", b"\xff\xfe\xfd", bytes([0x80] * 64)):
        path.write_bytes(data)
        with pytest.raises(keys.KeyFileError, match=r"prefect-auth.*delete") as caught:
            keys.key(root, keys.PREFECT_AUTH)
        assert "\n" not in str(caught.value)

"""Doors of services: requests for pictures, forms of flows, records of runs and studies, score files, settings."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from prefect.exceptions import ParameterBindError, ParameterTypeError, SignatureMismatchError

from flows.end_to_end import _command, _Forms, end_to_end
from flows.records.forecast import Prices, StageForecast, forecast, shown
from flows.records.plan import Change, changed, folder_of, load_plan, new_plan
from infinity import storage
from infinity.evaluation.prompts.benchmark import PictureFolder
from infinity.evaluation.t2i_compbench.benchmark import T2iCompbenchBenchmark
from infinity.evaluation.t2i_compbench.score_files import SCORERS
from infinity.jobs.spec import begin
from infinity.jobs.upkeep.cards import card
from infinity.jobs.upkeep.fleet import fleet
from infinity.jobs.upkeep.inventory import take_inventory
from infinity.recipes.runs import end_to_end as planned
from infinity.reporting.fleet import render_fleet
from infinity.serving import app as served_app
from infinity.serving.app import PictureServer
from infinity.serving.batcher import BusyError
from infinity.serving.drawing import DrawingRoom
from infinity.serving.refusal import RefusedError, answer, error_body
from infinity.serving.settings import ServingConfig, ServingLimits
from infinity.storage.leases.lease import LeaseRecord
from infinity.storage.leases.owner import this_process
from infinity.storage.names import LEASE_FILE
from infinity.studies.estimates import WrittenEstimate, estimated_seconds
from infinity.studies.finished import finished_model
from infra.settings import PREFIX, Settings
from infra.settings import settings as read_settings
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.fuzz.doors import Traceback, command
from tests.fuzz.mutations import NUMBERS, TEXTS, odd_bytes, odd_json, odd_text, odd_value
from tests.fuzz.world import World

_REQUEST: dict[str, Any] = {
    "prompt": "a cube", "n": 1, "seed": 3, "size": "16x16", "guidance": 2.0, "temperature": 1.0, "top_p": 0.9,
    "negative_prompt": "a ball", "loras": {}, "stream": False, "partial_images": 1, "response_format": "b64_json",
    "output_format": "png", "model": "m", "user": "u", "quality": "auto", "background": "opaque",
}  # fmt: skip


def _written(text: str) -> bytes:
    return text.encode("utf-8", "replace")


@cache
def _room(model: Path) -> DrawingRoom:
    return DrawingRoom(ServingConfig(model=str(model), device="cpu"))


def _passed_on(told: Callable[[Exception], Any]) -> Callable[[Exception], Any]:
    """Tell a client of errors as the server does, but pass on what it would hide behind "the server failed"."""

    def tell(error: Exception) -> Any:
        if not isinstance(error, RefusedError | BusyError):
            raise Traceback(f"answered by 500: {type(error).__name__}: {str(error)[:300]}") from error
        return told(error)

    return tell


def requests(world: World, rng: random.Random) -> None:
    """Requests to the server of pictures: bodies of JSON and of forms, headers, paths."""
    fields = dict(_REQUEST) if rng.random() < 0.5 else {"prompt": "a cube", "seed": 1}
    for name in rng.sample(list(_REQUEST), rng.randrange(3)):
        fields[name] = rng.choice([odd_value(rng), odd_text(rng), rng.choice(TEXTS), "1024x1024", "1x9", True, None])
    headers = {"content-type": "application/json"}
    if is_edit := rng.random() < 0.4:
        body, headers["content-type"] = _form(rng, fields)
    else:
        text = odd_json(rng, fields) if rng.random() < 0.6 else json.dumps(fields)
        body = text.encode(rng.choice(["utf-8"] * 6 + ["utf-16", "latin-1"]), "replace")
    body = odd_bytes(rng, body) if rng.random() < 0.2 else body
    if rng.random() < 0.1:
        name = rng.choice(["content-type", "content-encoding", "origin", "host", "authorization", "expect"])
        odd = rng.choice([rng.choice(TEXTS), "multipart/form-data", 'multipart/form-data; boundary="', "gzip"])
        headers[name] = odd.encode("latin-1", "replace").decode("latin-1").replace("\n", "").replace("\0", "")
    config = ServingConfig(model=str(world.model), device="cpu", limits=ServingLimits(max_body_bytes=2**20))
    path = f"/v1/images/{'edits' if is_edit or rng.random() < 0.1 else 'generations'}"
    hidden = {"answer": _passed_on(answer), "error_body": _passed_on(error_body)}
    with patch.multiple(served_app, **hidden):
        status = asyncio.run(_status(PictureServer(config, _room(world.model)), path, body, headers))
    assert status in (200, 400, 401, 403, 404, 405, 408, 413, 415, 429), status


async def _status(server: PictureServer, path: str, body: bytes, headers: dict[str, str]) -> int:
    transport = httpx.ASGITransport(server.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        try:
            sent = {name: value.encode("latin-1", "replace") for name, value in headers.items()}
            answered = await client.post(path, content=body, headers=sent)
        finally:
            await server.batcher.close()
    if answered.headers.get("content-type") == "application/json":
        json.loads(answered.content)
    return answered.status_code


def _form(rng: random.Random, fields: dict[str, Any]) -> tuple[bytes, str]:
    """A form with a picture and a mask, of which one part or another is odd, and its content type."""
    mark = rng.choice(["x", "a b", "--", "é", "x" * 70])
    picture = encoded(noise(rng.choice([1, 16, 33]), 16, seed=rng.randrange(9)))
    parts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    contents = {name: _written(text) for name, text in parts.items()}
    contents["image"] = odd_bytes(rng, picture) if rng.random() < 0.3 else picture
    if rng.random() < 0.5:
        contents[rng.choice(["mask", "mask[]", "image[]", "loras[x]", "loras[]", "image[x]"])] = picture
    if rng.random() < 0.3:
        contents["keep_scales"] = _written(str(rng.choice([1, 2, 0, 99, "x", odd_value(rng)])))
    pieces = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (_written(mark), _written(name), b'; filename="a.png"' if name == "image" else b"", content)
        for name, content in contents.items()
    ]
    return b"".join(pieces) + b"--%s--\r\n" % _written(mark), f'multipart/form-data; boundary="{mark}"'


_JUDGE = {"suite": "dsg", "questions_uri": "/none", "vqa_model": "/none"}
_FORMS: dict[str, Any] = {
    "run": "fuzzed", "data": "", "recipe": "mini",
    "dataset": {"num_scenes": 12, "min_caption_chars": 3, "settings": {"filters.captions.min_letters": 0.5}},
    "tokenizer": {"num_steps": 4, "batch_size": 4, "num_parts": 2, "learning_rate": 1e-3, "num_bits": 8},
    "pretrain": {"num_steps": 4, "depth": 1, "width": 32, "self_correction": 0.1, "stored": False, "num_workers": 2},
    "finetune": {"num_steps": 4, "adapter_rank": 2, "adapter_base": "int8", "settings": {"share.trigger": "sks"}},
    "evaluation": {"sample_pictures": 2, "guidance": 2.0, "nucleus": 0.9, "geneval": {}, "judge": _JUDGE},
}  # fmt: skip


def parameters(world: World, rng: random.Random) -> None:
    """Parameters of the flow of a whole run, as JSON of its forms: validated, planned, forecast and written again."""
    plain = {name: value for name, value in _FORMS.items() if rng.random() < 0.7}
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # Prefect's own words about each refusal
    try:
        given = json.loads(odd_json(rng, plain)) if rng.random() < 0.8 else plain
        if not isinstance(given, dict):
            return
        values = end_to_end.validate_parameters(given)
    except (ParameterTypeError, ParameterBindError, SignatureMismatchError, RecursionError) as error:
        raise ValueError(str(error)) from error
    finally:
        logging.disable(before)
    run, recipe, data = (values.get(name, _FORMS[name]) for name in ("run", "recipe", "data"))
    if data and storage.absolute(data) == "/":
        return  # all files of this machine
    forms = _Forms(*(values.get(name, kind()) for name, kind in _Forms.__annotations__.items()))
    changes: dict[str, Change] = {name: form.change for name, form in forms._asdict().items()}
    with patch.dict(os.environ, INFINITY_RUNS=str(world.scratch)):
        folder = folder_of(run if "/" not in run else str(world.scratch / "run"))
        plan = changed(new_plan(recipe, data or None, folder), changes)
    assert _command(run, data, recipe, forms)
    assert shown(forecast(plan, timed=False, names=("dataset", "evaluation")), Prices(cpu_hour=1.0))


_LEASE = LeaseRecord(
    token=3, nonce="n", silence_s=60.0, since="2026-01-01T00:00:00", beat=1, note="works", owner=this_process()
).to_json()  # fmt: skip


def records(world: World, rng: random.Random) -> None:
    """Records of runs: plans, reports, metrics, leases and lists of models, as pages and rules of removal read them."""
    root = world.scratch / "runs"
    folder = root / rng.choice(["demo", "a b", "é"])
    plan = planned("mini", source=None, output=str(folder))
    rows = [{"step": step, "loss": 1.0 / step, "seconds_per_step": 0.5, "gain_db": 0.1} for step in (10, 20)]
    begin(plan.tokenizer)
    report = {"seconds": 12.0, "notes": ["n"], "model": str(folder / "model")}
    dataset, tokenizer, evaluation = (Path(spec.folder) for spec in (plan.dataset, plan.tokenizer, plan.evaluation))
    about = {
        folder / "run.json": plan.to_json(), folder / "models.json": [str(folder / "model")],
        dataset / "report.json": report, evaluation / "report.json": report, tokenizer / LEASE_FILE: _LEASE,
    }  # fmt: skip
    for path, value in about.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        data = _written(odd_json(rng, value) if rng.random() < 0.4 else json.dumps(value))
        path.write_bytes(odd_bytes(rng, data) if rng.random() < 0.1 else data)
    lines = [odd_json(rng, row) if rng.random() < 0.4 else json.dumps(row) for row in rows]
    (tokenizer / "metrics.jsonl").write_bytes(_written("\n".join(lines)))
    with patch.dict(os.environ, INFINITY_STATE=str(world.scratch / "none")):
        match rng.randrange(5):
            case 0:
                command("gc", root, "--without-prefect", "--older-than-hours=0", f"--keep-models={rng.choice([1, 3])}")
            case 1:
                command("fleet", root, "-o", world.scratch / "fleet.html", f"--cpu-hour={rng.choice(NUMBERS)}")
            case 2:
                command("metrics", root, f"--gpu-hour={rng.choice([0, 1, 'inf', 'nan', 1e308])}")
            case 3:
                command("compare-runs", folder, folder, "-o", world.scratch / "compared.html")
            case _:
                cards = [card(run, cpu_hour=rng.choice([0.0, 1.0, 1e308])) for run in fleet(take_inventory(str(root)))]
                assert render_fleet(cards, root=str(root), when="now")
                json.dumps([asdict(each) for each in cards], allow_nan=False)


def studies(world: World, rng: random.Random) -> None:
    """Pages of studies, estimates that were written down, seeds, sizes and finished models."""
    folder = world.scratch / "study"
    folder.mkdir()
    plain = WrittenEstimate(seconds=3.0, pace=1.0, num_left=2).to_json()
    (folder / "estimate.json").write_bytes(_written(odd_json(rng, plain)))
    page = folder / "page.py"
    lines = ["STUDY = 1", "raise SystemExit", "import nothing_there", "1/0", odd_text(rng), "x = (", "STUDY = None"]
    page.write_bytes(_written(rng.choice(lines)))
    spec = rng.choice([each for each in world.specs if "workers" in each["spec"]])
    (folder / "spec.json").write_bytes(_written(odd_json(rng, spec)))
    match rng.randrange(4):
        case 0:
            estimated_seconds(str(folder), 2)
        case 1:
            finished_model(str(folder))
        case _:
            name = rng.choice([page, "guidance", *TEXTS])
            size, seeds = rng.choice(["mini", "small", "x", ""]), rng.choice(["0", "0-2,7", "2-1", "-1", *TEXTS])
            more = ["--models", folder] if rng.random() < 0.3 else []
            command(
                "study", name, f"--size={size}", f"--seeds={seeds}", "-o", world.scratch / "out", "--estimate",
                f"--tflops={rng.choice([1, 0, 'nan', 1e300])}", *more,
            )  # fmt: skip


def scores(world: World, rng: random.Random) -> None:
    """Score files of T2I-CompBench's scripts beside pictures with odd names."""
    folder = world.scratch / "pictures"
    base = folder / rng.choice(["", "color", "a b"])
    names = ["a cup_000000.png", "a cup_000001.png", "a_b_7.png", "_1.png", "x.png", "a_٣.png", "a_1.jpg", "a_1.txt"]
    picture = encoded(noise(4, 4, seed=1))
    (base / "samples").mkdir(parents=True)
    for name in rng.sample(names, rng.randrange(1, 4)) if rng.random() < 0.6 else names[:2]:
        (base / "samples" / name).write_bytes(picture)
    answers = [{"question_id": n, "answer": rng.choice(["0.5", 0.5, "1e400", "nan", True, odd_value(rng)])}
               for n in range(2)]  # fmt: skip
    file = base / rng.choice(list(SCORERS)) / "vqa_result.json"
    file.parent.mkdir(parents=True)
    data = _written(odd_json(rng, answers) if rng.random() < 0.6 else json.dumps(answers, default=str))
    file.write_bytes(odd_bytes(rng, data) if rng.random() < 0.2 else data)
    benchmark = T2iCompbenchBenchmark(pictures=PictureFolder(uri=str(folder), name="m"))
    items = benchmark.items()
    assert benchmark.pictures is not None
    assert sum(len(sample.places) for sample in benchmark.find(benchmark.pictures, items)) > 0


def settings(world: World, rng: random.Random) -> None:
    """Variables of the deployment: roots, addresses, ports, prices, patience; what is read can be used."""
    odd = [*TEXTS, *map(str, NUMBERS), "1e400", "http://[", "http://a/api", "https://b/api/", "sqlite", "é", "inf"]
    names = [
        name for field, about in Settings.model_fields.items() for name in _variables(field, about.validation_alias)
    ]
    usable = [text for text in odd if "\0" not in text and "\ud800" not in text]
    with patch.dict(os.environ, {name: rng.choice(usable) for name in rng.sample(names, rng.randrange(1, 4))}):
        found = read_settings.__wrapped__()
    prices = Prices(cpu_hour=found.price_cpu_hour, gpu_hour=found.price_gpu_hour)
    stages = [StageForecast(name="t", folder="f", state="runs", seconds=rng.choice([0.0, 3600.0]), cpus=2, gpus=1)]
    assert not any("nan" in cell for row in shown(stages, prices) for cell in row.values())
    assert found.pool


def _variables(field: str, alias: Any) -> list[str]:
    """Return the variables that a setting is read from."""
    if alias is None:
        return [f"{PREFIX}{field.upper()}"]
    return [name for name in getattr(alias, "choices", [alias]) if name.isupper()]


def plans(world: World, rng: random.Random) -> None:
    """The plan of a run that a disk has damaged, as flows read it before they change it."""
    folder = world.scratch / "demo"
    folder.mkdir()
    plan = planned("mini", source=None, output=str(folder))
    data = _written(odd_json(rng, plan.to_json()))
    (folder / "run.json").write_bytes(odd_bytes(rng, data) if rng.random() < 0.2 else data)
    found = load_plan(str(folder))
    changed(found, {})


SERVICES = {
    "requests": requests,
    "parameters": parameters,
    "records": records,
    "studies": studies,
    "scores": scores,
    "settings": settings,
    "plans": plans,
}

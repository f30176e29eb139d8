"""What is done with odd input at each door; whatever is raised here besides the foreseen errors is a finding."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from infinity import storage
from infinity.cli import app
from infinity.config import parse_json
from infinity.data.curation.decontamination import read_prompts
from infinity.data.dataset.manifest import Manifest
from infinity.evaluation.prompts.lists import PromptList
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.registry import load_spec
from infinity.jobs.spec import is_done
from infinity.jobs.training import tokenizer as train_tokenizer
from infinity.jobs.training import transformer as train_transformer
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.storage.pinned import PinnedFile
from tests.fuzz.mutations import NUMBERS, TEXTS, odd_bytes, odd_json, odd_text, odd_value
from tests.fuzz.world import World

FORESEEN = (ValueError, OSError)
"""Errors that are raised on purpose; their text is for the user."""

Door = Callable[[World, random.Random], None]


class Traceback(Exception):
    """A command ended in something else than a result or a sentence."""


def command(*arguments: object) -> None:
    """Run a command in this process.

    Raises:
        Traceback: It ended in an error that is not for the user.
    """
    logging.getLogger().handlers.clear()  # a command's handler writes to the stream of its own run
    with in_process():
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        raise Traceback(f"{' '.join(map(str, arguments))[:300]}: {type(error).__name__}: {str(error)[:300]}") from error
    if result.exit_code not in (0, 1, 2) or "Traceback" in result.output:
        raise Traceback(f"{' '.join(map(str, arguments))[:300]}: exit code {result.exit_code}: {result.output[-300:]}")
    if result.exit_code == 1 and not result.output.strip():
        raise Traceback(f"{' '.join(map(str, arguments))[:300]}: failed without a word")


def options(world: World, rng: random.Random) -> None:
    """Commands with options that a user can get wrong."""

    def odd(good: object) -> object:
        if rng.random() < 0.5:
            return good
        more = ["1,2", "1..2", "..", ",", "1e400", "0x10", "cuda:7", "meta"]
        value = rng.choice([rng.choice(TEXTS), rng.choice(NUMBERS), rng.choice(more)])
        return f"1{'0' * 400}" if value == 10**400 else value

    out, tokenizer = world.scratch / "out", world.folder / "tokenizer"
    place = rng.choice([world.model, tokenizer, world.folder, world.folder / "none", world.published / "vae.pth"])
    picture = world.pictures / "images/000.png"
    commands: list[list[object]] = [
        ["generate", "-c", world.model, "-p", odd("a cube"), "-o", out, "--count", odd(1), "--seed", odd(0),
         f"--aspect-ratio={odd(1.0)}", f"--guidance={odd(3)}", f"--temperature={odd(1)}", f"--top-p={odd(0.9)}",
         f"--guidance-layers={odd('')}", f"--batch-size={odd(2)}", f"--device={odd('cpu')}"],
        ["generate", "-c", place, "-p", "x", "-o", out],
        ["reconstruct", picture, "-c", place, f"--sides={odd('1,2,4')}", "-o", out, f"--device={odd('cpu')}"],
        ["info", odd(place)],
        ["published", "import-tokenizer", odd(world.published / "vae.pth"), out],
        ["published", "import-transformer", odd(world.published / "model.pth"), odd(tokenizer), out,
         f"--size={odd(256)}", f"--text-model={odd('google/flan-t5-xl')}"],
        ["published", "export", odd(place), odd(world.scratch / "x.pth")],
        ["transformer-specs", odd(world.manifest), "--tokenizer", odd(tokenizer), "--specs", world.scratch / "specs",
         f"--num-workers={odd(4)}", f"--part-size={odd(4)}", f"--model={odd('125M')}",
         f"--text-model={odd('google/flan-t5-xl')}"],
        ["transformer-specs", world.manifest, "--start-from", odd(place), "--specs", world.scratch / "specs",
         f"--num-steps={odd(4)}", f"--batch-size={odd(4)}", f"--rank={odd(4)}", "--num-workers", odd(1)],
        ["tokenizer-spec", odd("scenes"), world.manifest, world.scratch / "t.json", f"--num-bits={odd(16)}",
         f"--num-workers={odd(1)}"],
        ["evaluate", odd(world.folder / "none"), "-b", odd("scenes"), "--set", odd("seed=1"), "-o", out],
        ["leaderboard", "--metric", odd("geneval")],
        ["compare", odd(place), odd(place), "-o", out],
        ["card", odd(place), "-o", out],
        ["redraw", odd(place), f"--step={odd(1)}", "-o", out, f"--device={odd('cpu')}"],
        ["data", "show", odd(world.manifest)],
        ["data", "verify", odd(world.manifest)],
        ["data", "diff", odd(world.manifest), odd(world.manifest)],
        ["report", odd(world.folder / "summary")],
        ["run", odd(world.folder / "none.json")],
    ]  # fmt: skip
    command(*rng.choice(commands))


def specs(world: World, rng: random.Random) -> None:
    """Spec files: read, named, looked for, and checked as before a training."""
    file = world.scratch / "spec.json"
    file.write_bytes(odd_json(rng, rng.choice(world.specs)).encode("utf-8", "replace"))
    spec = load_spec(str(file))
    is_done(spec)
    if isinstance(spec, TrainTransformerSpec):
        train_transformer.check(spec)
    elif isinstance(spec, TrainTokenizerSpec):
        train_tokenizer.check(spec)


def checkpoints(world: World, rng: random.Random) -> None:
    """Model folders with odd descriptions whose checksums are right."""
    folder = world.scratch / "model"
    shutil.copytree(world.model, folder)
    where = folder if rng.random() < 0.7 else folder / "tokenizer"
    about = json.loads((where / "config.json").read_bytes())
    if rng.random() < 0.3:
        dtype, shape = "float32", [1, 1, 16]
        about |= {
            "format": 2,
            "pieces": {"start": {"dtype": dtype, "shape": shape, "places": [["model.safetensors", 0, 1]]}},
        }
    files = {"config.json": odd_json(rng, about).encode("utf-8", "replace")}
    files["model.safetensors"] = (where / "model.safetensors").read_bytes()
    if rng.random() < 0.2:
        files["model.safetensors"] = odd_bytes(rng, files["model.safetensors"])
    sealed(where, files, rng if rng.random() < 0.3 else None)
    match rng.randrange(4):
        case 0:
            command("info", where)
        case 1:
            command("generate", "-c", folder, "-p", "x", "-o", world.scratch / "out")
        case 2:
            command("published", "export", where, world.scratch / "x.pth")
        case _:
            command("reconstruct", world.pictures / "images/000.png", "-c", folder, "-o", world.scratch / "out")


def sealed(folder: Path, files: dict[str, bytes], rng: random.Random | None = None) -> None:
    """Write the files of a checkpoint with right checksums, and a list of them that is odd if ``rng`` is given."""
    listed = {"files": {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in files.items()}}
    checksums = (json.dumps(listed) if rng is None else odd_json(rng, listed)).encode("utf-8", "replace")
    files |= {"checksums.json": checksums, "COMMITTED": (hashlib.sha256(checksums).hexdigest()[:16] + "\n").encode()}
    for name, data in files.items():
        (folder / name).write_bytes(data)


def manifests(world: World, rng: random.Random) -> None:
    """Manifests of data sets with columns, cells or heads that are missing or odd."""
    table = pq.read_table(world.manifest)
    match rng.randrange(5):
        case 0:
            table = table.drop_columns([rng.choice(table.column_names)])
        case 1:
            name = rng.choice(table.column_names)
            cells = rng.choice(
                [[None] * len(table), [rng.choice(TEXTS)] * len(table), [rng.choice([0, -1, 2**40])] * len(table)]
            )
            table = table.set_column(table.column_names.index(name), name, pa.array(cells))
        case 2:
            metadata = dict(table.schema.metadata or {})
            key = rng.choice(list(metadata))
            try:
                metadata[key] = odd_json(rng, json.loads(metadata[key])).encode("utf-8", "replace")
            except ValueError:
                metadata[key] = rng.choice(TEXTS).encode()
            table = table.replace_schema_metadata(metadata)
        case 3:
            table = table.slice(0, rng.randrange(len(table)))
    file = world.scratch / "set" / "manifest.parquet"
    file.parent.mkdir()
    pq.write_table(table, file)
    if rng.random() < 0.2:
        file.write_bytes(odd_bytes(rng, file.read_bytes()))
    for shard in world.manifest.parent.iterdir():
        if shard.name != file.name:
            (file.parent / shard.name).symlink_to(shard)
    match rng.randrange(6):
        case 0:
            command("data", "show", file)
        case 1:
            command("data", "verify", file)
        case 2:
            command("data", "diff", file, world.manifest)
        case 3:
            command("data", "gallery", file, "-o", world.scratch / "gallery.html")
        case 4:
            command("data", "quarantine", file)
        case _:
            spec = rng.choice([spec for spec in world.specs if "manifest" in spec["spec"]])
            changed = json.loads(json.dumps(spec))
            changed["spec"]["manifest"] = str(file)
            place = world.scratch / "spec.json"
            place.write_text(json.dumps(changed))
            found = load_spec(str(place))
            if isinstance(found, TrainTransformerSpec):
                train_transformer.check(found)
            elif isinstance(found, TrainTokenizerSpec):
                train_tokenizer.check(found)
            else:
                Manifest.load(str(file)).captions(range(len(Manifest.load(str(file)))))


def prompts(world: World, rng: random.Random) -> None:
    """Prompts, seeds and settings of a loaded model."""
    texts: Any = [odd_text(rng) for _ in range(rng.randrange(3))]
    texts = rng.choice([texts, texts, odd_text(rng), [odd_value(rng)], [] if rng.random() < 0.3 else ["x"]])
    seeds = rng.choice([None, None, 0, 7, [1] * len(texts), [odd_value(rng)], 2**70, "1"])
    ratio = rng.choice([1.0, 1.0, 0.5, *(number for number in NUMBERS if isinstance(number, float))])
    sampling = SamplingConfig.from_json(
        {
            name: odd_value(rng) if rng.random() < 0.15 else good
            for name, good in {
                "guidance": 2.0,
                "temperature": 1.0,
                "nucleus": 0.97,
                "negative_prompt": odd_text(rng),
            }.items()
        }
    )
    found = world.pipeline.generate(
        texts, seeds=seeds, aspect_ratio=ratio, sampling=sampling, batch_size=rng.choice([1, 2, 16, 0])
    )
    assert len(found.images_BHW3) == (1 if isinstance(texts, str) else len(texts))


def prompt_files(world: World, rng: random.Random) -> None:
    """Lists of prompts for evaluations, and of captions that must not be trained on."""
    good: Any = [{"prompt": "a cube", "id": "1"}, {"prompt": "a ball", "id": 2, "category": "x"}, "a star"]
    name = rng.choice(["p.json", "p.jsonl", "p.txt", "p.csv", "p.tsv"])
    if name == "p.json":
        data = odd_json(rng, good).encode("utf-8", "replace")
    elif name == "p.jsonl":
        data = "\n".join(odd_json(rng, line) for line in good).encode("utf-8", "replace")
    else:
        data = "\n".join(["prompt,id", *(odd_text(rng) for _ in range(3))]).encode("utf-8", "replace")
    file = world.scratch / name
    file.write_bytes(odd_bytes(rng, data) if rng.random() < 0.3 else data)
    if rng.random() < 0.5:
        PromptList(file=PinnedFile(uri=str(file))).read()
    else:
        read_prompts(str(file))


def summaries(world: World, rng: random.Random) -> None:
    """Records of a run: the summary that a report is drawn from, and reports of stages."""
    folder = world.scratch / "run"
    folder.mkdir()
    (folder / "summary.json").write_bytes(odd_json(rng, world.summary).encode("utf-8", "replace"))
    if rng.random() < 0.2:
        metrics = Path(world.summary["trainings"][0]["metrics"])
        (folder / "metrics.jsonl").write_bytes(odd_bytes(rng, metrics.read_bytes()))
        changed = json.loads(json.dumps(world.summary))
        changed["trainings"][0]["metrics"] = str(folder / "metrics.jsonl")
        (folder / "summary.json").write_text(json.dumps(changed))
    command("report", folder)


def texts(world: World, rng: random.Random) -> None:
    """JSON itself: what is parsed can be written again."""
    try:
        found = parse_json(odd_json(rng, world.summary), where="text")
    except ValueError:
        return
    storage.write_text(str(world.scratch / "again.json"), json.dumps(found, allow_nan=False, ensure_ascii=False))


DOORS: dict[str, Door] = {
    "options": options,
    "specs": specs,
    "checkpoints": checkpoints,
    "manifests": manifests,
    "prompts": prompts,
    "prompt-files": prompt_files,
    "summary": summaries,
    "json": texts,
}

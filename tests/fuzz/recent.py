"""Doors of what people share: prompt tables, adapters, colours, drawings, takedown lists, files of submitted jobs."""

from __future__ import annotations

import json
import random
import struct
import zlib
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from PIL import Image

from infinity.data.curation.takedown import load_takedown, split_taken_down
from infinity.data.images.decoding import MAX_PIXELS, UnreadableError, decode
from infinity.data.sources.tables.table_rows import cut, quoted_rows
from infinity.evaluation.pictures.table import has_pictures, read_table
from infinity.evaluation.prompts.lists import PromptList, read_lists
from infinity.generation.files.picture_files import DrawingSettings, to_png
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.registry import load_spec
from infinity.jobs.spec import is_done
from infinity.jobs.submission import entry
from infinity.jobs.submission.files import END_FILE, PROGRESS_FILE, WATCH_FILE, JobFiles
from infinity.jobs.training import transformer as train_transformer
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.storage.pinned import PinnedFile
from infinity.transformer.adapters.lora import AdapterStack
from infinity.transformer.adapters.lora_files import load_adapter, parse_adapter
from tests.fixtures.data.pictures_on_disk import noise
from tests.fuzz.doors import command
from tests.fuzz.mutations import NUMBERS, TEXTS, odd_bytes, odd_json, odd_text, odd_value
from tests.fuzz.world import World

_MARKS = (",", "\t", ";", "|", ":", "\x1f", "\u2028", "\u00a0", ",,", '"', "'", "\\", " ", "\r", "\0")


def _written(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _table_text(rng: random.Random) -> str:
    """A table of prompts whose separators, quotes and line ends are anything."""
    mark, end = rng.choice(_MARKS), rng.choice(["\n", "\r\n", "\r", "\n\n", "\u2028"])
    names = ["prompt", "id", "category", "file", "Prompt ", "FILE-NAME", odd_text(rng)]
    cells = [rng.choice([odd_text(rng), "a cube", '"a, b"', 'a 12" disk', '"', '""', "a.png"]) for _ in range(12)]
    head = [rng.choice(names) for _ in range(rng.randrange(1, 4))]
    rows = [cells[at : at + len(head)] for at in range(0, len(cells), len(head))]
    told = rng.choice(["", "", f"sep={mark}{end}", f'"sep={mark}"{end}'])
    return told + end.join(mark.join(row) for row in (head, *rows))


def prompt_tables(world: World, rng: random.Random) -> None:
    """Tables and lists of prompts with odd separators, types and encodings."""
    name = rng.choice(["p.csv", "p.tsv", "p.txt", "p.CSV", "p.parquet", "p.ndjson", "p"])
    file = world.scratch / name
    if name.endswith(".parquet"):
        kinds: list[Any] = [
            ["a cube"], [None], [b"\xff"], [odd_value(rng)], [{"bytes": b"x", "path": "a"}], [["a"]], [float("nan")],
            pa.array([2**62], pa.timestamp(rng.choice(["s", "ns"]), rng.choice([None, "UTC", "nowhere"]))),
            pa.array([2**31 - 1], pa.date32()), pa.array(["a"]).dictionary_encode(), pa.nulls(1),
            pa.array([2**62], pa.duration("ns")), pa.array([b"\xff\xfe"]).cast(pa.binary()),
        ]  # fmt: skip
        columns = {rng.choice(["prompt", "id", "category", "file", "x"]): rng.choice(kinds) for _ in range(3)}
        try:
            pq.write_table(pa.table(columns), file)
        except (pa.ArrowException, UnicodeError, OverflowError):
            return
    else:
        file.write_bytes(_table_text(rng).encode(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"]), "replace"))
    if rng.random() < 0.2:
        file.write_bytes(odd_bytes(rng, file.read_bytes()))
    category = rng.choice([None, "x", *TEXTS])
    match rng.randrange(3):
        case 0:
            given = PromptList(file=PinnedFile(uri=str(file)), category=category)
            read_lists([given, *([given] if rng.random() < 0.2 else [])], rng.choice([None, 1]))
        case 1:
            has_pictures(file.read_bytes(), str(file))
            read_table(str(file))
        case _:
            command("generate", "-c", world.model, "-p", f"@{file}", "-o", world.scratch / "out")


def quoted_tables(world: World, rng: random.Random) -> None:
    """Long tables whose quotes open and close anywhere."""
    file = world.scratch / "t.csv"
    few = ["".join(rng.choices('",x \t;\r', k=rng.randrange(1, 9))) for _ in range(rng.randrange(1, 4))]
    file.write_bytes(_written("\n".join(rng.choices(few, k=rng.choice([3, 30, 30_000])))))
    spans, number = cut(str(file), quoted_rows, 0, 64)
    rows = [row for span in spans for row in quoted_rows(str(file), span.start, span.num_bytes)]
    assert len(rows) <= number
    assert sum(row.num_bytes for row in rows) <= file.stat().st_size


def _odd_safetensors(rng: random.Random, data: bytes) -> bytes:
    """The same file with an odd header, whose length is right."""
    (size,) = struct.unpack_from("<Q", data)
    header = _written(odd_json(rng, json.loads(data[8 : 8 + size])))
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def adapters(world: World, rng: random.Random) -> None:
    """Adapters with odd headers, names, shapes and configurations, loaded onto a model."""
    folder = world.scratch / "adapter"
    folder.mkdir()
    model, place = world.pipeline.transformer, "blocks.0.feed_forward.expand"
    rows, width = model.get_submodule(place).weight.shape
    kind = rng.choice([torch.float32, torch.float32, torch.bfloat16, torch.int8, torch.float8_e4m3fn, torch.bool])
    names = [place, f"base_model.model.{place}", f"transformer.{place}", odd_text(rng), "lora_x", "a." * 200]
    name = rng.choice(names[:3] if rng.random() < 0.7 else names).encode("utf-8", "replace").decode()
    rank = rng.choice([1, 2, 2, 0])
    tensors = {
        f"{name}.{rng.choice(['lora_A', 'lora_A', 'lora_down'])}.weight": torch.zeros(rank, width).to(kind),
        f"{name}.lora_B.weight": torch.zeros(rows, rank),
        **({f"{name}.alpha": rng.choice([torch.tensor(2.0), torch.zeros(3), torch.tensor(float("nan"))])}
           if rng.random() < 0.4 else {}),
        **({f"{name}.lora_magnitude_vector": torch.ones(rng.choice([rows, 1]))} if rng.random() < 0.2 else {}),
    }  # fmt: skip
    data = safetensors.torch.save(tensors, {"format": "pt"})
    data = _odd_safetensors(rng, data) if rng.random() < 0.4 else data
    (folder / "adapter_model.safetensors").write_bytes(odd_bytes(rng, data) if rng.random() < 0.1 else data)
    patterns = [".*", "(a+)+b", "(", "expand", "a{9999999999999999999}", "x" * 400, odd_text(rng), "(?P<a>x)(?P=a)*"]
    about = {"peft_type": "LORA", "r": rank, "lora_alpha": 2, "use_dora": rng.random() < 0.2, "use_rslora": False,
             rng.choice(["rank_pattern", "alpha_pattern"]): {rng.choice(patterns): odd_value(rng)}}  # fmt: skip
    config = odd_json(rng, about) if rng.random() < 0.5 else json.dumps(about)
    if rng.random() < 0.8:
        (folder / "adapter_config.json").write_bytes(_written(config))
    scale = rng.choice([1.0, 0.0, -1.0, *(number for number in NUMBERS if isinstance(number, float))])
    parse_adapter(f"{folder}:{rng.choice([scale, *TEXTS])}")
    stack = AdapterStack(model)
    try:
        stack.set([(load_adapter(str(folder)), scale)])
    finally:
        stack.set([])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def colours(world: World, rng: random.Random) -> None:
    """Pictures whose chunks and tags state odd colours; what is decoded has the picture's size."""
    height, width = rng.choice([1, 3, 16]), rng.choice([1, 5, 16])
    numbers = [0, 1, 2, 31270, 45455, 100000, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(10**5)]
    if rng.random() < 0.8:
        picture = Image.fromarray(noise(height, width, seed=rng.randrange(9)))
        picture = picture.convert(rng.choice(["RGB", "RGB", "L", "RGBA", "P", "1", "LA", "I;16"]))
        file = world.scratch / "a.png"
        picture.save(file)
        data = file.read_bytes()
        point = [struct.pack(">8I", *rng.choices(numbers, k=8)), struct.pack(">I", rng.choice(numbers))]
        codes = bytes(rng.choice([0, 1, 2, 4, 5, 8, 9, 12, 13, 16, 18, 255]) for _ in range(4))
        profile = b"x\0\0" + zlib.compress(odd_bytes(rng, b"\0" * 200) if rng.random() < 0.5 else _profile(rng))
        made = {
            b"cHRM": point[0],
            b"gAMA": point[1],
            b"sRGB": bytes([rng.choice([0, 9])]),
            b"cICP": codes,
            b"iCCP": profile,
        }
        for kind in rng.sample(sorted(made), rng.randrange(1, 4)):
            body = odd_bytes(rng, made[kind]) if rng.random() < 0.2 else made[kind]
            data = data[:33] + _chunk(kind, body) + data[33:]
    else:
        exif = Image.Exif()
        exif[0x8769] = {
            0xA001: rng.choice([1, 2, 0xFFFF, 2**16]),
            0xA005: {1: rng.choice(["R03", "R98", "", "x" * 99])},
        }
        file = world.scratch / "a.jpg"
        Image.fromarray(noise(height, width, seed=1)).save(file, exif=odd_bytes(rng, exif.tobytes()))
        data = file.read_bytes()
    try:
        found = decode(data, MAX_PIXELS)
    except UnreadableError:
        return
    assert sorted(found.image.size) == sorted((width, height))
    assert np.asarray(found.image).dtype == np.uint8


def _profile(rng: random.Random) -> bytes:
    from infinity.data.images.stated_colours import StatedColours

    points = tuple((rng.choice([0.3, 0.0, -1.0, 1e9, 0.64]), rng.choice([0.3, 0.0, 1e-9, 0.33])) for _ in range(4))
    return odd_bytes(rng, StatedColours("x", points, rng.choice([None, 2.2, 0.0, -1.0, 1e9])).profile or b"\0" * 128)  # type: ignore[arg-type]


def drawings(world: World, rng: random.Random) -> None:
    """Drawings whose settings are odd, drawn again by the command."""
    good = DrawingSettings.of(
        "a cube", 3, SamplingConfig(), aspect_ratio=1.0, size=(16, 16), model=world.pipeline.digest
    )  # fmt: skip
    bits = rng.choice(["", "AAAA", "eJwDAAAAAAE=", odd_text(rng)])
    later = {"edit": {"source_bits": bits, "kept_tokens": "AAAA", "later_prompt": rng.choice([None, "a ball"]),
                      "later_scale": rng.choice([0, 1, -1, 99])}}  # fmt: skip
    plain = good.to_json() | (later if rng.random() < 0.4 else {})
    text = odd_json(rng, plain) if rng.random() < 0.8 else json.dumps(plain)
    png = to_png(noise(16, 16, seed=1), good)
    length = struct.unpack(">I", png[33:37])[0]
    chunk = _chunk(b"iTXt", b"infinity\0\0\0\0\0" + _written(text))
    file = world.scratch / "a.png"
    data = png[:33] + chunk + png[33 + 12 + length :]
    file.write_bytes(odd_bytes(rng, data) if rng.random() < 0.2 else data)
    command("redo", file, *(["-c", world.model] if rng.random() < 0.9 else []), "-o", world.scratch / "out")


def takedowns(world: World, rng: random.Random) -> None:
    """Takedown lists in lines and in JSON, against facts of rows."""
    sums = ["0" * 64, "F" * 64, "0" * 63, odd_text(rng)]
    values = {
        "sha256": sums,
        "phash": ["0" * 16, "f" * 15, "-1", "0x0"],
        "url": ["http://a/b", "x", "http://[", odd_text(rng)],
        "domain": ["example.com", "xn--a", "é" * 70 + ".com", ".", "*.com", "a" * 300, odd_text(rng)],
    }
    file = world.scratch / "list.txt"
    if rng.random() < 0.6:
        lines = [f"{kind}{rng.choice([':', ': ', ' ', '：'])}{rng.choice(values[kind])}" for kind in
                 rng.choices(sorted(values), k=4)]  # fmt: skip
        text = rng.choice(["\n", "\r\n", "\r"]).join([*lines, rng.choice(["", "# note", odd_text(rng)])])
    else:
        plain = {"sha256": [sums[0]], "phash": ["0" * 16], "phash_distance": 3, "urls": [], "domains": ["example.com"]}
        text = odd_json(rng, plain)
    data = text.encode(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]), "replace")
    file.write_bytes(odd_bytes(rng, data) if rng.random() < 0.2 else data)
    listed = load_takedown(str(file))
    urls = [rng.choice(["http://example.com/a", "http://[::1", "HTTP://É.com", None, odd_text(rng)]) for _ in range(3)]
    facts = pa.table({
        "name": ["a", "b", "c"], "content": pa.array([b"\0" * 32, None, b"\xff" * 32], pa.binary(32)),
        "pixels": pa.array([None, b"\0" * 32, b"\xff" * 32], pa.binary(32)),
        "phash": pa.array([0, None, 2**64 - 1], pa.uint64()),
        "url": [None if url is None else url.encode("utf-8", "replace").decode() for url in urls],
    })  # fmt: skip
    kept, tally = split_taken_down(facts, listed)
    assert kept.num_rows + tally.read == 3
    if rng.random() < 0.05:
        command("data", "takedown", world.manifest, file, "--name", "fuzzed")


def workers(world: World, rng: random.Random) -> None:
    """Worker options of training specs: numbers, bounds, sharing and offloading."""
    spec = json.loads(json.dumps(rng.choice([each for each in world.specs if "workers" in each["spec"]])))
    numbers = [1, 2, 3, 0, -1, 48, 2**31, 2**63, 1.5, True, None, "2", odd_value(rng)]
    names = ["num_workers", "min_workers", "threads", "shard", "offload", "use_gpu", "max_failures", "more"]
    spec["spec"]["workers"] |= {name: rng.choice(numbers) for name in rng.sample(names, rng.randrange(1, 4))}
    file = world.scratch / "spec.json"
    file.write_text(json.dumps(spec))
    found = load_spec(str(file))
    is_done(found)
    if isinstance(found, TrainTransformerSpec):
        assert found.workers.fewest <= found.workers.num_workers
        train_transformer.check(found)
    if rng.random() < 0.1:
        command("estimate", file)


def submissions(world: World, rng: random.Random) -> None:
    """Files of a submitted job: its spec, its progress, its last words, and the signs of those who watch it."""
    spec = rng.choice(world.specs)
    file = world.scratch / "submission.json"
    plain = json.loads(json.dumps(spec))
    plain["spec"]["output"] = str(world.scratch / "runs")
    file.write_bytes(_written(odd_json(rng, plain) if rng.random() < 0.6 else json.dumps(plain)))
    with patch.object(entry, "run_spec", lambda spec, progress: None), patch.object(entry, "connect", _nothing):
        assert entry.main([str(file), "m"]) in (0, 1, 3, 4)
    folder = world.scratch / "job"
    folder.mkdir()
    files, good = JobFiles(str(folder)), {"mark": "m", "fraction": 0.5, "message": "x", "error": "e", "may_retry": True}
    for name in (PROGRESS_FILE, WATCH_FILE, END_FILE):
        data = _written(odd_json(rng, good | {"watcher": "w", "number": 3, "is_last": False}))
        (folder / name).write_bytes(odd_bytes(rng, data) if rng.random() < 0.3 else data)
    told = files.progress("m")
    assert told is None or isinstance(told.fraction, float)
    assert isinstance(files.watched().text, str)
    files.leave("w")
    ended = files.ended("m")
    assert ended is None or isinstance(ended[0], str)


class _nothing:
    def __init__(self, address: str | None) -> None:
        """Stand in for a cluster."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


RECENT = {
    "prompt-tables": prompt_tables,
    "quoted-tables": quoted_tables,
    "adapters": adapters,
    "colours": colours,
    "drawings": drawings,
    "takedowns": takedowns,
    "workers": workers,
    "submissions": submissions,
}

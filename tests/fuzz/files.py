"""Doors that files come through: places that are no files, weights, pictures and tables, and what the system sets."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from infinity.checkpoint import load_checkpoint
from infinity.convert.files import read_tokenizer_file, read_transformer_file
from infinity.data.images.decoding import MAX_PIXELS, UnreadableError, decode
from infinity.evaluation.fid.reference_statistics import StatisticsFile, read_statistics
from infinity.generation.files.picture_files import read_drawing
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.pictures_on_disk import encoded, noise
from tests.fuzz.doors import command
from tests.fuzz.mutations import NUMBERS, TEXTS, odd_bytes, odd_json, odd_text, odd_value
from tests.fuzz.world import World

CODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "shift_jis")


class Hostile:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


def odd_place(folder: Path, rng: random.Random, suffix: str) -> str:
    """A path that is no file that can be read, or an address of another kind."""
    path = folder / f"odd{rng.randrange(10**9)}{suffix}"
    match rng.randrange(10):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to(rng.choice(["/dev/zero", "/dev/null", "/dev/tty", "/proc/self/mem", "/proc/kmsg"]))
        case 2:
            path.mkdir()
            if rng.random() < 0.5:
                os.mkfifo(path / rng.choice(["config.json", "COMMITTED", "a.png", "summary.json", "manifest.parquet"]))
        case 3:
            path.symlink_to(rng.choice([path, folder / "nowhere", folder.parent, folder]))
        case 4:
            path.write_bytes(rng.choice([b"", b"\0" * 5000, b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n" * 50]))
        case 5:
            return rng.choice(TEXTS) + rng.choice(["", suffix, "/"])
        case 6:
            return rng.choice(["", ".", "..", "/", "~", "-", "\0", "/dev/stdin", f"{path}/", f"{path}/x/y", "x" * 5000])
        case 7:
            return rng.choice(
                ["s3://", "s3://b", "s3://b/../k", "s3:///k", "S3://b/k", f"file://{path}", "file:", "s3:b"]
            )
        case 8:
            path.write_bytes(odd_json(rng, {"a": [1]}).encode(rng.choice(CODINGS), "replace"))
    return str(path)


def places(world: World, rng: random.Random) -> None:
    """Commands whose files are pipes, devices, folders, links, or nowhere."""
    scratch = world.scratch

    def odd(suffix: str = "") -> str:
        return odd_place(scratch, rng, suffix)

    model, tokenizer, out = world.model, world.folder / "tokenizer", scratch / "out"
    commands: list[list[object]] = [
        ["generate", "-c", odd(), "-p", "x", "-o", out],
        ["reconstruct", odd(".png"), "-c", tokenizer, "--sides=1,2,4", "-o", out],
        ["info", odd()],
        ["published", "import-tokenizer", odd(rng.choice([".pth", ".safetensors"])), out],
        ["published", "import-transformer", odd(rng.choice(["", ".pth", ".safetensors"])), tokenizer, out],
        ["published", "import-transformer", world.published / "model.pth", odd(), out],
        ["published", "import-transformer", world.published / "model.pth", tokenizer, out, "--text-model", odd()],
        ["published", "export", odd(), scratch / "x.pth"],
        ["run", odd(".json")],
        ["report", odd()],
        ["estimate", odd(".json")],
        ["redraw", odd(), "--step=1", "-o", out],
        ["card", odd()],
        ["leaderboard", odd()],
        ["compare", odd(), odd("b"), "-o", out],
        ["evaluate", odd(), "-b", "scenes", "-o", out],
        ["evaluate", "--pictures", odd(), "--name", "n", "-b", "geneval", "-o", out],
        ["statistics", odd(rng.choice(["", ".parquet"])), scratch / "s.npz", "--inception", odd(".pth")],
        ["distance", odd(".npz"), odd("b.npz")],
        ["data", rng.choice(["show", "verify", "quarantine", "gc"]), odd(rng.choice(["", ".parquet"]))],
        ["data", "build", odd(rng.choice(["", ".parquet", ".csv", ".tar", ".jsonl"])), "-o", scratch / "sets"],
        ["data", "takedown", world.manifest, odd(".txt"), "-o", scratch / "sets"],
        ["data", "duplicates", odd()],
        ["transformer-specs", world.manifest, "--start-from", odd(), "--specs", scratch / "specs"],
    ]  # fmt: skip
    command(*rng.choice(commands))
    assert model.is_dir()


def _safetensors(rng: random.Random) -> bytes:
    size = rng.choice([4, 8, 16])
    entry: dict[str, Any] = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    if rng.random() < 0.4:
        types = ["F4", "F6_E2M3", "F8_E8M0", "F8_E5M2", "BOOL", "I8", "U64", "C64", "BF16", "F64", "float32", ""]
        entry["dtype"] = rng.choice(types)
    header = odd_json(rng, {"a": entry, "__metadata__": {"format": "pt"}}).encode("utf-8", "replace")
    length = rng.choice([len(header)] * 5 + [0, 2**31, 2**63, len(header) + 1])
    return struct.pack("<Q", length) + header + bytes(rng.choice([size, size, size, 0, size - 1]))


def _pickled(world: World, rng: random.Random) -> bytes:
    tensor: Any = torch.zeros(rng.choice([0, 1, 3]))
    values: list[Any] = [tensor, tensor.to(torch.complex64), tensor.to_sparse(), torch.zeros(2, device="meta"), None, 3]
    values += [odd_value(rng), Hostile(world.scratch / "touched"), {"a": tensor}, [tensor]]
    content: Any = {rng.choice(["a", "vae", "trainer", "args", 1, ("x",), ""]): rng.choice(values) for _ in range(2)}
    content = rng.choice([content, {"vae": content}, {"trainer": {"gpt_fsdp": content}}, rng.choice(values)])
    if rng.random() < 0.3:
        return pickle.dumps(content, protocol=rng.choice([0, 2, 4]))
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=rng.random() < 0.7)
    return file.getvalue()


def _statistics(rng: random.Random) -> bytes:
    width = rng.choice([1, 4])
    arrays: dict[str, Any] = {"mu": np.zeros(width), "sigma": np.eye(width)}
    about = {"convention": "tf1", "feature": width, "source": "x", "protocol": "p", "count": 9}
    if rng.random() < 0.7:
        arrays["passport"] = np.array(odd_json(rng, about).replace("\0", ""))
    if rng.random() < 0.6:
        kind = rng.choice(["U1", "complex64", "bool", "int8", "float16", "datetime64[s]", "V4"])
        shape = rng.choice([(), (0,), (width,), (width, width), (2, 3)])
        arrays[rng.choice(["mu", "sigma", "passport", "more"])] = np.zeros(shape, dtype=kind)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def weights(world: World, rng: random.Random) -> None:
    """Files of tensors and statistics that lie, are cut, or would run code."""
    match rng.randrange(4):
        case 0:
            file, data, readers = "a.safetensors", _safetensors(rng), [read_transformer_file, _load_safetensors]
        case 1:
            name = rng.choice(["model.pth", "vae.pth"])
            file, data = name, (world.published / name).read_bytes()
            data = odd_bytes(rng, data)
            readers = [read_transformer_file, read_tokenizer_file]
        case 2:
            file, data, readers = "a.pth", _pickled(world, rng), [read_transformer_file, read_tokenizer_file]
        case _:
            file, data, readers = "a.npz", _statistics(rng), [_read_statistics]
    place = world.scratch / file
    place.write_bytes(odd_bytes(rng, data) if rng.random() < 0.2 else data)
    try:
        rng.choice(readers)(str(place))
    finally:
        assert not (world.scratch / "touched").exists(), "a pickle was run"


def _load_safetensors(uri: str) -> None:
    """As the weights of a checkpoint of ours."""
    from tests.fuzz.doors import sealed

    folder = Path(uri).parent / "checkpoint"
    folder.mkdir()
    about = {"format": 1, "kind": "toy", "config": {}, "extra": {}}
    sealed(folder, {"config.json": json.dumps(about).encode(), "model.safetensors": Path(uri).read_bytes()})
    load_checkpoint(str(folder))


def _read_statistics(uri: str) -> None:
    read_statistics(StatisticsFile(file=PinnedFile(uri=uri), convention=None))


def pictures(world: World, rng: random.Random) -> None:
    """Pictures with odd bytes, headers and metadata: decoded, read for their settings, and built into a data set."""
    formats = rng.choice(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
    data = rng.choice([rng.choice(world.hostile), encoded(noise(16, 16, seed=1), formats)])
    data = odd_bytes(rng, data) if rng.random() < 0.8 else data
    with suppress(UnreadableError):
        decode(data, MAX_PIXELS)
    file = world.scratch / "a.png"
    file.write_bytes(data)
    if rng.random() < 0.3:
        read_drawing(file)
    if rng.random() < 0.1:
        command("data", "build", world.scratch, "-o", world.scratch / "sets")


def tables(world: World, rng: random.Random) -> None:
    """Tables and lists of pictures as strangers write them, built into a data set."""
    image = encoded(noise(16, 16, seed=2))
    folder = world.scratch / "source"
    folder.mkdir()
    (folder / "a.png").write_bytes(image)
    rows: list[dict[str, Any]] = [
        {"file_name": "a.png", "text": "a cube", "width": 16, "height": 16, "similarity": 0.3} for _ in range(3)
    ]
    kind = rng.choice(["metadata.jsonl", "metadata.csv", "list.tsv", "a.parquet", "captions.json", "a.txt", "a.zip"])
    coding = rng.choice([*["utf-8"] * 4, *CODINGS])
    if kind.endswith(".parquet"):
        cells: list[Any] = [image, None, b"", {"bytes": image, "path": None}, 3, "a.png", [1], float("nan")]
        column = [rng.choice(cells)] * 3
        columns = {rng.choice(["image", "jpg", "url", "file_name"]): column, "text": [rng.choice(TEXTS)] * 3}
        try:
            pq.write_table(pa.table(columns), folder / kind)
        except (pa.ArrowException, UnicodeError):
            return
    elif kind.endswith((".json", ".jsonl")):
        text = odd_json(rng, rows) if kind.endswith(".json") else "\n".join(odd_json(rng, row) for row in rows)
        (folder / kind).write_bytes(text.encode(coding, "replace"))
    elif kind.endswith(".zip"):
        with zipfile.ZipFile(folder / kind, "w") as archive:
            archive.writestr(rng.choice(["../a.png", "a.png", "a/b.txt"]), image)
    else:
        separator, end = rng.choice([",", "\t", ";", "|"]), rng.choice(["\n", "\r\n", "\r", "\n\n"])
        lines = [["file_name", "text"], *([rng.choice(["a.png", odd_text(rng)]), odd_text(rng)] for _ in range(3))]
        text = end.join(separator.join(line) for line in lines)
        (folder / kind).write_bytes(text.encode(coding, "replace"))
    source = folder if rng.random() < 0.7 else folder / kind
    command("data", "build", source, "-o", world.scratch / "sets", *_columns(rng))


def _columns(rng: random.Random) -> list[str]:
    if rng.random() < 0.7:
        return []
    option = rng.choice(["--image-column", "--caption-column", "--long-caption-column", "--url-column", "--store-side"])
    return [f"{option}={rng.choice(['text', 'image', '7', '-1', '', rng.choice(TEXTS)])}"]


@contextmanager
def _environment(**values: str) -> Any:
    before = dict(os.environ)
    try:
        os.environ.update(values)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


VARIABLES = (
    "INFINITY_RUNS", "INFINITY_KERNELS", "INFINITY_ATTENTION", "INFINITY_LEASE_SILENCE_S", "XDG_CACHE_HOME",
    "HF_HOME", "TMPDIR",
    "AWS_ENDPOINT_URL_S3", "AWS_REGION", "RAY_ADDRESS", "OMP_NUM_THREADS", "COLUMNS", "NO_COLOR", "LANG", "TZ",
)  # fmt: skip


def environment(world: World, rng: random.Random) -> None:
    """Variables of the environment that hold odd texts."""
    texts = [*TEXTS, *map(str, NUMBERS), "1e400", "true", "no", "http://", "http://[", "http://127.0.0.1:99999", "é"]
    text = rng.choice([text for text in texts if "\0" not in text and "\ud800" not in text])
    out, name = world.scratch / "out", rng.choice(VARIABLES)
    commands: list[list[object]] = [
        ["generate", "-c", world.model, "-p", "x", "-o", out],
        ["info", world.model],
        ["info", "s3://bucket/model"],
        ["evaluate", world.model, "-b", 'scenes={"prompts_per_task": 1, "pictures_per_prompt": 1}'],
        ["data", "show", world.manifest],
        ["registry", "show"],
        ["data", "build", world.pictures, "-o", world.scratch / "sets"],
    ]
    here = Path.cwd()
    os.chdir(world.scratch)  # a relative place that a variable names is made here
    try:
        with _environment(**{name: text}):
            command(*rng.choice(commands))
    finally:
        os.chdir(here)
        shutil.rmtree(world.scratch, ignore_errors=True)


FILES = {
    "places": places,
    "weights": weights,
    "pictures": pictures,
    "tables": tables,
    "environment": environment,
}

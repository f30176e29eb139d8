"""Tables and shards that mean harm or were harmed: every row of theirs must be quarantined, or the source refused."""

import gzip
import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.infinity.data.builders import encoded, huge_png, noise
from tests.infinity.data.hostile_pictures import Bomb

GOOD = encoded(noise())


def tar_of(*members: tuple[str, bytes] | tarfile.TarInfo, end: bool = True, **options: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    data = buffer.getvalue()
    return data if end else data[: len(data.rstrip(b"\0")) // 512 * 512]


def special(name: str, kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """One header that may promise anything."""
    return special(name, kind, size=size).tobuf(tarfile.GNU_FORMAT)


def sample(key: str, image: bytes = GOOD, **files: bytes) -> list[tuple[str, bytes]]:
    return [(f"{key}.png", image), *((f"{key}.{ending}", data) for ending, data in ({"txt": b"a cat"} | files).items())]


def hostile_shards(canary: str) -> dict[str, bytes]:
    """Tar files by what is wrong with them."""
    deep = b'{"a":' * 100_000
    pax = b"".join(header("x", 512, tarfile.XHDTYPE) + b"20 path=evil/../x\n" + bytes(494) for _ in range(5000))
    checksum = bytearray(tar_of(*sample("a")))
    checksum[148] ^= 1
    return {
        "climbing name": tar_of(*sample("../../../canary")),
        "climbing inside": tar_of(*sample("a/b/../../../canary")),
        "absolute name": tar_of(*sample(canary)),
        "symbolic link": tar_of(special("a.png", tarfile.SYMTYPE, canary), ("a.txt", b"a cat")),
        "link then file": tar_of(special("d", tarfile.SYMTYPE, os.path.dirname(canary)), *sample("d/canary")),
        "hard link": tar_of(special("a.png", tarfile.LNKTYPE, "/etc/passwd"), ("a.txt", b"a cat")),
        "device": tar_of(special("a.png", tarfile.CHRTYPE), ("a.txt", b"a cat")),
        "pipe": tar_of(special("a.png", tarfile.FIFOTYPE), ("a.txt", b"a cat")),
        "sparse file": tar_of(special("a.png", tarfile.GNUTYPE_SPARSE), ("a.txt", b"a cat")),
        "pickle": tar_of(*sample("a", pkl=pickle.dumps(Bomb(canary)))),
        "pickle first": tar_of(("a.pyd", pickle.dumps(Bomb(canary))), *sample("a")),
        "torch file": tar_of(*sample("a", pth=pickle.dumps(Bomb(canary)))),
        "huge member": header("a.png", 2**60) + bytes(1024),
        "huge text": tar_of(*sample("a", txt=b"x" * (2 * 2**20))),
        "huge member of zeros": tar_of(("a.png", bytes(140 * 2**20)), ("a.txt", b"a cat")),
        "negative size": header("a.png", 0)[:124] + b"\xff" * 12 + header("a.png", 0)[136:] + bytes(1024),
        "cut off in a picture": tar_of(*sample("a"))[:700],
        "cut off in a header": header("a.png", 0)[:300],
        "no end mark": tar_of(("a.txt", b"no picture"), end=False),
        "wrong checksum": bytes(checksum),
        "chain of extended headers": pax + tar_of(("a.txt", b"no picture")),
        "huge extended header": header("x", 2**30, tarfile.XHDTYPE) + bytes(1024),
        "huge long name": header("x", 2**40, tarfile.GNUTYPE_LONGNAME) + bytes(1024),
        "long name": tar_of(*sample("n" * 60_000)),
        "gzip without a picture": gzip.compress(tar_of(("a.txt", b"a cat"))),
        "gzip cut off": gzip.compress(tar_of(*sample("a", image=os.urandom(5000))))[:2000],
        "gzip bomb": gzip.compress(bytes(128 * 2**20), 9),
        "gzip of no tar": gzip.compress(b"\x01" * 5000),
        "gzip that breaks off at once": b"\x1f\x8b\x08\0",
        "zstd that is none": b"\x28\xb5\x2f\xfd" + b"\xff" * 1000,
        "samples apart, one without a picture": tar_of(("a.txt", b"a"), ("b.txt", b"b"), ("a.json", b"{}")),
        "tar in a tar": tar_of(("a.tar", tar_of(*sample("a"))), ("a.txt", b"a cat")),
        "two pictures": tar_of(*sample("a"), ("a.jpg", encoded(noise(), "JPEG"))),
        "no picture": tar_of(("a.txt", b"a cat")),
        "deep json": tar_of(*sample("a", json=deep)),
        "json that is none": tar_of(*sample("a", json=b"{")),
        "json list": tar_of(*sample("a", json=b"[1]")),
        "json caption of numbers": tar_of(*sample("a", json=b'{"long_caption": [1, 2]}')),
        "text not utf-8": tar_of(*sample("a", txt=b"\xff\xfe\xff")),
        "many files of one name": tar_of(("a.png", GOOD), *((f"a.{i}", b"") for i in range(1000))),
        "backslashes": tar_of(*sample("..\\..\\canary")),
        "bomb": tar_of(*sample("a", image=huge_png())),
        "no tar": b"\x01" * 5000,
        "a few bytes": b"tar",
    }


def hostile_lines(canary: str, port: int) -> dict[str, bytes]:
    """Lines of metadata.jsonl; ``port`` on this machine must never be asked."""
    rows = {
        "climbing name": {"file_name": "../../../../etc/passwd", "text": "a"},
        "climbing inside": {"file_name": "a/../../x.png", "text": "a"},
        "absolute name": {"file_name": "/etc/passwd", "text": "a"},
        "file uri": {"file_name": "file:///etc/passwd", "text": "a"},
        "foreign bucket": {"file_name": "s3://somebody/else.png", "text": "a"},
        "address": {"file_name": f"http://127.0.0.1:{port}/", "text": "a"},
        "free address": {"image_path": f"http://127.0.0.1:{port}/", "text": "a"},
        "other scheme": {"image_path": "gopher://127.0.0.1/", "text": "a"},
        "pipe": {"file_name": "pipe.png", "text": "a"},
        "folder": {"file_name": "folder.png", "text": "a"},
        "endless device": {"image_path": "/dev/zero", "text": "a"},
        "other process": {"image_path": "/proc/self/mem", "text": "a"},
        "missing": {"file_name": "missing.png", "text": "a"},
        "nul in the name": {"file_name": "a\0b.png", "text": "a"},
        "half a surrogate in the name": {"file_name": "a\ud800.png", "text": "a"},
        "very long name": {"file_name": "x" * 100_000, "text": "a"},
        "name is a number": {"file_name": 7, "text": "a"},
        "name is a list": {"file_name": ["a.png"], "text": "a"},
        "no name": {"text": "a"},
        "caption is a number": {"file_name": "good.png", "text": 7},
        "caption is an object": {"file_name": "good.png", "text": {"a": 1}},
    }
    found = {name: json.dumps(row).encode() for name, row in rows.items()}
    return found | {
        "no json": b"{not json",
        "list": b"[1, 2]",
        "number": b"1",
        "null": b"null",
        "deep": b"[" * 200_000,
        "deep object": b'{"file_name":' * 100_000,
        "huge number": b'{"file_name": ' + b"9" * 10_000 + b"}",
        "not utf-8": b'{"file_name": "\xff\xfe.png", "text": "a"}',
        "very long": b'{"file_name": "good.png", "text": "' + b"x" * (3 * 2**20) + b'"}',
        "zeros": bytes(1000),
        "pickle": pickle.dumps(Bomb(canary)).replace(b"\n", b" "),
        "utf-16": json.dumps({"file_name": "good.png", "text": "a"}).encode("utf-16").replace(b"\n", b" "),
    }


def hostile_csv_rows(port: int) -> dict[str, bytes]:
    """Rows below the header file_name,text."""
    return {
        "too few cells": b"good.png",
        "too many cells": b"good.png,a,b",
        "climbing name": b"../../../etc/passwd,a",
        "absolute name": b"/etc/passwd,a",
        "address": b"http://127.0.0.1:%d/,a" % port,
        "no name": b",a",
        "text behind a quote": b'"good.png"x,a',
        "not utf-8": b"good.png,\xff\xfe",
        "very long cell": b"good.png," + b"x" * (3 * 2**20),
        "long cell": b"good.png," + b"x" * 200_000,
        "quote that never ends": b'good.png,"a',
    }


def hostile_tables(folder: Path, port: int) -> dict[str, Path]:
    """Parquet files by what is wrong with them."""
    good = pa.table({"image": [GOOD] * 50, "text": [f"a {i}" for i in range(50)]})
    buffer = io.BytesIO()
    pq.write_table(good, buffer, compression="none", use_dictionary=False)
    data = bytearray(buffer.getvalue())
    pages = bytearray(data)
    pages[4:-2000] = bytes(b ^ 0x5A for b in pages[4:-2000])
    zeros = np.zeros(380 * 2**20, np.uint8)
    offsets = pa.array([0, len(zeros)], pa.int32()).buffers()[1]
    bomb = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(zeros)])
    broken_text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    paths = ["../../x.png", "/etc/passwd", "file:///etc/passwd", f"http://127.0.0.1:{port}/x.png", "missing.png"]
    found = {
        "pages overwritten": bytes(pages),
        "footer overwritten": bytes(data[:-200]) + bytes(192) + bytes(data[-8:]),
        "footer length": bytes(data[:-8]) + b"\xff\xff\xff\x7f" + b"PAR1",
        "cut off": bytes(data[: len(data) // 2]),
        "no parquet": b"PAR1" + bytes(100) + b"PAR1",
        "empty": b"",
        "bomb": pa.table({"image": bomb, "text": ["a"]}),
        "text not utf-8": pa.table({"image": [GOOD], "text": broken_text}),
        "empty cells": pa.table({"image": pa.array([None, b""], pa.binary()), "text": ["a", "b"]}),
        "millions of empty rows": pa.table(
            {"image": pa.nulls(2 * 10**6, pa.binary()), "text": pa.nulls(2 * 10**6, pa.string())}
        ),
        "paths": pa.table({"path": paths, "text": ["a"] * len(paths)}),
        "list of numbers": pa.table({"image": [[1, 2]], "text": ["a"]}),
        "captions that are numbers": pa.table({"image": [GOOD], "text": [1]}),
        "no pictures inside": pa.table({"image": [b"no picture", huge_png()], "text": ["a", "b"]}),
    }
    for name, content in found.items():
        path = folder / f"{name.replace(' ', '-')}.parquet"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pq.write_table(content, path, compression="zstd", use_dictionary=False, write_statistics=False)
    return {name: folder / f"{name.replace(' ', '-')}.parquet" for name in found}

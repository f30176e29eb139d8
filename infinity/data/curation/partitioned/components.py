"""Pictures that hang together by any number of edges, found by tasks of which none sees all edges.

Two steps take turns until nothing changes: every picture tells its larger neighbours of the smallest one it knows, then
its smaller ones (large star and small star: Kiveris et al., Connected Components in MapReduce and Beyond, 2014).
At the end each knows the smallest picture of its component, and nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from infinity.data.curation.partitioned.buckets import read_bucket
from infinity.data.curation.partitioned.pairs import Edges, both_ways
from infinity.data.curation.partitioned.workspace import Told, Work, Workspace

LABELS = "labels"
_MIX = np.uint64(0x9E3779B97F4A7C15)


def large_star(work: Workspace, number: int, turn: int, files: Sequence[str], prefix: str = "") -> Told:
    """Task of a partition: connect the larger neighbours of each picture with the smallest; tell a sum of all edges.

    Args:
        turn: Number of the turn.
        files: Places of all edges, in both directions.
        prefix: Prefix of the stages' names.
    """
    stage = large_stage(turn, prefix)

    def run() -> Work:
        edges = _unique(read_bucket(files, number))
        found = large(edges)
        table = pa.table({"start": pa.array(found[:, 0]), "end": pa.array(found[:, 1])})
        with np.errstate(over="ignore"):
            mixed = (edges[:, 0].astype(np.uint64) * _MIX ^ edges[:, 1].astype(np.uint64)) * _MIX
        total = int((mixed ^ (mixed >> np.uint64(29))).sum(dtype=np.uint64))
        return table, found[:, 0] % work.num_partitions, {"edges": len(edges), "sum": total}

    return work.done(stage, number, run)


def small_star(work: Workspace, number: int, turn: int, prefix: str = "") -> Told:
    """Task of a partition: connect each picture and its smaller neighbours with the smallest of these."""
    stage = small_stage(turn, prefix)

    def run() -> Work:
        found = small(_unique(read_bucket(work.of_partitions(large_stage(turn, prefix)), number)))
        return *both_ways(found, work.num_partitions), {"edges": len(found)}

    return work.done(stage, number, run)


def write_labels(work: Workspace, number: int, files: Sequence[str], starts: Sequence[int], prefix: str = "") -> Told:
    """Task of a partition: send the component of each picture to the range of the order that holds the picture.

    Args:
        files: Places of all edges at the end, in both directions.
        starts: Place in the order of all at which each range begins.
        prefix: Prefix of the stages' names.
    """

    def run() -> Work:
        edges = _unique(read_bucket(files, number))
        nodes, smallest = _smallest(edges)
        table = pa.table({"index": pa.array(nodes), "label": pa.array(np.minimum(nodes, smallest))})
        buckets = np.searchsorted(np.array(starts), nodes, side="right") - 1
        return table, buckets, {"rows": len(nodes)}

    return work.done(labels_stage(prefix), number, run)


def large_stage(turn: int, prefix: str = "") -> str:
    """Return the name of the stage of large stars in a turn."""
    return f"{prefix}large-{turn:03d}"


def small_stage(turn: int, prefix: str = "") -> str:
    """Return the name of the stage of small stars in a turn."""
    return f"{prefix}small-{turn:03d}"


def labels_stage(prefix: str = "") -> str:
    """Return the name of the stage that tells the component of each picture."""
    return f"{prefix}{LABELS}"


def large(edges: Edges) -> Edges:
    """Return edges from every larger neighbour of a picture to the smallest of picture and neighbours.

    Args:
        edges: All edges of some pictures, by their beginning, then by their end, each once.
    """
    nodes, smallest = _smallest(edges)
    least = np.minimum(nodes, smallest)[np.searchsorted(nodes, edges[:, 0])]
    larger = edges[:, 1] > edges[:, 0]
    return np.stack([edges[larger, 1], least[larger]], axis=1)


def small(edges: Edges) -> Edges:
    """Return edges from every picture and its smaller neighbours to the smallest of these.

    Args:
        edges: Edges that lead from some pictures to smaller ones, by their beginning, then by their end, each once.
    """
    nodes, smallest = _smallest(edges)
    least = smallest[np.searchsorted(nodes, edges[:, 0])]
    found = np.concatenate([np.stack([edges[:, 1], least], axis=1), np.stack([nodes, smallest], axis=1)])
    return np.unique(found[found[:, 0] != found[:, 1]], axis=0).reshape(-1, 2)


def _smallest(edges: Edges) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return all pictures where edges begin, and the smallest end of each."""
    nodes, first = np.unique(edges[:, 0], return_index=True)
    return nodes, edges[first, 1]  # edges are sorted, so that the first one ends at the smallest


def _unique(table: pa.Table) -> Edges:
    edges = np.stack([table["start"].to_numpy(), table["end"].to_numpy()], axis=1)
    return np.unique(edges, axis=0).reshape(-1, 2)

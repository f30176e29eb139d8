"""Components found by partitions are those of a search through all edges, whatever the edges."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from infinity.data.curation.partitioned.components import large, small
from infinity.data.curation.partitioned.pairs import Edges, Forest, cells


def turned(edges: Edges) -> Edges:
    """Every edge in both directions, each once, in order."""
    return np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0).reshape(-1, 2)


def by_turns(edges: Edges, partitions: int) -> Edges:
    """Edges that are left when both steps change nothing, each step taken by partitions that see a part."""
    edges = turned(edges)
    for _ in range(40):
        told = np.concatenate([large(edges[edges[:, 0] % partitions == part]) for part in range(partitions)])
        told = np.unique(told, axis=0).reshape(-1, 2)
        left = [small(told[told[:, 0] % partitions == part]) for part in range(partitions)]
        found = turned(np.concatenate(left))
        if np.array_equal(found, edges):
            return edges
        edges = found
    raise AssertionError("no end after 40 turns")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60), st.sampled_from([1, 2, 8]))
def test_every_picture_knows_the_smallest_of_its_component(pairs: list[tuple[int, int]], partitions: int) -> None:
    edges = np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)
    forest = Forest(41)
    forest.join(edges[:, 0], edges[:, 1])
    found = by_turns(edges, partitions)
    assert found[found[:, 0] > found[:, 1]].tolist() == forest.edges().tolist()


def test_a_long_chain_ends_in_few_turns() -> None:
    chain = np.stack([np.arange(2000), np.arange(1, 2001)], axis=1)
    found = by_turns(np.random.default_rng(0).permutation(chain), 3)
    assert (found[found[:, 0] > found[:, 1], 1] == 0).all()
    assert len(found) == 4000


def test_every_two_ranges_are_compared_once() -> None:
    for number in range(1, 40):
        found = [tuple(sorted(cell)) for group in cells(number) for cell in group]
        assert sorted(found) == [(a, b) for a in range(number) for b in range(a, number)]
        assert all(len({first for first, _ in group}) == 1 for group in cells(number))

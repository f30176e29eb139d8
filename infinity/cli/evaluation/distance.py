"""``infinity distance`` and ``statistics``: distances between two sets of pictures, and the features of one."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import Device, bar, clear_errors, out
from infinity.cli.evaluation.scores import show_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infinity.evaluation.fid.reference_sets import Network
    from infinity.evaluation.fid.set_distance import PictureSet
    from infinity.evaluation.score import Score


Split = Annotated[str, typer.Option(help="Split of a data set: validation or train.")]
Feature = Annotated[int, typer.Option(help="Width of the Inception features: 64, 192, 768 or 2048.")]
Weights = Annotated[str | None, typer.Option(help="Inception weights of 2015; downloaded by default.")]
WeightsSha256 = Annotated[str | None, typer.Option(help="First digits of the checksum of these weights.")]


def distance(
    first: Annotated[str, typer.Argument(help="Set that is scored: pictures, tar shards, manifest, or .npz.")],
    second: Annotated[str, typer.Argument(help="Set that it is compared with, in one of the same forms.")],
    convention: Annotated[
        str | None,
        typer.Option(
            help="How pictures are prepared: tf1 (the default), pytorch_fid, clean_fid or imagenet_norm. It holds for "
            ".npz files too that do not state theirs."
        ),
    ] = None,
    split: Split = "validation",
    feature: Feature = 2048,
    kid_subset: Annotated[int, typer.Option(min=2, help="Pictures per subset of KID.")] = 1000,
    interval: Annotated[bool, typer.Option(help="Compute an interval for FID too (twenty more distances).")] = True,
    weights: Weights = None,
    sha256: WeightsSha256 = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            "-m",
            help="inception (FID, KID, Inception Score, precision, recall; the default), cmmd, fd_dinov2 or "
            "fd_efficientnet_lite0; may be repeated. cmmd=<folder> takes the network from a folder or another hub.",
        ),
    ] = None,
    device: Device = None,
) -> None:
    """Compute distances of two sets of pictures with intervals: FID, KID, CMMD, FD-DINOv2, precision, recall."""
    with clear_errors():
        from infinity.generation.device import check_device

        chosen, device = _chosen(metric or ["inception"]), check_device(device)
        scores, lines = _by_embeddings(first, second, chosen, split, interval, device)
        if "inception" not in chosen:
            _show(scores, lines)
            return
        from infinity.evaluation.fid.feature_distances import KidConfig
        from infinity.evaluation.fid.set_distance import distances

        stated = {} if convention is None else {"convention": convention}
        about = {**stated, "split": split, "feature": feature}
        network = cache(partial(inception, weights, sha256, device))
        sides = [_side(uri, about, network, device) for uri in (first, second)]
        by_inception = distances(*sides, kid=KidConfig(subset_size=kid_subset), interval=interval)
        about_sides = [f"{side.provenance.source}; {side.provenance.protocol}" for side in sides]
        _show([*by_inception, *scores], [*about_sides, *lines])


def statistics(
    source: Annotated[str, typer.Argument(help="Folder of pictures, or manifest of a data set: a path or s3:// URI.")],
    output: Annotated[str, typer.Argument(help="File to write, ending in .npz.")],
    convention: Annotated[
        str, typer.Option(help="How pictures are prepared: tf1, pytorch_fid, clean_fid or imagenet_norm.")
    ] = "tf1",
    size_px: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side of the square to which the middle of every picture is scaled first, as a model sees it."
        ),
    ] = None,
    split: Split = "validation",
    feature: Feature = 2048,
    weights: Weights = None,
    sha256: WeightsSha256 = None,
    device: Device = None,
) -> None:
    """Write feature statistics of a set of pictures, for fid_reference and for other tools that read .npz."""
    with clear_errors():
        from infinity import storage
        from infinity.evaluation.fid.reference_sets import ReferenceSet, measure
        from infinity.evaluation.fid.reference_statistics import write_statistics
        from infinity.generation.device import check_device

        device = check_device(device)
        if not output.endswith(".npz"):
            raise ValueError(f"output: expected a file ending in .npz, got {output}")
        about = {"convention": convention, "size_px": size_px, "split": split, "feature": feature}
        reference = ReferenceSet.from_json({"uri": storage.absolute(source), **about}, where="statistics")
        reference.files()  # fails before weights are downloaded
        network = inception(weights, sha256, device)
        with bar(f"reading {source}") as report:
            stats, provenance = measure(reference, network, device=device, progress=report)
        write_statistics(output, stats, provenance)
        for line in (output, f"{stats.count} pictures, {provenance.protocol}", provenance.source):
            out.say(line)


def inception(weights: str | None, sha256: str | None, device: str) -> Network:
    """Return the Inception network that the options name."""
    from infinity.evaluation.fid.fused_inception import load_fused_inception
    from infinity.evaluation.fid.inception_weights import InceptionWeights

    given = {name: value for name, value in (("uri", weights), ("sha256", sha256)) if value is not None}
    return load_fused_inception(InceptionWeights().replace(**given), device)


def _show(scores: Sequence[Score], lines: Sequence[str]) -> None:
    show_scores(scores)
    for line in lines:
        out.say(line)


def _chosen(metrics: Sequence[str]) -> dict[str, str]:
    """Return the place of the network by the name of the metric; empty for the published one."""
    chosen = {}
    for text in metrics:
        name, _, place = text.partition("=")
        if name not in ("inception", "cmmd", "fd_dinov2", "fd_efficientnet_lite0") or (name == "inception" and place):
            raise ValueError(
                "--metric: expected inception, cmmd, fd_dinov2, fd_efficientnet_lite0, or cmmd=<folder> and so on, got "
                f"{text!r}"
            )
        if name in chosen:
            raise ValueError(f"--metric: {name} is there twice; expected it once")
        chosen[name] = place
    return chosen


def _by_embeddings(
    first: str, second: str, chosen: dict[str, str], split: str, interval: bool, device: str
) -> tuple[list[Score], list[str]]:
    """Return the scores of CMMD and FD-DINOv2 where they are chosen, and the protocols."""
    wanted = {name: place for name, place in chosen.items() if name != "inception"}
    if not wanted:
        return [], []
    from infinity import storage
    from infinity.evaluation.fid.embedding_distance import embed_set, embedding_score
    from infinity.evaluation.fid.reference_sets import ReferenceSet
    from infinity.perception.embeddings import EmbeddingConfig, load_embedder

    sides = []
    for uri in (first, second):
        if _is_statistics(uri):
            raise ValueError(
                f"{uri}: {' and '.join(wanted)} need the pictures themselves; name their folder or manifest"
            )
        sides.append(ReferenceSet.from_json({"uri": storage.absolute(uri), "split": split}, where="distance"))
        sides[-1].files()  # fails before weights are downloaded
    scores = []
    for name, place in wanted.items():
        embedder = load_embedder(EmbeddingConfig.from_json({"kind": name, "model": place}, where="--metric"), device)
        sets = []
        for side in sides:
            with bar(f"reading {side.uri} for {name}") as report:
                sets.append(embed_set(side, embedder, progress=report))
        one, other = sets
        scores.append(embedding_score(one, other, embedder, interval=interval))
    return scores, [score.protocol for score in scores]


def _side(uri: str, about: dict[str, object], network: Callable[[], Network], device: str) -> PictureSet:
    from infinity import storage
    from infinity.evaluation.fid.reference_sets import ReferenceSet
    from infinity.evaluation.fid.reference_statistics import StatisticsFile, read_statistics
    from infinity.evaluation.fid.set_distance import PictureSet, look_at

    place = storage.absolute(uri)
    if _is_statistics(uri):
        stated = {name: about[name] for name in ("convention",) if name in about}
        file = StatisticsFile.from_json({"file": {"uri": place}, **stated}, where="distance")
        found = read_statistics(file)
        return PictureSet(found.moments, found.provenance)
    reference = ReferenceSet.from_json({"uri": place, **about}, where="distance")
    reference.files()  # fails before weights are downloaded
    with bar(f"reading {uri}") as report:
        return look_at(reference, network(), device=device, progress=report)


def _is_statistics(uri: str) -> bool:
    """Return whether a URI names a file of statistics, by its ending."""
    return uri.lower().endswith((".npz", ".pt"))

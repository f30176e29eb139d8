"""``infinity distance``: distances between two sets of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infinity.cli.console import Device, bar, clear_errors, out
from infinity.cli.evaluation.scores import scores_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from infinity.evaluation.fid.reference_sets import Network
    from infinity.evaluation.fid.set_distance import PictureSet


def distance(
    first: Annotated[str, typer.Argument(help="Set that is scored: folder of pictures, manifest, or .npz.")],
    second: Annotated[str, typer.Argument(help="Set that it is compared with, in one of the same forms.")],
    convention: Annotated[
        str, typer.Option(help="How pictures are prepared: tf1, pytorch_fid, clean_fid or imagenet_norm.")
    ] = "tf1",
    split: Annotated[str, typer.Option(help="Split of a data set: validation or train.")] = "validation",
    feature: Annotated[int, typer.Option(help="Width of the Inception features: 64, 192, 768 or 2048.")] = 2048,
    kid_subset: Annotated[int, typer.Option(min=2, help="Pictures per subset of KID.")] = 1000,
    interval: Annotated[bool, typer.Option(help="Compute an interval for FID too (twenty more distances).")] = True,
    weights: Annotated[str | None, typer.Option(help="Inception weights of 2015; downloaded by default.")] = None,
    sha256: Annotated[str | None, typer.Option(help="First digits of the checksum of these weights.")] = None,
    device: Device = "cpu",
) -> None:
    """Compute FID, KID, Inception Score, precision and recall of two sets of pictures, with intervals."""
    with clear_errors():
        from infinity.evaluation.fid.feature_distances import KidConfig
        from infinity.evaluation.fid.fused_inception import load_fused_inception
        from infinity.evaluation.fid.inception_weights import InceptionWeights
        from infinity.evaluation.fid.set_distance import distances

        about = {"convention": convention, "split": split, "feature": feature}
        given = {name: value for name, value in (("uri", weights), ("sha256", sha256)) if value is not None}
        loaded: list[Network] = []

        def network() -> Network:
            if not loaded:
                loaded.append(load_fused_inception(InceptionWeights().replace(**given), device))
            return loaded[0]

        sides = [_side(uri, about, network, device) for uri in (first, second)]
        out.print(scores_table(distances(*sides, kid=KidConfig(subset_size=kid_subset), interval=interval)))
        for side in sides:
            line = f"{side.provenance.source}; {side.provenance.protocol}"
            out.print(line, markup=False, highlight=False, soft_wrap=True)


def _side(uri: str, about: dict[str, object], network: Callable[[], Network], device: str) -> PictureSet:
    from infinity import storage
    from infinity.evaluation.fid.reference_sets import ReferenceSet
    from infinity.evaluation.fid.reference_statistics import StatisticsFile, read_statistics
    from infinity.evaluation.fid.set_distance import PictureSet, look_at
    from infinity.storage.pinned import PinnedFile

    place = storage.absolute(uri)
    if uri.endswith((".npz", ".pt")):
        found = read_statistics(StatisticsFile(file=PinnedFile(uri=place)))
        return PictureSet(found.moments, found.provenance)
    reference = ReferenceSet.from_json({"uri": place, **about}, where="distance")
    reference.files()  # fails before weights are downloaded
    with bar(f"reading {uri}") as report:
        return look_at(reference, network(), device=device, progress=report)

"""Replay of Inception features and of the figures over them (goldens/eval/README.md, section 3)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from infinity.evaluation.fid.feature_distances import (
    KidConfig,
    inception_score,
    kernel_distance,
    precision_recall,
    sliced_distance,
)
from infinity.evaluation.fid.frechet import GaussianStats, frechet_distance
from infinity.evaluation.fid.fused_inception import FusedInception
from infinity.evaluation.fid.inception import Inception, InceptionFeatures
from infinity.evaluation.fid.preparation import PREPARATIONS, Convention
from tests.fixtures.models.inception_recipe import recipe_tensors
from tests.parity.arrays import arrays_beside, rgb
from tests.parity.scores.evaluation import Compare, Figures

FID = {"absolute": 1e-5, "relative": 1e-6}
KERNEL = {"absolute": 2e-6, "relative": 2e-6}
"""The recorded kernels are float32."""

SCORE = {"absolute": 0.0, "relative": 1e-9}
SHARE = {"absolute": 1e-6}
FEATURES = 1e-5
PROBE = 1e-5
"""Of the picture's maximum."""

_CONVENTIONS: Mapping[str, Convention] = {
    "tf1": "tf1", "pt": "pytorch_fid", "clean": "clean_fid", "imagenetnorm": "imagenet_norm"
}  # fmt: skip
_DISTANCES = frozenset({
    "torch_fidelity_f32_features", "torch_fidelity_f64_features", "pytorch_fid", "clean_fid", "symmetric_eigh_f64"
})  # fmt: skip


@cache
def network() -> FusedInception:
    """With the recipe's weights, in float32."""
    return FusedInception(reference_network())


@cache
def reference_network() -> Inception:
    """With the recipe's weights, layer by layer."""
    found = Inception()
    found.load_state_dict(recipe_tensors())
    return found


def weights_kind(path: Path, data: Any) -> Compare | None:
    """The replay of a file with checksums of the recipe's tensors."""
    if not isinstance(data, dict) or not data:
        return None
    if not all(isinstance(value, dict) and {"shape", "crc32", "seed"} <= set(value) for value in data.values()):
        return None
    return lambda figures: _compare_weights(data, figures)


def _compare_weights(data: dict[str, Any], figures: Figures) -> None:
    tensors = {k: v for k, v in recipe_tensors().items() if not k.endswith("num_batches_tracked")}
    figures.same_names("weights", tensors, data)
    for name in sorted(set(tensors) & set(data)):
        values, about = tensors[name].numpy().astype("<f4"), data[name]
        figures.equal(f"{name}.shape", list(values.shape), about["shape"])
        figures.equal(f"{name}.seed", zlib.crc32(name.encode()), about["seed"])
        figures.equal(f"{name}.crc32", zlib.crc32(values.tobytes()), about["crc32"])
        if "first" in about:
            figures.equal(f"{name}.first", [float(value) for value in values.ravel()[:2]], about["first"])


def features_kind(path: Path, data: Any) -> Compare | None:
    """The replay of an .npz file with features of named pictures."""
    if not isinstance(data, np.lib.npyio.NpzFile) or not {"names", "probe_rows", "probe_cols"} <= set(data.files):
        return None
    arrays = {name: data[name] for name in data.files}
    return lambda figures: _compare_features(path, arrays, figures)


def _compare_features(path: Path, arrays: dict[str, np.ndarray[Any, Any]], figures: Figures) -> None:
    wanted = {name: _split(name) for name in arrays if name not in ("names", "probe_rows", "probe_cols")}
    largest: dict[str, float] = {}
    for row, picture in enumerate(arrays["names"]):
        images = torch.from_numpy(rgb(path.parent / "images" / str(picture)).copy())[None]
        found: dict[str, dict[str, Tensor]] = {}
        for name, (prefix, what) in wanted.items():
            if prefix not in found:
                found[prefix] = _figures_of(images, prefix, arrays)
            value, expected = found[prefix][what][0].double().numpy(), arrays[name][row].astype(np.float64)
            figures.equal(f"{picture}.{name}.shape", value.shape, expected.shape)
            difference = float(np.abs(value - expected).max() / np.abs(expected).max())
            largest[name] = max(largest.get(name, 0.0), difference)
            tolerance = PROBE if what == "probe" else FEATURES
            figures.close(f"{picture}.{name} of the maximum", difference, 0.0, absolute=tolerance)
    figures.information |= {"pictures": len(arrays["names"]), "largest_difference_of_maximum": largest}


def _split(name: str) -> tuple[str, str]:
    """Prefix and suffix: "tf1_fp64_2048" is the network in float64."""
    for prefix in ("tf1_fp64", *_CONVENTIONS):
        if name.startswith(prefix + "_"):
            return prefix, name.removeprefix(prefix + "_")
    raise ValueError(f"{name}: expected a name that begins with {', '.join(_CONVENTIONS)}")


@torch.no_grad()
def _figures_of(images: Tensor, prefix: str, arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, Tensor]:
    preparation = PREPARATIONS[_CONVENTIONS[prefix.removesuffix("_fp64")]]
    resized = preparation.resize(images)
    rows, columns = (torch.from_numpy(arrays[name]) for name in ("probe_rows", "probe_cols"))
    found = network()(preparation.normalise(resized))
    return named(found) | {"probe": resized[:, :, rows][:, :, :, columns]}


def named(found: InceptionFeatures) -> dict[str, Tensor]:
    """Features by the suffix under which they are recorded."""
    return {
        "64": found.features_64,
        "192": found.features_192,
        "768": found.features_768,
        "2048": found.features_2048,
        "logits": found.logits,
        "logits_unbiased": found.logits_without_bias,
    }


def metrics_kind(path: Path, data: Any) -> Compare | None:
    """The replay of a file with figures over given features."""
    if not isinstance(data, dict) or not ({"fid", "isc", "prc", "mind", "kid_torch_fidelity"} & set(data)):
        return None
    return lambda figures: _compare_metrics(path, data, figures)


def _compare_metrics(path: Path, data: dict[str, Any], figures: Figures) -> None:
    arrays = arrays_beside(path, *_inputs(data))
    rows = {name: torch.from_numpy(value) for name, value in arrays.items()}
    for pair, expected in data.get("fid", {}).items():
        a, b = (GaussianStats.of(rows[name]) for name in pair.split("|"))
        figures.same_names(f"fid.{pair}", set(expected) & _DISTANCES, expected)
        value = frechet_distance(a, b)
        for name in _DISTANCES & set(expected):
            figures.close(f"fid.{pair}.{name}", value, expected[name], **FID)
    _compare_moments(arrays, figures)
    for section, compare in _SECTIONS.items():
        entries = data.get(section, [])
        for number, entry in enumerate([entries] if isinstance(entries, dict) else entries):
            name = f"{section}.{number}"
            found = compare(rows, entry["args"])
            figures.same_names(name, found, set(entry) - {"args"})
            for key in set(found) & set(entry):
                figures.close(f"{name}.{key}", found[key], entry[key], **_TOLERANCES[section])


def _inputs(data: dict[str, Any]) -> set[str]:
    named_in = {name for pair in data.get("fid", {}) for name in pair.split("|")}
    keys = ("x", "y", "generated", "real", "feats1", "feats2")
    for entries in data.values():
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, dict) and isinstance(entry.get("args"), dict):
                named_in |= {entry["args"][key] for key in keys if key in entry["args"]}
    return named_in | ({"logits"} if "isc" in data else set())


def _compare_moments(arrays: dict[str, np.ndarray[Any, Any]], figures: Figures) -> None:
    for name in arrays:
        if f"mu_{name}" in arrays:
            found = GaussianStats.of(torch.from_numpy(arrays[name])).moments()
            for key, value in {f"mu_{name}": found.mean, f"sigma_{name}": found.covariance}.items():
                difference = float(np.abs(value.numpy() - arrays[key]).max())
                figures.close(key, difference, 0.0, absolute=1e-6)


def _kid(rows: dict[str, Tensor], args: dict[str, Any]) -> dict[str, float]:
    config = KidConfig(
        subsets=args["kid_subsets"],
        subset_size=args["kid_subset_size"],
        kernel={"poly": "polynomial", "rbf": "gaussian"}[args.get("kid_kernel", "poly")],  # type: ignore[arg-type]
        degree=args.get("kid_kernel_poly_degree", 3),
        gamma=args.get("kid_kernel_poly_gamma"),
        offset=float(args.get("kid_kernel_poly_coef0", 1)),
        sigma=float(args.get("kid_kernel_rbf_sigma", 10)),
        seed=args["rng_seed"],
    )
    found = kernel_distance(rows[args["x"]], rows[args["y"]], config)
    return {"kernel_inception_distance_mean": found.mean, "kernel_inception_distance_std": found.deviation}


def _kid_clean(rows: dict[str, Tensor], args: dict[str, Any]) -> dict[str, float]:
    a, b = rows[args["feats1"]], rows[args["feats2"]]
    size = min(len(a), len(b), args["max_subset_size"])
    config = KidConfig(subsets=args["num_subsets"], subset_size=size)
    random = RandomState(args["numpy_seed"])
    return {"value": kernel_distance(a, b, config, random=random, second_first=True).mean}


def _score(rows: dict[str, Tensor], args: dict[str, Any]) -> dict[str, float]:
    found = inception_score(rows["logits"], splits=args["splits"], shuffle=args["shuffle"], seed=args["rng_seed"])
    return {"inception_score_mean": found.mean, "inception_score_std": found.deviation}


def _shares(rows: dict[str, Tensor], args: dict[str, Any]) -> dict[str, float]:
    found = precision_recall(rows[args["generated"]], rows[args["real"]], neighbours=args["neighborhood"])
    return {"precision": found.precision, "recall": found.recall, "f_score": found.f_score}


def _sliced(rows: dict[str, Tensor], args: dict[str, Any]) -> dict[str, float]:
    a, b = rows[args["x"]], rows[args["y"]]
    value = sliced_distance(a, b, projections=args["mind_num_projections"], seed=args["rng_seed"])
    return {"monge_inception_distance": value}


_SECTIONS: Mapping[str, Callable[[dict[str, Tensor], dict[str, Any]], dict[str, float]]] = {
    "kid_torch_fidelity": _kid,
    "kid_clean_fid": _kid_clean,
    "isc": _score,
    "prc": _shares,
    "mind": _sliced,
}
_TOLERANCES: Mapping[str, dict[str, float]] = {
    "kid_torch_fidelity": KERNEL,
    "kid_clean_fid": KERNEL,
    "isc": SCORE,
    "prc": SHARE,
    "mind": {"absolute": 0.0, "relative": 1e-6},
}


def end_to_end_kind(path: Path, data: Any) -> Compare | None:
    """The replay of a file with all figures between two sets of pictures."""
    if not isinstance(data, dict) or set(data) != {"settings", "expected"}:
        return None
    return lambda figures: _compare_end_to_end(path, data, figures)


def _compare_end_to_end(path: Path, data: dict[str, Any], figures: Figures) -> None:
    settings = data["settings"]
    arrays = arrays_beside(path, settings["input1"], settings["input2"])
    images = [arrays[settings[name]] for name in ("input1", "input2")]
    clouds: dict[str, list[dict[str, Tensor]]] = {}
    for name, expected in data["expected"].items():
        library, width = name.rsplit("_", 1)
        convention: Convention = {"torch_fidelity": "tf1", "pytorch_fid": "pytorch_fid"}[library]  # type: ignore[assignment]
        if library not in clouds:
            clouds[library] = [features_of(pictures, convention, settings["batch_size"]) for pictures in images]
        a, b = clouds[library]
        distance = frechet_distance(GaussianStats.of(a[width]), GaussianStats.of(b[width]))
        tolerance = {"relative": 1e-4 if int(width) < 768 else 1e-3}
        if not isinstance(expected, dict):
            figures.close(name, distance, expected, **tolerance)
            continue
        figures.close(f"{name}.fid", distance, expected["frechet_inception_distance"], **tolerance)
        _compare_cloud(name, a, b, width, settings, expected, figures)
    figures.information["pictures"] = sum(map(len, images))


def _compare_cloud(
    name: str,
    a: dict[str, Tensor],
    b: dict[str, Tensor],
    width: str,
    settings: dict[str, Any],
    expected: dict[str, Any],
    figures: Figures,
) -> None:
    kid = KidConfig(subsets=settings["kid_subsets"], subset_size=settings["kid_subset_size"], seed=settings["rng_seed"])
    distance = kernel_distance(a[width], b[width], kid)
    shares = precision_recall(a[width], b[width], neighbours=settings["prc_neighborhood"])
    one = 1 / min(len(a[width]), len(b[width]))
    found = {
        "frechet_inception_distance": (expected["frechet_inception_distance"], {"relative": 0.0}),
        "kernel_inception_distance_mean": (distance.mean, {"relative": 1e-4}),
        "kernel_inception_distance_std": (distance.deviation, {"relative": 1e-4}),
        "precision": (shares.precision, {"absolute": one * 1.001}),
        "recall": (shares.recall, {"absolute": one * 1.001}),
        "f_score": (shares.f_score, {"absolute": one * 1.001}),
    }
    if "inception_score_mean" in expected:
        score = inception_score(
            a["logits_unbiased"],
            splits=settings["isc_splits"],
            shuffle=settings["samples_shuffle"],
            seed=settings["rng_seed"],
        )
        found["inception_score_mean"] = (score.mean, {"relative": 1e-4})
        found["inception_score_std"] = (score.deviation, {"relative": 1e-3})
    figures.same_names(name, found, expected)
    for key in set(found) & set(expected):
        value, tolerance = found[key]
        figures.close(f"{name}.{key}", value, expected[key], **tolerance)


@torch.no_grad()
def features_of(images: np.ndarray[Any, Any], convention: Convention, batch_size: int) -> dict[str, Tensor]:
    """Features of all pictures, by suffix."""
    parts = [
        named(network()(PREPARATIONS[convention](torch.from_numpy(images[start : start + batch_size]))))
        for start in range(0, len(images), batch_size)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

"""Adapters as files of the library peft: ``adapter_model.safetensors`` and ``adapter_config.json``."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from infinity import storage
from infinity.config import ConfigError, parse_json
from infinity.transformer.adapters.lora import Adapter, AdapterError, LowRank
from infinity.transformer.config import TransformerConfig
from infinity.transformer.model import Transformer

CONFIG_FILE = "adapter_config.json"
TENSORS_FILE = "adapter_model.safetensors"
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
_DIFFUSERS_CONFIG = "lora_adapter_metadata"
"""Text in the header of a file of diffusers: peft's configuration as JSON, its names behind the model's part."""
_PREFIX = "base_model.model."
_KEY = re.compile(
    r"(base_model\.model\.)?((transformer|diffusion_model)\.)?(?P<module>.+)\."
    r"((?P<part>lora_A|lora_B|lora_down|lora_up)(\.[\w-]+)?\.weight"
    r"|(?P<vector>lora_magnitude_vector)(\.[\w-]+)?|(?P<alpha>alpha))"
)
_LONGEST_KEY = 300
_REPEATS = re.compile(r"[*+?{]")
_MAY_TAKE_LONG = re.compile(rf"\)[*+?{{]|.{{{_LONGEST_KEY}}}", re.DOTALL)
_FLAT = re.compile(r"(lora_(unet|transformer)|lycoris)_(?P<name>\w+)")
_BLOCK = re.compile(r"blocks_(?P<number>0|[1-9]\d*)_(?P<inner>\w+)")
_PARTS = {"lora_down": "lora_A", "lora_up": "lora_B"}
"""Names of kohya's sd-scripts for peft's."""


def save_adapter(folder: str, adapter: Adapter) -> str:
    """Write an adapter as a folder that peft reads, and return its digest.

    Each linear map's factor is kept: its ``lora_alpha`` is factor times rank.

    Raises:
        StorageError: The folder cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    ranks, alphas, dora = {}, {}, False
    for name, layer in sorted(adapter.layers.items()):
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = layer.down.detach().cpu().contiguous().clone()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = layer.up.detach().cpu().contiguous().clone()
        if layer.magnitude is not None:
            dora = True
            tensors[f"{_PREFIX}{name}.lora_magnitude_vector"] = layer.magnitude.detach().cpu().contiguous().clone()
        ranks[name] = int(layer.down.shape[0])
        alphas[name] = layer.scaling * ranks[name]
    config = _config(ranks, alphas, dora)
    storage.write_bytes(storage.join(folder, TENSORS_FILE), safetensors.torch.save(tensors, {"format": "pt"}))
    storage.write_text(storage.join(folder, CONFIG_FILE), json.dumps(config, indent=2, sort_keys=True) + "\n")
    return adapter_digest(adapter.layers)


def _config(ranks: Mapping[str, int], alphas: Mapping[str, float], dora: bool) -> dict[str, Any]:
    """Return peft's description; the most frequent rank and alpha stand alone, others in its patterns."""
    rank = max(ranks.values(), key=list(ranks.values()).count, default=1)
    alpha = max(alphas.values(), key=list(alphas.values()).count, default=1.0)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "use_dora": dora,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
    }


_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq")
"""Ways in which peft begins a LoRA that put a part of the base's weights into it."""


def load_adapter(uri: str) -> Adapter:
    """Read an adapter: a folder of peft's two files or of diffusers' one, or the file of tensors.

    Its configuration is that in the header of the file (diffusers), or ``adapter_config.json`` beside it (peft); a file
    in which every linear map has its ``alpha`` needs none. Keys may have the prefix ``transformer.`` (diffusers), an
    adapter's name (``lora_A.default.weight``), or the names ``lora_down``, ``lora_up`` and ``alpha`` (kohya), also with
    underscores instead of dots (``lora_unet_blocks_0_feed_forward_expand``).

    Raises:
        AdapterError: The files are damaged, or describe something else than LoRA or DoRA of linear maps.
        StorageError: The place cannot be read.
    """
    file = uri if uri.endswith(".safetensors") else _file_in(uri)
    try:
        data = storage.read_bytes(file)
    except storage.FileMissingError as error:
        raise AdapterError(f"{uri}: expected an adapter ({TENSORS_FILE} and {CONFIG_FILE}), found none") from error
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:  # the latter of huge shapes
        raise AdapterError(f"{file}: damaged, or not a safetensors file ({type(error).__name__})") from error
    config = _config_of(data, file)
    layers = _layers(tensors, config, file)
    folder = storage.parent(file) if storage.name(file) in (TENSORS_FILE, DIFFUSERS_FILE) else file
    return Adapter(storage.name(folder.rstrip("/")), layers, adapter_digest(layers))


def _file_in(folder: str) -> str:
    """Return the file of tensors in a folder: peft's, or else diffusers' if it is there."""
    ours, theirs = (storage.join(folder, name) for name in (TENSORS_FILE, DIFFUSERS_FILE))
    return theirs if not storage.exists(ours) and storage.exists(theirs) else ours


def _config_of(data: bytes, file: str) -> dict[str, Any] | None:
    """Return peft's configuration of a file of tensors, which it holds itself or which lies beside it; None for none.

    Raises:
        AdapterError: It is damaged, or that of something else than LoRA or DoRA of linear maps.
    """
    about = storage.join(storage.parent(file), CONFIG_FILE)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = header.get("__metadata__", {}).get(_DIFFUSERS_CONFIG)
    where = about if text is None else f"{file}: {_DIFFUSERS_CONFIG}"
    if text is None and not storage.exists(about):
        return None
    try:
        config = parse_json(storage.read_text(about) if text is None else text, where=where)
    except ConfigError as error:
        raise AdapterError(str(error)) from error
    if text is not None and isinstance(config, dict):
        config = {str(name).removeprefix("transformer."): value for name, value in config.items()}
    _check_config(config, where)
    found: dict[str, Any] = config
    return found


def _check_config(config: Any, where: str) -> None:
    if not isinstance(config, dict) or str(config.get("peft_type")) not in ("LORA", "PeftType.LORA"):
        found = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise AdapterError(f"{where}: expected an adapter of the type LORA, found {found!s:.40}")
    unusual: dict[str, tuple[Any, ...]] = {
        "bias": ("none", None),
        "modules_to_save": (None, []),
        "fan_in_fan_out": (False, None),
        "lora_bias": (False, None),
        "layer_replication": (None, []),
        "trainable_token_indices": (None, [], {}),
        "target_parameters": (None, []),
        "alora_invocation_tokens": (None, []),
        "use_qalora": (False, None),
    }
    for name, fine in unusual.items():
        if config.get(name, fine[0]) not in fine:
            raise AdapterError(f"{where}: expected {name} {fine[0]!r}, found {config[name]!r:.60}; it cannot be loaded")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGE_THE_BASE):
        raise AdapterError(
            f"{where}: init_lora_weights is {start!r:.40}, which changes the weights below the adapter; convert it "
            "to plain LoRA with peft (path_initial_model_for_weight_conversion) and load that"
        )
    for name in ("r", "lora_alpha"):
        value = config.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise AdapterError(f"{where}: expected a positive number {name}, found {value!r:.40}")


def _layers(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None, where: str) -> dict[str, LowRank]:
    layers = {}
    for module, found in _parts(tensors, where).items():
        if "lora_A" not in found or "lora_B" not in found:
            raise AdapterError(f"{where}: {module} has only {', '.join(sorted(found))}; expected lora_A and lora_B")
        if not all(part.is_floating_point() for name, part in found.items() if name != "alpha"):
            kinds = " and ".join(str(found[name].dtype) for name in ("lora_A", "lora_B"))
            raise AdapterError(f"{where}: {module}: expected floating-point numbers, found {kinds}")
        # Few operations exist for numbers of 8 bits.
        down, up = (part.float() if part.element_size() == 1 else part for part in (found["lora_A"], found["lora_B"]))
        if down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0] or not down.shape[0]:
            raise AdapterError(f"{where}: {module}: the shapes {tuple(down.shape)} and {tuple(up.shape)} are no LoRA")
        magnitude = _magnitude(module, found.get("lora_magnitude_vector"), up.shape[0], config, where)
        scaling = _scaling(module, down.shape[0], found.get("alpha"), config, where)
        layers[module] = LowRank(down, up, scaling, magnitude)
    if not layers:
        raise AdapterError(f"{where}: the adapter holds no tensor")
    return layers


def _parts(tensors: Mapping[str, Tensor], where: str) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of every linear map by peft's names of the parts."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        match = _KEY.fullmatch(key) if len(key) <= _LONGEST_KEY else None
        if match is None:
            raise AdapterError(
                f"{where}: expected tensors lora_A, lora_B and magnitudes of linear maps, found {key!r:.120}"
            )
        module = _with_dots(match["module"], where)
        part = _PARTS.get(str(match["part"]), match["part"]) or match["vector"] or match["alpha"]
        own = parts.setdefault(module, {})
        if part in own:
            raise AdapterError(f"{where}: {module} has {part} twice; expected one adapter per file")
        own[part] = value
    return parts


def _with_dots(module: str, where: str) -> str:
    """Return the name of a linear map, which kohya's sd-scripts and LyCORIS write with underscores for the dots.

    Raises:
        AdapterError: The name has their prefix, and is not that of one linear map of ours.
    """
    match = _FLAT.fullmatch(module)
    if match is None and not module.startswith(("lora_", "lycoris_")):
        return module
    flat = module if match is None else match["name"]
    block = _BLOCK.fullmatch(flat)
    found = _flat_names().get(flat if block is None else f"blocks_0_{block['inner']}")
    if match is None or found is None:
        raise AdapterError(
            f"{where}: expected linear maps of this transformer, with dots or with underscores, such as "
            f"lora_unet_blocks_0_feed_forward_expand, found {module!r:.120}; it is one of another model"
        )
    return found if block is None else found.replace(".0.", f".{block['number']}.", 1)


@lru_cache(maxsize=1)
def _flat_names() -> Mapping[str, str]:
    """Return the names of a transformer's linear maps by their spelling with underscores, if no two share it."""
    config = TransformerConfig(width=8, num_heads=1, depth=1, num_bits=1, text_channels=8)
    with torch.device("meta"):
        names = [name for name, module in Transformer(config).named_modules() if isinstance(module, nn.Linear)]
    counts = Counter(name.replace(".", "_") for name in names)
    return {flat: name for name in names if counts[flat := name.replace(".", "_")] == 1}


def _magnitude(
    module: str, found: Tensor | None, rows: int, config: Mapping[str, Any] | None, where: str
) -> Tensor | None:
    """Return the magnitudes of a linear map, which are there exactly if its configuration asks for DoRA."""
    wanted = bool(config and config.get("use_dora"))
    if wanted and found is None:
        raise AdapterError(
            f"{where}: {module} has no lora_magnitude_vector, which use_dora in its configuration asks for; as "
            "plain LoRA it would draw other pictures"
        )
    if found is not None and not wanted:
        raise AdapterError(
            f"{where}: {module} has a lora_magnitude_vector (DoRA), but its {CONFIG_FILE} does not set use_dora; set it"
        )
    if found is not None and found.shape != (rows,):
        raise AdapterError(f"{where}: {module}: expected {rows} magnitudes, found the shape {tuple(found.shape)}")
    return found


def _scaling(module: str, rank: int, own_alpha: Tensor | None, config: Mapping[str, Any] | None, where: str) -> float:
    """Return the factor of a linear map: peft's by its configuration, or alpha / rank where the file holds alpha."""
    if own_alpha is not None:
        alpha = float(own_alpha) if own_alpha.numel() == 1 else math.nan
        if not 0 < alpha < 1e6:
            raise AdapterError(f"{where}: {module}: expected a positive number alpha, found {own_alpha.tolist()!s:.40}")
    elif config is None:
        raise AdapterError(
            f"{where}: expected {CONFIG_FILE} beside it, or an alpha of every linear map in it, found neither for "
            f"{module}; without alpha the strength of the adapter is unknown"
        )
    else:
        alpha = _of_module(module, "lora_alpha", "alpha_pattern", config, where)
    if config is None:
        return alpha / rank
    expected = _of_module(module, "r", "rank_pattern", config, where)
    if expected != rank:
        raise AdapterError(f"{where}: {module} has the rank {rank}, its configuration says {expected:g}")
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _of_module(module: str, name: str, patterns: str, config: Mapping[str, Any], where: str) -> float:
    """Return a number of a linear map: as in peft, of the first pattern that matches its name, else the general one."""
    found = config.get(patterns) or {}
    if not isinstance(found, dict):
        raise AdapterError(f"{where}: expected {patterns} to be an object, found {type(found).__name__}")
    for pattern, value in found.items():
        if _MAY_TAKE_LONG.search(pattern) or len(_REPEATS.findall(pattern)) > 2 or pattern.count("|") > 9:
            raise AdapterError(
                f"{where}: {patterns} {pattern!r:.60}: expected the name of a linear map, or a plain pattern of names "
                "(at most two repetitions, none of a group): others may never end; write the names"
            )
        try:
            is_match = re.match(rf"(.*\.)?({pattern})$", module) is not None
        except (re.error, OverflowError, RecursionError) as error:
            raise AdapterError(f"{where}: {patterns} {pattern!r:.60} is not a regular expression") from error
        if is_match:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
                raise AdapterError(f"{where}: expected positive numbers in {patterns}, found {value!r:.40}")
            return float(value)
    return float(config[name])


def adapter_digest(layers: Mapping[str, LowRank]) -> str:
    """Return 16 hexadecimal digits over all tensors and factors."""
    state = hashlib.sha256()
    for name, layer in sorted(layers.items()):
        state.update(f"{name} {layer.scaling!r}".encode())
        for tensor in (layer.down, layer.up, layer.magnitude):
            if tensor is not None:
                state.update(str(tuple(tensor.shape)).encode())
                state.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def parse_adapter(text: str) -> tuple[str, float]:
    """Split ``file[:scale]`` into its place and scale; without one the scale is 1.

    Raises:
        AdapterError: The scale is not a number from -10 to 10.

    Example:
        >>> parse_adapter("emoji:0.5"), parse_adapter("s3://bucket/emoji")
        (('emoji', 0.5), ('s3://bucket/emoji', 1.0))
    """
    place, colon, number = text.rpartition(":")
    if not colon or not place or "/" in number:
        return text, 1.0
    try:
        scale = float(number)
    except ValueError:
        return text, 1.0
    if not -10.0 <= scale <= 10.0:
        raise AdapterError(f"{text}: expected a scale from -10 to 10 behind the colon, got {number}")
    return place, scale

"""Import published checkpoints and export ours, bit for bit (repository tools/run_infinity.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from infinity.checkpoint import CheckpointError, build, load_checkpoint, save_checkpoint, shorten
from infinity.config import Config
from infinity.convert import tokenizer_names, transformer_names
from infinity.convert.arguments import agreed, size_in_name
from infinity.convert.entries import own_shapes, read_entries, write_entries
from infinity.convert.files import (
    MAX_SHARD_BYTES,
    PICKLES,
    TOKENIZER_KEY,
    read_tokenizer_file,
    read_transformer_file,
    write_pickle,
    write_shards,
)
from infinity.convert.pairs import check_pair, check_same_tokenizer, remember_source, source_of
from infinity.scales import Resolution, Size
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.transformer import Transformer, TransformerConfig
from infinity.transformer.config import Positions

_TOKENIZER_KIND = "tokenizer"
_TRANSFORMER_KIND = "transformer"
_EXTRA = "published"
_NOTHING = torch.empty(0, 0, 0, 0, 0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PublishedTransformer:
    """A transformer read from a published file.

    Attributes:
        config: Configuration, inferred from the tensors' shapes and the caller's arguments.
        tensors: Tensors by our names, in the data types of the file.
        num_chunks: Groups of blocks in the published names, which the export needs.
        where: Name of the file in error messages.
        size: Class of the training's pictures; None if the file has none.
        fold: Whether 2x2 positions of the tokenizer make one token; None if the file does not tell.
        tokenizer_file: Path of the tokenizer in the training's arguments, or None.
        tokenizer: Tensors of the tokenizer in the file, by published name, or None.
    """

    config: TransformerConfig
    tensors: dict[str, Tensor]
    num_chunks: int
    where: str = "published transformer"
    size: Size | None = None
    fold: bool | None = None
    tokenizer_file: str | None = None
    tokenizer: dict[str, Tensor] | None = None

    @property
    def extra(self) -> dict[str, Any]:
        """Value for a checkpoint's ``extra`` from which the file can be exported again, bit for bit."""
        names = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in self.tensors.items()}
        dtypes = {name: dtype for name, dtype in names.items() if dtype != "float32"}
        return {_EXTRA: {"num_chunks": self.num_chunks, "dtypes": dtypes}}

    def build(self, *, is_shared: bool = False) -> Transformer:
        """Build the module with these weights, in float32.

        Args:
            is_shared: Whether float32 tensors are taken without a copy, so that a mapped file needs no memory until it
                is read: to write a module of any size.
        """
        return build(lambda: Transformer(self.config), self.tensors, where=self.where, is_shared=is_shared).eval()

    def resolution(self, given: Resolution | None = None) -> Resolution:
        """Return the resolution of the training, or the given one if the file has none.

        Raises:
            CheckpointError: The given class is not that of the training.
        """
        size = agreed("size", None if given is None else given.size, self.size, "1024", where=self.where)
        return Resolution(size=size)

    def check_tokenizer(self, folder: str) -> None:
        """Refuse a tokenizer that is known not to be the one of this transformer's training.

        Raises:
            CheckpointError: The file contains or names another tokenizer, or the released pair has another one.
        """
        kind = load_checkpoint(folder, kind=_TOKENIZER_KIND)
        config = TokenizerConfig.from_json(kind.config, where=folder)
        if self.fold is not None and self.fold != config.fold:
            needed, found = ("folds" if fold else "does not fold" for fold in (self.fold, config.fold))
            raise CheckpointError(
                f"{self.where}: was trained with a tokenizer that {needed} 2x2 positions into a token, the one in "
                f"{folder} {found} them; import that one {'with' if self.fold else 'without'} --fold"
            )
        check_pair(self.where, source_of(folder, kind.digest), trained_with=self.tokenizer_file)
        if self.tokenizer is not None:
            check_same_tokenizer(self.tokenizer, kind, config, where=self.where)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PublishedTokenizer:
    """A tokenizer read from a published file.

    Attributes:
        config: Configuration, inferred from the tensors' shapes and the caller's arguments.
        tensors: Tensors by our names, in the data types of the file.
        where: Name of the file in error messages.
    """

    config: TokenizerConfig
    tensors: dict[str, Tensor]
    where: str = "published tokenizer"

    def build(self) -> Tokenizer:
        """Build the module with these weights, in float32."""
        return build(lambda: Tokenizer(self.config), self.tensors, where=self.where).eval()


def transformer_from_published(
    published: Mapping[str, Tensor],
    *,
    where: str,
    positions: Positions = "frame",
    scale_embedding_each_chunk: bool = False,
    norm_eps: float = 1e-6,
    config: TransformerConfig | None = None,
) -> PublishedTransformer:
    """Translate tensors under published names.

    Args:
        published: Tensors by published name.
        where: Name of the source in error messages.
        positions: RoPE coordinates, which cannot be inferred from shapes.
        scale_embedding_each_chunk: Whether the scale embedding is added before every chunk of blocks.
        norm_eps: Epsilon of all norms.
        config: Expected configuration; None to infer it.

    Raises:
        CheckpointError: Tensors are missing, unknown or of another shape.
    """
    published = {name: each for name, each in published.items() if name not in transformer_names.OBSOLETE_BUFFERS}
    config = config or transformer_names.infer_transformer_config(
        published,
        where=where,
        positions=positions,
        scale_embedding_each_chunk=scale_embedding_each_chunk,
        norm_eps=norm_eps,
    )
    num_chunks = transformer_names.num_block_chunks(published)
    entries = transformer_names.transformer_entries(config, num_chunks)
    tensors = read_entries(entries, published, own_shapes(Transformer, config), where=where)
    return PublishedTransformer(config=config, tensors=tensors, num_chunks=num_chunks, where=where)


def transformer_to_published(
    config: TransformerConfig, tensors: Mapping[str, Tensor], *, num_chunks: int
) -> dict[str, Tensor]:
    """Translate our tensors to published names, in the order of published files."""
    return write_entries(transformer_names.transformer_entries(config, num_chunks), tensors)


def tokenizer_from_published(
    published: Mapping[str, Tensor], *, where: str, fold: bool = False, config: TokenizerConfig | None = None
) -> PublishedTokenizer:
    """Translate tensors under published names.

    Args:
        published: Tensors by published name, without the file's outer key.
        where: Name of the source in error messages.
        fold: Whether 2x2 positions are folded into a token (8B model), which cannot be inferred from shapes.
        config: Expected configuration; None to infer it.

    Raises:
        CheckpointError: Tensors are missing, unknown or of another shape.
    """
    published = tokenizer_names.with_usual_names(published)
    config = config or tokenizer_names.infer_tokenizer_config(published, where=where, fold=fold)
    entries = tokenizer_names.tokenizer_entries(config)
    tensors = read_entries(entries, published, own_shapes(Tokenizer, config), where=where)
    return PublishedTokenizer(config=config, tensors=tensors, where=where)


def tokenizer_to_published(config: TokenizerConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate our tensors to published names, in the order of published files."""
    return write_entries(tokenizer_names.tokenizer_entries(config), tensors)


def import_transformer(
    source: str,
    *,
    ema: bool = False,
    positions: Positions | None = None,
    scale_embedding_each_chunk: bool | None = None,
    norm_eps: float | None = None,
) -> PublishedTransformer:
    """Read a published transformer; ``generation.save_model`` writes it as a model folder::

        imported = import_transformer("infinity_2b_reg.pth")
        save_model(output, imported.build(), text=..., resolution=..., tokenizer_uri=..., extra=imported.extra)

    Args:
        source: URI of a ``.pth``, a ``.safetensors``, or a folder of shards with an index.
        ema: Whether to take the averaged weights of a training checkpoint.
        positions: RoPE coordinates, which cannot be inferred from shapes. None for those in the training's arguments,
            or else the common frame.
        scale_embedding_each_chunk: Whether the scale embedding is added before every chunk of blocks. None for the
            value in the training's arguments, or else False.
        norm_eps: Epsilon of all norms. None for the value in the training's arguments, or else 1e-6.

    Raises:
        CheckpointError: The file is not a transformer or is damaged, tensors are missing, unknown or of another shape,
            or an argument contradicts the training's.
    """
    file = read_transformer_file(source, ema=ema)
    said = file.arguments
    found = transformer_from_published(
        file.tensors,
        where=source,
        positions=agreed("positions", positions, said.positions, "frame", where=source),
        scale_embedding_each_chunk=agreed(
            "scale_embedding_each_chunk",
            scale_embedding_each_chunk,
            said.scale_embedding_each_chunk,
            False,
            where=source,
        ),
        norm_eps=agreed("norm_eps", norm_eps, said.norm_eps, 1e-6, where=source),
    )
    return dataclasses.replace(
        found,
        size=said.size or size_in_name(source),
        fold=said.fold,
        tokenizer_file=said.tokenizer_file,
        tokenizer=file.tokenizer,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Remembered(Config):
    """Facts of an imported transformer's file that its export needs."""

    num_chunks: int = 1
    dtypes: dict[str, Literal["bfloat16", "float16", "float64", "float32"]] = dataclasses.field(default_factory=dict)

    def dtype(self, name: str) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.dtypes.get(name, "float32"))
        return dtype


def export_transformer(
    model: str, target: str, *, num_chunks: int | None = None, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Export the transformer of a model folder to the published format.

    Args:
        model: URI of our model folder.
        target: URI of a ``.pth`` file, or of a folder for shards.
        num_chunks: Groups of blocks in the names; None for those of the imported file, or else one.
        max_shard_bytes: Size at which another shard starts.

    Raises:
        CheckpointError: There is no model folder, or the published format cannot hold its model.
    """
    checkpoint = load_checkpoint(model, kind=_TRANSFORMER_KIND)
    config = TransformerConfig.from_json(checkpoint.config.get("transformer"), where=f"{model}: transformer")
    own = own_shapes(Transformer, config)
    if wrong := {name for name, shape in own.items() if tuple(checkpoint.tensors.get(name, _NOTHING).shape) != shape}:
        raise CheckpointError(f"{model}: these tensors are not those of its configuration: {shorten(sorted(wrong))}")
    remembered = _Remembered.from_json(checkpoint.extra.get(_EXTRA, {}), where=f"{model}: {_EXTRA}")
    tensors = {n: t.to(remembered.dtype(n)) for n, t in checkpoint.tensors.items()}
    chunks = num_chunks or remembered.num_chunks
    published = transformer_to_published(config, tensors, num_chunks=chunks)
    if target.endswith(PICKLES):
        write_pickle(target, published)
    else:
        write_shards(target, published, max_shard_bytes=max_shard_bytes)


def import_tokenizer(source: str, output: str, *, fold: bool = False) -> str:
    """Import a published tokenizer as a checkpoint folder.

    Args:
        source: URI of a file with the tensors under the key ``vae``.
        output: URI of the folder to write.
        fold: Whether 2x2 positions are folded into a token (8B model), which cannot be inferred from shapes.

    Returns:
        Digest of the checkpoint.

    Raises:
        CheckpointError: The file is not a tokenizer or is damaged, or tensors are missing, unknown or of another shape.
    """
    published = tokenizer_from_published(read_tokenizer_file(source), where=source, fold=fold)
    digest = save_checkpoint(output, kind=_TOKENIZER_KIND, config=published.config, tensors=published.tensors)
    remember_source(output, digest, source)
    return digest


def export_tokenizer(tokenizer: str, target: str) -> None:
    """Export a tokenizer to the published format: a pickle with the key ``vae``.

    Raises:
        CheckpointError: There is no tokenizer folder, or the published format cannot hold its tokenizer.
    """
    if not target.endswith(PICKLES):
        raise CheckpointError(f"{target}: expected a file name that ends in .pth for a published tokenizer")
    checkpoint = load_checkpoint(tokenizer, kind=_TOKENIZER_KIND)
    config = TokenizerConfig.from_json(checkpoint.config, where=tokenizer)
    write_pickle(target, {TOKENIZER_KEY: tokenizer_to_published(config, checkpoint.tensors)})

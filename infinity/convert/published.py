"""Published checkpoints into ours and back, bit for bit (repository tools/run_infinity.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infinity.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from infinity.convert import tokenizer_names, transformer_names
from infinity.convert.entries import read_entries, write_entries
from infinity.convert.files import (
    MAX_SHARD_BYTES,
    PICKLES,
    TOKENIZER_KEY,
    read_tokenizer_file,
    read_transformer_file,
    write_pickle,
    write_shards,
)
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.transformer import Transformer, TransformerConfig
from infinity.transformer.config import Positions

_TOKENIZER_KIND = "tokenizer"
_TRANSFORMER_KIND = "transformer"
_EXTRA = "published"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PublishedTransformer:
    """A transformer read from a published file.

    Attributes:
        config: Inferred from the tensors' shapes and the caller's words.
        tensors: Under our names, in the types of the file.
        num_chunks: Groups of blocks in the published names; needed to write the same names back.
    """

    config: TransformerConfig
    tensors: dict[str, Tensor]
    num_chunks: int

    @property
    def extra(self) -> dict[str, Any]:
        """What a checkpoint of ours must remember, as its ``extra``, to be written back bit for bit."""
        names = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in self.tensors.items()}
        dtypes = {name: dtype for name, dtype in names.items() if dtype != "float32"}
        return {_EXTRA: {"num_chunks": self.num_chunks, "dtypes": dtypes}}

    def build(self) -> Transformer:
        """The module with these weights, in float32."""
        module = Transformer(self.config)
        load_weights(module, self.tensors, where="published transformer")
        return module.eval()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PublishedTokenizer:
    """A tokenizer read from a published file.

    Attributes:
        config: Inferred from the tensors' shapes and the caller's words.
        tensors: Under our names, in the types of the file.
    """

    config: TokenizerConfig
    tensors: dict[str, Tensor]

    def build(self) -> Tokenizer:
        """The module with these weights, in float32."""
        module = Tokenizer(self.config)
        load_weights(module, self.tensors, where="published tokenizer")
        return module.eval()


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
        where: Their source, for error messages.
        positions: RoPE coordinates, which no shape tells.
        scale_embedding_each_chunk: Whether the scale embedding is added before every chunk of blocks.
        norm_eps: Of all norms.
        config: The configuration they must have; inferred if None.

    Raises:
        CheckpointError: Missing, unknown or differently shaped tensors.
    """
    config = config or transformer_names.infer_transformer_config(
        published,
        where=where,
        positions=positions,
        scale_embedding_each_chunk=scale_embedding_each_chunk,
        norm_eps=norm_eps,
    )
    num_chunks = transformer_names.num_block_chunks(published)
    entries = transformer_names.transformer_entries(config, num_chunks)
    tensors = read_entries(entries, published, transformer_names.own_shapes(config), where=where)
    return PublishedTransformer(config=config, tensors=tensors, num_chunks=num_chunks)


def transformer_to_published(
    config: TransformerConfig, tensors: Mapping[str, Tensor], *, num_chunks: int
) -> dict[str, Tensor]:
    """The inverse: tensors under published names, in the order of published files."""
    return write_entries(transformer_names.transformer_entries(config, num_chunks), tensors)


def tokenizer_from_published(
    published: Mapping[str, Tensor], *, where: str, fold: bool = False, config: TokenizerConfig | None = None
) -> PublishedTokenizer:
    """Translate tensors under published names.

    Args:
        published: Tensors by published name, without the file's outer key.
        where: Their source, for error messages.
        fold: Whether 2x2 positions are folded into a token (8B model), which no shape tells.
        config: The configuration they must have; inferred if None.

    Raises:
        CheckpointError: Missing, unknown or differently shaped tensors.
    """
    config = config or tokenizer_names.infer_tokenizer_config(published, where=where, fold=fold)
    entries = tokenizer_names.tokenizer_entries(config)
    tensors = read_entries(entries, published, tokenizer_names.own_shapes(config), where=where)
    return PublishedTokenizer(config=config, tensors=tensors)


def tokenizer_to_published(config: TokenizerConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse: tensors under published names, in the order of published files."""
    return write_entries(tokenizer_names.tokenizer_entries(config), tensors)


def import_transformer(
    source: str,
    *,
    ema: bool = False,
    positions: Positions = "frame",
    scale_embedding_each_chunk: bool = False,
    norm_eps: float = 1e-6,
) -> PublishedTransformer:
    """Read a published transformer; ``generation.save_model`` writes it as a model folder::

        imported = import_transformer("infinity_2b_reg.pth")
        save_model(output, imported.build(), text=..., resolution=..., tokenizer_uri=..., extra=imported.extra)

    Args:
        source: ``.pth``, ``.safetensors``, or a folder of shards with an index; local or in S3.
        ema: Of a training checkpoint take the averaged weights.
        positions: RoPE coordinates, which no shape tells.
        scale_embedding_each_chunk: Whether the scale embedding is added before every chunk of blocks.
        norm_eps: Of all norms.

    Raises:
        CheckpointError: Not such a file, a damaged one, or missing, unknown or differently shaped tensors.
    """
    return transformer_from_published(
        read_transformer_file(source, ema=ema),
        where=source,
        positions=positions,
        scale_embedding_each_chunk=scale_embedding_each_chunk,
        norm_eps=norm_eps,
    )


def export_transformer(
    model: str, target: str, *, num_chunks: int | None = None, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write the transformer of a model folder as the published code reads it.

    Args:
        model: Our model folder.
        target: A ``.pth`` file, or a folder for shards.
        num_chunks: Groups of blocks in the names; by default those of the file it was imported from, else one.
        max_shard_bytes: Start another shard beyond this.

    Raises:
        CheckpointError: No model folder, or one that no published file can hold.
    """
    checkpoint = load_checkpoint(model, kind=_TRANSFORMER_KIND)
    config = TransformerConfig.from_json(checkpoint.config["transformer"], where=model)
    remembered = checkpoint.extra.get(_EXTRA, {})
    dtypes = remembered.get("dtypes", {})
    tensors = {n: t.to(getattr(torch, dtypes.get(n, "float32"))) for n, t in checkpoint.tensors.items()}
    chunks = num_chunks or remembered.get("num_chunks", 1)
    published = transformer_to_published(config, tensors, num_chunks=chunks)
    if target.endswith(PICKLES):
        write_pickle(target, published)
    else:
        write_shards(target, published, max_shard_bytes=max_shard_bytes)


def import_tokenizer(source: str, output: str, *, fold: bool = False) -> str:
    """Read a published tokenizer and write it as a checkpoint folder of ours.

    Args:
        source: A file that holds the tensors under the key ``vae``; local or in S3.
        output: The folder to write.
        fold: Whether 2x2 positions are folded into a token (8B model), which no shape tells.

    Returns:
        The digest of the checkpoint.

    Raises:
        CheckpointError: Not such a file, a damaged one, or missing, unknown or differently shaped tensors.
    """
    published = tokenizer_from_published(read_tokenizer_file(source), where=source, fold=fold)
    return save_checkpoint(output, kind=_TOKENIZER_KIND, config=published.config, tensors=published.tensors)


def export_tokenizer(tokenizer: str, target: str) -> None:
    """Write a tokenizer checkpoint of ours as the published code reads it: a pickle with the key ``vae``.

    Raises:
        CheckpointError: No tokenizer folder, or one that no published file can hold.
    """
    if not target.endswith(PICKLES):
        raise CheckpointError(f"{target}: expected a file name that ends in .pth for a published tokenizer")
    checkpoint = load_checkpoint(tokenizer, kind=_TOKENIZER_KIND)
    config = TokenizerConfig.from_json(checkpoint.config, where=tokenizer)
    write_pickle(target, {TOKENIZER_KEY: tokenizer_to_published(config, checkpoint.tensors)})

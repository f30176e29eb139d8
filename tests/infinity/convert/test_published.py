"""Published checkpoints into ours and back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from infinity import storage
from infinity.checkpoint import CheckpointError, load_checkpoint
from infinity.convert import (
    export_tokenizer,
    export_transformer,
    import_tokenizer,
    import_transformer,
    tokenizer_from_published,
    tokenizer_to_published,
    transformer_from_published,
    transformer_to_published,
)
from infinity.generation import load_transformer, save_model
from infinity.scales import Resolution
from infinity.text import BuiltinTextConfig
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.transformer import Transformer, TransformerConfig

TRANSFORMER = TransformerConfig(
    width=64, num_heads=2, depth=4, num_bits=8, text_channels=128, max_text_tokens=6, drop_path=0.1
)
TOKENIZER = TokenizerConfig(
    num_bits=8, base_width=32, num_downsamples=2, encoder_multipliers=(1, 2, 1), decoder_multipliers=(1, 1, 2)
)


def random_like(shapes: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in shapes.items()}


def published_transformer(config: TransformerConfig = TRANSFORMER, num_chunks: int = 2) -> dict[str, Tensor]:
    return transformer_to_published(config, random_like(Transformer(config).state_dict()), num_chunks=num_chunks)


def published_tokenizer(config: TokenizerConfig = TOKENIZER) -> dict[str, Tensor]:
    return tokenizer_to_published(config, random_like(Tokenizer(config).state_dict()))


def assert_bit_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        assert torch.equal(found[name], tensor), name


def load_pickle(path: Path) -> Any:
    return torch.load(path, weights_only=True)


class TestNames:
    """Tensors under published names, without files."""

    @pytest.mark.parametrize("num_chunks", [1, 2, 4])
    @pytest.mark.parametrize(
        "config",
        [
            TRANSFORMER,
            TRANSFORMER.replace(cross_attention_layer_scale=1.0),
            TRANSFORMER.replace(mlp_ratio=8.0, num_bits=56, num_heads=4),
            TRANSFORMER.replace(width=96, max_scales=13),
        ],
        ids=["plain", "gate", "wide", "odd"],
    )
    def test_a_transformer_comes_back_and_its_configuration_is_inferred(
        self, config: TransformerConfig, num_chunks: int
    ) -> None:
        published = published_transformer(config, num_chunks)
        imported = transformer_from_published(published, where="test")
        assert imported.config == config
        assert imported.num_chunks == num_chunks
        assert_bit_equal(transformer_to_published(config, imported.tensors, num_chunks=num_chunks), published)
        imported.build()

    def test_what_no_shape_tells_is_said_by_the_caller(self) -> None:
        imported = transformer_from_published(
            published_transformer(), where="test", positions="grid", scale_embedding_each_chunk=True, norm_eps=1e-5
        )
        expected = TRANSFORMER.replace(positions="grid", scale_embedding_period=2, norm_eps=1e-5)
        assert imported.config == expected

    @pytest.mark.parametrize(
        "config",
        [
            TOKENIZER,
            TOKENIZER.replace(num_res_blocks=1, base_width=24),
            TokenizerConfig(
                num_bits=64, base_width=32, encoder_multipliers=(1, 1, 1, 1, 1), decoder_multipliers=(1, 1, 1, 1, 1)
            ),
        ],
        ids=["plain", "narrow", "64 bits"],
    )
    def test_a_tokenizer_comes_back_and_its_configuration_is_inferred(self, config: TokenizerConfig) -> None:
        published = published_tokenizer(config)
        imported = tokenizer_from_published(published, where="test")
        assert imported.config == config
        assert_bit_equal(tokenizer_to_published(config, imported.tensors), published)
        imported.build()

    def test_folding_is_said_by_the_caller(self) -> None:
        assert tokenizer_from_published(published_tokenizer(), where="test", fold=True).config.token_bits == 32

    def test_rows_of_joined_matrices_go_to_queries_keys_and_values_in_this_order(self) -> None:
        published = published_transformer()
        block = "block_chunks.0.module.0."
        joined = published[f"{block}sa.mat_qkv.weight"]
        tensors = transformer_from_published(published, where="test").tensors
        attention = "blocks.0.self_attention."
        assert torch.equal(tensors[f"{attention}query_key.weight"], joined[:128])
        assert torch.equal(tensors[f"{attention}value.weight"], joined[128:])
        pooled = published["text_proj_for_sos.ca.mat_kv.weight"]
        assert torch.equal(tensors["pool.key_value.key.weight"], pooled[:64])
        assert torch.equal(tensors["pool.key_value.value.weight"], pooled[64:])

    @pytest.mark.parametrize("kind", ["transformer", "tokenizer"])
    def test_every_missing_tensor_is_named(self, kind: str) -> None:
        read: Callable[..., Any] = transformer_from_published if kind == "transformer" else tokenizer_from_published
        published = published_transformer() if kind == "transformer" else published_tokenizer()
        for name in published:
            if name.endswith(("zero_k_bias", "lfq.mask")):
                continue  # constants, which may be absent
            rest = {other: tensor for other, tensor in published.items() if other != name}
            with pytest.raises(CheckpointError, match="the_file") as caught:
                read(rest, where="the_file")
            assert name in str(caught.value)

    @pytest.mark.parametrize("kind", ["transformer", "tokenizer"])
    def test_every_wrongly_shaped_tensor_is_an_error(self, kind: str) -> None:
        read: Callable[..., Any] = transformer_from_published if kind == "transformer" else tokenizer_from_published
        published = published_transformer() if kind == "transformer" else published_tokenizer()
        for name, tensor in published.items():
            if name in ("cfg_uncond", "lvl_embed.weight"):
                continue  # any number of text tokens or scales is a configuration
            wrong = published | {name: torch.cat([tensor, tensor[-1:]])}
            with pytest.raises(CheckpointError, match="the_file"):
                read(wrong, where="the_file")

    def test_unknown_tensors_are_named(self) -> None:
        with pytest.raises(CheckpointError, match=r"unknown norm0_ve\.bias, norm0_ve\.weight"):
            transformer_from_published(
                published_transformer() | {"norm0_ve.weight": torch.ones(8), "norm0_ve.bias": torch.ones(8)}, where="x"
            )
        with pytest.raises(CheckpointError, match=r"unknown quantizer\.project_in\.weight"):
            tokenizer_from_published(published_tokenizer() | {"quantizer.project_in.weight": torch.ones(1)}, where="x")

    def test_buffers_that_say_nothing_must_have_their_only_value(self) -> None:
        name = "text_proj_for_sos.ca.zero_k_bias"
        with pytest.raises(CheckpointError, match=name):
            transformer_from_published(published_transformer() | {name: torch.ones(64)}, where="x")
        with pytest.raises(CheckpointError, match=r"quantize\.lfq\.mask"):
            tokenizer_from_published(published_tokenizer() | {"quantize.lfq.mask": torch.arange(8)}, where="x")

    def test_masks_are_powers_of_two_from_the_highest(self) -> None:
        assert published_tokenizer()["quantizer.lfq.mask"].tolist() == [128, 64, 32, 16, 8, 4, 2, 1]

    def test_a_conventional_head_is_refused_both_ways(self) -> None:
        config = TRANSFORMER.replace(head="joint")
        with pytest.raises(CheckpointError, match="joint head"):
            transformer_to_published(config, Transformer(config).state_dict(), num_chunks=1)
        wrong = published_transformer() | {"head.weight": torch.zeros(256, 64), "head.bias": torch.zeros(256)}
        with pytest.raises(CheckpointError, match="two logits per bit"):
            transformer_from_published(wrong, where="x")

    @pytest.mark.parametrize("change", [{"stem_px": 2}, {"norm_groups": 8}, {"quantizer": "lfq"}])
    def test_tokenizers_that_the_format_cannot_hold_are_refused(self, change: dict[str, Any]) -> None:
        config = TOKENIZER.replace(**change)
        with pytest.raises(CheckpointError, match="published tokenizers have"):
            tokenizer_to_published(config, Tokenizer(config).state_dict())


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> str:
    torch.save({"vae": published_tokenizer()}, tmp_path / "vae.pth")
    import_tokenizer(str(tmp_path / "vae.pth"), str(tmp_path / "tokenizer"))
    return str(tmp_path / "tokenizer")


def save_imported(source: str, output: str, tokenizer_folder: str) -> None:
    imported = import_transformer(source)
    save_model(
        output,
        imported.build(),
        text=BuiltinTextConfig(),
        resolution=Resolution(size="256"),
        tokenizer_uri=tokenizer_folder,
        extra=imported.extra,
    )


class TestFiles:
    """Whole files and folders."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_a_transformer_file_is_written_back_bit_for_bit(
        self, tmp_path: Path, tokenizer_folder: str, dtype: torch.dtype
    ) -> None:
        published = {name: tensor.to(dtype) for name, tensor in published_transformer().items()}
        torch.save(published, tmp_path / "model.pth")
        save_imported(str(tmp_path / "model.pth"), str(tmp_path / "ours"), tokenizer_folder)
        export_transformer(str(tmp_path / "ours"), str(tmp_path / "again.pth"))
        assert_bit_equal(load_pickle(tmp_path / "again.pth"), published)

    def test_types_may_be_mixed(self, tmp_path: Path, tokenizer_folder: str) -> None:
        published = published_transformer()
        published = {name: t.bfloat16() if "module" in name else t for name, t in published.items()}
        torch.save(published, tmp_path / "model.pth")
        save_imported(str(tmp_path / "model.pth"), str(tmp_path / "ours"), tokenizer_folder)
        export_transformer(str(tmp_path / "ours"), str(tmp_path / "again.pth"))
        assert_bit_equal(load_pickle(tmp_path / "again.pth"), published)

    def test_shards_are_read_and_written_back(self, tmp_path: Path, tokenizer_folder: str) -> None:
        torch.save(published_transformer(), tmp_path / "model.pth")
        save_imported(str(tmp_path / "model.pth"), str(tmp_path / "ours"), tokenizer_folder)
        export_transformer(str(tmp_path / "ours"), str(tmp_path / "shards"), max_shard_bytes=400_000)
        files = sorted(path.name for path in (tmp_path / "shards").iterdir())
        assert len(files) > 2
        assert files[-1] == "pytorch_model.bin.index.json"
        imported = import_transformer(str(tmp_path / "shards"))
        assert imported.num_chunks == 2
        save_imported(str(tmp_path / "shards"), str(tmp_path / "again"), tokenizer_folder)
        export_transformer(str(tmp_path / "again"), str(tmp_path / "again.pth"))
        assert_bit_equal(load_pickle(tmp_path / "again.pth"), published_transformer())

    def test_shards_of_safetensors_are_read(self, tmp_path: Path) -> None:
        published = published_transformer()
        names = list(published)
        parts = {"model-1.safetensors": names[:40], "model-2.safetensors": names[40:]}
        for file, part in parts.items():
            safetensors.torch.save_file({name: published[name] for name in part}, tmp_path / file)
        weight_map = {name: file for file, part in parts.items() for name in part}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        tensors = import_transformer(str(tmp_path)).tensors
        assert_bit_equal(transformer_to_published(TRANSFORMER, tensors, num_chunks=2), published)

    def test_training_checkpoints_hold_current_and_averaged_weights(self, tmp_path: Path) -> None:
        current = published_transformer()
        averaged = {name: tensor * 2 for name, tensor in current.items()}
        content = {"epoch": 3, "args": {"pn": "0.06M"}, "trainer": {"gpt_fsdp": current, "gpt_ema_fsdp": averaged}}
        torch.save(content, tmp_path / "ar-ckpt.pth")
        source = str(tmp_path / "ar-ckpt.pth")
        assert torch.equal(import_transformer(source).tensors["head.weight"], current["head.weight"])
        assert torch.equal(import_transformer(source, ema=True).tensors["head.weight"], averaged["head.weight"])

    def test_averaged_weights_of_a_plain_file_are_an_error(self, tmp_path: Path) -> None:
        torch.save(published_transformer(), tmp_path / "model.pth")
        with pytest.raises(CheckpointError, match="only training checkpoints"):
            import_transformer(str(tmp_path / "model.pth"), ema=True)

    def test_a_tokenizer_file_is_written_back_bit_for_bit(self, tmp_path: Path, tokenizer_folder: str) -> None:
        export_tokenizer(tokenizer_folder, str(tmp_path / "again.pth"))
        content = load_pickle(tmp_path / "again.pth")
        assert list(content) == ["vae"]
        assert_bit_equal(content["vae"], published_tokenizer())

    def test_an_imported_model_folder_is_a_model(self, tmp_path: Path, tokenizer_folder: str) -> None:
        torch.save(published_transformer(), tmp_path / "model.pth")
        save_imported(str(tmp_path / "model.pth"), str(tmp_path / "ours"), tokenizer_folder)
        config, transformer = load_transformer(str(tmp_path / "ours"))
        assert config.transformer == TRANSFORMER
        assert torch.equal(transformer.head.bias, published_transformer()["head.bias"])
        assert load_checkpoint(tokenizer_folder).config == TOKENIZER.to_json()

    def test_a_model_of_ours_that_was_never_published_is_exported_in_one_chunk(
        self, tmp_path: Path, tokenizer_folder: str
    ) -> None:
        transformer = Transformer(TRANSFORMER)
        transformer.init_weights(torch.Generator().manual_seed(0))
        save_model(
            str(tmp_path / "ours"),
            transformer,
            text=BuiltinTextConfig(),
            resolution=Resolution(size="256"),
            tokenizer_uri=tokenizer_folder,
        )
        export_transformer(str(tmp_path / "ours"), str(tmp_path / "model.pth"))
        assert "blocks.3.sa.proj.weight" in load_pickle(tmp_path / "model.pth")
        assert torch.equal(import_transformer(str(tmp_path / "model.pth")).build().start, transformer.start)

    def test_files_may_lie_in_s3(self, tmp_path: Path, s3_server: str, tokenizer_folder: str) -> None:
        torch.save(published_transformer(), tmp_path / "model.pth")
        storage.upload_folder(tmp_path, f"{s3_server}/published")
        save_imported(f"{s3_server}/published/model.pth", f"{s3_server}/ours", tokenizer_folder)
        export_transformer(f"{s3_server}/ours", f"{s3_server}/shards", max_shard_bytes=400_000)
        assert import_transformer(f"{s3_server}/shards").config == TRANSFORMER


class Unsafe:
    """Stands for any Python object in a file."""


class TestBadFiles:
    """Each a clear error."""

    @pytest.mark.parametrize("reader", [import_transformer, lambda source: import_tokenizer(source, "unused")])
    @pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 broken"])
    def test_damaged_files(self, tmp_path: Path, reader: Callable[[str], Any], content: bytes) -> None:
        (tmp_path / "model.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.pth"):
            reader(str(tmp_path / "model.pth"))

    def test_truncated_files(self, tmp_path: Path) -> None:
        torch.save(published_transformer(), tmp_path / "model.pth")
        whole = (tmp_path / "model.pth").read_bytes()
        (tmp_path / "model.pth").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CheckpointError, match=r"model\.pth"):
            import_transformer(str(tmp_path / "model.pth"))

    def test_objects_beside_tensors_are_not_loaded(self, tmp_path: Path) -> None:
        torch.save({"vae": published_tokenizer(), "args": Unsafe()}, tmp_path / "vae.pth")
        with pytest.raises(CheckpointError, match="could run code"):
            import_tokenizer(str(tmp_path / "vae.pth"), str(tmp_path / "out"))

    def test_a_tokenizer_file_without_its_key(self, tmp_path: Path) -> None:
        torch.save({"ema": published_tokenizer(), "step": 1}, tmp_path / "vae.pth")
        with pytest.raises(CheckpointError, match="under the key 'vae', found the keys ema, step"):
            import_tokenizer(str(tmp_path / "vae.pth"), str(tmp_path / "out"))

    def test_a_list_or_other_values(self, tmp_path: Path) -> None:
        torch.save([torch.ones(1)], tmp_path / "list.pth")
        with pytest.raises(CheckpointError, match="dictionary of tensors, found list"):
            import_transformer(str(tmp_path / "list.pth"))
        torch.save({"head.weight": 3}, tmp_path / "number.pth")
        with pytest.raises(CheckpointError, match=r"other values under head\.weight"):
            import_transformer(str(tmp_path / "number.pth"))

    def test_nothing_there(self, tmp_path: Path) -> None:
        for name in ("model.pth", "folder"):
            with pytest.raises(CheckpointError, match="found nothing there"):
                import_transformer(str(tmp_path / name))

    def test_a_folder_without_an_index(self, tmp_path: Path) -> None:
        torch.save(published_transformer(), tmp_path / "pytorch_model-00001-of-00002.bin")
        with pytest.raises(CheckpointError, match="that lists the shards"):
            import_transformer(str(tmp_path))

    @pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', "{}"])
    def test_a_broken_index(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "model.bin.index.json").write_text(text)
        with pytest.raises(CheckpointError, match="weight_map"):
            import_transformer(str(tmp_path))

    def test_a_missing_shard_and_one_outside_the_folder(self, tmp_path: Path) -> None:
        index = tmp_path / "model.bin.index.json"
        index.write_text(json.dumps({"weight_map": {"head.weight": "one.bin"}}))
        with pytest.raises(CheckpointError, match=r"one\.bin.*nothing there"):
            import_transformer(str(tmp_path))
        index.write_text(json.dumps({"weight_map": {"head.weight": "../one.bin"}}))
        with pytest.raises(CheckpointError, match="same folder"):
            import_transformer(str(tmp_path))

    def test_a_shard_with_other_tensors_than_the_index_says(self, tmp_path: Path) -> None:
        torch.save({"head.bias": torch.ones(1)}, tmp_path / "one.bin")
        (tmp_path / "model.bin.index.json").write_text(json.dumps({"weight_map": {"head.weight": "one.bin"}}))
        with pytest.raises(CheckpointError, match=r"missing head\.weight; unknown head\.bias"):
            import_transformer(str(tmp_path))

    def test_a_tokenizer_as_a_transformer_and_the_other_way_round(self, tmp_path: Path) -> None:
        torch.save({"vae": published_transformer()}, tmp_path / "wrong.pth")
        with pytest.raises(CheckpointError, match=r"missing encoder\.down"):
            import_tokenizer(str(tmp_path / "wrong.pth"), str(tmp_path / "out"))
        with pytest.raises(CheckpointError, match="other values under vae"):
            import_transformer(str(tmp_path / "wrong.pth"))

    def test_a_number_of_chunks_that_does_not_divide_the_blocks(self, tmp_path: Path, tokenizer_folder: str) -> None:
        torch.save(published_transformer(), tmp_path / "model.pth")
        save_imported(str(tmp_path / "model.pth"), str(tmp_path / "ours"), tokenizer_folder)
        with pytest.raises(CheckpointError, match="divides the 4 blocks, got 3"):
            export_transformer(str(tmp_path / "ours"), str(tmp_path / "again.pth"), num_chunks=3)

    def test_a_tokenizer_is_exported_to_a_file(self, tmp_path: Path, tokenizer_folder: str) -> None:
        with pytest.raises(CheckpointError, match=r"ends in \.pth"):
            export_tokenizer(tokenizer_folder, str(tmp_path / "folder"))


@pytest.mark.reference
@pytest.mark.parametrize("case", ["b_tokenizer_p16", "d_transformer_train", "e_inference"])
def test_golden_weights_come_back_bit_for_bit(shared: Path, case: str) -> None:
    published = safetensors.torch.load_file(shared / "goldens" / case / "state_dict.safetensors")
    about = json.loads((shared / "goldens" / case / "case.json").read_text())
    in_order = {name: published[name] for name in about["files"]["state_dict.safetensors"]}
    if case == "b_tokenizer_p16":
        tokenizer = tokenizer_from_published(in_order, where=case)
        assert_bit_equal(tokenizer_to_published(tokenizer.config, tokenizer.tensors), in_order)
    else:
        transformer = transformer_from_published(in_order, where=case)
        again = transformer_to_published(transformer.config, transformer.tensors, num_chunks=transformer.num_chunks)
        assert_bit_equal(again, in_order)

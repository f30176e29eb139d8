"""Networks with random weights in the published formats, as small as they go, saved by transformers itself."""

from __future__ import annotations

from pathlib import Path

import torch

TEXT = """a photo of red orange yellow green blue purple pink brown black white colored object is there the what
colour yes no does have an how many answer with one word in lower case or rewrite prompt cup dog cat bench user
assistant picture two three and left right above below . ? , - : <image>"""
WORDS = TEXT.split()


def _seed() -> None:
    torch.manual_seed(0)


def bert_vocabulary() -> dict[str, int]:
    """A WordPiece vocabulary of letters and some words."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS)]
    tokens += [letter for letter in letters if letter not in tokens] + [f"##{letter}" for letter in letters]
    return {token: number for number, token in enumerate(tokens)}


def write_mask2former(folder: Path, *, num_classes: int = 80, num_queries: int = 6) -> str:
    """As facebook/mask2former-swin-small-coco-instance lies on the hub; pictures are resized to 32 pixels."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
    from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

    _seed()
    backbone = SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"], drop_path_rate=0.0,
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=8,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=num_queries,
        num_labels=num_classes, common_stride=2,
    )  # fmt: skip
    network = Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():  # so that some classes are likely and some masks are not empty
        network.class_predictor.weight.mul_(40)
        for parameter in network.model.transformer_module.queries_features.parameters():
            parameter.mul_(10)
    network.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 64}).save_pretrained(folder)
    return str(folder)


def write_clip(folder: Path) -> str:
    """As openai/clip-vit-large-patch14 lies on the hub; pictures are resized to 8 pixels."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    _seed()
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, "-", *(f"{letter}</w>" for letter in (*letters, "-")), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    CLIPTokenizerFast(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(folder)
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={
            **layers, "vocab_size": len(tokens), "eos_token_id": len(tokens) - 1, "bos_token_id": len(tokens) - 2,
        },
        vision_config={**layers, "image_size": 8, "patch_size": 4},
        projection_dim=8,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}).save_pretrained(folder)
    return str(folder)


def write_image_classifier(folder: Path, labels: tuple[str, ...], *, seed: int = 0) -> str:
    """As Falconsai/nsfw_image_detection lies on the hub: a vision transformer with a name for each class."""
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4,
        id2label=dict(enumerate(labels)), label2id={label: n for n, label in enumerate(labels)}, initializer_range=0.5,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    return str(folder)


def write_vilt(folder: Path) -> str:
    """As dandelin/vilt-b32-finetuned-vqa lies on the hub; it answers yes, no or Yes."""
    from transformers import BertTokenizerFast, ViltConfig, ViltForQuestionAnswering
    from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil

    _seed()
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = bert_vocabulary()
    BertTokenizerFast(vocab=vocabulary, model_max_length=40).save_pretrained(folder)
    config = ViltConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=16, id2label={0: "yes", 1: "no", 2: "Yes"}, label2id={"yes": 0, "no": 1, "Yes": 2},
        initializer_range=0.5,
    )  # fmt: skip
    network = ViltForQuestionAnswering(config)
    with torch.no_grad():  # so that the picture matters beside the question
        network.vilt.embeddings.patch_embeddings.projection.weight.mul_(6)
    network.save_pretrained(folder)
    ViltImageProcessorPil(size={"shortest_edge": 32}, size_divisor=16).save_pretrained(folder)
    return str(folder)


def write_blip(folder: Path) -> str:
    """As Salesforce/blip-vqa-base lies on the hub."""
    from transformers import BertTokenizerFast, BlipConfig, BlipForQuestionAnswering, BlipProcessor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    _seed()
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = bert_vocabulary()
    tokenizer = BertTokenizerFast(vocab=vocabulary, model_max_length=40)
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BlipConfig(
        text_config={
            **layers, "vocab_size": len(vocabulary) + 2, "bos_token_id": len(vocabulary), "eos_token_id": 3,
            "encoder_hidden_size": 16,
            "sep_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 64, "initializer_range": 0.5,
        },
        vision_config={**layers, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )  # fmt: skip
    BlipForQuestionAnswering(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessorPil(size={"height": 16, "width": 16}), tokenizer).save_pretrained(folder)
    return str(folder)


def write_word_tokenizer(folder: Path) -> int:
    """A tokenizer of whole words with a chat template; its size."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "<unk>", "<s>", "</s>", *dict.fromkeys(WORDS)]
    tokenizer = Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = (
        "{% for message in messages %}{{ message['role'] }} : {{ message['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}assistant : {% endif %}"
    )
    fast.save_pretrained(folder)
    return len(tokens)


def write_instruct(folder: Path) -> str:
    """A Llama that follows a chat template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    _seed()
    size = write_word_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=256, bos_token_id=2, eos_token_id=3, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def write_llava(folder: Path) -> str:
    """A vision-language model with a chat template: a CLIP's eyes and a Llama."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    _seed()
    size = write_word_tokenizer(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**layers, image_size=8, patch_size=4),
        text_config=LlamaConfig(
            **layers, vocab_size=size, bos_token_id=2, eos_token_id=3, pad_token_id=0, initializer_range=0.5
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    template = (
        "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}assistant : {% endif %}"
    )
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}),
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    processor.save_pretrained(folder)
    return str(folder)

"""Questions about pictures through transformers: BLIP, ViLT, and vision-language models that follow instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from jinja2 import TemplateError

from infinity.config import Config
from infinity.perception.loading import check_complete, check_weights, explain
from infinity.ranges import Count, ModelName
from infinity.storage.plain_files import check_plain_files

Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VqaConfig(Config):
    """Configuration of the model that answers, and its instruction.

    Attributes:
        model: A local folder or hub name: BLIP for question answering, ViLT for question answering, or any
            image-text-to-text model with a chat template; the folder's config.json says which.
        sha256: First 8 to 64 digits of the checksum of the folder's weights, or None for no check.
        dtype: Data type of weights and arithmetic.
        batch_size: Questions per batch.
        instruction: Instruction to an image-text-to-text model, with ``{question}``; others get the question alone.
        max_new_tokens: Largest number of tokens per answer.
    """

    model: ModelName = "Salesforce/blip-vqa-capfilt-large"
    sha256: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_size: Count = 16
    instruction: str = "{question} Answer with one word in lower case: yes or no."
    max_new_tokens: Count = 10

    def __post_init__(self) -> None:
        if "{question}" not in self.instruction:
            raise ValueError(f"VqaConfig.instruction: expected the place of the {{question}}, got {self.instruction!r}")

    def describe(self) -> str:
        """Return model, checksum and data type in words, for the protocol."""
        weights = f" sha256 {self.sha256[:16]}" if self.sha256 else ""
        return f"VQA by {self.model}{weights} ({self.dtype})"


@dataclass(frozen=True, slots=True)
class Token:
    """First token of an answer.

    Attributes:
        text: Likeliest token, as text.
        probability: Probability, 0 to 1, that the answer begins with one of the wanted texts.
    """

    text: str
    probability: float


class Vqa:
    """Model that answers greedily; the same question about the same picture gets the same answer.

    Raises:
        ValueError: There is no such model, its weights are not the expected ones, or tensors are missing.
    """

    def __init__(self, config: VqaConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        import transformers
        from transformers import AutoConfig, AutoProcessor

        check_weights(config.model, config.sha256)
        self.config = config
        check_plain_files(config.model)
        try:
            self._kind = str(AutoConfig.from_pretrained(config.model).model_type)
            loaders = {"blip": "BlipForQuestionAnswering", "vilt": "ViltForQuestionAnswering"}
            loader = getattr(transformers, loaders.get(self._kind, "AutoModelForImageTextToText"))
            # An answer is read after the question, so padding goes before it for instructed models.
            side = {} if self._kind in loaders else {"padding_side": "left"}
            self._processor: Any = AutoProcessor.from_pretrained(config.model, backend="pil", **side)
            self._model, report = loader.from_pretrained(
                config.model, dtype=getattr(torch, config.dtype), output_loading_info=True
            )
        except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
            raise ValueError(explain("model that answers questions about pictures", config.model, error)) from error
        check_complete(self._model, report, config.model)
        if self._kind not in loaders and getattr(self._processor, "chat_template", None) is None:
            raise ValueError(f"{config.model}: expected a processor with a chat template, found none")
        self._model.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def answer(self, questions: Sequence[tuple[Picture, str]]) -> list[str]:
        """Return one answer for every picture and question."""
        answers: dict[int, str] = {}
        for places in self._batches([question for _, question in questions]):
            found = self._answer([questions[place][0] for place in places], [questions[place][1] for place in places])
            answers.update(zip(places, found, strict=True))
        return [answers[place] for place in range(len(questions))]

    @torch.no_grad()
    def follow(self, asked: Sequence[tuple[Picture, str]], system: str = "") -> list[str]:
        """Return a reply to every picture and instruction, greedily; the instruction stands before the picture.

        Args:
            system: Message of the system before each; empty for none.

        Raises:
            ValueError: The model is not an image-text-to-text model, or its chat template has no place for a system.
        """
        if self._kind in ("blip", "vilt"):
            raise ValueError(
                f"{self.config.model}: expected an image-text-to-text model, which follows instructions; a "
                f"{self._kind} answers single questions"
            )
        replies: list[str] = []
        for start in range(0, len(asked), self.config.batch_size):
            batch = asked[start : start + self.config.batch_size]
            prompts = [self._instruction(text, system) for _, text in batch]
            replies += self._generated([picture for picture, _ in batch], prompts)
        return replies

    def _instruction(self, text: str, system: str) -> str:
        user = [{"type": "text", "text": text}, {"type": "image"}]
        before = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
        try:
            return str(
                self._processor.apply_chat_template(
                    [*before, {"role": "user", "content": user}], add_generation_prompt=True, tokenize=False
                )
            )
        except TemplateError as error:
            raise ValueError(f"{self.config.model}: its chat template takes no system message ({error})") from error

    @torch.no_grad()
    def first_tokens(self, questions: Sequence[tuple[Picture, str]], wanted: Sequence[Sequence[str]]) -> list[Token]:
        """Return the likeliest first token of every answer, and the probability that a wanted text begins it.

        Args:
            wanted: Texts per question, such as "Yes" and "yes"; probabilities of their distinct first tokens add up.

        Raises:
            ValueError: The model is not an image-text-to-text model, or knows none of the wanted texts.
        """
        if self._kind in ("blip", "vilt"):
            raise ValueError(
                f"{self.config.model}: expected an image-text-to-text model, whose answers have probabilities; a "
                f"{self._kind} has none that compare"
            )
        found: list[Token] = []
        size = self.config.batch_size
        for start in range(0, len(questions), size):
            batch = questions[start : start + size]
            inputs = self._prompted([picture for picture, _ in batch], [self._prompt(text) for _, text in batch])
            probabilities = self._model(**inputs).logits[:, -1].float().softmax(dim=-1)
            for row, texts in zip(probabilities, wanted[start : start + size], strict=True):
                likeliest = self._processor.tokenizer.decode([int(row.argmax())])
                found.append(Token(str(likeliest), float(row[self._first(texts)].sum())))
        return found

    def _first(self, texts: Sequence[str]) -> list[int]:
        """Return the numbers of the distinct tokens with which texts begin; unknown tokens do not count."""
        tokenizer = self._processor.tokenizer
        begun = [tokenizer.encode(text, add_special_tokens=False)[:1] for text in texts]
        known = sorted({token for tokens in begun for token in tokens} - {tokenizer.unk_token_id})
        if not known:
            raise ValueError(
                f"{self.config.model}: expected a tokenizer that knows one of {', '.join(texts)}; it knows none"
            )
        return known

    def _batches(self, questions: Sequence[str]) -> list[list[int]]:
        """Return the places of the questions that run together.

        BLIP's decoder treats padding as text, so there only questions of one length run together.
        """
        groups: dict[int, list[int]] = {}
        for place, question in enumerate(questions):
            length = len(self._processor.tokenizer(question).input_ids) if self._kind == "blip" else 0
            groups.setdefault(length, []).append(place)
        size = self.config.batch_size
        return [group[at : at + size] for _, group in sorted(groups.items()) for at in range(0, len(group), size)]

    def _answer(self, pictures: list[Picture], questions: list[str]) -> list[str]:
        if self._kind not in ("blip", "vilt"):
            return self._generated(pictures, [self._prompt(question) for question in questions])
        inputs = self._inputs(images=pictures, text=questions, padding=True, truncation=True, return_tensors="pt")
        if self._kind == "vilt":
            best = self._model(**inputs).logits.argmax(dim=-1).tolist()
            return [str(self._model.config.id2label[number]) for number in best]
        generated = self._model.generate(**inputs, max_new_tokens=self.config.max_new_tokens, do_sample=False)
        return [str(text) for text in self._processor.batch_decode(generated, skip_special_tokens=True)]

    def _generated(self, pictures: list[Picture], prompts: list[str]) -> list[str]:
        inputs = self._prompted(pictures, prompts)
        generated = self._model.generate(**inputs, max_new_tokens=self.config.max_new_tokens, do_sample=False)
        new = generated[:, inputs["input_ids"].shape[1] :]
        return [str(text).strip() for text in self._processor.batch_decode(new, skip_special_tokens=True)]

    def _prompt(self, question: str) -> str:
        text = self.config.instruction.replace("{question}", question)
        content = [{"type": "image"}, {"type": "text", "text": text}]
        return str(
            self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        )

    def _prompted(self, pictures: list[Picture], prompts: list[str]) -> Any:
        """Return the model's inputs for one picture and one instruction each, up to where the answer begins."""
        images = [[picture] for picture in pictures]
        return self._inputs(images=images, text=prompts, padding=True, return_tensors="pt")

    def _inputs(self, **arguments: Any) -> Any:
        inputs = self._processor(**arguments).to(self._model.device)
        for name, value in inputs.items():
            if torch.is_floating_point(value):
                inputs[name] = value.to(self._model.dtype)
        return inputs

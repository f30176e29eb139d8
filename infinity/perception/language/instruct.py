"""Language model that follows instructions, through transformers: questions in, answers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from infinity.config import Config
from infinity.perception.loading import check_complete, explain
from infinity.ranges import Count, ModelName
from infinity.storage.plain_files import check_plain_files


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructConfig(Config):
    """Configuration of the model and the length of its answers.

    Attributes:
        model: A local folder or hub name of a causal language model whose tokenizer has a chat template.
        max_new_tokens: Largest number of tokens per answer.
        dtype: Data type of weights and arithmetic.
        batch_size: Questions per batch.
    """

    model: ModelName
    max_new_tokens: Count = 160
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_size: Count = 8


class InstructModel:
    """Model that answers greedily, so that equal questions get equal answers.

    Raises:
        ValueError: There is no language model, or it has no chat template.
    """

    def __init__(self, config: InstructConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.config = config
        check_plain_files(config.model)
        try:
            # An answer is read after the question, so padding goes before the question.
            self._tokenizer: Any = AutoTokenizer.from_pretrained(config.model, padding_side="left")
            self._model, report = AutoModelForCausalLM.from_pretrained(
                config.model, dtype=getattr(torch, config.dtype), output_loading_info=True
            )
        except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
            raise ValueError(explain("language model", config.model, error)) from error
        check_complete(self._model, report, config.model)
        if self._tokenizer.chat_template is None:
            raise ValueError(
                f"{config.model}: expected a tokenizer with a chat template (chat_template.jinja or "
                "tokenizer_config.json), found none; take an instruction-tuned model"
            )
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def answer(self, questions: Sequence[str]) -> list[str]:
        """Return one answer per question, without blanks at its ends."""
        answers: list[str] = []
        for start in range(0, len(questions), self.config.batch_size):
            answers += self._answer(questions[start : start + self.config.batch_size])
        return answers

    def _answer(self, questions: Sequence[str]) -> list[str]:
        chats = [[{"role": "user", "content": question}] for question in questions]
        tokens = self._tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        ).to(self._model.device)
        generated = self._model.generate(
            **tokens,
            max_new_tokens=self.config.max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        new = generated[:, tokens["input_ids"].shape[1] :]
        return [str(text).strip() for text in self._tokenizer.batch_decode(new, skip_special_tokens=True)]

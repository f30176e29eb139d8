"""Prompts rewritten before they are drawn: by a language model on a worker, or in advance in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from infinity.config import Config
from infinity.perception.language.instruct import InstructConfig
from infinity.storage.lines import json_objects
from infinity.storage.pinned import PinnedFile

INSTRUCTION = (
    "Rewrite the following prompt for a text-to-image model. Keep every object, number, colour and spatial relation "
    "exactly as it is, add a short visual description of each object and of the scene, and answer with the rewritten "
    "prompt alone, in one paragraph of at most 80 words."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RewriteFile(Config):
    """Rewritings that were made in advance.

    Attributes:
        file: JSON lines, each ``{"prompt": ..., "rewritten": ...}``; every prompt of the benchmark must be there.
        kind: Tag that tells this rewriter from others in JSON.
    """

    file: PinnedFile
    kind: Literal["file"] = "file"

    def read(self) -> dict[str, str]:
        """Return the rewritings by prompt.

        Raises:
            ValueError: A line of another format, two rewritings of one prompt, or an empty rewriting.
            StorageError: The file is missing.
        """
        found: dict[str, str] = {}
        for where, data in json_objects(self.file.read(), self.file.uri):
            if set(data) != {"prompt", "rewritten"}:
                raise ValueError(f'{where}: expected {{"prompt": ..., "rewritten": ...}}, found {str(data)[:120]}')
            prompt, rewritten = data["prompt"], data["rewritten"]
            if not isinstance(prompt, str) or not isinstance(rewritten, str) or not rewritten.strip():
                raise ValueError(f"{where}: expected two texts, the rewritten one not empty, found {str(data)[:120]}")
            if found.get(prompt, rewritten) != rewritten:
                raise ValueError(f"{where}: a second, different rewriting of {prompt!r}")
            found[prompt] = rewritten
        return found

    def rewrite(self, prompts: Sequence[str]) -> list[str]:
        """Return the rewriting of every prompt.

        Raises:
            ValueError: The file lacks a prompt.
        """
        found = self.read()
        if missing := [prompt for prompt in prompts if prompt not in found]:
            raise ValueError(
                f"{self.file.uri}: expected a rewriting of all {len(prompts)} prompts, found none of {len(missing)}, "
                f"the first is {missing[0]!r}"
            )
        return [found[prompt] for prompt in prompts]


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructRewriter(Config):
    """Rewritings by a language model that follows instructions.

    Attributes:
        instruction: Instruction to the model; the prompt follows on a line of its own.
        kind: Tag that tells this rewriter from others in JSON.
    """

    model: InstructConfig
    instruction: str = INSTRUCTION
    kind: Literal["instruct"] = "instruct"

    def questions(self, prompts: Sequence[str]) -> list[str]:
        """Return the model's input for every prompt."""
        return [f"{self.instruction}\n\nPrompt: {prompt}" for prompt in prompts]


Rewriter = RewriteFile | InstructRewriter


def describe(rewriter: Rewriter | None) -> str:
    """Return how prompts were rewritten, for the protocol of a score."""
    if rewriter is None:
        return "prompts as they are"
    if isinstance(rewriter, RewriteFile):
        digest = f" sha256 {rewriter.file.sha256[:16]}" if rewriter.file.sha256 else ""
        return f"prompts rewritten beforehand ({rewriter.file.uri.rsplit('/', 1)[-1]}{digest})"
    return f"prompts rewritten by {rewriter.model.model} (instruction {rewriter.digest()[:8]})"

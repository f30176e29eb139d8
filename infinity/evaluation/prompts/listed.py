"""Base of benchmarks over lists of prompts: how many, by whom drawn, and where pictures from elsewhere are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from infinity.config import Config
from infinity.evaluation.prompts.benchmark import PictureFolder, PromptItem, PromptSample, spread
from infinity.evaluation.prompts.found import Layout, in_folders_or_flat, locate
from infinity.evaluation.prompts.rewriting import Rewriter, describe
from infinity.ranges import Count


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedBenchmark(Config, ABC):
    """A benchmark over lists of prompts with one or several pictures of each.

    Attributes:
        num_prompts: Number of prompts, spread over all; None takes all. Scores of a part say so.
        rewriter: Rewriter of prompts before pictures are drawn, or None; pictures are scored with the original prompt.
        pictures: Pictures that were drawn elsewhere, ``<id>/samples/<number>.png``, ``<id>_<number>.png`` or
            ``<id>.png`` (any picture ending), or a table of prompt and file; None draws them.
    """

    pictures_per_prompt: Count = 1
    num_prompts: Count | None = None
    rewriter: Rewriter | None = None
    pictures: PictureFolder | None = None

    @property
    @abstractmethod
    def metric(self) -> str:
        """First part of the names of metrics where prompts are drawn as they are."""

    @abstractmethod
    def all_items(self) -> Sequence[PromptItem]:
        """Return all prompts of the lists, whatever ``num_prompts`` is.

        Raises:
            ValueError: A list cannot be read, has an id twice, or no prompt.
            StorageError: A file is missing.
        """

    @property
    def layout(self) -> Layout:
        """Layout of folders of pictures that were drawn elsewhere."""
        return in_folders_or_flat

    @property
    def name(self) -> str:
        """First part of the names of metrics and files; scores with rewritten prompts have names of their own."""
        return self.metric if self.rewriter is None else f"{self.metric}_rewritten"

    def items(self) -> tuple[PromptItem, ...]:
        """Return the prompts that are drawn.

        Raises:
            ValueError: A list cannot be read, has an id twice, or no prompt.
            StorageError: A file is missing.
        """
        return spread(self.all_items(), self.num_prompts)

    def find(self, folder: PictureFolder, items: Sequence[PromptItem]) -> list[PromptSample]:
        """Return pictures that were drawn elsewhere."""
        number = self.pictures_per_prompt
        known = items if self.num_prompts is None else self.all_items()
        return locate(folder, items, number, layout=self.layout, most=number, known=known)

    def drawing(self, per: str = "") -> str:
        """Return how prompts were drawn in words, for the protocol.

        Args:
            per: What ``num_prompts`` counts for, such as " a category"; nothing for all prompts together.
        """
        part = "" if self.num_prompts is None else f"; a part of the prompts: {self.num_prompts}{per}"
        return f"{describe(self.rewriter)}{part}"

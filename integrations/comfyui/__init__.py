"""Nodes of Infinity for ComfyUI; ComfyUI imports this folder from its ``custom_nodes``.

They stand on the public interface of ``infinity``, which must be installed in ComfyUI's Python. Start with
``nodes.py``.
"""

from .nodes import InfinityDraw, InfinityEdit, InfinityLoadAdapter, InfinityLoadModel

NODE_CLASS_MAPPINGS = {
    "InfinityLoadModel": InfinityLoadModel,
    "InfinityLoadAdapter": InfinityLoadAdapter,
    "InfinityDraw": InfinityDraw,
    "InfinityEdit": InfinityEdit,
}
"""Nodes by the name that workflow files store; a name that was published stays."""

NODE_DISPLAY_NAME_MAPPINGS = {
    "InfinityLoadModel": "Load Infinity Model",
    "InfinityLoadAdapter": "Load Infinity LoRA",
    "InfinityDraw": "Infinity Sampler",
    "InfinityEdit": "Infinity Edit (Inpaint)",
}
"""Titles of the nodes in the editor."""

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

"""Prompts to pictures: sampling with classifier-free guidance (CFG), and the pipeline that loads a model folder.

May import the tokenizer, the transformer and everything below them. Start with ``infinity_pipeline.py``, the public
door; ``generate.py`` is the loop over scales.
"""

from infinity.generation.files.picture_files import DrawingSettings, read_drawing
from infinity.generation.generate import Conditions, Generated, SampledBits, generate, sample_bits, to_uint8
from infinity.generation.pipeline import ModelConfig, Pipeline, load_transformer, save_model
from infinity.generation.sampling import PyramidGuidance, SamplingConfig, picture_generator

__all__ = [
    "Conditions",
    "DrawingSettings",
    "Generated",
    "ModelConfig",
    "Pipeline",
    "PyramidGuidance",
    "SampledBits",
    "SamplingConfig",
    "generate",
    "load_transformer",
    "picture_generator",
    "read_drawing",
    "sample_bits",
    "save_model",
    "to_uint8",
]

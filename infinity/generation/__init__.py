"""Prompts to pictures: cached generation with guidance, and the pipeline that loads a model folder."""

from infinity.generation.generate import Conditions, Generated, SampledBits, generate, sample_bits, to_uint8
from infinity.generation.pipeline import ModelConfig, Pipeline, load_transformer, save_model
from infinity.generation.sampling import PyramidGuidance, SamplingConfig, picture_generator

__all__ = [
    "Conditions",
    "Generated",
    "ModelConfig",
    "Pipeline",
    "PyramidGuidance",
    "SampledBits",
    "SamplingConfig",
    "generate",
    "load_transformer",
    "picture_generator",
    "sample_bits",
    "save_model",
    "to_uint8",
]

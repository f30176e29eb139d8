"""An optional watermark in the bits: logits lean towards a keyed pattern, and a test finds it in a picture's bits.

May import the tokenizer and everything below it, not the loop over scales. Start with ``pattern.py`` (what leans
where); ``detection.py`` is the test with its p-value, ``key.py`` reads keys, ``own_output.py`` is the data stage's
scorer. The idea of green bits is BitMark's (arXiv 2506.21209); the balanced pairs and the exact test are ours.
"""

from infinity.generation.watermark.detection import WatermarkDetector, WatermarkTest
from infinity.generation.watermark.key import WatermarkKey, read_watermark_key
from infinity.generation.watermark.pattern import BitWatermark

__all__ = ["BitWatermark", "WatermarkDetector", "WatermarkKey", "WatermarkTest", "read_watermark_key"]

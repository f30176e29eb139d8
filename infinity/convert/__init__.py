"""Convert published checkpoints to ours and back, bit for bit (decision 5).

May import the tokenizer, the transformer and everything below them. Start with ``published.py``.
"""

from infinity.convert.published import (
    PublishedTokenizer,
    PublishedTransformer,
    export_tokenizer,
    export_transformer,
    import_tokenizer,
    import_transformer,
    tokenizer_from_published,
    tokenizer_to_published,
    transformer_from_published,
    transformer_to_published,
)

__all__ = [
    "PublishedTokenizer",
    "PublishedTransformer",
    "export_tokenizer",
    "export_transformer",
    "import_tokenizer",
    "import_transformer",
    "tokenizer_from_published",
    "tokenizer_to_published",
    "transformer_from_published",
    "transformer_to_published",
]

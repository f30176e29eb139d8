"""Published checkpoints: read into ours and written back, bit for bit."""

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

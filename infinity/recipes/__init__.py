"""Named recipes: complete specs of whole runs and of the paper's trainings.

May import everything below the command line. Start with ``runs.py`` (demo, emoji, mini); ``paper_tokenizer.py`` and
``paper_transformer.py`` follow the published scripts.
"""

"""Text on a terminal: ``text.py`` makes text of strangers harmless, ``table.py`` lays tables out."""

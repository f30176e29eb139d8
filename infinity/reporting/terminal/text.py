"""Text from strangers on a terminal: captions and file names may hold commands to it, which are shown, not obeyed."""

from __future__ import annotations

import logging
import re

_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # all controls but the tab and the line feed
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # order of writing, which can make a text look like another
    "\u2028\u2029\ud800-\udfff]"  # ends of lines that are none to us; halves of characters, which cannot be printed
)


def escaped(text: str) -> str:
    r"""Return the text with every character that a terminal may obey spelled as in JSON, such as ``\u001b``."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class EscapingFormatter(logging.Formatter):
    """Lines of a log for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of the log, escaped."""
        return escaped(super().format(record))

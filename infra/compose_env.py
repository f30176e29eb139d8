"""Make ``infra/compose.env`` from its example, with a new secret in every empty place.

python -m infra.compose_env
"""

import re
import secrets
import sys
from pathlib import Path

from infra.server.keys import KeyFileError, write_private

EXAMPLE = Path(__file__).with_name("compose.env.example")
TARGET = EXAMPLE.with_suffix("")


def filled(example: str) -> str:
    """Return the text with a secret for every name without a value; letters and digits alone, without quotes."""

    def secret(match: re.Match[str]) -> str:
        user = "infinity:" if match[1] == "PREFECT_AUTH_STRING" else ""
        return f"{match[1]}={user}{secrets.token_hex(32)}"

    return re.sub(r"^([A-Z][A-Z0-9_]*)=[ \t]*$", secret, example, flags=re.MULTILINE)


def main(path: Path = TARGET) -> int:
    """Entry of the command line; a file that is there stays as it is."""
    if path.exists():
        print(f"error: {path} is there already; delete it to have new secrets made", file=sys.stderr)
        return 1
    try:
        write_private(path, filled(EXAMPLE.read_text(encoding="utf-8")), replace=False)
    except (OSError, KeyFileError) as error:
        print(f"error: {path} cannot be written: {error}", file=sys.stderr)
        return 1
    print(f"{path}: written, readable by you only")
    return 0


if __name__ == "__main__":
    sys.exit(main())

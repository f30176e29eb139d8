"""``python -m infinity.cli``."""

from infinity.cli import app

if __name__ == "__main__":
    app()

"""Version of the package, as it stands in pictures and reports."""

__version__ = "0.2.0"

"""The version, used by the package, its saved files and its metadata."""

__version__ = "0.2.0"

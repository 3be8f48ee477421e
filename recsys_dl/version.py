"""The version, read by the package, by what it saves and by its metadata."""

__version__ = "0.2.0"

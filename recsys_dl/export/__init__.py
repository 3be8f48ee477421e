"""A fitted recommender -> files that another process serves without this package.

`export` writes them; models must implement `recsys_dl.protocols.Exportable`; docs/export.md describes how to consume the files.
"""

from .write import FORMATS, export

__all__ = ["FORMATS", "export"]

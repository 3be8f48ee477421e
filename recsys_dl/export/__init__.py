"""A fitted recommender -> files that another process serves without this package.

`export` writes them; what a model must offer is `recsys_dl.protocols.Exportable`, what a consumer does is in docs/export.md.
"""

from .write import FORMATS, export

__all__ = ["FORMATS", "export"]

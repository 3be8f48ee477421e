"""A run behind HTTP: lists, similar items, scores and explanations, and feedback that is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys_dl.lazy import from_files

if TYPE_CHECKING:
    from .app import make_app
    from .server import serve
    from .settings import Settings

__all__ = ["Settings", "make_app", "serve"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = from_files(__name__, __all__, {"Settings": "settings", "make_app": "app", "serve": "server"})

"""Reports: one self-contained HTML file about one run or several."""

from .report import report

__all__ = ["report"]

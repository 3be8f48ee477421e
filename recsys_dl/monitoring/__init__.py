"""What a served run does to its users and they to it: drift against training, concentration, and quality, from the log of answers."""

from .watch import Check, Limits, Watched, watch

__all__ = ["Check", "Limits", "Watched", "watch"]

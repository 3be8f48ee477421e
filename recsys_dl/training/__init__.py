"""How neural models learn: batches, negatives, the Lightning module and the trainer. Nothing here knows a model.

`from recsys_dl.training import TrainerOptions`; Lightning itself (seconds to import) is loaded when a training starts.
"""

from .options import TrainerOptions, rank_started_as

__all__ = ["TrainerOptions", "rank_started_as"]

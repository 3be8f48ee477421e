"""Training of neural models: batches, negatives, the Lightning module and the trainer. Independent of specific models.

`from recsys_dl.training import TrainerOptions`; Lightning itself (seconds to import) is loaded when training starts.
"""

from .options import TrainerOptions

__all__ = ["TrainerOptions"]

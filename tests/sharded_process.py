"""Trainings with divided tables in processes that torchrun starts, for tests/test_sharded_tables.py.

    torchrun --nproc-per-node P tests/sharded_process.py FOLDER NAME...

Each training of `TRAININGS` leaves FOLDER/NAME-P.npz with its weights, figures, and how many rows of each table a process held. With ":stop" a
training stops by an error, with ":kill" its second process is killed, both in the second epoch; with ":resume" it goes on from the checkpoint.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from recsys_dl.lazy import importing, own_process

if __name__ == "__main__":
    own_process()

with importing():
    import numpy as np

    from recsys_dl import evaluate
    from recsys_dl.data.generated import generated
    from recsys_dl.data.split import leave_last_out
    from recsys_dl.models import GMF, MLP, NeuMF, SASRec, TwoTower, YouTubeDNN
    from recsys_dl.networks.sharded import sharded_tables
    from recsys_dl.processes import together
    from recsys_dl.training import TrainerOptions
    from recsys_dl.training.scorer import Scorer

SMALL = {"batch_size": 256, "epochs": 3, "device": "cpu"}
TOWER = {"embedding_size": 6, "history_size": 6, "dropout": 0.0, "id_dropout": 0.0, "learning_rate": 0.01, **SMALL}
# model, and its trainer's settings
TRAININGS = {
    "adam": (GMF(embedding_size=7, learning_rate=0.01, weight_decay=0.1, regularization=0.01, **SMALL), {}),
    "rows": (
        GMF(embedding_size=7, learning_rate=0.01, optimizer="row_adam", negatives="hard", **SMALL),
        {},
    ),
    "sgd": (MLP(embedding_size=5, hidden_sizes=[8, 4], learning_rate=0.1, optimizer="sgd", **SMALL), {}),
    "clipped": (
        NeuMF(embedding_size=4, hidden_sizes=[8], learning_rate=0.01, schedule="cosine", **SMALL),
        {"clip_norm": 0.02, "accumulate": 2, "patience": 3, "smoothing": 1},
    ),
    "two_tower": (
        TwoTower(softmax="sampled", num_negatives=40, pooling="attention", optimizer="row_adam", **TOWER),
        {"patience": 3, "smoothing": 1},
    ),
    "youtube_dnn": (YouTubeDNN(softmax="in_batch", hidden_sizes=[8], normalize=True, temperature=0.2, **TOWER), {}),
    # attention does not depend on the bias of keys, whose gradient is rounding, which Adam would turn into steps
    "sasrec": (
        SASRec(softmax="sampled", num_negatives=40, num_blocks=1, **TOWER | {"optimizer": "sgd"}),
        {},
    ),
}
DIES = (1, 9)  # epoch and batch


class StoppedError(RuntimeError):
    """A training was stopped for the test."""


def data():
    return leave_last_out(generated(num_users=301, num_items=151, num_interactions=3000, seed=3))


def fitted(name: str, processes: int, checkpoint: Path | None = None, *, shard_tables: bool = True):
    model, settings = TRAININGS[name]
    train, validation, _ = data()
    options = TrainerOptions(
        processes=processes, shard_tables=shard_tables, checkpoint=checkpoint, checkpoint_every=2, **settings
    )
    return type(model)(**model.arguments()).fit(train, validation=validation, trainer=options)


def found_in(model) -> dict[str, np.ndarray]:
    train, _, test = data()
    figures = evaluate(model, train, test, k=[10]).values.values()
    arrays = {name: value for name, value in model.arrays().items() if name.startswith("network.")}
    folded = model.recommend(model.fold_in([[1, 2], [5]]), 3).scores_BK
    return arrays | {"figures": np.array(list(figures)), "losses": np.array(model.losses), "folded": folded}


def watch(end: str, held: list[list[int]]) -> None:
    step = Scorer.training_step

    def training_step(self, share, index):
        held.append([len(table.weight) for table in sharded_tables(self.network).values()])
        if (self.trainer.current_epoch, index) == DIES and end == "stop":
            raise StoppedError
        if (self.trainer.current_epoch, index) == DIES and end == "kill" and self.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, share, index)

    Scorer.training_step = training_step


def main(folder: Path, names: list[str]) -> None:
    original = Scorer.training_step
    with together() as group:
        for word in names:
            name, _, end = word.partition(":")
            held: list[list[int]] = []
            watch(end, held)
            with suppress(StoppedError):
                found = found_in(fitted(name, group.size, folder / f"{name}-checkpoint" if end else None))
                rows = np.array(group.gather(held[0]))
                if group.rank == 0:
                    np.savez(folder / f"{name}-{group.size}.npz", rows=rows, steps=len(held), **found)
            Scorer.training_step = original


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""Trainings in processes of their own, for tests/test_training_processes.py: killed with SIGKILL, resumed, alone and two by two.

    python tests/training_process.py FOLDER PROCESSES NAME...

Each training of `TRAININGS` leaves FOLDER/NAME.npz with its weights, losses and validation figures. One whose name ends in
"-killed" is killed at a step of its plan, "-resumed" goes on from its checkpoints, "-whole" is neither. In one process the
killed ones are forked, so that the imports are paid once; of two processes the first kills both.
"""

import os
import signal
import sys
import time
from pathlib import Path

from recsys_dl.lazy import importing, own_process

if __name__ == "__main__":
    own_process()

with importing():
    import numpy as np

    from recsys_dl.data.interactions import Interactions
    from recsys_dl.families.validation import Validation
    from recsys_dl.models.gmf import GMF
    from recsys_dl.models.neumf import NeuMF
    from recsys_dl.models.two_tower import TwoTower
    from recsys_dl.training import TrainerOptions
    from recsys_dl.training.scorer import Scorer
    from recsys_dl.training.shards import Shards

NUM_USERS, NUM_ITEMS = 1500, 40  # validation takes two blocks of users, one a process

# A bit of everything that has a state: dropout, accumulation, a schedule, clipping, early stopping.
EVERYTHING = {
    "hidden_sizes": [8, 4],
    "dropout": 0.3,
    "schedule": "cosine",
    "warmup": 0.2,
    "learning_rate": 0.1,
    "epochs": 4,
}
# Rows of sparse tables, and hard negatives that an epoch finds once.
SPARSE = {"optimizer": "row_adam", "negatives": "hard", "learning_rate": 0.01, "epochs": 2}
PLAIN = {"optimizer": "adam", "learning_rate": 0.01, "epochs": 2}
# Targets of both processes are what each tells its own from. Without dropout, which each process draws for its own rows.
IN_BATCH = {"softmax": "in_batch", "num_targets": 2, "dropout": 0.0, "learning_rate": 0.01, "epochs": 2}


def options(folder: Path, name: str, processes: int) -> TrainerOptions:
    stem = name.rpartition("-")[0]
    kept = None if name.endswith("whole") else folder / f"{stem}-checkpoint"
    if stem in ("everything", "stopped"):
        return TrainerOptions(
            accumulate=2,
            clip_norm=0.05,
            patience=1,
            smoothing=1,
            checkpoint=kept,
            checkpoint_every=3,
            processes=processes,
        )
    return TrainerOptions(checkpoint=kept, checkpoint_every=3, processes=processes)


# stem: model, its arguments, and the epoch and batch at which a killed one dies
TRAININGS = {
    "everything": (NeuMF, EVERYTHING, (1, 9)),  # 2 * 3 batches after its second epoch began, a checkpoint was kept
    "stopped": (
        NeuMF,
        EVERYTHING | {"learning_rate": 0.2, "epochs": 6},
        (None, None),
    ),  # at the very end, patience lost
    "sparse": (GMF, SPARSE, (1, 8)),
    "plain": (GMF, PLAIN, (1, 9)),
    "stream": (GMF, PLAIN, (1, 7)),
    "in_batch": (TwoTower, IN_BATCH, (None, None)),
}


def data() -> tuple[Interactions, Interactions]:
    """Two tastes: users like items of their own parity. Returns train and validation."""
    rng = np.random.default_rng(5)
    items_UK = np.array([rng.choice(np.arange(user % 2, NUM_ITEMS, 2), 6, replace=False) for user in range(NUM_USERS)])
    users_UK = np.repeat(np.arange(NUM_USERS)[:, None], 6, axis=1)
    shape = {"num_users": NUM_USERS, "num_items": NUM_ITEMS}
    train = Interactions(users_UK[:, 1:].ravel()[:-1], items_UK[:, 1:].ravel()[:-1], **shape)  # an odd number of pairs
    return train, Interactions(users_UK[:, 0], items_UK[:, 0], **shape)


def kill_at(epoch: int | None, batch: int | None) -> None:
    """Let this process, and those that it started, die at the beginning of a batch; without one, after the last."""
    step = Scorer.training_step

    def training_step(self, share, index):
        if (self.trainer.current_epoch, index) == (epoch, batch):
            die(self.trainer)
        return step(self, share, index)

    Scorer.training_step = training_step
    if epoch is None:
        Scorer.on_train_end = lambda self: die(self.trainer)


def die(trainer) -> None:
    if trainer.global_rank:
        time.sleep(
            600
        )  # until the first process kills this one: who died first would make an error of the other's kill
    for child in getattr(trainer.strategy.launcher, "procs", ()):
        child.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, name: str, processes: int) -> None:
    figures: list[float] = []
    figure = Validation.figure

    def heard(self):
        figures.append(figure(self))
        return figures[-1]

    Validation.figure = heard
    stem = name.rpartition("-")[0]
    cls, arguments, _ = TRAININGS[stem]
    log, validation = data()
    if stem == "stream":
        log = Shards(folder / "shards", window=2)
    model = cls(embedding_size=4, batch_size=512, num_negatives=2, device="cpu", **arguments)
    model.fit(log, validation=validation, trainer=options(folder, name, processes))
    Validation.figure = figure
    if os.environ.get("LOCAL_RANK", "0") == "0":
        weights = {key: value for key, value in model.arrays().items() if key.startswith("network.")}
        np.savez(folder / f"{name}.npz", losses=model.losses, figures=figures, **weights)


def main(folder: Path, processes: int, names: list[str]) -> None:
    for name in names:
        if name.endswith("-killed"):
            child = os.fork() if processes == 1 else 0
            if child:
                _, status = os.waitpid(child, 0)
                assert os.WIFSIGNALED(status), f"{name} ended by itself, {status}"
                assert os.WTERMSIG(status) == signal.SIGKILL
                continue
            kill_at(*TRAININGS[name.rpartition("-")[0]][2])
        train(folder, name, processes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])

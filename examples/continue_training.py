"""Continue training: a run of last month takes in this month's interactions, new users and new items among them.

python examples/continue_training.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from recsys_dl import fine_tune, load_run, read_log
from recsys_dl.data.generated import generated

data = generated(num_users=400, num_items=200, num_interactions=8_000)
log = pl.DataFrame(
    {
        "user_id": data.users.at(data.interactions.users_N),
        "item_id": data.items.at(data.interactions.items_N),
        "timestamp": data.interactions.times_N,
    }
)
first, second = np.quantile(log["timestamp"], [0.7, 0.9])

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    signed_up = pl.col("user_id").is_in(data.users.at(np.arange(350)))  # the other 50 come this month
    log.filter(signed_up & (pl.col("timestamp") <= first)).write_csv(folder / "last_month.csv")
    log.filter(pl.col("timestamp").is_between(first, second, closed="right")).write_csv(folder / "this_month.csv")
    log.filter(pl.col("timestamp") > second).write_csv(folder / "next_month.csv")

    words = ["train", "model=gmf", "model.epochs=5", "data=log", "data.path=last_month.csv", "run=run", "seed=7"]
    subprocess.run([sys.executable, "-m", "recsys_dl", *words], cwd=folder, check=True)

    tuned = fine_tune(
        folder / "run",
        read_log(folder / "this_month.csv"),
        epochs=5,
        replay=3,  # old interactions trained on again for each new one, against forgetting
        test=read_log(folder / "next_month.csv"),
    )
    print(tuned)  # before and after, for known users and for new ones
    tuned.save(folder / "run-2")
    print(load_run(folder / "run-2").recommend([log["user_id"][-1]], k=5))

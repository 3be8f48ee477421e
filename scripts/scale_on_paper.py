"""One billion users, 100 million items, one trillion interactions, on paper: what `recsys-dl plan` computes for 64 and 256 H100s.

    python scripts/scale_on_paper.py

Nothing is measured: bytes follow from the models' own sizes, seconds from published peaks with the assumed shares of
recsys_dl/planning/devices.py, costs from an assumed price per GPU and hour. Prints the tables of docs/scale.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hydra.utils import instantiate

from recsys_dl.compose import compose
from recsys_dl.planning import DEVICES, machines, make_plan
from recsys_dl.planning.plan import Plan, in_bytes
from recsys_dl.retrieval import HNSW, IVFPQ, Flat
from recsys_dl.sizes import LogSize, Work

LOG = LogSize(10**9, 10**8, 10**12)
PRICE = 3.0  # dollars per H100 and hour, assumed
COUNTS = (64, 256)
TOWER = [
    "model.embedding_size=128",
    "model.features=none",
    "model.softmax=sampled",
    "model.num_negatives=16384",
    "model.epochs=1",
]
TRAININGS = {
    "ALS, Cholesky": ["model=als", "model.embedding_size=128", "model.solver=cholesky"],
    "ALS, iALS++": ["model=als", "model.embedding_size=128", "model.solver=ials++"],
    "two towers, row_adam": [
        "model=two_tower",
        *TOWER,
        "model.num_targets=1",
        "model.batch_size=65536",
        "model.optimizer=row_adam",
    ],
    "two towers, adam": ["model=two_tower", *TOWER, "model.num_targets=1", "model.batch_size=65536"],
    "SASRec, row_adam": [
        "model=sasrec",
        *TOWER,
        "model.history_size=200",
        "model.batch_size=4096",
        "model.optimizer=row_adam",
    ],
}


def main() -> None:
    """Print the tables."""
    plans = {name: {count: _plan(name, words, count) for count in COUNTS} for name, words in TRAININGS.items()}
    print(
        "| model | tables | optimizer and gradients | interactions on the devices | a batch | one process, whole | of 64, divided by rows | of 256 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, by_count in plans.items():
        one = by_count[64]
        kinds = ["tables", ("optimizer", "gradients"), "interactions", "activations"]
        sums = " | ".join(in_bytes(_sum(one, kind)) for kind in kinds)
        divided = " | ".join(in_bytes(plan.process_bytes(count, by_rows=True)) for count, plan in by_count.items())
        print(f"| {name} | {sums} | {in_bytes(one.process_bytes(1, by_rows=False))} | {divided} |")
    print(
        "\n| model | devices | received per step and process | steps per epoch | computing, hours per epoch | exchanging | epochs | hours | cost, $ |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, by_count in plans.items():
        for count, plan in by_count.items():
            sizes = plan.sizes
            assert sizes is not None
            alone = replace(plan, sizes=replace(sizes, reduced=0.0, gathered=0.0, fetched=0.0)).epoch_seconds or 0.0
            whole = plan.epoch_seconds or 0.0
            epochs = sizes.epochs or 1
            hours = whole * epochs / 3600
            cells = [
                in_bytes(plan.step_traffic),
                f"{sizes.steps:,}",
                f"{alone / 3600:.2g}",
                f"{(whole - alone) / 3600:.2g}",
            ]
            print(
                f"| {name} | {count} | {' | '.join(cells)} | {epochs} | {hours:,.3g} | {hours * count * PRICE:,.0f} |"
            )
    print("\n| index of 100 million items, D = 128 | bytes |\n|---|---|")
    for name, index in {
        "flat": Flat(),
        "hnsw": HNSW(),
        "ivf_pq": IVFPQ(),
        "ivf_pq, rescore=0": IVFPQ(rescore=0),
    }.items():
        print(f"| {name} | {in_bytes(index.bytes_needed(LOG.num_items, 128))} |")
    device = DEVICES["h100"]
    scored = Work("scores", 2.0 * LOG.num_users * LOG.num_items * 128, 0.0).operations
    hours = scored / (device.flops * 0.3) / 3600
    print(f"\nScoring every item for every user once: {scored:.2g} operations, {hours / 64:,.0f} hours on 64 H100s.")


def _plan(name: str, words: list[str], count: int) -> Plan:
    model: Any = instantiate(compose("train", [*words, "device=cpu"]).model)
    return make_plan(name, LOG, machines(f"h100:{count}"), model.sizes(LOG), None)


def _sum(plan: Plan, kinds: Any) -> float:
    wanted = kinds if isinstance(kinds, tuple) else (kinds,)
    return sum(part.num_bytes for part in plan.parts if part.kind in wanted)


if __name__ == "__main__":
    main()

"""A log of your own: a CSV with your column names in, an evaluated model and lists by your ids out.

python examples/own_csv.py
"""

import csv
import random
import tempfile
from pathlib import Path

from recsys_dl import evaluate, leave_last_out, read_log
from recsys_dl.models import EASE


def write_sales(file: Path) -> None:
    """Write a year of a shop: each customer mostly buys in one of six departments."""
    draw = random.Random(7)
    with file.open("w", newline="") as lines:
        table = csv.writer(lines, delimiter=";")
        table.writerow(["customer", "article", "bought_at"])
        for customer in range(400):
            department = draw.randrange(6)
            bought = set()
            for _ in range(draw.randint(5, 25)):
                where = department if draw.random() < 0.8 else draw.randrange(6)
                bought.add(f"A{where}-{int(40 * draw.random() ** 2):02}")  # low numbers sell best
            for article in sorted(bought):
                table.writerow([f"C{customer:04}", article, f"2024-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"])


with tempfile.TemporaryDirectory() as folder:
    write_sales(Path(folder) / "sales.csv")
    data = read_log(Path(folder) / "sales.csv", user="customer", item="article", time="bought_at")
print(data)

train, validation, test = leave_last_out(data)  # what did each customer buy next?
model = EASE(regularization=50).fit(train)
print(evaluate(model, train, test, k=10, exclude=validation, metrics=["ndcg", "recall"]))

customers = ["C0007", "C0042"]
ranking = model.recommend(data.users.rows(customers), k=5, exclude=data)
for customer, items_K in zip(customers, ranking.items_BK, strict=True):
    print(customer, "->", ", ".join(data.items.at(items_K)))

newcomer = model.fold_in([data.items.rows(["A3-00", "A3-01"])])  # never seen in training
ranking = model.recommend(newcomer, k=5, exclude=newcomer.histories)
print("someone who bought A3-00 and A3-01 ->", ", ".join(data.items.at(ranking.items_BK[0])))

"""A sweep: every setting is fitted and validated, the best is fitted again and tested once.

python examples/sweep.py
"""

from itertools import product

from recsys_dl import compare, evaluate
from recsys_dl.data.generated import generated
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.split import leave_last_out
from recsys_dl.models import EASE, ItemKNN, Popularity

data = generated(num_users=800, num_items=400, num_interactions=16_000)
train, validation, test = leave_last_out(data)

grid = {"popularity": lambda: Popularity(window_days=90)}
for size, shrinkage in product([20, 100], [0, 20]):
    name = f"item_knn num_neighbors={size} shrinkage={shrinkage}"
    grid[name] = lambda size=size, shrinkage=shrinkage: ItemKNN(num_neighbors=size, shrinkage=shrinkage)
for penalty in [10, 100, 1000]:
    grid[f"ease regularization={penalty}"] = lambda penalty=penalty: EASE(regularization=penalty)

validated = {name: evaluate(make().fit(train), train, validation, k=10) for name, make in grid.items()}
table = compare(validated, "ndcg@10", baseline="popularity")
print(table)

best = next(iter(table.evaluations))  # the table is sorted by the metric
both = train.with_interactions(Interactions.concat([train.interactions, validation.interactions]))
print(f"\nchosen by validation: {best}; now the test, once\n")
print(evaluate(grid[best]().fit(both), both, test, k=10))

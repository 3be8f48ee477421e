"""Retrieve, rank, re-rank: three retrievers, a learned ranker and a re-ranker as one recommender.

python examples/three_stages.py
"""

from recsys_dl import attribute, compare, evaluate
from recsys_dl.data.generated import generated
from recsys_dl.data.split import leave_last_out
from recsys_dl.models import ItemKNN, Popularity, UserKNN
from recsys_dl.pipeline import Pipeline
from recsys_dl.rankers.columns import ItemAge, PopularityTrend, RetrieverRanks, RetrieverScores
from recsys_dl.rankers.features import CandidateFeatures
from recsys_dl.rankers.mlp_ranker import MLPRanker
from recsys_dl.rerankers.mmr import MMR

data = generated(num_users=400, num_items=200, num_interactions=8_000)
train, validation, test = leave_last_out(data)

pipeline = Pipeline(
    {"item_knn": ItemKNN(shrinkage=10), "user_knn": UserKNN(), "recent": Popularity(window_days=60)},
    num_retrieved=50,
    num_candidates=80,
    features=CandidateFeatures([RetrieverScores(), RetrieverRanks(), PopularityTrend(), ItemAge()]),
    ranker=MLPRanker(epochs=20, seed=7),
    rerankers={"mmr": MMR(weight=0.05)},  # a little accuracy for variety; `Rules` states what a list must hold
    examples={"rounds": 2},  # cuts of the log that the ranker's training examples come from
    on_failure={"ranker": "skip"},  # a request is answered without it rather than not at all
).fit(train)

best_retriever = ItemKNN(shrinkage=10).fit(train)
print(
    compare(
        {
            "item_knn": evaluate(best_retriever, train, test, exclude=validation),
            "pipeline": evaluate(pipeline, train, test, exclude=validation),
        },
        "ndcg@10",
        baseline="item_knn",
    )
)
print(attribute(pipeline, train, test, k=10, exclude=validation, num_timed=20))

answer = pipeline.recommend([0], k=5, exclude=train)
for item, score in zip(answer.items_BK[0], answer.scores_BK[0], strict=True):
    print(f"{data.item_titles[int(item)]:24} {score:.3f}")

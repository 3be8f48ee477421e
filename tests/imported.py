"""What most processes of tests import, for processes that are forked after it. Nothing is computed, so that no thread has been started."""

import gc
from importlib import import_module

import numba

from recsys_dl import models
from recsys_dl.compose import compose_command

gc.disable()  # all that is imported stays
VERBS = ("train", "evaluate", "recommend", "compare", "export", "refit", "reproduce")

for name in (
    *("hydra.compose", "hydra.main", "pydantic.type_adapter", "pytorch_lightning", "rich.table", "threadpoolctl"),
    *("recsys_dl.compose", "recsys_dl.evaluation", "recsys_dl.export", "recsys_dl.pipeline", "recsys_dl.retrieval"),
    *("recsys_dl.rankers.lambdamart", "recsys_dl.rankers.mlp_ranker", "recsys_dl.rerankers.mmr"),
    *("recsys_dl.readers.log", "recsys_dl.runs", "recsys_dl.training"),
    *(f"recsys_dl.verbs.{verb}" for verb in VERBS),
):
    import_module(name)
for name in dir(models):
    getattr(models, name)  # imported when it is first asked for
numba.njit(lambda: None)()  # the first compilation of a process sets the compiler up
compose_command("train", ["model=als", "data=generated"])  # likewise Hydra's plugins and grammar
gc.freeze()  # no process goes through all this in search of garbage, and so has it copied
gc.enable()

"""Types of each verb's own settings. Settings of groups have the types of their constructors' arguments."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

Place = str | os.PathLike[str]
IdsOrFile = Annotated[list[str] | Place | None, "ids"]  # ids are kept as typed
Count = Annotated[int, Ge(1)]
Lengths = Annotated[list[Count], MinLen(1)]
Seed = Annotated[int, Ge(0), Le(2**63 - 1)]
Device = Literal["auto", "cpu", "cuda"]
Part = Literal["validation", "test"]
Least = Annotated[float, Ge(0)] | None

SHARED: dict[str, Any] = {
    "run": Place | None,
    "output": Place | None,
    "seed": Seed,
    "device": Device,
    "threads": Count | None,
    "evaluate.k": Lengths,
    "evaluate.part": Part,
    "evaluate.relevant_from": Least,
    "part": Part,
    "k": Count,
    "processes": Count | None,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "train": SHARED,
    "sweep": SHARED | {"metric": str | None},
    "status": SHARED | {"run": Place},
    "evaluate": SHARED
    | {
        "run": Place,
        "k": Lengths,
        "relevant_from": Least,
        "cold": bool,
        "segments": list[str] | str | None,
        "propensity_power": Least,
    },
    "recommend": SHARED
    | {
        "run": Place,
        **dict.fromkeys(("users", "history", "tastes", "allow", "exclude"), IdsOrFile),
        "show_history": Annotated[int, Ge(0)],
        "explain": bool,
    },
    "compare": SHARED | {"models": list[str], "runs": list[str] | None, "metric": str},
    "tune": SHARED
    | {
        "trials": Count,
        "metric": Annotated[list[str], MinLen(1)],
        "sampler": Literal["tpe", "random", "grid", "cmaes"],
        "pruner": Literal["median", "asha", "hyperband"] | None,
        "workers": Count,
        "storage": str | None,
        "timeout": Annotated[float, Gt(0)] | None,
        "test": bool,
        "keep": Literal["best", "all"],
    },
    "reproduce": SHARED | {"run": Place},
    "refit": SHARED | {"run": Place, "data.path": Place | None, "epochs": Count | None},
    "rank": SHARED
    | {
        **{f"data.{part}": list[str] | Place | None for part in ("train", "validation", "test")},
        "data.num_features": Count | None,
        "data.zero_based": bool,
        "data.group": str | None,
        "data.label": str | None,
        "data.features": Annotated[list[str], MinLen(1)] | None,
        "k": Lengths,
        "blank_queries": Literal["left_out", "zero", "one"],
    },
    "index": SHARED
    | {
        "vectors": Place | None,
        "queries": Place | None,
        "loss": Annotated[float, Ge(0), Lt(1)],
        "loss_of": Literal["ndcg", "recall"] | None,
        "prefer": Literal["latency", "throughput", "memory"],
        "measure": Literal["dot", "cosine"],
        "num_queries": Annotated[int, Ge(2)],
        "indexes": list[str],
        "plot": bool,
    },
    "report": SHARED | {"runs": Annotated[list[str], MinLen(1)], "metric": str, "overwrite": bool},
    "simulate": SHARED
    | {
        **dict.fromkeys(("rounds", "seeds", "batch"), Count),
        "replay": Place | None,
        "log": Place | None,
        "plot": bool,
    },
    "serve": SHARED
    | {
        "run": Place,
        "store": Place | None,
        "traces": str | None,
        "host": str,
        "port": Annotated[int, Ge(0), Le(65535)],
        **dict.fromkeys(("batch_size", "queue_size", "body_kb", "max_k"), Count),
        **dict.fromkeys(("batch_ms", "watch", "learn"), Annotated[float, Ge(0), Le(86400)]),
        "timeout": Annotated[float, Gt(0), Le(86400)],
        **dict.fromkeys(("rate", "settle"), Annotated[float, Gt(0)] | None),
        "proxies": list[str],
        "beside": Place | None,
        "share": Annotated[float, Ge(0), Le(1)],
    },
    "monitor": SHARED
    | {
        "run": Place,
        "log": Place,
        **dict.fromkeys(("unknown_items", "new_users"), Annotated[float, Ge(0), Le(1)]),
        **dict.fromkeys(("popularity", "scores", "concentration", "quality"), Annotated[float, Ge(0)]),
        "windows": Annotated[int, Ge(2)],
        "settle": Annotated[int, Ge(0)],
        "confidence": Annotated[float, Gt(0), Lt(1)],
    },
    "bench": SHARED
    | {
        "jobs": Annotated[
            list[
                Literal[
                    "als_cg",
                    "als_exact",
                    "als_blocks",
                    "bpr",
                    "item_knn",
                    "top_k",
                    "svd",
                    "ease",
                    "funk_svd",
                    "svd_pp",
                    "item_ratings_knn",
                    "user_ratings_knn",
                    "evaluate",
                    "judge",
                ]
            ],
            MinLen(1),
        ],
        "logs": Annotated[list[Literal["ml-100k", "ml-1m", "ml-20m", "msd"]], MinLen(1)],
        "sizes": Lengths,
        "rounds": Count,
    },
    "warmup": SHARED | {"models": list[str] | None},
    "plan": SHARED | {"device": str, **dict.fromkeys(("num_users", "num_items", "interactions"), Count | None)},
    "export": SHARED
    | {
        "run": Place,
        "format": Literal["torchscript", "onnx", "torch_export", "safetensors", "parquet"],
        "exclude_seen": bool,
        "allow": IdsOrFile,
    },
    "ope": SHARED
    | {
        "log": Place,
        "policy": Place,
        **dict.fromkeys(("arm", "reward", "propensity", "user"), str | None),
        "position": str | Literal[False] | None,
        "contexts": list[str] | None,
        "draws": Annotated[int, Ge(0)],
        "estimators": list[Literal["replay", "ips", "clipped_ips", "snips", "dm", "dr", "switch_dr", "dros"]] | None,
        **dict.fromkeys(("clip", "threshold"), Annotated[float, Gt(0)] | Literal["slope"]),
        "shrinkage": Annotated[float, Ge(0)] | Literal["slope"],
        "reward_range": list[float],
        "interval": Literal["bootstrap", "bernstein"],
        "confidence": Annotated[float, Gt(0), Lt(1)],
        "folds": Annotated[int, Ge(2)],
        "allowed_missing": Annotated[float, Ge(0), Le(1)],
    },
}

"""Retrieve, rank, re-rank: retrievers, a ranker and re-rankers combined into one recommender. One YAML each in `conf/pipeline/`."""

from .logged import LoggedPipeline
from .pipeline import Pipeline

__all__ = ["LoggedPipeline", "Pipeline"]

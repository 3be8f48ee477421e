"""Retrieve, rank, re-rank: several recommenders, a ranker and re-rankers as one recommender. One YAML each in `conf/pipeline/`."""

from .pipeline import Pipeline

__all__ = ["Pipeline"]

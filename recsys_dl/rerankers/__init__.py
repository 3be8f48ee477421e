"""Candidates in another order: one file a re-ranker, and one YAML of the same name in `conf/reranker/`."""

"""Rankers: candidates and their features in, scores out. One promise (`ranker.Ranker`), trees and networks behind it.

`lambdamart.LambdaMART`, `mlp_ranker.MLPRanker`, `attention_ranker.AttentionRanker`; one YAML each in `conf/ranker/`. `features`
makes the features of retrieved candidates, `propensity` takes position bias out of clicks.
"""

"""Recommendation metrics: functions of arrays, and torchmetrics classes on top of them.

Everything here takes arrays and is independent of models and data sets; `recsys_dl.evaluation` combines them.
"""

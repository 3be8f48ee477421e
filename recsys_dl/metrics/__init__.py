"""How good recommendations are: functions of arrays, and torchmetrics classes over the same functions.

Everything here takes arrays and knows nothing of models or data sets; `recsys_dl.evaluation` puts them together.
"""

"""Hydra configs: one folder a choice, one YAML an option. A package, so that `pkg://recsys_dl.conf` finds them."""

"""Planning a training before it is queued: memory by part, traffic, seconds of an epoch, and what does not fit."""

from .calibration import calibrate
from .devices import DEVICES, Machines, machines
from .plan import Plan, check_rows, make_plan

__all__ = ["DEVICES", "Machines", "Plan", "calibrate", "check_rows", "machines", "make_plan"]

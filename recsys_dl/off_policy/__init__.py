"""Off-policy evaluation and learning: what a policy would have earned, from the log of another (docs/off_policy.md)."""

from .evaluate import evaluate_policy
from .learning import learn_policy
from .report import PolicyValue
from .reward_models import ArmMeans, LightGBM, Linear
from .slates import evaluate_slates
from .softmax_policy import SoftmaxPolicy
from .tables import policy_table, position_table

__all__ = [
    "ArmMeans",
    "LightGBM",
    "Linear",
    "PolicyValue",
    "SoftmaxPolicy",
    "evaluate_policy",
    "evaluate_slates",
    "learn_policy",
    "policy_table",
    "position_table",
]

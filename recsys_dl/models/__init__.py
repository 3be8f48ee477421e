"""Recommenders: one file each, and one YAML of the same name in `conf/model/`.

`from recsys_dl.models import ItemKNN` finds `item_knn.py`: a class lives in the file that is its name in lower case, with
underscores between the words. Nothing is imported before it is used. The list below is for type checkers and editors; a model
without a line in it works as well.
"""

from typing import TYPE_CHECKING

from recsys_dl.lazy import from_files

if TYPE_CHECKING:
    from .als import ALS
    from .bootstrap import Bootstrap
    from .bpr import BPR
    from .clcrec import CLCRec
    from .content import Content
    from .dropout_net import DropoutNet
    from .ease import EASE
    from .explicit_als import ExplicitALS
    from .feature_mf import FeatureMF
    from .funk_svd import FunkSVD
    from .gmf import GMF
    from .heater import Heater
    from .hybrid import Hybrid
    from .item_knn import ItemKNN
    from .mlp import MLP
    from .neumf import NeuMF
    from .popularity import Popularity
    from .rp3beta import RP3beta
    from .sasrec import SASRec
    from .segment_popularity import SegmentPopularity
    from .sequential_rules import SequentialRules
    from .svd import SVD
    from .svd_pp import SVDpp
    from .two_tower import TwoTower
    from .user_knn import UserKNN
    from .youtube_dnn import YouTubeDNN

__all__ = [
    "ALS",
    "BPR",
    "EASE",
    "GMF",
    "MLP",
    "SVD",
    "Bootstrap",
    "CLCRec",
    "Content",
    "DropoutNet",
    "ExplicitALS",
    "FeatureMF",
    "FunkSVD",
    "Heater",
    "Hybrid",
    "ItemKNN",
    "NeuMF",
    "Popularity",
    "RP3beta",
    "SASRec",
    "SVDpp",
    "SegmentPopularity",
    "SequentialRules",
    "TwoTower",
    "UserKNN",
    "YouTubeDNN",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = from_files(__name__, __all__)

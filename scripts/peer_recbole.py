"""RecBole's NeuMF on pairs, timed: run by bench_neumf.py under the peer's own Python, never imported.

    python peer_recbole.py FOLDER --threads 2

FOLDER holds ncf/ncf.inter (user_id:token, item_id:token, tab-separated). Prints one line of JSON: training samples a second
(positives and negatives) and users a second of the full-catalog evaluation, each as its trainer takes them, at RecBole's
default batch sizes and at the fastest of those tried.
"""

import argparse
import contextlib
import json
import logging
import os
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--batch-sizes", default="2048,40960")  # of pairs and negatives together; RecBole's default first
parser.add_argument("--eval-batch-sizes", default="4096,65536")  # of pairs; likewise
parser.add_argument("--users", type=int, default=256)
asked = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(asked.threads)

import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

torch.set_num_threads(asked.threads)
logging.disable(logging.CRITICAL)


def prepared(batch_size: int, eval_batch_size: int = 4096) -> tuple:
    """Return RecBole's train and test loaders, trainer and data set."""
    settings = {
        "data_path": asked.folder,
        "checkpoint_dir": tempfile.mkdtemp(),
        "use_gpu": False,
        "show_progress": False,
        "load_col": {"inter": ["user_id", "item_id"]},
        "user_inter_num_interval": None,
        "item_inter_num_interval": None,
        "mf_embedding_size": 64,
        "mlp_embedding_size": 64,
        "mlp_hidden_size": [128, 64],
        "dropout_prob": 0.0,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 4, "alpha": 1.0, "dynamic": False},
        "train_batch_size": batch_size,
        "eval_batch_size": eval_batch_size,
        "eval_args": {"split": {"RS": [0.9, 0.05, 0.05]}, "group_by": "user", "order": "RO", "mode": "full"},
        "metrics": ["NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "epochs": 1,
    }
    config = Config(model="NeuMF", dataset="ncf", config_dict=settings)
    init_seed(7, True)
    dataset = create_dataset(config)
    train, _, test = data_preparation(config, dataset)
    model = get_model("NeuMF")(config, train.dataset).to("cpu")
    return train, test, get_trainer(config["MODEL_TYPE"], "NeuMF")(config, model), dataset


class Enough(Exception):
    """The measurement has what it needs."""


def trained(batch_size: int) -> float:
    """Return samples a second of RecBole's own epoch, its loader included, after three steps to warm up."""
    train, _, trainer, _ = prepared(batch_size)
    loss_of, steps = trainer.model.calculate_loss, max(12, 600_000 // batch_size)
    sizes: list[int] = []
    start = 0.0

    def counted(batch):
        nonlocal start
        if len(sizes) == 3:
            start = time.perf_counter()
        if len(sizes) == steps:
            raise Enough
        sizes.append(len(batch))
        return loss_of(batch)

    trainer.model.calculate_loss = counted
    with contextlib.suppress(Enough):
        trainer._train_epoch(train, 0)
    return sum(sizes[3:]) / (time.perf_counter() - start)


def evaluated(eval_batch_size: int) -> float:
    """Return users a second."""
    _, test, trainer, dataset = prepared(2048, eval_batch_size)
    trainer.model.eval()
    trainer.tot_item_num = dataset.item_num
    trainer.item_tensor = dataset.get_item_feature().to("cpu")
    start, done = time.perf_counter(), 0
    with torch.no_grad():
        for batched in test:
            interaction, scores, positive_u, positive_i = trainer._full_sort_batch_eval(batched)
            trainer.eval_collector.eval_batch_collect(scores, interaction, positive_u, positive_i)
            done += len(interaction)
            if done >= asked.users:
                break
    return done / (time.perf_counter() - start)


samples = [trained(int(size)) for size in asked.batch_sizes.split(",")]
users = [evaluated(int(size)) for size in asked.eval_batch_sizes.split(",")]
print(json.dumps({"samples_per_second": [samples[0], max(samples)], "users_per_second": [users[0], max(users)]}))

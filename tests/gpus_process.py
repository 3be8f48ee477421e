"""ALS, a neural model and an evaluation by all processes that torchrun started, for tests/test_several_gpus.py.

python tests/gpus_process.py DEVICE FILE      # one process; torchrun starts several
"""

import sys

import numpy as np

from recsys_dl import evaluate
from recsys_dl.data.generated import generated
from recsys_dl.data.split import leave_last_out
from recsys_dl.models import ALS, GMF
from recsys_dl.processes import together
from recsys_dl.training import TrainerOptions


def main(device: str, file: str) -> None:
    """Write what is learned and measured; the first process of several does."""
    data = generated(num_users=600, num_items=120, num_interactions=7000, seed=3)
    train, _, test = leave_last_out(data)
    found = {}
    with together() as group:
        for solver in ("cholesky", "cg", "ials++"):
            model = ALS(embedding_size=8, epochs=2, solver=solver, device=device).fit(train)
            found |= {f"{solver}/users": model.user_emb_UD, f"{solver}/items": model.item_emb_ID}
            figures = evaluate(model, train, test, k=[5])
            found |= {f"{solver}/{key}": value for key, value in figures.per_user.items()}
        neural = GMF(embedding_size=4, epochs=2, batch_size=512, optimizer="adam", device=device)
        neural.fit(train, trainer=TrainerOptions(processes=group.size))
        found |= {f"neural/{key}": value for key, value in neural.arrays().items() if key.startswith("network.")}
        figures = evaluate(neural, train, test, k=[5])
        found |= {f"neural/{key}": value for key, value in figures.per_user.items()}
        backends = np.array([str(group.size)])
        if group.size > 1:
            import torch.distributed as dist

            backends = np.array(sorted(set(group.gather(dist.get_backend()))))
        if group.rank == 0:
            np.savez(file, backends=backends, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])

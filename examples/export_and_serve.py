"""Export a model, and serve it in a process that does not have this package.

python examples/export_and_serve.py
"""

import subprocess
import sys
import tempfile

from recsys_dl.data.generated import generated
from recsys_dl.export import export
from recsys_dl.models import ALS

SERVER = """
import sys

sys.modules["recsys_dl"] = None  # from here on, `import recsys_dl` fails
import torch

recommender = torch.jit.load("served/recommender.pt")
lists, scores_BK = recommender.recommend(["u1", "u2"], k=5)
print("known users:", lists, scores_BK.shape)
lists, _ = recommender.recommend(["u1"], k=5, exclude=[lists[0][:2]])
print("u1 without the first two:", lists)
lists, _ = recommender.recommend_histories([["i3", "i8"]], k=5)
print("someone who interacted with i3 and i8:", lists)
"""

data = generated(num_users=800, num_items=400, num_interactions=16_000)
model = ALS(embedding_size=32, epochs=8, seed=7).fit(data)

with tempfile.TemporaryDirectory() as folder:
    export(model, f"{folder}/served", format="torchscript", seen=data)  # what users have seen is never recommended
    subprocess.run([sys.executable, "-c", SERVER], cwd=folder, check=True)

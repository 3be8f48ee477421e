"""A consumer of exports: a process without recsys_dl, and where asked without torch, that answers questions by stdin.

    python -I export_consumer.py recsys_dl torch

blocks the packages named and then reads one JSON a line: {"folder", "format", "questions", "answers"} answers a .npz of
questions from an export, {"code", "folder"} runs code there; either way it writes "ok", or what went wrong.
"""

import importlib.abc
import json
import os
import sys
import traceback
from functools import lru_cache

import numpy as np

BLOCKED = set(sys.argv[1:])


class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not to be had here")


def fill(inputs, name, num_users, length):
    """A tensor that says nothing, as the manifest describes it."""
    sizes = {"B": num_users, "H": length, "E": 1}
    shape = [sizes.get(size, size) for size in inputs[name]["shape"]]
    return np.full(shape, inputs[name]["fill"], inputs[name]["dtype"])


def asked(manifest, file, question):
    """The inputs of a file of fixed k, by name, from a question."""
    inputs = manifest["files"][file]["inputs"]
    known = {name: question[name] for name in inputs if name in question}
    num_users, length = question["history_BH"].shape
    return {name: known.get(name, fill(inputs, name, num_users, length)) for name in inputs}


def best(scores_BI, k):
    """The best k, the lower row first among equals; no -inf."""
    order_BK = np.argsort(-scores_BI, axis=1, kind="stable")[:, :k]
    scores_BK = np.take_along_axis(scores_BI, order_BK, 1)
    return np.where(scores_BK > -np.inf, order_BK, -1), scores_BK


def torchscript(folder, manifest, question):
    import torch

    module = torch.jit.load(f"{folder}/recommender.pt")
    give = {name: torch.from_numpy(value) for name, value in question.items() if value.ndim}
    inputs = manifest["files"]["recommender.pt"]["inputs"]
    extra = {name: give[name] for name in give if name in inputs and name.startswith("weights")}
    allow_A = give["allow_I"].nonzero().squeeze(1) if "allow_I" in give else None
    arguments = (give["users_B"], give["history_BH"], give.get("exclude_BE"), allow_A)
    items, scores = module(*arguments, int(question["k"]), extra)
    state = torch.jit.load(f"{folder}/user_tower.pt")(give["users_B"], give["history_BH"], extra)
    halves = torch.jit.load(f"{folder}/scorer.pt")(state)
    return items.numpy(), scores.numpy(), halves.numpy()


@lru_cache(3)  # of one folder; loading takes a second
def program(file):
    import torch

    return torch.export.load(file).module()


def torch_export(folder, manifest, question):
    import torch

    def run(name, give):
        return program(f"{folder}/{name}.pt2")(*(torch.from_numpy(one) for one in give))

    items, scores = run("recommender", asked(manifest, "recommender.pt2", question).values())
    state = run("user_tower", asked(manifest, "user_tower.pt2", question).values())
    return items.numpy(), scores.numpy(), run("scorer", [state.numpy()]).numpy()


def onnx(folder, manifest, question):
    import onnxruntime

    def run(name, give):
        return onnxruntime.InferenceSession(f"{folder}/{name}.onnx").run(None, give)

    items, scores = run("recommender", asked(manifest, "recommender.onnx", question))
    state = run("user_tower", asked(manifest, "user_tower.onnx", question))[0]
    return items, scores, run("scorer", {"state_BS": state})[0]


def ranked(question, scores_BI, seen):
    """The best k of known users by arithmetic of one's own; `seen`: what each user had, as rows."""
    for b, user in enumerate(question["users_B"]):
        scores_BI[b, seen[user]] = -np.inf
        out = question["exclude_BE"][b] if "exclude_BE" in question else np.zeros(0, int)
        scores_BI[b, out[out >= 0]] = -np.inf
    if "allow_I" in question:
        scores_BI[:, ~question["allow_I"]] = -np.inf
    return best(scores_BI, int(question["k"]))


def safetensors(folder, manifest, question):
    from safetensors.numpy import load_file

    held = load_file(f"{folder}/model.safetensors")
    users_B = question["users_B"]
    if "states_US" in held:
        state_BS = held["states_US"][users_B]
    else:
        state_BS = np.zeros((len(users_B), manifest["state_size"]), np.float32)
        for b, user in enumerate(users_B):
            mine = slice(held["states.starts"][user], held["states.starts"][user + 1])
            state_BS[b, held["states.columns"][mine]] = held["states.values"][mine]
    if "item_emb_ID" in held:
        scores_BI = state_BS @ held["item_emb_ID"].T
    elif "scorer.weights_II" in held:
        scores_BI = state_BS @ held["scorer.weights_II"]
    elif "scorer.rules_IK" in held:
        rules_II = np.zeros((state_BS.shape[1], state_BS.shape[1]), np.float32)
        np.add.at(rules_II, (np.arange(len(rules_II))[:, None], held["scorer.items_IK"]), held["scorer.rules_IK"])
        scores_BI = state_BS @ rules_II
    elif "scorer.items_IK" in held:
        scores_BI = (state_BS[:, held["scorer.items_IK"]] * held["scorer.similarity_IK"]).sum(2)
    else:
        return None  # a network: its weights are here, its arithmetic is not
    halves = scores_BI.copy()
    if "popularity_I" in held:
        scores_BI[~held["known_U"][users_B]] = held["popularity_I"]
    if "allowed_I" in held:
        scores_BI[:, ~held["allowed_I"]] = -np.inf
    starts, columns = held["seen.starts"], held["seen.columns"]
    seen = [columns[starts[user] : starts[user + 1]] for user in range(len(starts) - 1)]
    return *ranked(question, scores_BI, seen), halves


def parquet(folder, manifest, question):
    import pyarrow.parquet as pq

    users, items = (pq.read_table(f"{folder}/{name}.parquet").to_pydict() for name in ("users", "items"))
    row = {one: at for at, one in enumerate(items["id"])}
    nobody = [0.0] * len(items["vector"][0])
    vectors = np.array([users["vector"][user] or nobody for user in question["users_B"]], np.float32)
    halves = vectors @ np.array(items["vector"], np.float32).T
    scores_BI = halves.copy()
    for b, user in enumerate(question["users_B"]):
        if users["vector"][user] is None:
            scores_BI[b] = items["popularity"]
    if "allowed" in items:
        scores_BI[:, ~np.array(items["allowed"])] = -np.inf
    seen = [[row[one] for one in had] for had in users["seen"]]
    return *ranked(question, scores_BI, seen), halves


def answer(folder, format, questions, answers):
    with open(f"{folder}/manifest.json") as file:
        manifest = json.load(file)
    held, kept = np.load(questions), {}
    for name in sorted({key.split("/")[0] for key in held.files}):
        question = {key.split("/")[1]: held[key] for key in held.files if key.startswith(f"{name}/")}
        found = globals()[format](folder, manifest, question)
        if found is not None:
            kept |= dict(zip((f"{name}/items", f"{name}/scores", f"{name}/halves"), found, strict=True))
    np.savez(answers, **kept)


if __name__ == "__main__":
    sys.meta_path.insert(0, Blocker())
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if "code" in order:
                os.chdir(order["folder"])
                exec(order["code"], {"__name__": "__consumer__"})
            else:
                answer(**order)
            assert not BLOCKED & set(sys.modules)
            print("ok", flush=True)
        except Exception:
            print(json.dumps(traceback.format_exc()), flush=True)

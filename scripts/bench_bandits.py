"""LinUCB and linear Thompson beside a NumPy loop, NumPy over all arms at once, and other libraries, in one run.

    python -m venv peers && peers/bin/pip install mabwiser contextualbandits
    python scripts/bench_bandits.py --peers peers/bin/python

Arms have 64 weights of their own; contexts are normal, each arm has ten rewards before anything is measured. A batch is 1,000 requests that
choose among all arms, or 1,000 rewards of arms drawn at random. The NumPy loop is the algorithm as it is usually written: for each request and
arm an expectation and a quadratic form with the inverse, which each reward updates by Sherman and Morrison's formula. "All arms at once" is the
same as one matrix product a request. Both are judged on fewer requests where a batch would take minutes. Peers run in an environment of
their own, at the sizes at which they finish. Propensities of Thompson sampling are integrals and are judged on fewer
requests too. Medians of five runs, or of as many as take half a second, after one that is not counted, one thread and all; above 1,000 arms one run with all threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH = 1_000
ROUNDS_BEFORE = 10  # rewards of each arm
MANY = 1_000  # arms; above, a batch takes so long that it is measured once, without propensities, with all threads
LEAST = 0.5  # seconds that short runs take together
OURS = "recsys_dl"
PEERS = ("mabwiser", "contextualbandits")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, nargs="+", default=[100, 1_000, 100_000])
    parser.add_argument("--size", type=int, default=64, help="numbers of a context")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", help="a Python with mabwiser and contextualbandits; without it they are left out")
    parser.add_argument("--most-arms-of-peers", type=int, default=1_000)
    parser.add_argument("--peer", choices=PEERS, help="measure one of them in this process, as JSON")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    if chosen.peer:
        print(json.dumps(peer(chosen.peer, chosen.arms[0], chosen.size, chosen.repeats, chosen.seed)))
        return
    import numba  # noqa: F401  before the first limit, which would otherwise be the most threads that Numba ever takes

    from recsys_dl.threads import limit_threads

    print("| policy | arms | who | decisions/s | updates/s |\n|---|---|---|---|---|")
    found: dict[tuple[str, int, str], tuple[float, float]] = {}

    def note(policy: str, num_arms: int, who: str, rates: tuple[float, float]) -> None:
        found[policy, num_arms, who] = rates
        print(f"| {policy} | {num_arms:,} | {who} | {_rate(rates[0])} | {_rate(rates[1])} |", flush=True)

    for num_arms in chosen.arms:
        for threads in (1, None) if num_arms <= MANY else (None,):
            limit_threads(threads)
            who = f"{OURS}, {'1 thread' if threads == 1 else 'all threads'}"
            for policy, with_what, rates in ours(num_arms, chosen):
                note(policy, num_arms, who + with_what, rates)
        for who, rates in numpy_loops(num_arms, chosen):
            note("linucb", num_arms, who, rates)
        if chosen.peers and num_arms <= chosen.most_arms_of_peers:
            for name in PEERS:
                for policy, rates in in_other_python(name, num_arms, chosen):
                    note(policy, num_arms, name, rates)
    show_ratios(found)


def show_ratios(found: dict[tuple[str, int, str], tuple[float, float]]) -> None:
    """Print how many times the rates of others ours are."""
    print(
        "\n| policy | arms | over | decisions, 1 thread | all threads | updates, 1 thread | all threads |\n|---|---|---|---|---|---|---|"
    )
    for (policy, num_arms, who), theirs in found.items():
        if who.startswith(OURS):
            continue
        mine = [found.get((policy, num_arms, f"{OURS}, {threads}")) for threads in ("1 thread", "all threads")]
        cells = [f"{one[at] / theirs[at]:.3g}" if one else "" for at in range(2) for one in mine]
        print(f"| {policy} | {num_arms:,} | {who} | {' | '.join(cells)} |")


def ours(num_arms: int, chosen: argparse.Namespace) -> list[tuple[str, str, tuple[float, float]]]:
    """Return decisions and updates a second of each policy."""
    from recsys_dl.bandits import LinearThompson, LinUCB
    from recsys_dl.data.feedback import BanditFeedback

    found = []
    for name, policy in (("linucb", LinUCB(exploration=1.0, seed=1)), ("linear_thompson", LinearThompson(seed=1))):
        policy.start(num_arms, context_size=chosen.size)
        contexts, arms, rewards = history(num_arms, chosen.size, chosen.seed)
        for part in np.array_split(np.arange(len(arms)), max(1, len(arms) // 100_000)):
            policy.update(
                BanditFeedback(arms[part, None], rewards[part, None], None, num_arms, contexts_RF=contexts[part])
            )
        contexts, arms, rewards = batch(num_arms, chosen.size, chosen.seed)
        feedback = BanditFeedback(arms[:, None], rewards[:, None], None, num_arms, contexts_RF=contexts)
        requests, few = np.arange(BATCH), BATCH if name == "linucb" else max(1, min(BATCH, 20_000 // num_arms))
        repeats = chosen.repeats if num_arms <= MANY else 1

        def decide(policy: Any = policy, contexts: Any = contexts, requests: Any = requests) -> None:
            policy.select(contexts, 1, requests_B=requests, propensities=False)

        def decide_and_log(
            policy: Any = policy, contexts: Any = contexts[:few], requests: Any = requests[:few]
        ) -> None:
            policy.select(contexts, 1, requests_B=requests)

        updates = BATCH / seconds(lambda policy=policy, feedback=feedback: policy.update(feedback), chosen.repeats)
        found.append((name, "", (BATCH / seconds(decide, repeats), updates)))
        if num_arms <= MANY:
            found.append((name, ", with propensities", (few / seconds(decide_and_log, repeats), updates)))
        del policy
    return found


def numpy_loops(num_arms: int, chosen: argparse.Namespace) -> list[tuple[str, tuple[float, float]]]:
    """Return decisions and updates a second of LinUCB as it is usually written."""
    inverse_ADD = np.tile(np.eye(chosen.size), (num_arms, 1, 1))
    moment_AD, theta_AD = np.zeros((num_arms, chosen.size)), np.zeros((num_arms, chosen.size))
    contexts, arms, rewards = batch(num_arms, chosen.size, chosen.seed)
    contexts = contexts.astype(np.float64)

    def update() -> None:
        for x_D, arm, reward in zip(contexts, arms, rewards, strict=True):
            turned_D = inverse_ADD[arm] @ x_D
            inverse_ADD[arm] -= np.outer(turned_D, turned_D) / (1 + x_D @ turned_D)
            moment_AD[arm] += reward * x_D
            theta_AD[arm] = inverse_ADD[arm] @ moment_AD[arm]

    few, some = max(1, min(BATCH, 20_000 // num_arms)), max(2, min(BATCH, 100_000 // num_arms))

    def loop() -> None:
        for x_D in contexts[:few]:
            int(np.argmax([theta_AD[arm] @ x_D + np.sqrt(x_D @ inverse_ADD[arm] @ x_D) for arm in range(num_arms)]))

    def at_once() -> None:
        for x_D in contexts[:some]:
            int(np.argmax(theta_AD @ x_D + np.sqrt((inverse_ADD @ x_D) @ x_D)))

    repeats = chosen.repeats if num_arms <= MANY else 1
    updates = BATCH / seconds(update, repeats)
    return [
        ("NumPy loop", (few / seconds(loop, repeats), updates)),
        ("NumPy, all arms at once", (some / seconds(at_once, repeats), updates)),
    ]


def in_other_python(name: str, num_arms: int, chosen: argparse.Namespace) -> list[tuple[str, tuple[float, float]]]:
    """Return what `peer` returns in the peers' environment; nothing if it fails there, with a line that says why."""
    command = [chosen.peers, __file__, "--peer", name, "--arms", str(num_arms), "--size", str(chosen.size)]
    done = subprocess.run(
        [*command, "--repeats", "3", "--seed", str(chosen.seed)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"{name} at {num_arms:,} arms: {done.stderr.strip().splitlines()[-1]}")
        return []
    return [(policy, (decisions, updates)) for policy, decisions, updates in json.loads(done.stdout.splitlines()[-1])]


def peer(name: str, num_arms: int, size: int, repeats: int, seed: int) -> list[tuple[str, float, float]]:
    """Return decisions and updates a second of each policy of another library."""
    before = history(num_arms, size, seed)
    contexts, arms, rewards = batch(num_arms, size, seed)
    found = []
    if name == "mabwiser":
        from mabwiser.mab import MAB, LearningPolicy

        for policy, kind in (
            ("linucb", LearningPolicy.LinUCB(alpha=1)),
            ("linear_thompson", LearningPolicy.LinTS(alpha=1)),
        ):
            model = MAB(list(range(num_arms)), kind, seed=1)
            model.fit(before[1], before[2], before[0])
            few = max(1, min(BATCH, 20_000 // num_arms))
            decisions = few / seconds(lambda model=model, few=few: model.predict(contexts[:few]), repeats)
            updates = BATCH / seconds(lambda model=model: model.partial_fit(arms, rewards, contexts), repeats)
            found.append((policy, decisions, updates))
        return found
    from contextualbandits.online import LinTS, LinUCB

    for policy, model in (
        ("linucb", LinUCB(num_arms, random_state=1)),
        ("linear_thompson", LinTS(num_arms, random_state=1)),
    ):
        model.fit(before[0], before[1], before[2])
        decisions = BATCH / seconds(lambda model=model: model.predict(contexts), repeats)
        updates = BATCH / seconds(lambda model=model: model.partial_fit(contexts, arms, rewards), repeats)
        found.append((policy, decisions, updates))
    return found


def history(num_arms: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return contexts, arms and rewards: ten of each arm."""
    rng = np.random.default_rng(seed)
    arms_N = np.repeat(np.arange(num_arms), ROUNDS_BEFORE)
    contexts_ND = rng.standard_normal((len(arms_N), size), np.float32) / np.float32(size**0.5)
    return contexts_ND, arms_N, rng.random(len(arms_N))


def batch(num_arms: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return contexts, arms and rewards of one batch."""
    rng = np.random.default_rng(seed + 1)
    contexts_BD = rng.standard_normal((BATCH, size), np.float32) / np.float32(size**0.5)
    return contexts_BD, rng.integers(0, num_arms, BATCH), rng.random(BATCH)


def seconds(job: Callable[[], Any], repeats: int) -> float:
    """Return the median time of some runs, or of more until they take `LEAST` together, after one that is not counted unless there is a single one."""
    if repeats > 1:
        job()
    times: list[float] = []
    while len(times) < repeats or (repeats > 1 and sum(times) < LEAST):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    main()

"""Off-policy evaluation measured: `obd` on the Open Bandit Dataset, `truth` against a synthetic world whose values are known.

    python scripts/bench_off_policy.py obd [FOLDER of the Open Bandit Dataset]
    python scripts/bench_off_policy.py truth [REPETITIONS]

R rounds, X contexts, A arms, C repetitions.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.evaluation.rendering import text_table
from recsys_dl.metrics.intervals import Sample, intervals
from recsys_dl.metrics.off_policy import ips, replay, slope
from recsys_dl.off_policy import ArmMeans, LightGBM, Linear, evaluate_policy, policy_table
from recsys_dl.off_policy.columns import Columns, sample_of, setting_of
from recsys_dl.off_policy.cross_fitting import CrossFitted
from recsys_dl.readers.bandit_log import read_bandit_log

# The beta prior of the Bernoulli Thompson policy that logged campaign "all", from which it started the week: file
# obp/policy/conf/prior_bts.yaml of st-tech/zr-obp (Apache-2.0), by arm from 0 to 79.
ALPHA = """47 8 62 142 3 14 7 857 12 15 6 100 48 23 71 61 13 16 518 30 7 4 23 8 10 11 11 18 121 11 11 10 14 9 204 58 3 19 42 1013 2 328 15
31 14 138 45 55 23 38 10 401 52 6 3 6 5 32 35 133 52 820 43 195 8 42 40 4 32 30 9 22 6 23 5 54 8 22 65 246"""
BETA = """12198 3566 15993 35522 2367 4609 3171 181745 4372 4951 3100 24665 13210 7061 18061 17449 5644 6787 111326 8776 3334 2271 7389 2659
3665 4724 3561 5085 27407 4601 4756 4120 4736 3788 45292 14719 2189 5589 11995 222255 2308 70034 4801 8274 5421 31912 12213 13576 6230
10382 4141 85731 12811 2707 2250 2668 2886 9581 9465 28336 12062 162793 12107 41240 3162 11604 10818 2923 8897 8654 4000 6580 3174 6766
2602 14506 3968 7523 16532 51964"""


def drawn_table(draws: int = 100_000, positions: int = 3, seed: int = 12345) -> np.ndarray:
    """Return float64 [positions, 80]: how often each arm is among the first of draws from the prior, at each position."""
    alpha, beta = (np.array(one.split(), np.float64) for one in (ALPHA, BETA))
    rng = np.random.default_rng(seed)
    counts = np.zeros((positions, len(alpha)))
    for _ in range(draws // 1000):
        scores = rng.beta(alpha, beta, (1000, len(alpha)))
        first = np.argsort(-scores, axis=1)[:, :positions]
        for position in range(positions):
            counts[position] += np.bincount(first[:, position], minlength=len(alpha))
    return counts / draws


def obd(folder: Path) -> None:
    """Value the Thompson policy on the random log, beside its own log's mean."""
    random, bts = read_bandit_log(folder / "random"), read_bandit_log(folder / "bts")
    (own,) = intervals([Sample(bts.feedback.rewards_RK[:, 0])], seed=0)
    mean = bts.feedback.rewards_RK.mean()
    print(f"its own log: {mean:.5f} [{own[0]:.5f}, {own[1]:.5f}], {len(bts.feedback):,} rounds\n")
    tables = {"shares of its own log": policy_table(bts.feedback), "100,000 draws from its prior": drawn_table()}
    for name, table in tables.items():
        for model in (ArmMeans(), Linear(), LightGBM()):
            only = None if isinstance(model, ArmMeans) else ["dm", "dr", "switch_dr", "dros"]
            print(f"{name}; reward model {type(model).__name__}\n")
            print(evaluate_policy(random.feedback, table, reward_model=model, estimators=only), "\n")
        print(evaluate_policy(random.feedback, table, reward_model=ArmMeans(), interval="bernstein"), "\n")
    print(
        "IPW relative to the mean of the random log: Sample(weights, rewards), the ratio of the two means, with its interval\n"
    )
    rows = []
    for name, table in tables.items():
        for slots, chosen in (
            ("table of the logged position", table),
            ("mean of the three positions", table.mean(axis=0)),
        ):
            rows.append([name, slots, *_relative(random.feedback, chosen)])
    print(text_table(["policy", "probabilities", "IPW", "relative", "interval"], rows))


def _relative(feedback: BanditFeedback, table: np.ndarray) -> list[str]:
    arms, rewards = feedback.arms_RK[:, 0], feedback.rewards_RK[:, 0]
    assert feedback.positions_R is not None
    chances = table[feedback.positions_R, arms] if table.ndim == 2 else table[arms]
    weights = chances * feedback.num_arms
    ratio = Sample(weights, rewards)
    (ends,) = intervals([ratio], seed=0)
    return [f"{ips(rewards, weights).value:.6f}", f"{ratio.value:.3f}", f"[{ends[0]:.3f}, {ends[1]:.3f}]"]


class World:
    """Ten contexts, ten arms: clicks of known probability, a logging policy, and one to be valued that differs from it."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        users_XD, arms_AD = rng.normal(size=(10, 3)), rng.normal(size=(10, 3))
        logits_XA = users_XD @ arms_AD.T
        self.chance_XA = 0.4 / (1 + np.exp(-logits_XA))
        self.logging_XA = _softmax(0.5 * logits_XA + 0.7 * rng.normal(size=(10, 10)))
        self.target_XA = 0.9 * _softmax(1.5 * logits_XA) + 0.01
        self.truth = float((self.target_XA * self.chance_XA).sum(axis=1).mean())
        self.weight_XA = self.target_XA / self.logging_XA

    def log(self, size: int, rng: np.random.Generator) -> Columns:
        """Return the rounds of a log, equal ones counted together, with a reward model that is wrong on purpose.

        The model knows no contexts: each arm's mean over all of them, shrunk as in `ArmMeans`, cross-fitted in two folds.
        """
        arms_chance = np.stack([1 - self.chance_XA, self.chance_XA], axis=-1) * self.logging_XA[..., None] / 10
        chances = np.repeat(arms_chance[..., None], 2, axis=-1) / 2  # context, arm, reward, fold
        counts_XA2F = rng.multinomial(size, chances.ravel()).reshape(chances.shape)
        by_arm_A2F = counts_XA2F.sum(axis=0)
        predicted_AF = np.empty((10, 2))
        for fold in (0, 1):
            zeros_A, ones_A = by_arm_A2F[:, 0, 1 - fold], by_arm_A2F[:, 1, 1 - fold]
            mean = ones_A.sum() / max((zeros_A + ones_A).sum(), 1)
            predicted_AF[:, fold] = (ones_A + 10 * mean) / (zeros_A + ones_A + 10)
        contexts, arms, rewards, folds = np.nonzero(counts_XA2F)
        expected_XF = self.target_XA @ predicted_AF
        return Columns(
            rewards.astype(np.float64),
            self.weight_XA[contexts, arms],
            None,
            CrossFitted(predicted_AF[arms, folds], expected_XF[contexts, folds], folds),
            float(self.weight_XA.max()),
            counts_XA2F[contexts, arms, rewards, folds],
        )

    def replayed(self, size: int, rng: np.random.Generator) -> Sample:
        """Return the replay estimate on a log of the same size, of a uniformly random policy."""
        chances = np.stack([1 - self.chance_XA, self.chance_XA], axis=-1) / 100
        counts_XA2 = rng.multinomial(size, chances.ravel()).reshape(chances.shape)
        matched = rng.binomial(counts_XA2, self.target_XA[..., None]).sum(axis=(0, 1))
        matches = replay([0.0, 1.0, 0.0], [True, True, False])
        return replace(matches, repeats_U=np.array([*matched, size - matched.sum()]))


def _softmax(logits_XA: np.ndarray) -> np.ndarray:
    shares = np.exp(logits_XA - logits_XA.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def truth(repetitions: int) -> None:
    """Measure bias, root mean square error and coverage of each estimator against the known value."""
    world = World()
    names = ("ips", "clipped_ips", "snips", "dm", "dr", "switch_dr", "dros")
    rows_of = ("replay (uniform log)", *names, "clipped_ips (SLOPE of 2020)", "clipped_ips (clip 2)")
    effective = 1 / (world.logging_XA * world.weight_XA**2).sum(axis=1).mean()
    print(
        f"true value {world.truth:.5f}, of the logging policy {(world.logging_XA * world.chance_XA).sum(axis=1).mean():.5f}; largest "
        f"weight {world.weight_XA.max():.1f}, effective share of rounds {effective:.3f}; {repetitions:,} repetitions\n"
    )
    for size in (1_000, 10_000, 100_000):
        start = time.perf_counter()
        values, held, widths = [np.empty((repetitions, len(rows_of))) for _ in range(3)]
        settings: dict[str, list[float]] = {}
        for one in range(repetitions):
            rng = np.random.default_rng([size, one])
            columns = world.log(size, rng)
            chosen = {name: setting_of(name, columns, "slope") for name in ("clipped_ips", "switch_dr", "dros")}
            for name, value in chosen.items():
                settings.setdefault(name, []).append(value)
            samples = [sample_of(name, columns, chosen.get(name)) for name in names]
            clips = [np.inf, *np.geomspace(columns.weights_R.max(), 1.0, 12)[1:]]
            clipped = [sample_of("clipped_ips", columns, clip) for clip in clips]
            published = slope(clipped, paired=False)
            settings.setdefault("clipped_ips (SLOPE of 2020)", []).append(clips[published])
            samples += [clipped[published], sample_of("clipped_ips", columns, 2.0)]
            ends = intervals(samples, num_resamples=1000, seed=one)
            samples.insert(0, world.replayed(size, rng))
            ends = np.concatenate([intervals(samples[:1], num_resamples=1000, seed=one), ends])
            values[one] = [sample.value for sample in samples]
            held[one] = (ends[:, 0] <= world.truth) & (world.truth <= ends[:, 1])
            widths[one] = ends[:, 1] - ends[:, 0]
        errors = values - world.truth
        rows = []
        for at, name in enumerate(rows_of):
            noise = errors[:, at].std(ddof=1) / np.sqrt(repetitions)
            middle = f"{np.median(settings[name]):.3g}" if name in settings else ""
            rows.append(
                [
                    name,
                    f"{errors[:, at].mean():+.5f} +- {1.96 * noise:.5f}",
                    f"{np.sqrt((errors[:, at] ** 2).mean()):.5f}",
                    f"{held[:, at].mean():.1%}",
                    f"{widths[:, at].mean():.5f}",
                    middle,
                ]
            )
        print(f"{size:,} rounds ({time.perf_counter() - start:.0f} s)\n")
        print(
            text_table(["estimator", "bias", "RMSE", "coverage", "mean width", "median setting"], rows),
            "\n",
            flush=True,
        )


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "obd":
        obd(Path(sys.argv[2] if len(sys.argv) > 2 else "../shared/data/obd"))
    elif what == "truth":
        truth(int(sys.argv[2]) if len(sys.argv) > 2 else 2000)
    else:
        sys.exit(str(__doc__))

"""Losses against independent libraries and against definitions written out in loops, in NumPy and float64."""

from __future__ import annotations

from itertools import permutations, product
from math import log, log2

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss, mean_squared_error, ndcg_score

from recsys_dl import losses
from recsys_dl.metrics.ranking import judge_scores, ndcg


@pytest.fixture(params=[1, 2, 3])
def batch(request) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lists of 2 to 7 items of grades 0 to 3, no two grades or two scores of one list all equal; scores, labels, valid, weights."""
    rng = np.random.default_rng(request.param)
    scores_BL, labels_BL = rng.normal(size=(5, 7)), rng.integers(0, 4, (5, 7))
    valid_BL = np.arange(7) < rng.integers(2, 8, 5)[:, None]
    labels_BL[:, 0], labels_BL[:, 1] = 0, rng.integers(1, 4, 5)
    return tuple(torch.from_numpy(array) for array in (scores_BL, labels_BL, valid_BL, rng.uniform(0.5, 2, (5, 7))))


def each_list(batch):
    """Scores, labels and weights of each list, without padding."""
    for scores, labels, valid, weights in zip(*(tensor.numpy() for tensor in batch), strict=True):
        yield scores[valid], labels[valid], weights[valid]


def flat(batch):
    return tuple(np.concatenate(parts) for parts in zip(*each_list(batch), strict=True))


def close(value, expected, tolerance=1e-10):
    assert float(value) == pytest.approx(float(expected), rel=tolerance, abs=tolerance)


def over_lists(batch, loss_of_list):
    return np.mean([loss_of_list(*each) for each in each_list(batch)])


def test_pointwise_losses_against_sklearn_and_torch(batch):
    scores, labels, weights = flat(batch)
    close(losses.bce_loss(*batch[:3]), log_loss(labels > 0, scipy.special.expit(scores)))
    close(losses.mse_loss(*batch[:3]), mean_squared_error(labels, scores))
    expected = F.binary_cross_entropy_with_logits(
        torch.from_numpy(scores), torch.from_numpy(labels > 0).double(), weight=torch.from_numpy(weights)
    )
    close(losses.bce_loss(*batch[:3], weights_BL=batch[3]), expected)


def test_ordinal_against_one_classifier_a_grade(batch):
    scores_BL, labels_BL, valid_BL, _ = batch
    scores_BLG = torch.stack([scores_BL * 2, scores_BL - 1, -scores_BL], dim=-1)
    labels = labels_BL[valid_BL].numpy()
    expected = sum(
        log_loss(labels >= grade, scipy.special.expit(scores_BLG[valid_BL][:, grade - 1].numpy()), labels=[False, True])
        for grade in (1, 2, 3)
    )
    close(losses.ordinal_loss(scores_BLG, labels_BL, valid_BL), expected)


def test_pairwise_losses_against_torch(batch):
    def of_pairs(function):
        def of_list(scores, labels, _):
            i, j = np.nonzero(labels[:, None] > labels[None, :])
            first, second = torch.from_numpy(scores[i]), torch.from_numpy(scores[j])
            return float(function(first, second))

        return of_list

    margin = of_pairs(lambda first, second: F.margin_ranking_loss(first, second, torch.ones_like(first), margin=0.6))
    close(losses.margin_loss(*batch[:3], margin=0.6), over_lists(batch, margin))
    soft_margin = of_pairs(lambda first, second: F.soft_margin_loss(2 * (first - second), torch.ones_like(first)))
    close(losses.ranknet_loss(*batch[:3], sigma=2.0), over_lists(batch, soft_margin))
    binary = (batch[0], batch[1] > 0, batch[2], batch[3])
    close(losses.bpr_loss(*batch[:3]), over_lists(binary, of_pairs(lambda a, b: -F.logsigmoid(a - b).mean())))
    close(losses.hinge_loss(*batch[:3]), over_lists(binary, of_pairs(lambda a, b: (1 - a + b).clamp(min=0).mean())))


def test_warp_in_loops(batch):
    def of_list(scores, labels, weights, num_items=None):
        terms = []
        for i in np.flatnonzero(labels > 0):
            excesses = [1 - scores[i] + scores[j] for j in np.flatnonzero(labels == 0)]
            within = [excess for excess in excesses if excess > 0]
            rank = len(within) if num_items is None else len(within) / len(excesses) * num_items
            harmonic = np.interp(rank, range(1001), [0, *np.cumsum(1 / np.arange(1, 1001))])  # whole ranks: no matter
            terms.append(weights[i] * harmonic * np.mean(within) if within else 0.0)
        return np.mean(terms)

    close(losses.warp_loss(*batch[:3], weights_BL=batch[3]), over_lists(batch, of_list))
    sampled = losses.warp_loss(*batch[:3], weights_BL=batch[3], num_items=60 * 7)  # a whole rank for 1 to 7 negatives
    close(sampled, over_lists(batch, lambda *each: of_list(*each, num_items=60 * 7)))


def test_softmax_against_torch(batch):
    def of_list(scores, labels, _):
        return F.cross_entropy(torch.from_numpy(scores)[None], torch.from_numpy(labels / labels.sum())[None])

    close(losses.softmax_loss(*batch[:3]), over_lists(batch, of_list))
    scores_BL, labels_B = batch[0], torch.tensor([3, 0, 6, 2, 2])
    close(losses.softmax_loss(scores_BL, F.one_hot(labels_B, 7)), F.cross_entropy(scores_BL, labels_B))


def test_sampled_softmax_is_the_full_one_in_expectation():
    # exp(loss) = sum over the list of exp(s - log q), over exp(s) of the positive: linear in the partition function. Its mean
    # over all samples of two negatives with replacement, weighted by their probability, is that of the full softmax.
    positive, negatives, q = 0.3, np.array([1.2, -0.5, 0.1, 2.0]), np.array([0.4, 0.3, 0.2, 0.1])
    full = losses.softmax_loss(
        torch.tensor([[positive, *negatives]], dtype=torch.float64), torch.tensor([[1, 0, 0, 0, 0]])
    )
    expectation = 0.0
    for drawn in product(range(4), repeat=2):
        drawn = list(drawn)
        scores_BL = torch.tensor([[positive, *negatives[drawn]]], dtype=torch.float64)
        log_q_BL = torch.tensor(
            [[0.0, *np.log(2 * q[drawn])]], dtype=torch.float64
        )  # expected counts; 1 for the positive
        loss = losses.sampled_softmax_loss(scores_BL, torch.tensor([[1, 0, 0]]), log_q_BL=log_q_BL)
        expectation += np.prod(q[drawn]) * np.exp(float(loss))
    close(expectation, np.exp(float(full)))


def test_in_batch_softmax_takes_one_row_of_log_q():
    rng = np.random.default_rng(0)
    users_BD, items_BD = torch.from_numpy(rng.normal(size=(6, 3))), torch.from_numpy(rng.normal(size=(6, 3)))
    log_q_B = torch.from_numpy(np.log(rng.uniform(0.1, 1, 6)))
    loss = losses.sampled_softmax_loss(users_BD @ items_BD.T, torch.eye(6), log_q_BL=log_q_B.unsqueeze(0))
    close(loss, F.cross_entropy(users_BD @ items_BD.T - log_q_B, torch.arange(6)))


def test_listnet_is_entropy_plus_divergence(batch):
    def of_list(scores, labels, _):
        target, model = scipy.special.softmax(labels), scipy.special.softmax(scores)
        return scipy.stats.entropy(target) + scipy.stats.entropy(target, model)

    close(losses.listnet_loss(*batch[:3]), over_lists(batch, of_list))


def probability_of_order(scores) -> float:
    """Plackett-Luce: items are picked one after another, each in proportion to exp(score) among those left."""
    return float(np.prod([np.exp(scores[i]) / np.exp(scores[i:]).sum() for i in range(len(scores))]))


def test_listmle_is_the_probability_of_the_labels_order_among_all():
    scores = np.array([0.4, -1.0, 2.0, 0.7])
    probabilities = []
    for order in permutations(range(4)):
        labels_L = torch.empty(4)
        labels_L[list(order)] = torch.tensor([3.0, 2.0, 1.0, 0.0])
        loss = float(losses.listmle_loss(torch.from_numpy(scores)[None], labels_L[None]))
        close(loss, -log(probability_of_order(scores[list(order)])))
        probabilities.append(np.exp(-loss))
    close(sum(probabilities), 1.0)  # they are those of all that could happen


def test_listmle_of_equal_labels_in_loops(batch):
    def of_list(scores, labels, weights):
        terms = [
            w * (scipy.special.logsumexp(scores[labels <= y]) - s)
            for s, y, w in zip(scores, labels, weights, strict=True)
            if y > labels.min()
        ]
        return sum(terms)

    close(losses.listmle_loss(*batch[:3], weights_BL=batch[3]), over_lists(batch, of_list))


GAINS = {"exponential": lambda y: 2.0**y - 1, "linear": lambda y: 1.0 * y, "binary": lambda y: 1.0 * (y > 0)}


def dcg(gains) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, start=1))


@pytest.mark.parametrize("gains", GAINS)
def test_approx_ndcg_in_loops(batch, gains):
    def of_list(scores, labels, weights):
        gain = weights * GAINS[gains](labels)
        ranks = [0.5 + scipy.special.expit((scores - s) / 0.3).sum() for s in scores]
        return 1 - sum(g / log2(1 + r) for g, r in zip(gain, ranks, strict=True)) / dcg(sorted(gain)[::-1])

    value = losses.approx_ndcg_loss(*batch[:3], temperature=0.3, gains=gains, weights_BL=batch[3])
    close(value, over_lists(batch, of_list))


@pytest.mark.parametrize("gains", GAINS)
def test_neural_ndcg_in_loops(batch, gains):
    def of_list(scores, labels, weights):
        n, gain = len(scores), weights * GAINS[gains](labels)
        spread = np.array([abs(s - scores).sum() for s in scores])
        order = np.array([scipy.special.softmax(((n + 1 - 2 * k) * scores - spread) / 0.7) for k in range(1, n + 1)])
        for _ in range(12):
            order /= order.sum(axis=0, keepdims=True)
            order /= order.sum(axis=1, keepdims=True)
        return 1 - dcg(order @ gain) / dcg(sorted(gain)[::-1])

    value = losses.neural_ndcg_loss(*batch[:3], temperature=0.7, sinkhorn_steps=12, gains=gains, weights_BL=batch[3])
    close(value, over_lists(batch, of_list))


@pytest.mark.parametrize("loss", [losses.approx_ndcg_loss, losses.neural_ndcg_loss])
@pytest.mark.parametrize("gains", GAINS)
def test_at_low_temperature_it_is_the_metric(batch, loss, gains):
    judged = judge_scores(*batch[:3], k=7)
    value = loss(*batch[:3], temperature=1e-4, gains=gains)
    close(value, 1 - ndcg(judged, 7, gains).mean(), 1e-9)
    if gains == "linear":  # sklearn's gain
        close(value, 1 - over_lists(batch, lambda scores, labels, _: ndcg_score([labels], [scores])), 1e-9)


def weights_of_pairs(scores, labels, mu):
    """Of each weighting the weight of each ordered pair (i, j), from the paper's definitions, 0 where it is no pair."""
    n = len(scores)
    rank = {int(i): r for r, i in enumerate(np.argsort(-scores), start=1)}
    gain = (2.0**labels - 1) / dcg(sorted(2.0**labels - 1)[::-1])
    worth = {name: np.zeros((n, n)) for name in ("ndcg1", "ndcg2", "ndcg2++", "lambdarank", "ranknet", "arp1", "arp2")}
    for i, j in product(range(n), range(n)):
        if i == j:
            continue
        worth["ndcg1"][i, j] = gain[i] / log2(1 + rank[i])
        worth["arp1"][i, j] = labels[i]
        if labels[i] <= labels[j]:
            continue
        apart = abs(rank[i] - rank[j])
        delta = abs(1 / log2(1 + apart) - 1 / log2(2 + apart))
        rho = abs(1 / log2(1 + rank[i]) - 1 / log2(1 + rank[j]))
        worth["ndcg2"][i, j] = abs(gain[i] - gain[j]) * delta
        worth["lambdarank"][i, j] = abs(gain[i] - gain[j]) * rho
        worth["ndcg2++"][i, j] = abs(gain[i] - gain[j]) * (rho + mu * delta)
        worth["ranknet"][i, j] = 1
        worth["arp2"][i, j] = labels[i] - labels[j]
    return worth


@pytest.mark.parametrize("weighting", ["ndcg1", "ndcg2", "ndcg2++", "lambdarank", "ranknet", "arp1", "arp2"])
def test_lambda_loss_in_loops(batch, weighting):
    def of_list(scores, labels, weights):
        bits = np.log2(1 + np.exp(-1.3 * (scores[:, None] - scores[None, :])))
        return (weights[:, None] * weights_of_pairs(scores, labels, mu=3.0)[weighting] * bits).sum()

    value = losses.lambda_loss(*batch[:3], weighting=weighting, sigma=1.3, mu=3.0, weights_BL=batch[3])
    close(value, over_lists(batch, of_list))


def test_what_the_weightings_bound(batch):
    judged = judge_scores(*batch[:3], k=7)
    for b, (scores, labels, _) in enumerate(each_list(batch)):
        alone = [torch.from_numpy(array)[None] for array in (scores, labels)]
        assert losses.lambda_loss(*alone, weighting="ndcg1") >= 1 - ndcg(judged, 7, "exponential")[b]
        ranks = scipy.stats.rankdata(-scores)
        assert losses.lambda_loss(*alone, weighting="arp1") >= (labels * (ranks - 1)).sum()


@pytest.mark.parametrize("gains", GAINS)
def test_lambdarank_in_loops(batch, gains):
    def of_list(scores, labels, weights, k):
        n, gain = len(scores), GAINS[gains](labels)
        ideal = dcg(sorted(gain)[::-1][:k])
        total = 0.0
        for i, j in product(range(n), range(n)):
            order = list(np.argsort(-scores))
            if labels[i] <= labels[j] or min(order.index(i), order.index(j)) >= k:
                continue
            swapped = list(order)
            a, b = order.index(i), order.index(j)
            swapped[a], swapped[b] = swapped[b], swapped[a]
            change = abs(dcg(gain[swapped]) - dcg(gain[order])) / ideal  # the swap itself
            total += weights[i] * change * np.log1p(np.exp(-0.8 * (scores[i] - scores[j])))
        return total

    for k in (1, 3, 7):
        value = losses.lambdarank_loss(*batch[:3], sigma=0.8, k=k, gains=gains, weights_BL=batch[3])
        close(value, over_lists(batch, lambda *each, k=k: of_list(*each, k)))
    everything = losses.lambdarank_loss(*batch[:3], gains=gains)
    close(everything, losses.lambda_loss(*batch[:3], weighting="lambdarank", gains=gains) * log(2))

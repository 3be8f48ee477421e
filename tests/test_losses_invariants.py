"""One list of all losses, through every promise that they share. Values by hand and oracles are in the files beside this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import pytest
import torch
from torch import Tensor

from recsys_dl import losses
from recsys_dl.metrics.ranking import judge_scores, ndcg

THRESHOLDS_G = torch.tensor([-0.5, 0.4, 1.7])


def ordinal_of_one_score(scores_BL, labels_BL, valid_BL=None, **options):
    scores_BLG = scores_BL.unsqueeze(-1) - THRESHOLDS_G  # float32 is promoted to the scores' float64, not they to it
    return losses.ordinal_loss(scores_BLG, labels_BL, valid_BL, **options)


def sampled_softmax(scores_BL, labels_BL, valid_BL=None, **options):
    log_q_BL = -0.25 - 0.5 * (labels_BL > 0)  # follows the item when the list is permuted
    return losses.sampled_softmax_loss(scores_BL, labels_BL, valid_BL, log_q_BL=log_q_BL, **options)


def any_item(labels_L: Tensor) -> bool:
    return len(labels_L) > 0


def a_positive(labels_L: Tensor) -> bool:
    return bool((labels_L > 0).any())


def both_kinds(labels_L: Tensor) -> bool:
    return a_positive(labels_L) and a_positive(-labels_L + 1)


def unequal(labels_L: Tensor) -> bool:
    return len(labels_L.unique()) > 1


def a_positive_and_another(labels_L: Tensor) -> bool:
    return a_positive(labels_L) and len(labels_L) > 1


@dataclass(frozen=True)
class Case:
    name: str
    loss: Callable[..., Tensor]
    counts: Callable[[Tensor], bool]  # whether a list of these labels has a loss
    translation: bool = True  # a constant added to all scores changes nothing
    by_item: bool = False  # a mean over items, not over lists
    linear: bool = True  # in the weights

    @property
    def wrapped(self) -> bool:
        """Whether it needs more than scores, labels and valid, and a function of this file supplies that."""
        return self.loss in (ordinal_of_one_score, sampled_softmax)


def weighted(name: str, counts: Callable[[Tensor], bool] = unequal) -> Case:
    return Case(f"lambda {name}", partial(losses.lambda_loss, weighting=name), counts)


CASES = [
    Case("bce", losses.bce_loss, any_item, translation=False, by_item=True),
    Case("mse", losses.mse_loss, any_item, translation=False, by_item=True),
    Case("ordinal", ordinal_of_one_score, any_item, translation=False, by_item=True),
    Case("ranknet", partial(losses.ranknet_loss, sigma=1.5), unequal),
    Case("bpr", losses.bpr_loss, both_kinds),
    Case("margin", losses.margin_loss, unequal),
    Case("hinge", partial(losses.hinge_loss, margin=0.7), both_kinds),
    Case("warp", losses.warp_loss, both_kinds),
    Case("warp of a sample", partial(losses.warp_loss, num_items=1000), both_kinds),
    Case("softmax", losses.softmax_loss, a_positive),
    Case("sampled softmax", sampled_softmax, a_positive),
    Case("listnet", losses.listnet_loss, any_item),
    Case("listmle", losses.listmle_loss, unequal),
    Case("approx ndcg", partial(losses.approx_ndcg_loss, temperature=0.5), a_positive, linear=False),
    Case("neural ndcg", losses.neural_ndcg_loss, a_positive, linear=False),
    Case("lambdarank", losses.lambdarank_loss, unequal),
    Case("lambdarank at 2", partial(losses.lambdarank_loss, k=2, gains="linear"), unequal),
    weighted("ndcg1", a_positive_and_another),
    weighted("ndcg2"),
    weighted("ndcg2++"),
    weighted("lambdarank"),
    weighted("ranknet"),
    weighted("arp1", a_positive_and_another),
    weighted("arp2"),
]
every_loss = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# Labels of lists of every kind: graded, binary, one positive, none, all equal, one item, no item.
LISTS = [[2, 0, 1, 0, 3], [0, 1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1], [2], [0], []]


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random scores of the lists, their labels, the mask and weights; padding holds large and varied garbage."""
    rng = torch.Generator().manual_seed(5)
    scores_BL = torch.full((len(LISTS), 6), 1e30, dtype=torch.float64)
    scores_BL[:, ::2] = -1e30
    labels_BL = torch.full(scores_BL.shape, 9.0, dtype=torch.float64)
    weights_BL = torch.full(scores_BL.shape, 1e30, dtype=torch.float64)
    valid_BL = torch.zeros(scores_BL.shape, dtype=torch.bool)
    for b, labels in enumerate(LISTS):
        places = torch.randperm(6, generator=rng)[: len(labels)]  # padding lies anywhere
        valid_BL[b, places] = True
        labels_BL[b, places] = torch.tensor(labels, dtype=torch.float64)
        scores_BL[b, places] = torch.randn(len(labels), generator=rng, dtype=torch.float64)
        weights_BL[b, places] = torch.rand(len(labels), generator=rng, dtype=torch.float64) + 0.5
    return scores_BL, labels_BL, valid_BL, weights_BL


def value_and_gradient(loss, scores_BL, *others, **options):
    scores_BL = scores_BL.clone().requires_grad_()
    value = loss(scores_BL, *others, **options)
    assert value.shape == ()
    (gradient_BL,) = torch.autograd.grad(value, scores_BL)
    return value.detach(), gradient_BL


def test_every_public_loss_is_in_the_list():
    functions = {getattr(case.loss, "func", case.loss) for case in CASES}
    wrapped = {ordinal_of_one_score: losses.ordinal_loss, sampled_softmax: losses.sampled_softmax_loss}
    listed = {wrapped.get(function, function) for function in functions}
    assert listed == {getattr(losses, name) for name in losses.__all__} - {losses.expected_grades}


@every_loss
def test_a_batch_is_the_mean_of_its_lists_and_padding_is_nothing(case, batch):
    scores_BL, labels_BL, valid_BL, weights_BL = batch
    value, gradient_BL = value_and_gradient(case.loss, *batch[:3], weights_BL=weights_BL)
    values, shares, alone_BL = [], [], torch.zeros_like(gradient_BL)
    for b, valid_L in enumerate(valid_BL):
        labels_L = labels_BL[b, valid_L]
        if not case.counts(labels_L):
            continue
        one, gradient_1L = value_and_gradient(
            case.loss, scores_BL[b, valid_L][None], labels_L[None], weights_BL=weights_BL[b, valid_L][None]
        )
        shares.append(float(valid_L.sum()) if case.by_item else 1.0)
        values.append(one)
        alone_BL[b, valid_L] = gradient_1L[0] * shares[-1]
    assert 0 < len(values) < len(LISTS)
    shares_B = torch.tensor(shares, dtype=torch.float64)
    torch.testing.assert_close(value, (torch.stack(values) * shares_B).sum() / shares_B.sum())
    torch.testing.assert_close(gradient_BL, alone_BL / shares_B.sum())
    assert (gradient_BL[~valid_BL] == 0).all()


@every_loss
@pytest.mark.parametrize("garbage", [0.0, 1e30, float("inf"), float("nan")])
def test_what_stands_at_padding_has_no_influence(case, batch, garbage):
    scores_BL, labels_BL, valid_BL, weights_BL = batch
    expected = value_and_gradient(case.loss, *batch[:3], weights_BL=weights_BL)
    given = [torch.where(valid_BL, tensor, garbage) for tensor in (scores_BL, labels_BL, weights_BL)]
    value, gradient_BL = value_and_gradient(case.loss, given[0], given[1], valid_BL, weights_BL=given[2])
    assert torch.equal(value, expected[0])
    assert torch.equal(gradient_BL, expected[1])


@every_loss
def test_lists_without_a_loss_give_zero_and_no_gradient(case, batch):
    scores_BL, labels_BL, valid_BL, _ = batch
    without = [b for b, labels in enumerate(LISTS) if not case.counts(torch.tensor(labels))]
    assert len(LISTS) - 1 in without  # the list of padding alone
    value, gradient_BL = value_and_gradient(case.loss, scores_BL[without], labels_BL[without], valid_BL[without])
    assert value == 0
    assert (gradient_BL == 0).all()


@every_loss
def test_the_order_in_the_list_does_not_matter(case, batch):
    permutation = torch.tensor([3, 0, 5, 1, 4, 2])
    value, gradient_BL = value_and_gradient(case.loss, *batch[:3], weights_BL=batch[3])
    moved = [tensor[:, permutation] for tensor in batch]
    moved_value, moved_gradient_BL = value_and_gradient(case.loss, *moved[:3], weights_BL=moved[3])
    torch.testing.assert_close(moved_value, value)
    torch.testing.assert_close(moved_gradient_BL, gradient_BL[:, permutation])


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_stay_finite(case, dtype):
    rng = torch.Generator().manual_seed(2)
    labels_BL = torch.randint(0, 4, (64, 9), generator=rng)
    scores_BL = torch.randn(64, 9, generator=rng).to(dtype) * 1e4
    scores_BL[:8] = 1e4 * torch.randint(-1, 2, (8, 9), generator=rng)  # and many of them equal
    value, gradient_BL = value_and_gradient(case.loss, scores_BL, labels_BL)
    assert value.isfinite()
    assert gradient_BL.isfinite().all()
    assert value.dtype == gradient_BL.dtype == dtype


@every_loss
@pytest.mark.parametrize("label", [0, 1, 2])
def test_equal_labels(case, label):
    scores_BL = torch.tensor([[1.0, -2.0, 0.5, 0.5]], dtype=torch.float64)
    labels_BL = torch.full((1, 4), label)
    value, gradient_BL = value_and_gradient(case.loss, scores_BL, labels_BL)
    assert value.isfinite()
    assert gradient_BL.isfinite().all()
    if not case.counts(labels_BL[0]):
        assert value == 0
        assert (gradient_BL == 0).all()


@every_loss
def test_the_perfect_order_is_the_best_of_all_orders(case):
    labels_L = torch.tensor([3, 2, 1, 0])
    values = [
        case.loss(torch.tensor([scores], dtype=torch.float64), labels_L[None]).item()
        for scores in permutations([6.0, 3.0, 0.0, -3.0])
    ]
    assert values[0] <= min(values) + 1e-12  # `permutations` begins with the order given
    assert max(values) > values[0] + 0.1


@every_loss
def test_descending_a_loss_sorts_the_lists(case):
    rng = torch.Generator().manual_seed(3)
    labels_BL = torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 1, 0]])
    scores_BL = (0.1 * torch.randn(labels_BL.shape, generator=rng) - labels_BL).requires_grad_()  # wrong to begin with
    before_B = ndcg(judge_scores(scores_BL.detach(), labels_BL, k=5), 5)
    optimizer = torch.optim.Adam([scores_BL], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        case.loss(scores_BL, labels_BL).backward()
        optimizer.step()
    assert (before_B < 0.8).all()
    assert ndcg(judge_scores(scores_BL.detach(), labels_BL, k=5), 5).tolist() == [1.0, 1.0, 1.0]


@every_loss
def test_a_constant_added_to_all_scores(case, batch):
    scores_BL, labels_BL, valid_BL, _ = batch
    value = case.loss(scores_BL, labels_BL, valid_BL)
    moved = case.loss(scores_BL + 3.0, labels_BL, valid_BL)
    assert torch.isclose(moved, value, rtol=1e-12) == case.translation


@every_loss
def test_weights(case, batch):
    scores_BL, labels_BL, valid_BL, weights_BL = batch
    plain = case.loss(scores_BL, labels_BL, valid_BL)
    ones = case.loss(scores_BL, labels_BL, valid_BL, weights_BL=torch.ones_like(scores_BL))
    once = case.loss(scores_BL, labels_BL, valid_BL, weights_BL=weights_BL)
    thrice = case.loss(scores_BL, labels_BL, valid_BL, weights_BL=3 * weights_BL)
    torch.testing.assert_close(ones, plain)
    torch.testing.assert_close(thrice, 3 * once if case.linear else once)
    assert not torch.isclose(once, plain)


@every_loss
def test_gradients_are_those_of_finite_differences(case, batch):
    scores_BL, labels_BL, valid_BL, weights_BL = batch
    scores_BL = torch.where(valid_BL, scores_BL, 0.0).requires_grad_()  # a step on 1e30 is none
    # no two scores lie within a step of each other or of a margin's kink, so orders and kinks stay where they are
    assert torch.autograd.gradcheck(
        lambda scores_BL: case.loss(scores_BL, labels_BL, valid_BL, weights_BL=weights_BL), (scores_BL,), eps=1e-6
    )


@every_loss
@pytest.mark.parametrize("label_dtype", [torch.int32, torch.int64, torch.float32, torch.bool])
def test_dtypes(case, batch, label_dtype):
    scores_BL, labels_BL, valid_BL, _ = batch
    scores_BL, labels_BL = torch.where(valid_BL, scores_BL, 0.0), labels_BL.to(label_dtype)
    expected = case.loss(scores_BL, labels_BL.double(), valid_BL)
    value = case.loss(scores_BL.float(), labels_BL, valid_BL)
    assert value.dtype == torch.float32
    torch.testing.assert_close(
        value.double(), expected, rtol=2e-5, atol=0
    )  # float32 rounding through 30 Sinkhorn steps
    half = scores_BL.bfloat16()
    assert torch.equal(case.loss(half, labels_BL, valid_BL), case.loss(half.float(), labels_BL, valid_BL))


@every_loss
def test_mixed_precision_does_not_reach_the_loss(case, batch):
    scores_BL, labels_BL, valid_BL, _ = batch
    scores_BL = torch.where(valid_BL, scores_BL, 0.0).float()
    expected = case.loss(scores_BL, labels_BL, valid_BL)
    with torch.autocast("cpu", torch.bfloat16):
        value = case.loss(scores_BL, labels_BL, valid_BL)
    torch.testing.assert_close(value, expected)


@every_loss
def test_arguments_are_left_as_they_were(case, batch):
    copies = [tensor.clone() for tensor in batch]
    value_and_gradient(case.loss, *batch[:3], weights_BL=batch[3])
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(batch, copies, strict=True))


@every_loss
def test_a_score_that_is_no_number_is_not_hidden(case):
    labels_BL = torch.tensor([[1, 0, 2], [0, 1, 0]])
    for place in [(0, 0), (0, 1), (1, 1), (1, 2)]:
        scores_BL = torch.randn(2, 3)
        scores_BL[place] = float("nan")
        assert case.loss(scores_BL, labels_BL).isnan(), f"NaN at {place}"


@every_loss
def test_compiled_and_plain_agree(case, batch):
    compiled = torch.compile(case.loss, backend="eager", dynamic=True)
    for rows in (slice(None), slice(0, 3)):
        given = [tensor[rows] for tensor in batch]
        value, gradient_BL = value_and_gradient(case.loss, *given[:3])
        compiled_value, compiled_gradient_BL = value_and_gradient(compiled, *given[:3])
        torch.testing.assert_close(compiled_value, value)
        torch.testing.assert_close(compiled_gradient_BL, gradient_BL)


@pytest.mark.parametrize("case", [case for case in CASES if not case.wrapped], ids=lambda case: case.name)
def test_wrong_inputs_are_answered(case):
    scores_BL, labels_BL = torch.zeros(2, 3), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"labels must have one entry for each score, shape \(2, 3\), got \(2, 4\)"):
        case.loss(scores_BL, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="valid must have one entry"):
        case.loss(scores_BL, labels_BL, torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="valid must be bool, False at padding, got torch.float32"):
        case.loss(scores_BL, labels_BL, torch.ones(2, 3))
    with pytest.raises(ValueError, match="weights must have one entry"):
        case.loss(scores_BL, labels_BL, weights_BL=torch.ones(2))
    for wrong in (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3), torch.zeros(2, 0)):
        with pytest.raises(ValueError, match=r"scores must be floats of shape \[B, L\]"):
            case.loss(wrong, labels_BL)

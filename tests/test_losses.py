"""Losses on lists small enough to work out by hand; the arithmetic stands beside each value."""

from __future__ import annotations

from math import log, log2

import pytest
import torch

from recsys_dl import losses


def close(value: torch.Tensor, expected: float) -> None:
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def floats(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_bce():
    # sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4, sigmoid(0) = 1/2: -ln 3/4, -ln(1 - 1/4), -ln 1/2
    scores_BL, labels_BL = floats([[log(3), -log(3)], [0, 7]]), torch.tensor([[1, 0], [1, 1]])
    valid_BL = torch.tensor([[True, True], [True, False]])
    close(losses.bce_loss(scores_BL, labels_BL, valid_BL), (2 * log(4 / 3) + log(2)) / 3)
    # a mean over items: the weights scale what is above the line, three items stay below it
    weights_BL = floats([[1, 2], [4, 9]])
    close(losses.bce_loss(scores_BL, labels_BL, valid_BL, weights_BL=weights_BL), (3 * log(4 / 3) + 4 * log(2)) / 3)
    # any label above 0 is a positive
    close(losses.bce_loss(scores_BL, 5 * labels_BL, valid_BL), (2 * log(4 / 3) + log(2)) / 3)


def test_mse():
    # 2 - 0, 3 - 2, -1 - 1: (4 + 1 + 4) / 3
    scores_BL, labels_BL = floats([[2, 3], [-1, 7]]), torch.tensor([[0, 2], [1, 1]])
    close(losses.mse_loss(scores_BL, labels_BL, torch.tensor([[True, True], [True, False]])), 3.0)


def test_ordinal():
    # grades above 0 are 1 and 2; [P(label >= 1), P(label >= 2)] of each item:
    # label 0, [1/2, 1/2]: 2 ln 2; label 1, [3/4, 1/4]: -ln 3/4 - ln(1 - 1/4); label 2, [3/4, 1/2]: -ln 3/4 - ln 1/2
    scores_BLG = floats([[[0, 0], [log(3), -log(3)], [log(3), 0]]])
    close(losses.ordinal_loss(scores_BLG, torch.tensor([[0, 1, 2]])), (3 * log(2) + 3 * log(4 / 3)) / 3)
    close(losses.ordinal_loss(scores_BLG, torch.tensor([[0, 1, 9]])), (3 * log(2) + 3 * log(4 / 3)) / 3)  # above G is G
    torch.testing.assert_close(losses.expected_grades(scores_BLG), floats([[1.0, 1.0, 1.25]]))


def test_ordinal_knows_padding_and_half_precision():
    scores_BLG, labels_BL = torch.randn(2, 3, 4), torch.tensor([[0, 1, 4], [2, 3, 0]])
    valid_BL = torch.tensor([[True, True, False], [True, False, True]])
    garbage_BLG = torch.where(valid_BL.unsqueeze(-1), scores_BLG, torch.nan).requires_grad_()
    value = losses.ordinal_loss(garbage_BLG, labels_BL, valid_BL)
    value.backward()
    assert torch.equal(value, losses.ordinal_loss(scores_BLG, labels_BL, valid_BL))
    assert garbage_BLG.grad[~valid_BL].eq(0).all()
    assert garbage_BLG.grad[valid_BL].ne(0).all()
    half_BLG = scores_BLG.half()
    assert torch.equal(losses.ordinal_loss(half_BLG, labels_BL), losses.ordinal_loss(half_BLG.float(), labels_BL))


def test_ordinal_asks_for_logits():
    with pytest.raises(
        ValueError, match=r"logits of shape \[B, L, G\], one for each grade above 0, got shape \(2, 3\)"
    ):
        losses.ordinal_loss(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"labels must have one entry for each score, shape \(2, 3\), got \(2, 4\)"):
        losses.ordinal_loss(torch.zeros(2, 3, 2), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="valid must be bool"):
        losses.ordinal_loss(torch.zeros(2, 3, 2), torch.zeros(2, 3), torch.ones(2, 3))


def test_bpr():
    # list 1: sigmoid(ln 2 - 0) = 2/3 and sigmoid(0) = 1/2, mean (ln 3/2 + ln 2) / 2 = ln 3 / 2
    # list 2: sigmoid(-ln 3) = 1/4, ln 4; the mean is over lists, not over the three pairs
    scores_BL, labels_BL = floats([[log(2), 0, log(2)], [log(3), 0, 0]]), torch.tensor([[1, 0, 0], [0, 1, 0]])
    valid_BL = torch.tensor([[True, True, True], [True, True, False]])
    close(losses.bpr_loss(scores_BL, labels_BL, valid_BL), (log(3) / 2 + log(4)) / 2)
    # a pair takes the weight of its positive
    weights_BL = floats([[2, 7, 7], [7, 3, 7]])
    close(losses.bpr_loss(scores_BL, labels_BL, valid_BL, weights_BL=weights_BL), (2 * log(3) / 2 + 3 * log(4)) / 2)


def test_ranknet():
    # sigma 2: grade 2 over 1 and over 0, sigmoid(2 ln 2) = 4/5 each; grade 1 over 0, sigmoid(0) = 1/2
    scores_BL, labels_BL = floats([[log(2), 0, 0]]), torch.tensor([[2, 1, 0]])
    close(losses.ranknet_loss(scores_BL, labels_BL, sigma=2.0), (2 * log(5 / 4) + log(2)) / 3)


def test_margin_and_hinge():
    scores_BL, labels_BL = floats([[1.0, 0.5, 0.8]]), torch.tensor([[2, 1, 0]])
    # pairs by grade: 1 - 0.5, 1 - 0.2, 1 + 0.3
    close(losses.margin_loss(scores_BL, labels_BL), (0.5 + 0.8 + 1.3) / 3)
    # grades 2 and 1 are both positives: the pair between them goes
    close(losses.hinge_loss(scores_BL, labels_BL), (0.8 + 1.3) / 2)
    # margin 0.4: 0.4 - 0.2 and 0.4 + 0.3; a difference of 0.5 costs nothing
    close(losses.margin_loss(scores_BL, labels_BL, margin=0.4), (0 + 0.2 + 0.7) / 3)


def test_warp():
    scores_BL, labels_BL = floats([[1.0, 3.0, 2.0, 0.5, -1.0]]), torch.tensor([[1, 1, 0, 0, 0]])
    # positive at 1.0: excesses 2.0 and 0.5, -1.0 lies beyond the margin. r = 2, H = 1 + 1/2, times the mean 1.25
    # positive at 3.0: all beyond the margin (1 - 3 + 2 = 0), r = 0
    close(losses.warp_loss(scores_BL, labels_BL), 1.5 * 1.25 / 2)
    # two of three negatives within the margin stand for 20 of 30 items: H = 1 + 1/2 + ... + 1/20
    harmonic = sum(1 / r for r in range(1, 21))
    close(losses.warp_loss(scores_BL, labels_BL, num_items=30), harmonic * 1.25 / 2)


def test_softmax():
    scores_BL = floats([[log(1), log(2), log(3)]])  # shares 1/6, 2/6, 3/6
    close(losses.softmax_loss(scores_BL, torch.tensor([[0, 0, 1]])), log(2))
    close(losses.softmax_loss(scores_BL, torch.tensor([[1, 0, 3]])), log(6) / 4 + 3 * log(2) / 4)
    close(losses.softmax_loss(scores_BL, torch.tensor([[1, -5, 3]])), log(6) / 4 + 3 * log(2) / 4)  # no positive
    weights_BL = floats([[4, 100, 2]])
    close(
        losses.softmax_loss(scores_BL, torch.tensor([[1, 0, 1]]), weights_BL=weights_BL),
        4 * log(6) / 2 + 2 * log(2) / 2,
    )


def test_sampled_softmax():
    # exp(s - log q): 3 / 1, 2 / (1/2), 1 / (1/4); the share of the first is 3/11
    scores_BL, log_q_BL = floats([[log(3), log(2), 0]]), floats([[0, log(1 / 2), log(1 / 4)]])
    labels_BL = torch.tensor([[1, 0, 0]])
    close(losses.sampled_softmax_loss(scores_BL, labels_BL, log_q_BL=log_q_BL), log(11 / 3))
    close(losses.sampled_softmax_loss(scores_BL, labels_BL, log_q_BL=log_q_BL + 5), log(11 / 3))
    both = losses.sampled_softmax_loss(
        scores_BL.repeat(2, 1), labels_BL.repeat(2, 1), log_q_BL=log_q_BL
    )  # one row for all
    close(both, log(11 / 3))
    with pytest.raises(
        ValueError, match=r"log_q must have one entry for each score, shape \(2, 3\), or one row for all"
    ):
        losses.sampled_softmax_loss(scores_BL.repeat(2, 1), labels_BL.repeat(2, 1), log_q_BL=log_q_BL[:, :2])


def test_listnet():
    # softmax of labels (0, ln 3) is (1/4, 3/4), of scores (ln 2, 0) is (2/3, 1/3)
    scores_BL, labels_BL = floats([[log(2), 0]]), floats([[0, log(3)]])
    close(losses.listnet_loss(scores_BL, labels_BL), log(3 / 2) / 4 + 3 * log(3) / 4)


def test_listmle():
    scores_BL = floats([[log(1), log(2), log(3)]])
    # label 2 has 2 of 1 + 2 + 3, then label 1 has 3 of 1 + 3, then label 0 is all that is left
    close(losses.listmle_loss(scores_BL, torch.tensor([[0, 2, 1]])), log(6 / 2) + log(4 / 3))
    # two of label 1: each is picked from all three
    close(losses.listmle_loss(scores_BL, torch.tensor([[1, 1, 0]])), log(6 / 1) + log(6 / 2))
    # two of label 0 are picked from but not picked
    close(losses.listmle_loss(scores_BL, torch.tensor([[0, 1, 0]])), log(6 / 2))


def test_approx_ndcg():
    # the positive is beaten with sigmoid(ln 3) = 3/4: rank 1.75, DCG 1 / log2(2.75) of at most 1
    scores_BL, labels_BL = floats([[0, log(3)]]), torch.tensor([[1, 0]])
    close(losses.approx_ndcg_loss(scores_BL, labels_BL, temperature=1.0), 1 - 1 / log2(2.75))
    # temperature 1/2: sigmoid(2 ln 3) = 9/10. Labels 2, 1: gains 3, 1 at ranks 1.9, 1.1 of at best 3 + 1 / log2(3)
    value = losses.approx_ndcg_loss(scores_BL, torch.tensor([[2, 1]]), temperature=0.5)
    close(value, 1 - (3 / log2(2.9) + 1 / log2(2.1)) / (3 + 1 / log2(3)))
    # linear gains 2, 1, weights 1, 6: 2 and 6 of at best 6 + 2 / log2(3)
    value = losses.approx_ndcg_loss(
        scores_BL, torch.tensor([[2, 1]]), temperature=0.5, gains="linear", weights_BL=floats([[1, 6]])
    )
    close(value, 1 - (2 / log2(2.9) + 6 / log2(2.1)) / (6 + 2 / log2(3)))


def test_neural_ndcg():
    # n = 2: rank 1 has softmax(s - |s_1 - s_2|) = softmax(s) = (3/4, 1/4), rank 2 softmax(-s) = (1/4, 3/4); columns sum to 1
    scores_BL = floats([[log(3), 0]])
    close(losses.neural_ndcg_loss(scores_BL, torch.tensor([[0, 1]])), 1 - (1 / 4 + 3 / 4 / log2(3)))
    # temperature 1/2: (9/10, 1/10); binary gains 1, 1 are all there is, in any order
    close(losses.neural_ndcg_loss(scores_BL, torch.tensor([[0, 1]]), temperature=0.5), 1 - (0.1 + 0.9 / log2(3)))
    assert losses.neural_ndcg_loss(scores_BL, torch.tensor([[1, 3]]), gains="binary").abs() < 1e-12


def test_lambdarank():
    # the positive stands second: swapping moves its gain 1 from 1 / log2(3) to 1, of an ideal of 1
    scores_BL, labels_BL = floats([[log(3), 0]]).requires_grad_(), torch.tensor([[0, 1]])
    change = 1 - 1 / log2(3)
    loss = losses.lambdarank_loss(scores_BL, labels_BL)
    close(loss, change * log(4))  # -log sigmoid(-ln 3) = ln 4
    loss.backward()
    torch.testing.assert_close(scores_BL.grad, change * floats([[3 / 4, -3 / 4]]))  # 1 - sigmoid(-ln 3) = 3/4


def test_lambdarank_at_k():
    # ranks are the places; ideal at 1 is 2^2 - 1 = 3. Pairs with the first: grade 1 over it, gain 1, and grade 2, gain 3;
    # the pair of the second and third has nobody among the first 1
    scores_BL, labels_BL = floats([[0, 0, 0]]), torch.tensor([[0, 1, 2]])
    expected = (1 * (1 - 1 / log2(3)) + 3 * (1 - 1 / 2)) / 3 * log(2)
    close(losses.lambdarank_loss(scores_BL, labels_BL, k=1), expected)
    # all ranks: the ideal is 3 + 1 / log2(3), and the third over the second gains 3 - 1
    pairs = 1 * (1 - 1 / log2(3)) + 3 * (1 - 1 / 2) + 2 * (1 / log2(3) - 1 / 2)
    close(losses.lambdarank_loss(scores_BL, labels_BL), pairs / (3 + 1 / log2(3)) * log(2))


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        # the positive is third, 2 bits below the first (log2(1 + e^ln 3)) and 1 bit beside the second (log2(1 + 1))
        ("ndcg1", (2 + 1) / 2),  # 1 / log2(1 + 3)
        ("ndcg2", 2 * (1 / log2(3) - 1 / 2) + (1 - 1 / log2(3))),  # 2 and 1 ranks apart
        ("lambdarank", 2 * (1 - 1 / 2) + (1 / log2(3) - 1 / 2)),
        ("ndcg2++", 2 * (1 - 1 / 2) + (1 / log2(3) - 1 / 2) + 4 / log2(3)),  # ndcg2 is 1 / log2(3), mu 4
        ("ranknet", 2 + 1),
        ("arp1", 2 + 1),
        ("arp2", 2 + 1),
    ],
)
def test_lambda_loss(weighting, expected):
    scores_BL, labels_BL = floats([[log(3), 0, 0]]), torch.tensor([[0, 0, 1]])
    close(losses.lambda_loss(scores_BL, labels_BL, weighting=weighting, mu=4.0), expected)


def test_lambda_loss_of_average_relevance_position():
    # bits as above: third under first 2, third beside second 1, second under first 2
    scores_BL, labels_BL = floats([[log(3), 0, 0]]), torch.tensor([[0, 1, 2]])
    close(losses.lambda_loss(scores_BL, labels_BL, weighting="arp1"), 2 * (2 + 1) + 1 * (2 + 1))
    close(losses.lambda_loss(scores_BL, labels_BL, weighting="arp2"), 2 * 2 + 1 * 1 + 1 * 2)


def test_names_that_do_not_exist_are_answered():
    scores_BL = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="weighting must be one of ndcg1, ndcg2, .*, got 'ndcg3'"):
        losses.lambda_loss(scores_BL, scores_BL, weighting="ndcg3")
    for loss in (losses.approx_ndcg_loss, losses.neural_ndcg_loss, losses.lambdarank_loss, losses.lambda_loss):
        with pytest.raises(ValueError, match="gains must be exponential, linear or binary, got 'quadratic'"):
            loss(scores_BL, torch.ones(1, 2), gains="quadratic")

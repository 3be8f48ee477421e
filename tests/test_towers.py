"""Towers: what they learn from, what their softmax estimates, and what their networks do, against NumPy and by hand."""

import numpy as np
import pytest
import torch

from recsys_dl.data.interactions import Interactions
from recsys_dl.families.choice import choice_loss
from recsys_dl.families.histories import Candidates, Histories, SplitExamples, WindowExamples
from recsys_dl.networks.encoders import (
    Encoded,
    FeatureNet,
    ItemEncoder,
    PooledUser,
    Pooling,
    TowerNetwork,
    weighted_sum,
)
from recsys_dl.networks.sequence import SequenceUser

CPU = torch.device("cpu")
FULL = {"candidates": "full", "num_negatives": 1, "popularity_exponent": 0.5, "seed": 3, "device": CPU}


def log() -> Interactions:
    """User 0: 4, 2, 7 in time; user 1: nothing; user 2: 1 and 9 at the same time, then 1 again."""
    return Interactions(
        [0, 2, 0, 2, 0, 2], [7, 1, 4, 9, 2, 1], None, [90, 20, 10, 20, 50, 30], num_users=3, num_items=10
    )


def test_histories_are_in_the_order_of_time_else_of_the_log():
    histories = Histories.of(log())
    assert histories.items_N.tolist() == [4, 2, 7, 1, 9, 1]
    assert histories.starts_U1.tolist() == [0, 3, 3, 6]
    # ages: shares of the log's span, 80 s
    np.testing.assert_allclose(histories.ages_N, [1, 0.5, 0, 70 / 80, 70 / 80, 60 / 80])
    plain = Histories.of(Interactions(log().users_N, log().items_N, num_users=3, num_items=10))
    assert plain.items_N.tolist() == [7, 4, 2, 1, 9, 1]
    assert plain.ages_N is None
    newest = histories.newest(2)
    assert newest.items_N.tolist() == [2, 7, 9, 1]
    assert newest.starts_U1.tolist() == [0, 2, 2, 4]
    items, valid = histories.padded(np.array([0, 1, 2]), 2, newest_first=True)
    assert items.tolist() == [[7, 2], [0, 0], [1, 9]]
    assert valid.tolist() == [[True, True], [False, False], [True, True]]
    items, valid = histories.padded(np.array([2, 1]), 5, newest_first=False)
    assert items.tolist() == [[1, 9, 1], [0, 0, 0]]
    nobody = Histories.of(Interactions([], [], num_users=2, num_items=3))
    assert nobody.padded(np.array([0, 1]), 4, newest_first=True)[1].tolist() == [[False], [False]]


def splits(examples: SplitExamples, epoch: int = 0) -> list[tuple[int, list[int], list[int]]]:
    """All examples of an epoch as (user, history newest first, targets)."""
    examples.begin(epoch)
    batch = examples.take(torch.arange(len(examples)), slice(None), epoch=epoch, step=0)
    rows = zip(batch.users_B, batch.history_BH, batch.history_valid_BH, batch.targets_BT, batch.valid_BT, strict=True)
    return [(int(u), h[v > 0].tolist(), t[w].tolist()) for u, h, v, t, w in rows]


def test_every_place_of_a_history_is_an_example():
    examples = SplitExamples(Histories.of(log()), 2, 10, num_targets=2, per_user=9, shuffled=False, **FULL)
    assert splits(examples) == [
        (0, [], [4, 2]),
        (0, [4], [2, 7]),
        (0, [2, 4], [7]),
        (2, [], [1, 9]),
        (2, [1], [9, 1]),
        (2, [9, 1], [1]),
    ]
    short = SplitExamples(Histories.of(log()), 1, 10, num_targets=1, per_user=9, shuffled=False, **FULL)
    assert splits(short)[2] == (0, [2], [7])
    batch = examples.take(torch.tensor([4, 0]), slice(0, 2), epoch=0, step=0)
    np.testing.assert_allclose(batch.ages_B, [70 / 80, 1])


def many(num_users: int = 30, most: int = 40) -> Interactions:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, most, num_users)
    items = np.concatenate([rng.permutation(50)[:size] for size in sizes])
    return Interactions(np.repeat(np.arange(num_users), sizes), items, num_users=num_users, num_items=50)


@pytest.mark.parametrize("shuffled", [False, True])
def test_examples_of_heavy_users_are_capped_and_drawn_anew(shuffled):
    data = many()
    examples = SplitExamples(Histories.of(data), 50, 50, num_targets=3, per_user=5, shuffled=shuffled, **FULL)
    first, again, second = splits(examples), splits(examples), splits(examples, 1)
    assert first == again != second
    counts = np.bincount([user for user, _, _ in first], minlength=30)
    np.testing.assert_array_equal(counts, np.minimum(np.bincount(data.users_N, minlength=30), 5))
    lists = [data.items_N[data.users_N == user].tolist() for user in range(30)]
    for user, history, targets in first:
        own = lists[user]
        assert set(history) | set(targets) <= set(own)
        assert not set(history) & set(targets)
        if not shuffled:
            place = own.index(targets[0])
            assert history == own[:place][::-1]
            assert targets == own[place : place + 3]
    if shuffled:
        assert any(history != lists[user][: len(history)][::-1] for user, history, _ in first)


def test_what_a_process_takes_is_its_part_of_the_batch():
    for kind in ("full", "sampled", "in_batch"):
        options = FULL | {"candidates": kind, "num_negatives": 8}
        for examples in (
            SplitExamples(Histories.of(many()), 9, 50, num_targets=2, per_user=4, shuffled=True, **options),
            WindowExamples(Histories.of(many()), 9, 50, **options),
        ):
            examples.begin(2)
            chosen = torch.randperm(len(examples))[:20]
            whole = examples.take(chosen, slice(0, 20), epoch=2, step=5)
            parts = [examples.take(chosen, mine, epoch=2, step=5) for mine in (slice(0, 7), slice(7, 20))]
            for part in parts:
                if kind == "full":
                    assert part.candidates is None
                else:
                    for one, two in zip(part.candidates, whole.candidates, strict=True):
                        assert torch.equal(one, two)
            assert torch.equal(torch.cat([part.users_B for part in parts]), whole.users_B)
            assert torch.equal(parts[1][1], whole[1][7:, : parts[1][1].shape[1]])


def test_stretches_cover_long_histories():
    data = many(most=45)
    examples = WindowExamples(Histories.of(data), 10, 50, **FULL)
    counts = np.bincount(data.users_N, minlength=30)
    assert len(examples) == np.ceil(counts / 10).sum()
    met = np.zeros(len(data), bool)
    lists = [data.items_N[data.users_N == user].tolist() for user in range(30)]
    starts = np.cumsum([0, *counts])
    for epoch in range(40):
        examples.begin(epoch)
        batch = examples.take(torch.arange(len(examples)), slice(None), epoch=epoch, step=0)
        newest = set()
        for user, items, valid in zip(batch.users_B.tolist(), batch.items_BH, batch.valid_BH, strict=True):
            stretch = items[valid].tolist()
            at = lists[user].index(stretch[0])
            assert stretch == lists[user][at : at + 10]
            assert len(stretch) == min(10, len(lists[user]))
            met[starts[user] + at : starts[user] + at + 10] = True
            newest |= {user} if stretch[-1] == lists[user][-1] else set()
        assert newest == set(range(30))
        assert float(batch.mean_length) == pytest.approx(float(batch.valid_BH.sum(1).float().mean()))
    assert met.mean() > 0.99


def random_choice(seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    users, items = torch.randn(6, 4, generator=rng), torch.randn(9, 4, generator=rng)
    targets = torch.stack([torch.randperm(9, generator=rng)[:3] for _ in range(6)])
    valid = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 0, 0]]).bool()
    return users, items, targets, valid


def test_full_softmax_by_hand():
    users, items, targets, valid = random_choice()
    scores = users.double().numpy() @ items.double().numpy().T
    log_share = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    wanted = np.mean([-log_share[b, targets[b][valid[b]].numpy()].mean() for b in range(6)])
    assert float(choice_loss(users, items, targets, valid)) == pytest.approx(wanted, rel=1e-5)


def test_every_item_once_as_candidate_is_the_full_softmax():
    users, items, targets, valid = random_choice()
    once = Candidates(torch.arange(9), torch.zeros(9), torch.full((9,), -1))
    told = {"candidates": once, "places_C": torch.arange(9), "owners_B": torch.arange(6)}
    full = choice_loss(users, items, targets, valid)
    assert float(choice_loss(users, items, targets, valid, **told)) == pytest.approx(float(full), rel=1e-5)


@pytest.mark.parametrize("kind", ["sampled", "in_batch"])
def test_the_sum_over_items_is_estimated_without_bias(kind):
    """exp(loss) of one target is the estimated sum over exp(its score): its mean over draws must be the true sum."""
    data = many(num_users=400, most=12)
    histories = Histories.of(data)
    options = FULL | {"candidates": kind, "num_negatives": 60, "popularity_exponent": 0.7}
    examples = SplitExamples(histories, 5, 50, num_targets=1, per_user=3, shuffled=False, **options)
    scores = 0.7 * torch.randn(50, generator=torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(2)
    met = np.unique(data.items_N)
    true = float(scores[met].exp().sum())
    estimates = []
    for epoch in range(300):
        examples.begin(epoch)
        batch = examples.take(torch.randperm(len(examples), generator=rng)[:60], slice(0, 1), epoch=epoch, step=0)
        loss = choice_loss(
            torch.ones(1, 1),
            scores[:, None],
            batch.targets_BT,
            batch.valid_BT,
            candidates=batch.candidates,
            places_C=batch.candidates.items_C,
            owners_B=batch.users_B,
        )
        estimates.append(float((loss + scores[batch.targets_BT[0, 0]]).exp()))
    error = np.std(estimates) / np.sqrt(len(estimates))
    # in a batch the user's own other targets are left out: a share of about 1 / 60 of the slots, allowed for
    assert np.mean(estimates) == pytest.approx(true, abs=4 * error + (0.02 * true if kind == "in_batch" else 0))
    assert error < 0.03 * true


def test_own_targets_are_no_negatives():
    users, items, targets, valid = random_choice()
    items = items[[0, 1, 2, 3, 4, 5, 6, 7, 8]].requires_grad_()
    # candidates: a target of user row 3, somebody else's item, a target of users_B[0]'s own other row
    places = torch.tensor([int(targets[3, 1]), 7, 8])
    owners = torch.tensor([99, 99, 5])
    candidates = Candidates(places, torch.zeros(3), owners)
    one = slice(3, 4)
    told = {"candidates": candidates, "places_C": places, "owners_B": torch.tensor([5])}
    loss = choice_loss(users[one], items, targets[one], valid[one], **told)
    scores = (users[3] @ items.T).detach().double().numpy()
    mine = targets[3].numpy()
    negatives = [7] if 7 not in mine else []
    total = np.exp(scores[mine]).sum() + np.exp(scores[negatives]).sum()
    assert float(loss.detach()) == pytest.approx(np.mean(np.log(total) - scores[mine]), rel=1e-5)
    loss.backward()
    if 8 not in mine:
        assert not items.grad[8].any()


def test_weighted_sum_is_the_same_with_and_without_gradients():
    table = torch.randn(7, 3, requires_grad=True)
    rows, weights = torch.randint(7, (4, 5)), torch.rand(4, 5)
    trained = weighted_sum(table, rows, weights)
    with torch.no_grad():
        served = weighted_sum(table, rows, weights)
    torch.testing.assert_close(trained.detach(), served)
    wanted = np.einsum("bhd,bh->bd", table.detach().numpy()[rows.numpy()], weights.numpy())
    np.testing.assert_allclose(served.numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert weighted_sum(table, rows[:, :0], weights[:, :0]).shape == (4, 3)


def test_pooling_by_hand():
    vectors = torch.randn(8, 4)
    places = torch.tensor([[3, 5, 0], [2, 0, 0], [0, 0, 0]])
    valid = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]])
    mean = Pooling(4, 5, attention=False)(vectors, places, valid)
    np.testing.assert_allclose(mean[0], vectors[[3, 5, 0]].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean[1], vectors[2], rtol=1e-6)
    assert not mean[2].any()
    pooling = Pooling(4, 5, attention=True)
    with torch.no_grad():
        pooling.recency.copy_(torch.tensor([1.0, 0, -1, 0, 0]))
        mine = vectors[[3, 5, 0]]
        first, _, last = pooling.relevance
        raw = np.tanh((mine @ first.weight.T + first.bias).numpy()) @ last.weight[0].numpy() + [1, 0, -1]
        weights = np.exp(raw) / np.exp(raw).sum()
        pooled = pooling(vectors, places, valid)
    np.testing.assert_allclose(pooled[0], weights @ mine.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pooled[1], vectors[2], rtol=1e-5)
    assert not pooled[2].any()


def features(num: int = 4) -> Encoded:
    codes = torch.tensor([[1, 3], [2, 0], [1, 4], [2, 3]])[:num]
    return Encoded(codes, (codes > 0).float() * torch.tensor([1.0, 0.5]), torch.randn(num, 2))


def test_features_by_hand():
    net = FeatureNet(5, 2, 3)
    given = features()
    with torch.no_grad():
        out = net(*given).numpy()
        table, dense = net.values.weight.numpy(), net.dense.weight.numpy()
    wanted = [table[1] + 0.5 * table[3], table[2], table[1] + 0.5 * table[4], table[2] + 0.5 * table[3]]
    np.testing.assert_allclose(out, np.stack(wanted) + given.dense_NF.numpy() @ dense.T, rtol=1e-4, atol=1e-6)
    assert FeatureNet(5, 0, 3, hidden_sizes=[7])(given.codes_NM, given.weights_NM, given.dense_NF[:, :0]).shape == (
        4,
        3,
    )
    empty = Encoded(torch.zeros(4, 0, dtype=torch.long), torch.zeros(4, 0), torch.zeros(4, 0))
    assert not FeatureNet(1, 0, 3)(*empty).any()


def test_items_never_met_are_what_their_features_say():
    met = torch.tensor([True, False, True, False])
    items = ItemEncoder(met, 3, features=features(), num_values=5, id_dropout=0.5)
    items.eval()
    with torch.no_grad():
        said = items.feature_net(*features_of(items))
        out = items(torch.arange(4))
    torch.testing.assert_close(out[~met], said[~met])
    torch.testing.assert_close(out[met], (said + items.item_emb.weight)[met])
    items.train()
    rows = torch.zeros(4000, dtype=torch.long)
    left_out = (items(rows) - said[0]).abs().sum(1) < 1e-6
    assert float(left_out.float().mean()) == pytest.approx(0.5, abs=0.05)
    plain = ItemEncoder(met, 3, id_dropout=0.5)
    out = plain(torch.arange(4))
    assert not out[~met].any()
    assert torch.equal(out[met], plain.item_emb.weight[met])  # without features nothing is left out


def features_of(items: ItemEncoder) -> tuple:
    return items.codes_IM, items.weights_IM, items.dense_IF


NO_FEATURES = (torch.zeros(3, 0, dtype=torch.long), torch.zeros(3, 0), torch.zeros(3, 0))


@pytest.mark.parametrize("kind", ["mean", "attention", "perceptron", "sequence"])
def test_padding_and_neighbors_in_the_batch_change_nothing(kind):
    torch.manual_seed(0)
    if kind == "sequence":
        tower = SequenceUser(8, 6, num_blocks=2, num_heads=2, dropout=0.5)
    else:
        hidden = [5] if kind == "perceptron" else []
        tower = PooledUser(8, 6, attention=kind == "attention", hidden_sizes=hidden, dropout=0.5)
    tower.eval()
    vectors = torch.randn(9, 8)
    places = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]])
    valid = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    with torch.no_grad():
        together = tower(vectors, places, valid, *NO_FEATURES)
        filled = tower(vectors, torch.where(valid > 0, places, 8), valid, *NO_FEATURES)
        torch.testing.assert_close(filled, together)
        for row, length in enumerate((4, 2, 1)):
            alone = tower(
                vectors,
                places[row : row + 1, :length],
                valid[row : row + 1, :length],
                *(one[:1] for one in NO_FEATURES),
            )
            torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_states_know_nothing_of_what_comes_later():
    torch.manual_seed(0)
    tower = SequenceUser(8, 6, num_blocks=2, num_heads=4, dropout=0.0)
    vectors = torch.randn(9, 8)
    one, two = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 5, 6]])
    empty = tuple(part[:1] for part in NO_FEATURES)
    before, after = tower.states(vectors, one, *empty), tower.states(vectors, two, *empty)
    torch.testing.assert_close(before[0, :3], after[0, :3])
    assert (before[0, 3:] - after[0, 3:]).abs().max() > 1e-3
    assert before.shape == (1, 5, 8)  # one before any item
    swapped = tower.states(vectors, torch.tensor([[2, 1, 3, 4]]), *empty)
    assert (before[0, 4] - swapped[0, 4]).abs().max() > 1e-3  # order matters


def test_vectors_of_length_one_over_temperature():
    met = torch.ones(9, dtype=torch.bool)
    network = TowerNetwork(ItemEncoder(met, 8), PooledUser(8, 6), normalize=True, temperature=0.1)
    raw = torch.randn(3, 8)
    torch.testing.assert_close(network.towers(raw, of_users=False).norm(dim=1), torch.ones(3))
    torch.testing.assert_close(network.towers(raw, of_users=True).norm(dim=1), torch.full((3,), 10.0))

"""Batches and negatives: a function of seed, epoch and step, whatever the number of processes; never a positive."""

import numpy as np
import pytest
import torch

from recsys_dl.data.interactions import Interactions
from recsys_dl.training.batches import Batches, in_its_step, mixed, part_of
from recsys_dl.training.pairs import PairExamples

CPU = torch.device("cpu")
NUM_USERS, NUM_ITEMS = 30, 12


def some_log() -> Interactions:
    """Users of one to eleven items; the last user has every item, so nothing can be drawn for them."""
    rng = np.random.default_rng(0)
    counts = [1 + user % 11 for user in range(NUM_USERS - 1)] + [NUM_ITEMS]
    items = np.concatenate([rng.choice(NUM_ITEMS, count, replace=False) for count in counts])
    return Interactions(np.repeat(np.arange(NUM_USERS), counts), items, num_users=NUM_USERS, num_items=NUM_ITEMS)


def worst(log: Interactions, num: int) -> np.ndarray:
    """Stand in for a model: of what users did not have the items with the highest numbers, -1 where there are fewer."""
    best_UM = np.full((log.num_users, num), -1, np.int32)
    for user in range(log.num_users):
        others = np.setdiff1d(np.arange(log.num_items), log.by_user[user].indices)[::-1][:num]
        best_UM[user, : len(others)] = others
    return best_UM


def examples(log: Interactions, kind: str, num_negatives: int = 4, **more) -> PairExamples:
    return PairExamples(
        log,
        num_negatives=num_negatives,
        negatives=kind,
        num_hard=3,
        best=lambda num: worst(log, num),
        seed=5,
        device=CPU,
        **more,
    )


@pytest.mark.parametrize("kind", ["uniform", "popularity", "hard"])
def test_negatives_are_never_what_the_user_had_and_pairs_come_once(kind):
    log = some_log()
    had = log.by_user.toarray() > 0
    met = []
    for share in Batches(examples(log, kind), 32, seed=1):
        lists = share.batch
        met += list(zip(lists.users_B.tolist(), lists.items_BL[:, 0].tolist(), strict=True))
        assert had[lists.users_B, lists.items_BL[:, 0]].all()
        assert lists.labels_BL.tolist() == [[1, 0, 0, 0, 0]] * len(lists.users_B)
        valid_BL = torch.ones_like(lists.items_BL, dtype=torch.bool) if lists.valid_BL is None else lists.valid_BL
        full_B = lists.users_B == NUM_USERS - 1
        assert (valid_BL[full_B, 1:] == False).all()  # noqa: E712
        assert valid_BL[~full_B].all()
        assert not (had[lists.users_B[:, None], lists.items_BL[:, 1:]] & valid_BL[:, 1:].numpy()).any()
    assert sorted(met) == sorted(zip(*(part.tolist() for part in log.by_user.nonzero()), strict=True))


def drawn(log: Interactions, kind: str, epochs: int) -> np.ndarray:
    """Count the items drawn for user 0."""
    pairs = examples(log, kind, num_negatives=8)
    counts_I = np.zeros(log.num_items)
    first = int(np.flatnonzero(pairs.users_N.numpy() == 0)[0])
    for epoch in range(epochs):
        pairs.begin(epoch)
        lists = pairs.take(torch.full((500,), first), slice(None), epoch=epoch, step=0)
        counts_I += np.bincount(lists.items_BL[:, 1:].flatten(), minlength=log.num_items)
    return counts_I / counts_I.sum()


def test_uniform_negatives_are_drawn_alike():
    log = some_log()
    expected_I = 1.0 - (log.by_user[0].toarray()[0] > 0)
    # 20,000 draws: the standard deviation of a share of 1/11 is 0.002, so 0.012 is six of them.
    np.testing.assert_allclose(drawn(log, "uniform", 5), expected_I / expected_I.sum(), atol=0.012)


def test_popular_items_are_drawn_in_proportion_to_a_power_of_their_users():
    log = some_log()
    expected_I = (log.item_counts_I**0.75) * (log.by_user[0].toarray()[0] == 0)
    np.testing.assert_allclose(drawn(log, "popularity", 5), expected_I / expected_I.sum(), atol=0.012)


def test_half_of_hard_negatives_are_the_models_best():
    log = some_log()
    best = worst(log, 3)[0]
    shares_I = drawn(log, "hard", 5)
    expected_I = 0.5 * (1.0 - (log.by_user[0].toarray()[0] > 0)) / (NUM_ITEMS - 1)
    expected_I[best] += 0.5 / 3
    np.testing.assert_allclose(shares_I, expected_I, atol=0.012)


def test_hard_items_are_asked_for_once_an_epoch_and_come_with_a_checkpoint():
    log = some_log()
    asked = []

    def best(num):
        asked.append(num)
        return worst(log, num)

    pairs = PairExamples(log, num_negatives=2, negatives="hard", num_hard=3, best=best, seed=1, device=CPU)
    pairs.begin(0), pairs.begin(0), pairs.begin(1)
    assert asked == [3, 3]
    later = PairExamples(log, num_negatives=2, negatives="hard", num_hard=3, best=best, seed=1, device=CPU)
    later.keep(pairs.kept())
    later.begin(1)
    assert len(asked) == 2
    assert torch.equal(later.hard_UM, pairs.hard_UM)


@pytest.mark.parametrize("kind", ["uniform", "popularity", "hard"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_the_same_batches_and_draws_whatever_the_number_of_processes(kind, world_size):
    log = some_log()
    whole = list(Batches(examples(log, kind), 25, seed=3))
    parts = [
        list(Batches(examples(log, kind), 25, seed=3, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    for step, share in enumerate(whole):
        mine = [part[step] for part in parts if part[step].weight > 0]
        assert torch.equal(torch.cat([one.batch.users_B for one in mine]), share.batch.users_B)
        assert torch.equal(torch.cat([one.batch.items_BL for one in mine]), share.batch.items_BL)
        weights = [len(one.batch.users_B) * world_size / len(share.batch.users_B) for one in mine]
        assert [one.weight for one in mine] == pytest.approx(weights)
    assert len(whole[-1].batch.users_B) < len(whole[0].batch.users_B)  # there was an uneven batch


def test_an_epoch_can_begin_anywhere_and_each_has_an_order_of_its_own():
    log = some_log()
    batches = Batches(examples(log, "uniform"), 16, seed=3)
    batches.seek(1)
    whole = list(batches)
    batches.seek(1, 7)
    for one, two in zip(whole[7:], batches, strict=True):
        assert torch.equal(one.batch.items_BL, two.batch.items_BL)
        assert one.names == two.names
    batches.seek(2)
    assert not torch.equal(next(iter(batches)).batch.users_B, whole[0].batch.users_B)
    other = Batches(examples(log, "uniform"), 16, seed=4)
    other.seek(1)
    assert not torch.equal(next(iter(other)).batch.users_B, whole[0].batch.users_B)


def test_an_epoch_of_few_examples_takes_sixteen_steps():
    log = some_log()
    assert len(Batches(examples(log, "uniform"), 10**6, seed=1)) == 16
    assert len(Batches(examples(log, "uniform"), 1, seed=1)) == len(log.by_user.data)


def test_parts_cover_a_batch_and_weigh_its_mean():
    for num in (1, 2, 5, 16):
        for world_size in (1, 2, 3, 7):
            parts = [part_of(num, rank, world_size) for rank in range(world_size)]
            covered = [n for part, weight in parts if weight for n in range(num)[part]]
            assert covered == list(range(num))
            assert sum(weight for _, weight in parts) == pytest.approx(world_size)


def test_accumulated_batches_weigh_as_their_examples():
    # 10 examples in batches of 3, two a step: {3, 3}, {3, 1}; the last step's batches hold 3/4 and 1/4 of it, times two.
    assert [in_its_step(10, 3, batch, 2) for batch in range(4)] == [1.0, 1.0, 1.5, 0.5]
    assert [in_its_step(9, 3, batch, 2) for batch in range(3)] == [1.0, 1.0, 2.0]


def test_mixed_seeds_differ():
    seeds = {mixed(a, b, c) for a in range(12) for b in range(12) for c in range(12)}
    assert len(seeds) == 12**3
    assert mixed(1, 2) != mixed(2, 1)
    assert 0 <= mixed(-1) < 2**63


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"num_negatives": 0}, "num_negatives must be"), ({"kind": "hardest"}, "negatives must be one")],
)
def test_wrong_arguments(wrong, words):
    with pytest.raises(ValueError, match=words):
        examples(some_log(), **({"kind": "uniform"} | wrong))

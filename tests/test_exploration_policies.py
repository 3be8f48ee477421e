"""Policies choose and learn inside pipelines, with propensities in the answers."""

import numpy as np
import polars as pl
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from recsys_dl import Dataset, Interactions, Ranking, Vocabulary
from recsys_dl.bandits import EpsilonGreedy, Thompson
from recsys_dl.compose import compose_command
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.models import ItemKNN, Popularity
from recsys_dl.pipeline import LoggedPipeline, Pipeline
from recsys_dl.rerankers import MMR, Exploration, PolicyOrder
from recsys_dl.saving import save_arrays, write_config
from recsys_dl.trust import check_config

USERS, ITEMS = 40, 30


def shop(items=ITEMS, users=USERS):
    rng = np.random.default_rng(0)
    log = Interactions(np.arange(users).repeat(5), rng.integers(0, 20, 5 * users), num_users=users, num_items=items)
    age = pl.Series("age", ["old"] * 20 + ["new"] * (items - 20))
    kind = pl.Series("kind", [["a", "b", "c"][item % 3] for item in range(items)])
    return Dataset(
        log,
        Vocabulary([f"u{u}" for u in range(users)], noun="user"),
        Vocabulary([f"i{i}" for i in range(items)], noun="item"),
        item_features=pl.DataFrame([age, kind]),
    )


def candidates(width, rows):
    return Ranking(np.tile(np.arange(width), (rows, 1)), np.tile(np.arange(width, 0, -1.0), (rows, 1)))


def pipeline(**stages):
    return Pipeline({"popular": Popularity()}, num_candidates=12, rerankers=stages).fit(shop())


def test_a_policy_fills_the_slots_from_the_pool_with_its_propensities():
    policy = EpsilonGreedy(epsilon=0.5, seed=1)
    stage = Exploration(policy, places=[2, 4], pool={"age": "new"}).prepare(shop())
    best = BanditFeedback([[25]] * 20, [[1.0]] * 20, None, num_arms=ITEMS)
    stage.policy.update(best)
    answer = stage.rerank(np.arange(USERS), candidates(6, USERS), 5, request=np.arange(USERS))
    slots = answer.items_BK[:, [1, 3]]
    assert (slots >= 20).all()
    np.testing.assert_array_equal(answer.items_BK[:, [0, 2, 4]], np.tile([0, 1, 2], (USERS, 1)))
    np.testing.assert_array_equal(answer.propensities_BK[:, [0, 2, 4]], 1)
    first = np.where(slots[:, 0] == 25, 0.5 + 0.5 / 10, 0.5 / 10)
    np.testing.assert_allclose(answer.propensities_BK[:, 1], first)
    assert 0.3 < (slots[:, 0] == 25).mean() < 0.8
    assert (answer.joint_B < first).all()
    assert set(answer.moved_BK[:, 1]) == {1}


def test_frequencies_over_requests_are_the_propensities():
    stage = Exploration(EpsilonGreedy(epsilon=0.6, seed=2), places=[3]).prepare(shop())
    stage.policy.update(BanditFeedback([[4]], [[1.0]], None, num_arms=ITEMS))
    size = 4000
    answer = stage.rerank(np.zeros(size, int), candidates(6, size), 3, request=np.arange(size))
    for item, chance in ((4, 0.4 + 0.6 / 4), (2, 0.15), (3, 0.15), (5, 0.15)):
        shown = answer.items_BK[:, 2] == item
        np.testing.assert_allclose(answer.propensities_BK[shown, 2], chance)
        assert shown.mean() == pytest.approx(chance, abs=4 * np.sqrt(chance / size))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Exploration(Thompson(seed=3), places=[2, 3]),
        lambda: Exploration(Thompson(seed=3), places=[2, 3], pool={"age": "new"}),
        lambda: Exploration(places=[2, 3]),
        lambda: PolicyOrder(Thompson(seed=3), among=5),
    ],
)
def test_the_same_user_and_request_get_the_same_answer_in_any_batch_and_after_loading(make, tmp_path):
    stage = make().prepare(shop())
    stage.update(BanditFeedback([[0, 3, 25]], [[1.0, 0.0, 1.0]], None, num_arms=ITEMS))
    users, numbers = np.array([7, 7, 8, 9]), np.array([1, 2, 1, 1])
    whole = stage.rerank(users, candidates(8, 4), 4, request=numbers)
    assert not (whole.items_BK == whole.items_BK[0]).all()
    stage.save(tmp_path / "stage")
    loaded = type(stage).load(tmp_path / "stage")
    for b in range(4):
        alone = loaded.rerank(users[[b]], candidates(8, 1), 4, request=int(numbers[b]))
        np.testing.assert_array_equal(alone.items_BK[0], whole.items_BK[b])
        np.testing.assert_allclose(alone.propensities_BK[0], whole.propensities_BK[b])
        np.testing.assert_allclose(alone.joint_B[0], whole.joint_B[b])


def test_uniform_draws_know_the_probability_of_the_whole_list():
    stage = Exploration(places=[1, 2]).prepare(shop())
    answer = stage.rerank([0, 1], candidates(6, 2), 2)
    np.testing.assert_allclose(answer.propensities_BK, 1 / 6)
    np.testing.assert_allclose(answer.joint_B, 1 / 30)


def test_a_policy_orders_the_best_candidates_and_the_others_follow():
    stage = PolicyOrder(EpsilonGreedy(epsilon=0.0), among=4).prepare(shop())
    stage.update(BanditFeedback([[2], [3]], [[1.0], [0.5]], None, num_arms=ITEMS))
    answer = stage.rerank([0], candidates(8, 1), 6)
    assert answer.items_BK[0, :2].tolist() == [2, 3]
    assert sorted(answer.items_BK[0, 2:4]) == [0, 1]
    assert answer.items_BK[0, 4:].tolist() == [4, 5]
    np.testing.assert_allclose(answer.propensities_BK, [[1, 1, 0.5, 0.5, 1, 1]])
    assert answer.joint_B[0] == pytest.approx(0.5)


def test_lists_shorter_than_their_slots_are_filled_with_what_there_is():
    stage = Exploration(EpsilonGreedy(epsilon=1.0), places=[1, 2, 3]).prepare(shop())
    few = Ranking(np.array([[5, 6, -1, -1], [-1, -1, -1, -1]]), np.array([[2.0, 1.0, -np.inf, -np.inf], [-np.inf] * 4]))
    answer = stage.rerank([0, 1], few, 4)
    assert sorted(answer.items_BK[0]) == [-1, -1, 5, 6]
    assert (answer.items_BK[1] == -1).all()
    assert (answer.propensities_BK[answer.items_BK >= 0] > 0).all()


def test_a_running_pipeline_logs_its_answers_and_learns_from_them(tmp_path):
    """The one new item that is clicked comes to be shown; a reload continues, and no reward counts twice."""
    made = pipeline(exploration=Exploration(Thompson(seed=1), places=[3], pool={"age": "new"}))
    running = LoggedPipeline(made, FeedbackLog(tmp_path / "log", items=made.items))
    share = []
    for _ in range(30):
        answer, requests = running.recommend(np.arange(USERS), k=3)
        shown = answer.items_BK[:, 2]
        assert (shown >= 20).all()
        share.append((shown == 23).mean())
        running.reward(requests, shown, (shown == 23) * 1.0)
        assert running.learn() == USERS
        assert running.learn() == 0
    assert share[0] < 0.5
    assert np.mean(share[-5:]) > 0.9
    found = running.log.feedback()
    assert len(found) == 30 * USERS
    np.testing.assert_array_equal(found.users_R[:USERS], np.arange(USERS))
    assert (found.propensities_RK[:, :2] == 1).all()
    counted = made.rerankers["exploration"].policy.num_rewards
    assert counted == 30 * USERS
    made.save(tmp_path / "saved")
    again = LoggedPipeline(Pipeline.load(tmp_path / "saved"), FeedbackLog(tmp_path / "log"))
    assert again.learn() == 0
    answer, requests = again.recommend([0], k=3)
    assert requests[0] == 30 * USERS
    assert again.pipeline.rerankers["exploration"].policy.num_rewards == counted


def test_retired_items_are_not_shown():
    stage = Exploration(Thompson(), places=[1], pool={"age": "new"}).prepare(shop())
    stage.policy.retire(np.arange(21, ITEMS))
    answer = stage.rerank(np.arange(USERS), candidates(4, USERS), 2)
    assert (answer.items_BK[:, 0] == 20).all()


def test_exploration_learns_from_its_own_positions_alone():
    stage = Exploration(Thompson(), places=[2]).prepare(shop())
    stage.update(BanditFeedback([[0, 1, 2]], [[1.0, 1.0, 1.0]], None, num_arms=ITEMS))
    assert stage.policy.num_rewards == 1


def test_new_items_become_arms_and_what_was_learned_stays():
    stage = Exploration(Thompson(content_count=5), places=[1], content="kind").prepare(shop())
    rewards = BanditFeedback(
        [[item] for item in range(20)] * 30, [[(item % 3 == 1) * 1.0] for item in range(20)] * 30, None, ITEMS
    )
    stage.update(rewards)
    stage.prepare(shop(ITEMS + 3))
    assert (stage.policy.num_arms, stage.policy.num_rewards) == (ITEMS + 3, 600)
    chances = stage.policy.probabilities(None, num_requests=1, candidates_BL=np.array([[30, 31, 32]]))[0]
    assert chances.argmax() == 1, "the new item of the kind that earned: 31"
    with pytest.raises(ValueError, match="knows 33 items, more than the 30 of this log"):
        stage.prepare(shop(ITEMS))


def test_a_policy_that_sees_the_user_gets_the_same_context_in_the_log(tmp_path):
    class Seeing(EpsilonGreedy):
        def start(self, num_arms, *, context_size=0, arm_features_AF=None):
            return super().start(num_arms, context_size=context_size, arm_features_AF=arm_features_AF)

    class Vectors(Popularity):
        def item_vectors(self):
            return np.random.default_rng(1).normal(size=(ITEMS, 4)).astype(np.float32)

    stage = PolicyOrder(Seeing(epsilon=1.0), contexts=True)
    made = Pipeline({"popular": Vectors()}, rerankers={"order": stage}).fit(shop())
    with pytest.raises(ValueError, match="contexts of 5 numbers"):
        LoggedPipeline(made, FeedbackLog(tmp_path / "none", num_arms=ITEMS))
    running = LoggedPipeline(made, FeedbackLog(tmp_path / "log", num_arms=ITEMS, context_size=5))
    running.recommend([3, 4], k=2)
    contexts = running.log.feedback().contexts_RF
    vectors = Vectors().item_vectors()
    items = np.unique(shop().interactions.items_N[shop().interactions.users_N == 3])
    mean = vectors[items].sum(0)
    np.testing.assert_allclose(contexts[0], [1, *(mean / np.linalg.norm(mean))], rtol=1e-5)


def test_what_cannot_be_logged_or_learned(tmp_path):
    explorer = Exploration(Thompson(), places=[2])
    running = LoggedPipeline(pipeline(exploration=explorer, mmr=MMR()), FeedbackLog(tmp_path / "log", num_arms=ITEMS))
    with pytest.raises(ValueError, match="propensities of exploration do not hold after mmr"):
        running.recommend([0], k=3)
    with pytest.raises(ValueError, match="no re-ranker of this pipeline has a policy"):
        pipeline(mmr=MMR()).update(BanditFeedback([[0]], [[1.0]], None, num_arms=ITEMS))
    with pytest.raises(ValueError, match="must be over the 30 items of the pipeline, got one over 7"):
        LoggedPipeline(pipeline(), FeedbackLog(tmp_path / "seven", num_arms=7))
    for make, message in (
        (lambda: Exploration(ItemKNN(), places=[1]), "policy must be a policy such as Thompson"),
        (lambda: Exploration(Thompson, places=[1]), "policy must be a policy"),
        (lambda: Exploration(places=[1], contexts=True), "what a policy sees, and there is none"),
        (lambda: PolicyOrder(Thompson(), contexts=True).prepare(shop()), "no retriever has any"),
        (lambda: PolicyOrder(Thompson(), content="knd").prepare(shop()), "did you mean 'kind'"),
        (lambda: explorer.rerank([0, 1], candidates(3, 2), 2, request=np.arange(3)), "or 2 numbers, one per user"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_a_deterministic_pipeline_is_logged_with_propensities_of_one(tmp_path):
    running = LoggedPipeline(pipeline(), FeedbackLog(tmp_path / "log", num_arms=ITEMS))
    running.recommend([0, 1], k=3)
    found = running.log.feedback()
    assert (found.propensities_RK == 1).all()
    assert (found.joint_R == 1).all()


@pytest.mark.parametrize(
    "words",
    [
        [
            "+reranker@pipeline.rerankers.exploration=exploration",
            "+policy@pipeline.rerankers.exploration.policy=thompson",
        ],
        ["+reranker@pipeline.rerankers.policy_order=policy_order", "policy=epsilon_greedy"],
    ],
)
def test_the_command_puts_a_policy_into_a_pipeline_that_a_run_may_name(words):
    config = compose_command("train", ["pipeline=three_stage", *words])
    plain = OmegaConf.to_container(config, resolve=True)
    check_config({"pipeline": plain["pipeline"]}, "config.yaml")
    stage = instantiate(list(config.pipeline.rerankers.values())[-1])
    assert stage.prepare(shop()).policy.num_arms == ITEMS


def test_an_exploration_that_an_earlier_version_saved_is_read(tmp_path):
    stage = Exploration(places=[2]).prepare(shop())
    arrays = {name: one for name, one in stage.arrays().items() if "vectors" not in name and "contexts" not in name}
    (tmp_path / "old").mkdir()
    save_arrays(tmp_path / "old/arrays.npz", arrays)
    config = {"format": 1, "version": "0.1.0", "class": "recsys_dl.rerankers.exploration.Exploration"}
    write_config(tmp_path / "old", config | {"arguments": {"places": [2], "pool": None, "seed": 0}})
    users = np.arange(5)
    before, after = (one.rerank(users, candidates(6, 5), 3) for one in (stage, Exploration.load(tmp_path / "old")))
    np.testing.assert_array_equal(before.items_BK, after.items_BK)


def test_every_list_of_a_batch_is_that_of_its_own():
    """Pools and candidates of unequal length, draws from inside and outside of the candidates."""
    rng = np.random.default_rng(0)
    new = pl.DataFrame({"new": rng.random(30) < 0.3})
    train = Interactions(rng.integers(0, 20, 150), rng.integers(0, 30, 150), num_users=20, num_items=30)
    ids = [Vocabulary([str(row) for row in range(count)], noun=noun) for noun, count in (("user", 20), ("item", 30))]
    data = Dataset(train, *ids, item_features=new)
    items = np.stack([np.where(np.arange(6) < rng.integers(0, 7), rng.permutation(30)[:6], -1) for _ in range(20)])
    for pool in (None, {"new": True}):
        stage = Exploration(EpsilonGreedy(epsilon=0.5), places=[2, 4, 5], pool=pool).prepare(data)
        together = stage.rerank(np.arange(20), Ranking(items, np.where(items >= 0, 1.0, -np.inf)), k=5)
        for user in range(20):
            mine = Ranking(items[[user]], np.where(items[[user]] >= 0, 1.0, -np.inf))
            alone = stage.rerank([user], mine, k=5)
            np.testing.assert_array_equal(alone.items_BK[0], together.items_BK[user])
            np.testing.assert_array_equal(alone.propensities_BK[0], together.propensities_BK[user])
            shown = together.items_BK[user][together.items_BK[user] >= 0]
            assert len(set(shown)) == len(shown) >= min(5, (items[user] >= 0).sum())

"""recsys-dl serve: policies learn from the feedback of their answers, beside the requests."""

import json
import signal
import time

import numpy as np
import pytest

from recsys_dl.bandits import LinearThompson, Thompson
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.models import ALS, Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.rerankers import Exploration
from recsys_dl.runs import load_run
from recsys_dl.saving import Saved, load_saved

httpx = pytest.importorskip("httpx", reason="asking a server needs httpx: pip install httpx")

from serving_process import ask, start, write  # noqa: E402

from recsys_dl.serving.learner import Learner  # noqa: E402
from recsys_dl.serving.live import Live  # noqa: E402
from recsys_dl.serving.messages import Feedback  # noqa: E402
from recsys_dl.serving.recorder import Recorder  # noqa: E402


def pipeline(policy, retriever=None, **options):
    stage = Exploration(policy, places=[2], **options)
    return Pipeline({"first": retriever or Popularity()}, rerankers={"explore": stage})


def learned(client) -> dict:
    return client.get("/health").json()["learned"]


def rewarded(client, count: int, reward: float = 1.0) -> list:
    """Ask and give feedback on the explored position; return the items."""
    items = []
    for number in range(count):
        answer = ask(client, "/recommend", user=100 + number, k=3).json()
        assert 0 < answer["propensities"][1] < 1 == answer["propensities"][0]
        items.append(answer["items"][1]["item"])
        event = {"item": items[-1], "reward": reward}
        assert ask(client, "/feedback", request_id=answer["request_id"], events=[event]).status_code == 200
    return items


def test_the_served_policy_learns_from_acknowledged_feedback_and_goes_on_after_a_kill(tmp_path):
    write(tmp_path / "runs/explored", pipeline(Thompson(seed=1)))
    words = ("run=runs/explored", "learn=0.1", "threads=1")
    process, address = start(tmp_path, *words)
    with httpx.Client(base_url=address, timeout=20) as client:
        items = rewarded(client, 8)
        answer = ask(client, "/recommend", user=100, k=3).json()
        event = {"item": answer["items"][1]["item"], "reward": 5}
        refused = ask(client, "/feedback", request_id=answer["request_id"], events=[event])
        assert refused.status_code == 422
        assert "learns from feedback, and Thompson needs rewards between 0 and 1, got 5" in refused.json()["error"]
        until = time.monotonic() + 15
        while learned(client)["rewards"] < 8 and time.monotonic() < until:
            time.sleep(0.05)
        assert learned(client) == {"rewards": 8, "refused": None}
    process.kill()
    process.wait()
    (folder,) = (tmp_path / "runs/explored.serving/policies").iterdir()
    policy = load_saved(folder / "explore", Saved, noun="policy")
    np.testing.assert_array_equal(policy.count_A, np.bincount(np.array(items) - 500, minlength=30))
    process, address = start(tmp_path, *words)
    with httpx.Client(base_url=address, timeout=20) as client:
        assert learned(client)["rewards"] == 8
        rewarded(client, 2)
    process.send_signal(signal.SIGTERM)  # what was acknowledged is learned before it ends
    assert process.wait(20) == 0
    assert load_saved(folder / "explore", Saved, noun="policy").count_A.sum() == 10
    assert (
        not load_run(tmp_path / "runs/explored").model.rerankers["explore"].policy.count_A.any()
    )  # the run is as it was


class Parts:
    """A run, its recorder and a learner, without HTTP."""

    def __init__(self, folder, run, **options):
        self.recorder = Recorder(folder / "store")
        self.live = Live(run, self.recorder)
        self.learner = Learner(self.recorder, **options)
        self.learner.adopt(self.live)

    @property
    def policy(self):
        return self.live.run.model.rerankers["explore"].policy

    def log(self) -> FeedbackLog:
        return self.recorder.log_of(self.live.log)

    def show(self, requests, arms, then, contexts=None) -> None:
        shown = np.column_stack([np.full(len(arms), 29), arms])
        self.log().append(shown, np.full(shown.shape, 0.5), requests_B=requests, times_B=then, contexts_BF=contexts)


def test_learning_leaves_the_policy_that_answers_alone_and_counts_each_reward_once(tmp_path):
    write(tmp_path / "run", pipeline(Thompson(seed=1)))
    parts = Parts(tmp_path, tmp_path / "run", settle=60)
    now = int(time.time())
    parts.show([1, 2, 3], [4, 5, 4], [now, now, now - 100])
    parts.log().reward([1, 2], [4, 29], [1.0, 1.0])  # one explored, one that was sure
    before = parts.policy
    parts.learner.learn([parts.live])
    assert not before.count_A.any()
    np.testing.assert_array_equal(parts.policy.count_A[[4, 5, 29]], [2, 0, 0])  # a click, and what was settled
    assert parts.policy.sum_A[4] == 1
    parts.learner.learn([parts.live])
    assert parts.policy.count_A.sum() == 2
    again = Parts(tmp_path, tmp_path / "run")
    np.testing.assert_array_equal(again.policy.count_A, parts.policy.count_A)
    (state,) = (tmp_path / "store/policies").glob("*/state.json")
    state.write_text("{")  # damaged: all is learned from the log
    np.testing.assert_array_equal(Parts(tmp_path, tmp_path / "run").policy.count_A, parts.policy.count_A)


def test_another_policy_learns_from_the_whole_log_unless_it_sees_contexts_of_another_run(tmp_path):
    write(tmp_path / "one", pipeline(Thompson(seed=1)))
    write(tmp_path / "two", pipeline(Thompson(prior_count=9, seed=1)))
    now = int(time.time())
    first = Parts(tmp_path, tmp_path / "one")
    first.show([1], [4], [now])
    first.log().reward([1], [4], [1.0])
    first.log().reward([1], [29], [7.0])  # no policy showed it: none of their business
    first.learner.learn([first.live])
    second = Parts(tmp_path, tmp_path / "two")
    assert second.live.log == first.live.log
    assert second.policy.count_A[4] == 1
    assert second.policy.prior_count_A[4] == 9
    for name, seed in (("three", 1), ("four", 2)):
        retriever = ALS(embedding_size=4, seed=seed, device="cpu")
        write(tmp_path / name, pipeline(LinearThompson(seed=1), retriever, contexts=True))
    third = Parts(tmp_path, tmp_path / "three")
    third.show([1], [4], [now - 1000], contexts=[np.ones(5)])
    third.log().reward([1], [4], [1.0])
    third.learner.learn([third.live])
    assert third.policy.count_A[4] == 0  # from before it was loaded
    third.show([2], [4], [now + 1000], contexts=[np.ones(5)])
    third.log().reward([2], [4], [1.0])
    third.learner.learn([third.live])
    assert third.policy.count_A[4] == 1
    assert Parts(tmp_path, tmp_path / "three").policy.count_A[4] == 1
    assert Parts(tmp_path, tmp_path / "four").policy.count_A[4] <= 1


def test_rewards_that_a_policy_does_not_take_leave_the_others(tmp_path, caplog):
    write(tmp_path / "run", pipeline(Thompson(seed=1)))
    parts = Parts(tmp_path, tmp_path / "run")
    parts.show([1, 2, 3], [4, 5, 6], [int(time.time())] * 3)
    parts.log().reward([1, 2, 3], [4, 5, 6], [1.0, 3.0, 0.0])  # as a policy of earlier took them
    parts.learner.learn([parts.live])
    np.testing.assert_array_equal(parts.policy.count_A[[4, 5, 6]], [1, 0, 1])
    assert "1 of 3 rewarded lists are left out" in caplog.text
    body = Feedback.model_validate_json(json.dumps({"user": 100, "events": [{"item": 501, "reward": 4}]}))
    assert parts.recorder.feedback(body).result(20) == 1  # a history may hold what no policy learns from

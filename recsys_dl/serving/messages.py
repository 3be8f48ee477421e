"""Bodies of requests and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, field_validator, model_validator

Id = StrictInt | Annotated[StrictStr, Field(min_length=1, max_length=1000)]
Ids = Annotated[list[Id], Field(max_length=100_000)]
Reward = Annotated[StrictFloat | StrictInt, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]  # larger ones overflow float32
Weight = Annotated[StrictFloat | StrictInt, Field(ge=0, le=1, allow_inf_nan=False)]
Draw = Annotated[StrictInt, Field(ge=0, lt=2**53)]


class Body(BaseModel):
    """A body without fields that it does not know."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ForWhom(Body):
    """A known user, or a new one by history, tastes or neither."""

    user: Id | None = Field(None, description="a known user's id; or else")
    history: Ids | None = Field(None, description="of a new user: item ids, oldest first")
    tastes: Annotated[list[StrictStr], Field(min_length=1, max_length=100)] | None = Field(
        None, description="of a new user, without or beside a history: terms of the items' content, for content models"
    )

    variant: Literal["a", "b"] | None = Field(
        None, description="which of two runs answers; null for the one that the hash of the user says"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Any:
        if self.user is not None and (self.history is not None or self.tastes is not None):
            raise ValueError("give either user, of a known user, or history and tastes, of a new one, not both")
        return self


class Recommend(ForWhom):
    """Who wants a list, and of what."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"user": 196, "k": 10}, {"history": [31, 47], "k": 10, "exclude": [12]}, {"k": 10}]
        }
    )
    k: Annotated[StrictInt, Field(ge=1)] = Field(10, description="length of the list")
    exclude: Ids | None = Field(None, description="items that must not be recommended, in addition to seen ones")
    allow: Ids | None = Field(None, description="the only items that may be recommended")
    seed: Draw | None = Field(
        None,
        description="number of the request, for random re-rankers: the same number draws the same; null draws anew",
    )
    diversity: Weight | None = Field(
        None, description="of this list, in place of the pipeline's weight of MMR, DPP or xQuAD"
    )
    freshness: Weight | None = Field(None, description="likewise, the weight of freshness")
    exploration: Annotated[StrictInt, Field(ge=0)] | None = Field(
        None, description="likewise, the number of exploring positions, the last ones of the list"
    )

    def adjustments(self) -> dict[str, float]:
        """Return settings of the pipeline for this request."""
        given = {name: getattr(self, name) for name in ("diversity", "freshness", "exploration")}
        return {name: value for name, value in given.items() if value is not None}


class Similar(Body):
    """Items whose neighbors are wanted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [31], "k": 10}]})
    items: Annotated[list[Id], Field(min_length=1, max_length=100)]
    k: Annotated[StrictInt, Field(ge=1)] = 10


class Score(ForWhom):
    """Items to score for someone."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user": 196, "items": [31, 47]}]})
    items: Annotated[list[Id], Field(min_length=1, max_length=10_000)]


class Event(Body):
    """What an item earned."""

    item: Id
    reward: Reward = Field(
        1.0, description="above 0: interacted with, this much; below 0: disliked; 0: shown and passed over"
    )


class Feedback(Body):
    """What happened with an answer, or without one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"request_id": "5b1e9d3c0f8a47d2b6c1e0a9f8d7c6b5", "events": [{"item": 31}]},
                {"user": 196, "events": [{"item": 31, "reward": 1.0}]},
            ]
        }
    )
    request_id: Annotated[StrictStr, Field(pattern="^[0-9a-f]{32}$")] | None = Field(
        None, description="of the answer that showed the items; without it, user is required"
    )
    user: Id | None = Field(None, description="whose history grows; by default the user of the answer")
    events: Annotated[list[Event], Field(min_length=1, max_length=1000)]

    @field_validator("events")
    @classmethod
    def _distinct(cls, events: list[Event]) -> list[Event]:
        items = [str(event.item) for event in events]
        if len({*items}) < len(items):
            raise ValueError("every item may stand in the events once")
        return events

    @model_validator(mode="after")
    def _joined(self) -> Any:
        if self.request_id is None and self.user is None:
            raise ValueError("give request_id, of the answer that showed the items, or user, whose history grows")
        return self


class Item(BaseModel):
    """An entry of a list."""

    item: int | str
    title: str | None
    score: float | None = Field(description="null where the model does not rank the item")


class Answer(BaseModel):
    """A list of items."""

    request_id: str
    items: list[Item]
    propensities: list[float] | None = Field(
        description="probability of each item at its position, where any is random"
    )
    notes: list[str] = Field(description="why a list is empty; of a pipeline: what could not be done as configured")
    seed: int = Field(description="repeats the draws of this answer")
    variant: Literal["a", "b"] = Field(description="which of two runs answered")


class SimilarAnswer(BaseModel):
    """Neighbors of each item, in the order of the request."""

    request_id: str
    similar: list[list[Item]]


class ScoreAnswer(BaseModel):
    """Scores, in the order of the request."""

    request_id: str
    items: list[Item]


class StageList(BaseModel):
    """A list after one stage of a pipeline."""

    name: str
    kind: str = Field(description="retriever, merge, ranker or reranker")
    items: list[Item]


class Explanation(BaseModel):
    """A list with a reason for each item, the lists after each stage, and the items that re-rankers removed."""

    request_id: str
    items: list[dict[str, Any]]
    removed: list[dict[str, Any]]
    stages: list[StageList] = Field(description="of a pipeline: its first k items after each stage")
    notes: list[str]
    seed: int
    variant: Literal["a", "b"]


class Places(Body):
    """Items to find on the map."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [31, 47]}]})
    items: Annotated[list[Id], Field(max_length=2_000)]
    variant: Literal["a", "b"] = "a"


class Known(BaseModel):
    """An item of the catalog."""

    item: int | str
    title: str | None
    users: int = Field(description="who interacted with it")


class Found(BaseModel):
    """Items, the most popular first."""

    items: list[Known]


class KnownUser(BaseModel):
    """A user of the run."""

    user: str
    items: int = Field(description="that the user interacted with")


class UsersFound(BaseModel):
    """Users, the most active first."""

    users: list[KnownUser]


class LikedItem(Known):
    """An item that a user interacted with."""

    weight: float
    source: Literal["feedback", "training"]


class Liked(BaseModel):
    """What a user interacted with: by feedback, newest first; then in training, by weight."""

    user: str
    items: list[LikedItem]


class Map(BaseModel):
    """Items on the first two principal components of their vectors, scaled to [-1, 1]."""

    vectors: str = Field(description="of which model or retriever; or interactions, where none has vectors")
    variance: list[float] = Field(description="share of the vectors' variance along each axis")
    of: int = Field(description="items that have a place, of which these are a sample")
    items: list[int | str]
    titles: list[str | None]
    users: list[int]
    x: list[float]
    y: list[float]


class Point(Known):
    """An item on the map."""

    x: float | None
    y: float | None


class Center(BaseModel):
    """A place on the map."""

    x: float
    y: float


class Mapped(BaseModel):
    """Places of items, and the mean of them."""

    points: list[Point]
    center: Center | None


class RunFigures(BaseModel):
    """A run."""

    run: str
    model: str
    users: int
    items: int
    data: str | None
    loaded: int
    metrics: dict[str, Any] = Field(description="by evaluated part: values, intervals, conventions")
    attribution: dict[str, Any] = Field(description="by evaluated part, of a pipeline: the figures after each stage")
    settings: dict[str, float] = Field(description="that a request may change, and their values")
    titles: bool
    seed: int | None
    finished: str | None
    variants: list[str]


class Kept(BaseModel):
    """Feedback that is on the disk."""

    request_id: str
    kept: int


class Error(BaseModel):
    """Why something else was not answered."""

    error: str = Field(description="what must hold, what came, what to do")
    request_id: str

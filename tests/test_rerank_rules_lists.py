"""Rules compared with every list there is."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_rerank_rules import NUM_ITEMS, lists, shop, shown

from recsys_dl.rerankers.rules import Rules

# Against every list there is

CONDITIONS = [{"kinds": "x"}, {"kinds": ["y", "z"]}, {"brand": "a"}, {"price": {"max": 6}}, {"kinds": "w"}]
windows = st.none() | st.integers(1, 4)


@st.composite
def written(draw):
    rules: list[dict] = []
    for _ in range(draw(st.integers(0, 2))):
        per = draw(st.sampled_from(["brand", "kinds", None]))
        what = {"per": per} if per else {"of": draw(st.sampled_from(CONDITIONS))}
        rules.append({"at_most": draw(st.integers(0 if per is None else 1, 2))} | what | {"within": draw(windows)})
    for _ in range(draw(st.integers(0, 2))):
        rules.append(
            {"at_least": draw(st.integers(1, 2)), "of": draw(st.sampled_from(CONDITIONS)), "within": draw(windows)}
        )
    places = draw(st.lists(st.integers(1, 4), max_size=2, unique=True))
    pinned = draw(st.lists(st.sampled_from(range(12)), min_size=len(places), max_size=len(places), unique=True))
    rules += [{"pin": f"i{item}", "at": place} for item, place in zip(pinned, places, strict=True)]
    rules += draw(st.sampled_from([[], [{"deny": {"kinds": "z"}}], [{"allow": {"stock": True}}]]))
    return [{"name": f"rule {n}"} | rule for n, rule in enumerate(draw(st.permutations(rules)))]


class Judge:
    """The rules once more, in plain Python: whether a list keeps them."""

    def __init__(self, rules: list[dict]) -> None:
        self.rules, self.features = rules, shop().item_features.to_dicts()

    def meets(self, item: int, condition: dict) -> bool:
        row = self.features[item]
        for column, wanted in condition.items():
            value = row[column]
            if isinstance(wanted, dict):
                good = value is not None and wanted.get("min", -1e9) <= value <= wanted.get("max", 1e9)
            else:
                wanted = wanted if isinstance(wanted, list) else [wanted]
                good = (
                    any(one in wanted for one in (value if isinstance(value, list) else [value]) if one is not None)
                    if value is not None
                    else False
                )
            if not good:
                return False
        return True

    def allowed(self, item: int) -> bool:
        return all(
            self.meets(item, rule[kind]) == (kind == "allow")
            for rule in self.rules
            for kind in ("allow", "deny")
            if kind in rule
        )

    def caps_hold(self, items: list[int]) -> bool:
        for rule in self.rules:
            if "at_most" in rule:
                first = items[: rule["within"] or len(items)]
                if "of" in rule:
                    counts = [sum(self.meets(item, rule["of"]) for item in first)]
                else:
                    values = [self.features[item][rule["per"]] for item in first]
                    flat = [
                        one
                        for value in values
                        if value is not None
                        for one in (value if isinstance(value, list) else [value])
                    ]
                    counts = [flat.count(one) for one in set(flat)]
                if max(counts, default=0) > rule["at_most"]:
                    return False
        return True

    def needs_hold(self, items: list[int]) -> bool:
        return all(
            sum(self.meets(item, rule["of"]) for item in items[: rule["within"] or len(items)]) >= rule["at_least"]
            for rule in self.rules
            if "at_least" in rule
        )

    def pins(self, k: int) -> list[tuple[int, int]]:
        return sorted(
            (rule["at"] - 1, int(rule["pin"][1:])) for rule in self.rules if "pin" in rule and rule["at"] <= k
        )

    def best(self, candidates: list[int], k: int) -> list[int] | None:
        """The longest, then first list that keeps all rules, of all there are; None where there is none."""
        pins = self.pins(k)
        free = [item for item in candidates if self.allowed(item) and item not in [item for _, item in pins]]
        for length in range(min(k, len(free) + len(pins)), len(pins) - 1, -1):
            at, last = {}, length - 1
            for place, item in reversed(pins):
                at[min(place, last)] = item
                last = min(place, last) - 1
            found = self.first_with([], at, free, length)
            if found is not None:
                return found
        return None

    def first_with(self, begun: list[int], at: dict[int, int], free: list[int], length: int) -> list[int] | None:
        if not self.caps_hold(begun):
            return None
        if len(begun) == length:
            return begun if self.needs_hold(begun) else None
        for item in [at[len(begun)]] if len(begun) in at else free:
            if item not in begun:
                found = self.first_with([*begun, item], at, free, length)
                if found is not None:
                    return found
        return None


@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(written(), st.permutations(range(12)), st.integers(0, 6), st.integers(1, 5))
def test_of_all_lists_the_longest_and_first_that_keeps_the_rules(rules, items, size, k):
    candidates = list(items[:size])
    judge = Judge(rules)
    refused = 4  # the longest window and the last place: more places change nothing
    try:
        prepared = Rules(rules=rules).prepare(shop())
        refused = k
        answer = prepared.rerank([2], lists(candidates), k)
    except ValueError:  # then all items there are, as candidates, do not keep the rules either
        pinned_and_denied = any(not judge.allowed(item) for _, item in judge.pins(refused))
        nothing = not any(map(judge.allowed, range(NUM_ITEMS)))
        assert pinned_and_denied or nothing or judge.best(list(range(NUM_ITEMS)), refused) is None
        return
    got, expected = shown(answer), judge.best(candidates, k)
    missing = [told for told in answer.unmet(0) if "missing" in told or "left out" in told]
    if expected is None:
        assert missing, f"{got} cannot keep the rules, but nothing is said"
    else:
        assert got == expected
        assert not missing
    assert set(got) <= set(candidates) | {item for _, item in judge.pins(k)}
    assert len(set(got)) == len(got)
    assert judge.caps_hold(got)
    assert all(map(judge.allowed, got))

"""What spreadsheets, shops and analytics export: read rightly, or questioned."""

from __future__ import annotations

import pytest

from recsys_dl import read_log


def spelled(users: list, items: list | None = None, **more: list) -> dict:
    """20 rows of these users and items in turn."""
    items = items or [f"i{row}" for row in range(7)]
    columns = {name: [values[row % len(values)] for row in range(20)] for name, values in more.items()}
    return {
        "user": [users[row % len(users)] for row in range(20)],
        "item": [items[row % len(items)] for row in range(20)],
        **columns,
    }


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            spelled(["ann", "Bob", "ANN"]),
            "1 of 3 user ids differ from another in upper and lower case alone, such as 'ann' and 'ANN'",
        ),
        (spelled(["ann", "bob", "ann\u00a0"]), "1 of 3 user ids differ from another in invisible characters"),
        (spelled(["ann", "bob", "\u200bann"]), r"such as 'ann' and '\u200bann'"),
        (spelled(["ann", "bob"], ["caf\u00e9", "cafe\u0301"]), "1 of 2 item ids differ"),
        (spelled(["1.0E+11", "1.1E+11"]), "user ids such as '1.0E+11' are numbers that a spreadsheet has rounded"),
        (
            spelled(["ann", "bob"], time=[0, 1_700_000_000]),
            "the time is 0, 1970-01-01, in 10 of 20 rows: probably missing",
        ),
        (spelled(["ann", "bob"], time=[1_700_000_000, 4_102_444_800]), "10 of 20 times are in the future"),
        (spelled(["ann", "bob"], time=[1_700_000_000]), "all rows have the same time"),
        (
            spelled(["ann", "bob"], quantity=[1.1, 1.101, 1.202]),
            "quantity holds counts with three decimals, such as 1.100",
        ),
    ],
)
def test_ids_times_and_counts_that_probably_mean_something_else_are_said(source, said, caplog):
    read_log(source)
    assert said in caplog.text


def test_a_row_of_totals_is_said(caplog):
    source = spelled(["ann", "bob"], quantity=[1, 2])
    source = {
        name: [*values, last] for (name, values), last in zip(source.items(), ("Grand Total", "", 30), strict=True)
    }
    source["item"][-1] = "7 items"
    read_log(source)
    assert "the user id 'Grand Total' occurs in 1 row: if that is a row of totals, remove it" in caplog.text


def test_ordinary_ids_times_and_counts_are_not_questioned(caplog):
    caplog.set_level("WARNING", "recsys_dl")
    read_log(spelled(["ann", "bob", "1E5", "Total"], time=[1_700_000_000, 1_700_000_001], quantity=[1, 2.5, 3]))
    read_log(spelled(["ann", "bob"], time=[0, 1, 2]))
    assert not caplog.text


def test_spreadsheets_errors_truth_values_and_thousands(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("user,item\nann,1\n#N/A,2\n")
    with pytest.raises(ValueError, match=r"line 3: user id must be text or a whole number, got '#N/A'"):
        read_log(file)
    file.write_text("user,item,rating\nann,1,TRUE\nann,2,false\nbob,1,True\n")
    data = read_log(file)
    assert data.interactions.weights_N.tolist() == [1, 1]
    assert len(data.seen_only) == 1
    file.write_text('user,item,quantity\nann,1,"1,100"\nann,2,"2,300"\n')
    with pytest.raises(ValueError, match=r"if the comma separates thousands, remove it"):
        read_log(file)


def test_columns_of_shops_and_of_analytics_are_known(caplog):
    caplog.set_level("INFO", "recsys_dl")
    shop = read_log(
        {
            "Email": ["a@x.com", "b@x.com"],
            "Lineitem sku": ["s1", "s2"],
            "Lineitem quantity": [1, 2],
            "Created at": ["2024-01-02 10:00:00 -0500"] * 2,
        }
    )
    assert shop.weight_kind == "counts"
    assert (
        read_log(
            {"user_pseudo_id": ["1.2", "1.3"], "item_id": ["s1", "s2"], "EVENT_TS": [1_700_000_000, 1_700_000_001]}
        ).interactions.times_N
        is not None
    )

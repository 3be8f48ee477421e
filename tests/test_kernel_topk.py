"""The best k: in order, ties to the lower item, lists respected, on every device. The oracle is a plain sort in float64."""

import numpy as np
import pytest
from conftest import SIMULATED
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, set_num_threads

from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.topk import num_candidates, top_k, top_k_dot
from recsys_dl.kernels.transpose import transpose_items


def lists_of(rows):
    bounds = np.cumsum([0, *(len(row) for row in rows)])
    return ItemLists(bounds[:-1], bounds[1:], np.array([i for row in rows for i in row], np.int32))


def by_sorting(scores_BI, k, exclude=None, allow=None):
    """Rank each row with a stable sort of all its scores."""
    items_BK = np.full((len(scores_BI), k), -1, np.int32)
    best_BK = np.full((len(scores_BI), k), -np.inf, np.float32)
    for b, scores_I in enumerate(np.asarray(scores_BI, np.float64)):
        may = scores_I > -np.inf  # NaN is not either
        if exclude is not None:
            may[exclude.items[exclude.starts_B[b] : exclude.ends_B[b]]] = False
        if allow is not None:
            may &= np.isin(np.arange(len(may)), allow.items[allow.starts_B[b] : allow.ends_B[b]])
        left = np.flatnonzero(may)
        best = left[np.lexsort((left, -scores_I[left]))][:k]
        items_BK[b, : len(best)] = best
        best_BK[b, : len(best)] = scores_I[best]
    return items_BK, best_BK


def check(got, expected):
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])
    assert got[0].dtype == np.int32
    assert got[1].dtype == np.float32


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("num_items", [0, 1, 127, 128, 129, 257])
@pytest.mark.parametrize("k", [1, 10, "all", "more"])
def test_any_size(device, rows, num_items, k):
    k = {"all": max(num_items, 1), "more": num_items + 3}.get(k, k)
    scores_BI = np.random.default_rng(num_items).standard_normal((rows, num_items)).astype(np.float32)
    check(top_k(scores_BI, k, device=device), by_sorting(scores_BI, k))


@pytest.mark.parametrize("k", [1, 100, 2048, 2100])
def test_long_rows_and_long_lists(device, k):
    """Longer than any buffer: candidates are dropped on the CPU, lists are sorted in global memory on the GPU."""
    rng = np.random.default_rng(k)
    scores_BI = rng.integers(-999, 999, (1, 2500)).astype(np.float32) / 8  # many ties
    out = lists_of([np.flatnonzero(rng.random(2500) < 0.1)])
    check(top_k(scores_BI, k, exclude=out, device=device), by_sorting(scores_BI, k, out))


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_rows_in_the_worst_order(order):
    """Rising scores make every item a candidate."""
    scores_BI = np.sort(np.random.default_rng(0).standard_normal((2, 5000)).astype(np.float32), axis=1)
    if order == "falling":
        scores_BI = np.ascontiguousarray(scores_BI[:, ::-1])
    assert num_candidates(40, 5000) < 5000
    check(top_k(scores_BI, 40, device="cpu"), by_sorting(scores_BI, 40))


def test_equal_scores_go_to_the_lower_item(device):
    scores_BI = np.zeros((1, 300), np.float32)
    scores_BI[0, 1::2] = -0.0  # the same number
    scores_BI[0, 200] = 1
    items_BK, _ = top_k(scores_BI, 5, device=device)
    np.testing.assert_array_equal(items_BK, [[200, 0, 1, 2, 3]])


def test_equal_products_go_to_the_lower_item_in_whatever_order_items_are_taken(device):
    """Items of many lengths with few different products; so many queries that long items are taken first, and candidates are cut.

    The simulator, whose kernel takes items as they come, is asked for few: three thousand products take it two seconds.
    """
    rng = np.random.default_rng(8)
    sizes = (3, 1100) if device == "cuda" and SIMULATED else (300, 5000)
    query_BD, item_emb_ID = (rng.integers(-1, 2, (count, 6)).astype(np.float32) for count in sizes)
    item_emb_ID[:, 1] = np.arange(len(item_emb_ID)) % 977
    query_BD[:, 1] = 0
    check(top_k_dot(query_BD, item_emb_ID, 40, device=device), by_sorting(query_BD @ item_emb_ID.T, 40))


def test_nan_and_minus_infinity_are_never_returned(device):
    scores_BI = np.array([[np.nan, -np.inf, 2, np.inf, -np.nan, np.finfo(np.float32).min]], np.float32)
    check(
        top_k(scores_BI, 5, device=device),
        ([[3, 2, 5, -1, -1]] @ np.eye(5, dtype=np.int32), [[np.inf, 2, scores_BI[0, 5], -np.inf, -np.inf]]),
    )


def test_a_row_may_exclude_everything_or_allow_nothing(device):
    scores_BI = np.ones((3, 9), np.float32)
    everything = np.arange(9)
    check(
        top_k(scores_BI, 2, exclude=lists_of([everything, [0, 8], []]), device=device),
        (np.array([[-1, -1], [1, 2], [0, 1]]), np.array([[-np.inf] * 2, [1, 1], [1, 1]])),
    )
    items_BK, _ = top_k(scores_BI, 2, allow=lists_of([[], [7], everything]), device=device)
    np.testing.assert_array_equal(items_BK, [[-1, -1], [7, -1], [0, 1]])


def test_all_rows_may_share_one_list(device):
    scores_BI = np.arange(12, dtype=np.float32).reshape(2, 6)
    shared = ItemLists(np.zeros(2, np.int64), np.full(2, 3), np.array([1, 2, 4], np.int32))
    items_BK, _ = top_k(scores_BI, 3, allow=shared, exclude=lists_of([[2], [4, 5]]), device=device)
    np.testing.assert_array_equal(items_BK, [[4, 1, -1], [2, 1, -1]])


SCORE = st.sampled_from([-np.inf, np.nan, -2.5, -0.0, 0.0, 1.0, 1.0000001, 3e38, np.inf])


@st.composite
def requests(draw):
    num_items = draw(st.integers(0, 40))
    rows = draw(st.integers(0, 3))
    scores = draw(st.lists(SCORE, min_size=rows * num_items, max_size=rows * num_items))
    some = st.lists(st.booleans(), min_size=num_items, max_size=num_items).map(np.flatnonzero)
    lists = st.one_of(st.none(), st.lists(some, min_size=rows, max_size=rows).map(lists_of))
    return np.array(scores, np.float32).reshape(rows, num_items), draw(st.integers(1, 45)), draw(lists), draw(lists)


@settings(max_examples=25, deadline=None)
@given(request=requests())
def test_any_scores_and_lists(device, request):
    scores_BI, k, out, within = request
    expected = by_sorting(scores_BI, k, out, within)
    check(top_k(scores_BI, k, exclude=out, allow=within, device=device), expected)


@pytest.mark.parametrize(
    ("rows", "num_items", "size"), [(1, 1, 1), (5, 129, 3), (129, 3, 1), (4, 300, 0), (0, 5, 4), (3, 0, 4)]
)
def test_products(device, rows, num_items, size):
    """Whole numbers make every product and sum exact, so that even ties must come out alike."""
    rng = np.random.default_rng(rows)
    query_BD = rng.integers(-3, 4, (rows, size)).astype(np.float32)
    item_emb_ID = rng.integers(-3, 4, (num_items, size)).astype(np.float32)
    bias_I = rng.integers(-9, 10, num_items).astype(np.float32)
    out = lists_of([np.flatnonzero(rng.random(num_items) < 0.2) for _ in range(rows)])
    within = lists_of([np.flatnonzero(rng.random(num_items) < 0.8) for _ in range(rows)])
    scores_BI = query_BD.astype(np.float64) @ item_emb_ID.T.astype(np.float64) + bias_I
    got = top_k_dot(query_BD, item_emb_ID, 6, item_bias_I=bias_I, exclude=out, allow=within, device=device)
    check(got, by_sorting(scores_BI, 6, out, within))


@pytest.mark.parametrize(("rows", "num_items", "k"), [(2, 1100, 3), (17, 400, 1)])
def test_products_of_many_items(device, rows, num_items, k):
    """On a GPU: blocks of both shapes, in one part and in two, whose candidates are cut several times; with ties."""
    rng = np.random.default_rng(rows)
    query_BD, item_emb_ID = (rng.integers(-3, 4, (count, 2)).astype(np.float32) for count in (rows, num_items))
    item_emb_ID = item_emb_ID[np.argsort(item_emb_ID @ query_BD[0])]  # later items beat the floor
    out = lists_of([np.flatnonzero(rng.random(num_items) < 0.2) for _ in range(rows)])
    scores_BI = query_BD.astype(np.float64) @ item_emb_ID.T.astype(np.float64)
    check(top_k_dot(query_BD, item_emb_ID, k, exclude=out, device=device), by_sorting(scores_BI, k, out))


def test_products_without_bias_or_lists(device):
    items_BK, best_BK = top_k_dot(np.array([[2.0, 1.0]]), np.array([[1, 0], [0, 3], [1, 1], [3, -3]]), 2, device=device)
    check((items_BK, best_BK), (np.array([[1, 2]]), np.array([[3, 3]])))  # of items 1, 2 and 3 with score 3


def test_products_of_real_numbers(device):
    rng = np.random.default_rng(1)
    query_BD, item_emb_ID = (rng.standard_normal((n, 17)).astype(np.float32) for n in (9, 140))
    items_BK, best_BK = top_k_dot(query_BD, item_emb_ID, 140, device=device)
    exact_BI = query_BD.astype(np.float64) @ item_emb_ID.T.astype(np.float64)
    # 17 roundings of at most 2**-24 each, of terms whose sizes add up to at most the product of the norms
    bound = 17 * 2.0**-24 * np.linalg.norm(query_BD, axis=1).max() * np.linalg.norm(item_emb_ID, axis=1).max()
    np.testing.assert_allclose(best_BK, np.take_along_axis(exact_BI, items_BK, 1), rtol=0, atol=bound)
    np.testing.assert_array_equal(np.sort(items_BK, axis=1), np.tile(np.arange(140), (9, 1)))


def test_a_row_is_answered_alike_alone_and_in_a_batch(device):
    rng = np.random.default_rng(2)
    query_BD, item_emb_ID = (rng.standard_normal((n, 13)).astype(np.float32) for n in (7, 131))
    item_emb_ID[100:] = item_emb_ID[:31]  # equal items far apart: the lower one comes first
    together = top_k_dot(query_BD, item_emb_ID, 131, device=device)
    for b in range(7):
        check(top_k_dot(query_BD[b : b + 1], item_emb_ID, 131, device=device), [part[b : b + 1] for part in together])
    places_BI = np.argsort(together[0], axis=1)
    assert (places_BI[:, :31] + 1 == places_BI[:, 100:]).all()


@pytest.mark.parametrize("limit", ["PACKED_BYTES", "KEPT_BYTES"])
def test_memory_limits_change_nothing(monkeypatch, limit):
    rng = np.random.default_rng(3)
    query_BD, item_emb_ID = (rng.standard_normal((n, 5)).astype(np.float32) for n in (23, 1400))
    out = lists_of([np.flatnonzero(rng.random(1400) < 0.2) for _ in range(23)])
    expected = top_k_dot(query_BD, item_emb_ID, 7, exclude=out, device="cpu")
    monkeypatch.setattr(f"recsys_dl.kernels.topk.{limit}", 9000)
    check(top_k_dot(query_BD, item_emb_ID, 7, exclude=out, device="cpu"), expected)


def test_gpu_memory_limit_changes_nothing(device, monkeypatch):
    if device == "cpu":
        pytest.skip("about CUDA alone")
    scores_BI = np.random.default_rng(4).standard_normal((5, 30)).astype(np.float32)
    out = lists_of([[b, b + 1] for b in range(5)])
    monkeypatch.setattr("recsys_dl.kernels.cuda.topk.SCRATCH_BYTES", 400)
    check(top_k(scores_BI, 4, exclude=out, device=device), by_sorting(scores_BI, 4, out))


@pytest.fixture
def packed(monkeypatch):
    """Answer as for many queries: from a packed table, however few they are."""

    def answer(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr("recsys_dl.kernels.topk.KEPT_BYTES", 0)
            patch.setattr("recsys_dl.kernels.topk.scan", None)
            return top_k_dot(*arguments, **options, device="cpu")

    return answer


def scales(rng, num_items, size):
    """Item tables that a bound on rounding could get wrong: name, table, query scale."""
    plain = rng.standard_normal((num_items, size))
    tied = plain.copy()
    tied[num_items // 2 :] = tied[: num_items - num_items // 2]
    near_tied = np.tile(plain[:1], (num_items, 1)) * (1 + rng.integers(-2, 3, (num_items, size)) * 2.0**-23)
    cancelling = np.hstack([plain, -plain * (1 + 1e-7 * rng.standard_normal((num_items, size)))])[:, -size:]
    uneven = plain * 10.0 ** rng.integers(-6, 6, (num_items, 1))
    zeros = np.where(rng.random((num_items, 1)) < 0.7, 0, plain)
    special = plain.copy()
    special[rng.random(num_items) < 0.1] = np.nan
    special[rng.random(num_items) < 0.1, 0] = np.inf
    special[rng.random(num_items) < 0.1, -1] = -np.inf
    yield from (
        ("plain", plain, 1), ("tied", tied, 1), ("near ties", near_tied, 1), ("cancelling", cancelling, 1), ("uneven", uneven, 1),
        ("zeros", zeros, 1), ("special", special, 1), ("tiny", plain * 1e-20, 1e-20), ("denormal", plain * 1e-40, 1),
        ("huge", plain * 1e19, 3e18), ("overflowing", plain * 1e20, 1e19),
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 8, 33, 64, 130])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_few_queries_get_the_bits_of_many(packed, rows, size):
    """From the plain table, from tiles or a packed table: the same items and the same bits of each score, ties and extremes included."""
    rng = np.random.default_rng(size)
    for name, table, scale in scales(rng, 700, size):
        query_BD, emb_ID = (scale * rng.standard_normal((rows, size))).astype(np.float32), table.astype(np.float32)
        if name == "near ties":
            query_BD = np.abs(query_BD)
        bias_I = np.where(rng.random(700) < 0.2, -np.inf, rng.standard_normal(700)).astype(np.float32)
        out = lists_of([np.flatnonzero(rng.random(700) < 0.3) for _ in range(rows)])
        within = lists_of([np.flatnonzero(rng.random(700) < 0.6) for _ in range(rows)])
        for options in (
            {},
            {"item_bias_I": bias_I},
            {"exclude": out},
            {"exclude": out, "allow": within, "item_bias_I": bias_I},
        ):
            for k in (3, 700):
                got, expected = (
                    top_k_dot(query_BD, emb_ID, k, **options, device="cpu"),
                    packed(query_BD, emb_ID, k, **options),
                )
                for one, other in zip(got, expected, strict=True):
                    np.testing.assert_array_equal(one, other, err_msg=f"{name}, {list(options)}, k={k}")


@pytest.mark.parametrize("rows", [1, 2, 9, 300])
def test_a_table_written_between_two_requests_is_read_again(rows):
    """Nothing of the table is kept; read-only and mapped tables are answered too."""
    rng = np.random.default_rng(9)
    query_BD, emb_ID = (rng.standard_normal((n, 8)).astype(np.float32) for n in (rows, 3000))
    top_k_dot(query_BD, emb_ID, 5, device="cpu")
    emb_ID[1234] = 100 * query_BD[0]
    assert top_k_dot(query_BD, emb_ID, 5, device="cpu")[0][0, 0] == 1234
    emb_ID.flags.writeable = False
    assert top_k_dot(query_BD, emb_ID, 5, device="cpu")[0][0, 0] == 1234


@pytest.mark.parametrize("rows", [1, 50, 300])
def test_threads_change_nothing(rows):
    rng = np.random.default_rng(5)
    query_BD, item_emb_ID = (rng.standard_normal((n, 8)).astype(np.float32) for n in (rows, 30_000))
    item_emb_ID[15_000:] = item_emb_ID[:15_000]  # ties between the threads' parts
    expected = top_k_dot(query_BD, item_emb_ID, 9, device="cpu")
    set_num_threads(1)
    try:
        check(top_k_dot(query_BD, item_emb_ID, 9, device="cpu"), expected)
    finally:
        set_num_threads(config.NUMBA_NUM_THREADS)


@pytest.mark.parametrize(("num_items", "size"), [(0, 5), (5, 0), (15, 16), (16, 15), (100, 33), (256, 64)])
def test_items_are_transposed(num_items, size):
    table_ID = np.arange((3 + num_items) * size, dtype=np.float32).reshape(3 + num_items, size)
    packed_DT = np.full((size, 256), -1, np.float32)
    transpose_items(table_ID.reshape(-1), *map(np.uint64, (3, num_items, size)), packed_DT.reshape(-1), np.uint64(256))
    np.testing.assert_array_equal(packed_DT[:, :num_items], table_ID[3:].T)
    assert (packed_DT[:, num_items:] == -1).all()


def test_arrays_on_the_device_are_used_in_place_and_answered_there(device):
    if device == "cpu":
        pytest.skip("about CUDA alone")
    from numba import cuda

    scores_BI = np.random.default_rng(6).standard_normal((3, 20)).astype(np.float32)
    there = cuda.to_device(scores_BI)
    items_BK, best_BK = top_k(there, 4, device=device)
    check((items_BK.copy_to_host(), best_BK.copy_to_host()), by_sorting(scores_BI, 4))
    np.testing.assert_array_equal(there.copy_to_host(), scores_BI)  # unchanged
    with pytest.raises(ValueError, match="must be C-contiguous"):
        top_k(cuda.to_device(np.asfortranarray(scores_BI)), 4, device=device)
    with pytest.raises(ValueError, match="must be float32, got float64"):
        top_k(cuda.to_device(scores_BI.astype(np.float64)), 4, device=device)


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        top_k(np.zeros((1, 1), np.float32), 0)
    with pytest.raises(ValueError, match="the same embedding size, got 3 and 4"):
        top_k_dot(np.zeros((1, 3), np.float32), np.zeros((2, 4), np.float32), 1)
    with pytest.raises(ValueError, match=r"each of 2 items, got shape \(3,\)"):
        top_k_dot(np.zeros((1, 4), np.float32), np.zeros((2, 4), np.float32), 1, item_bias_I=np.zeros(3, np.float32))

"""Recognizing column roles, and parsing weights.

A column is recognized by its name, ignoring case and punctuation, or named by the caller.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from recsys_dl.data.dates import printed
from recsys_dl.data.messages import is_number, shorten

# Column names by role, ignoring case and punctuation; the first line with a name in the log wins.
NAMES = {
    "user": (
        "user userid useridx uid uids users usr usrid userno usernr userkey username customer customerid custid cust reviewerid "
        "visitorid memberid accountid profileid viewerid listenerid readerid playerid clientid client buyerid buyer studentid "
        "learnerid subscriberid patientid householdkey householdid personid hashedid anonid anonymousid musicianid raterid userpseudoid",
        "email customeremail useremail",
        "session sessionid sessid basketid deviceid cookieid authorid author reviewer member visitor account",
    ),
    "item": (
        "parentasin",
        "item itemid itemidx itemno itemnr itemkey iid items itm itmid movie movieid book bookid product productid prodid article "
        "articleid song songid track trackid artist artistid business businessid game gameid video videoid recipe recipeid news "
        "newsid storyid asin isbn sku stockcode gmapid animeid beerid courseid contentid postid placeid poiid venueid jobid adid "
        "itemcode productcode objectid documentid docid filmid showid podcastid hotelid restaurantid lineitemsku variantsku productsku",
        "content url page pageid itemname productname songname trackname artistname gamename",
    ),
    "weight": (
        "rating ratings rate weight score scores stars star overall preference bookrating movierating userrating itemrating "
        "reviewrating overallrating reviewscore ratingscore ratingvalue usersrating",
        "plays playcount playscount numplays totalplays listencount listens count counts cnt quantity qty value clicks views "
        "viewcount purchases frequency freq interactions scrobbles watchratio timesplayed strength hours hoursplayed playtime "
        "playhours purchasecount clickcount numclicks totalhours lineitemquantity itemquantity",
    ),
    "time": (
        "unixreviewtime unixtimestamp unixtime unixts epoch epochseconds",
        "timestamp time times ts datetime date createdat created ratedat ratingtime eventtime reviewtime timestampms timestamps "
        "ratingtimestamp ratingdate reviewdate eventtimestamp eventdate purchasedate orderdate invoicedate transactiondate tdat "
        "clicktime playedat listenedat watchedat addedat dateadded visittime interactiontime logtime utctime servertime when "
        "watchtimestamp createtime creationtime createddate submissiondate datesubmitted submitted utc eventts eventtimestampmicros",
        "day week month",
    ),
    "title": ("title name movietitle booktitle productname itemname itemtitle",),
    "text": ("text description plot overview synopsis summary",),
}
# Plausible names that are never used without being named by the caller: 0 in them often means "shown, not wanted".
HINTS = {
    "weight": "label click clicked liked like target feedback event eventtype action purchase price amount dwell watchtime",
    "time": "year hour minute order position rank step seq sequence index updatedat",
}
ROLES = {
    role: {name: tier for tier, names in enumerate(tiers) for name in names.split()} for role, tiers in NAMES.items()
}
TITLES = ("title", "movietitle", "booktitle", "itemtitle")  # identify items if nothing else does
OF_A_LOG = ("user", "item", "weight", "time")
HINTED = {name: role for role, names in HINTS.items() for name in names.split()}

TRUTH = r"(?i)^(true|false)$"
Column = str | int


@dataclass(frozen=True)
class Columns:
    """Positions of a log's columns; None where there is none."""

    user: int
    item: int
    weight: int | None
    time: int | None


def is_known(name: str) -> bool:
    """Whether a name is certainly a log column's."""
    return any(_plain(name) in ROLES[role] for role in OF_A_LOG)


def is_role(name: str, role: str) -> bool:
    """Whether a name is certainly that of a column with this role."""
    return _plain(name) in ROLES[role]


def hint(name: str) -> str | None:
    """Return the role, weight or time, that a column's name suggests, else None."""
    plain = _plain(name)
    known = [role for role in NAMES if plain in ROLES[role]]
    if plain in HINTED or known:
        role = HINTED.get(plain) or known[0]
        return role if role in ("weight", "time") else None
    return next((role for role in ("weight", "time") if _near([name], role)), None)


def choose(
    names: Sequence[str],
    where: str,
    *,
    user: Column | None = None,
    item: Column | None = None,
    weight: Column | bool | None = None,
    time: Column | bool | None = None,
    header: bool = True,
    sample: Sequence[Sequence[str]] = (),
) -> Columns:
    """Return the positions of the four columns of a log.

    Args:
        names: of all columns.
        where: the source, for messages.
        user: name or position given by the caller, None to recognize it; likewise `item`.
        weight: likewise; None also if there is none, False to ignore it; likewise `time`.
        header: false if the file has no header: then the order is user, item, weight, time.
        sample: first rows, to tell whether a third column holds times or weights.

    Raises:
        ValueError: a column is missing, or several match.
    """
    given = {"user": user, "item": item, "weight": weight, "time": time}
    if not header and all(value is None for value in given.values()):
        return _by_order(names, where, sample)
    found: dict[str, int | None] = {
        role: position(names, value, role, where)
        for role, value in given.items()
        if value is not None and not isinstance(value, bool)
    }
    for role, value in given.items():
        if value is False:
            found[role] = None
        elif role not in found:
            taken = [at for at in found.values() if at is not None]
            needed = role in ("user", "item") or value is True
            if role == "item" and not any(_plain(name) in ROLES["item"] for name in names):
                titles = [i for i, name in enumerate(names) if _plain(name) in TITLES and i not in taken]
                if len(titles) == 1:  # a log that identifies items by title
                    found[role] = titles[0]
                    continue
            found[role] = recognize(names, role, where, needed=needed, taken=taken)
    chosen = [at for at in found.values() if at is not None]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"each role needs its own column, got {_spell(found, names)} in {where}")
    return Columns(found["user"], found["item"], found["weight"], found["time"])  # type: ignore[arg-type]


def position(names: Sequence[str], column: Column, role: str, where: str) -> int:
    """Return the position of a column given by name or position."""
    if isinstance(column, int):
        if not -len(names) <= column < len(names):
            raise ValueError(f"{role}={column} must be a position among the {len(names)} columns of {where}")
        return column % len(names)
    hits = [i for i, name in enumerate(names) if name == column]
    if len(hits) == 1:
        return hits[0]
    problem = "occurs more than once" if hits else "does not exist"
    close = [] if hits else difflib.get_close_matches(column, names, 1, 0.7)
    meant = f"; did you mean {role}={close[0]!r}?" if close else ""
    raise ValueError(f"{role}={shorten(column)!r} {problem}: the columns of {where} are {_list(names)}{meant}")


def recognize(names: Sequence[str], role: str, where: str, *, needed: bool, taken: Sequence[int] = ()) -> int | None:
    """Return the position of the one column recognized by name for a role; None if there is none.

    `taken` are positions that already have another role.
    """
    tiers = {
        i: ROLES[role][_plain(name)] for i, name in enumerate(names) if _plain(name) in ROLES[role] and i not in taken
    }
    hits = [i for i, tier in tiers.items() if tier == min(tiers.values())]
    if len(hits) > 1:  # product and product_id: prefer the id
        with_id = [i for i in hits if _plain(names[i]).endswith("id")]
        stem = _plain(names[with_id[0]])[:-2] if len(with_id) == 1 else None
        if stem and all(_plain(names[i]).removesuffix("name") == stem for i in hits if i != with_id[0]):
            hits = with_id
    if len(hits) == 1 or (not hits and not needed):
        return hits[0] if hits else None
    near = [] if hits else _near([name for i, name in enumerate(names) if i not in taken], role)
    known = {part for part in ("item", "title", "weight", "time") if any(_plain(name) in ROLES[part] for name in names)}
    of_items = role == "user" and not near and "item" in known and ("title" in known or not known & {"weight", "time"})
    free = [name for i, name in enumerate(names) if i not in taken and not is_known(name) and not of_items]
    example = names[hits[0]] if hits else next(iter([*near, *free]), "COLUMN")
    problem = (
        f"{_list([names[i] for i in hits])} could all be the {role}" if hits else f"none is recognized as the {role}"
    )
    if not hits and of_items:
        problem += (
            ", so it looks like a table of items (item_features=…), not a log of interactions. If a column holds users"
        )
        raise ValueError(f"the columns of {where} are {_list(names)}; {problem}, name it: user={example!r}.")
    if near:
        problem += f"; {_list(near[:3])} looks like one"
    leave = f", or ignore it: {role}=False" if role in ("weight", "time") else ""
    wide = (
        f' If each column is one item, melt it first: frame.melt({names[0]!r}, var_name="item", value_name="rating").dropna().'
        if role == "item" and not near and len(names) > 8
        else ""
    )
    raise ValueError(f"the columns of {where} are {_list(names)}; {problem}. Name it: {role}={example!r}{leave}.{wide}")


def _near(names: Sequence[str], role: str) -> list[str]:
    """Return the names spelled similarly to one of a role."""
    known = [name for tier in NAMES[role] for name in tier.split() if len(name) > 2 and not name.startswith("author")]
    return [name for name in names if len(_plain(name)) > 2 and difflib.get_close_matches(_plain(name), known, 1, 0.75)]


def to_weights(column: pl.Series, where: str, decimal: str = ".") -> pl.Series:
    """Return Float64 weights; null where a value is not a number.

    Raises:
        ValueError: a column of another type, such as dates.
    """
    if column.dtype == pl.Object or column.dtype in (pl.Categorical, pl.Enum):
        column = printed(column) if column.dtype == pl.Object else column.cast(pl.String)
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        if decimal != ".":
            column = column.str.replace(decimal, ".", literal=True)
        if column.str.contains(TRUTH).any():
            column = column.str.replace(r"(?i)^true$", "1").str.replace(r"(?i)^false$", "0")
        return column.cast(pl.Float64, strict=False)
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise ValueError(f"{where}: weights must be numbers, got a column of {column.dtype}. Ignore it: weight=False.")
    return column.cast(pl.Float64, strict=False)


def comma_advice(column: pl.Series) -> str:
    """Return what to do about commas in weights that could not be parsed, to be appended to a message; "" if there are none."""
    if column.dtype != pl.String or not column.str.contains(r"^\s*-?\d+(,\d+)+\s*$").any():
        return ""
    grouped = column.filter(column.str.contains(",", literal=True)).str.contains(r"^\s*-?\d{1,3}(,\d{3})+(\.\d+)?\s*$")
    if grouped.all():
        return '; if the comma separates thousands, remove it (decimal="," would read 1,100 as 1.1)'
    return '; if the comma is the decimal separator, set decimal=","'


def bad_weights(weights: pl.Series) -> pl.Series:
    """Return a mask of weights that are missing, NaN, infinite or negative."""
    return ~(weights.is_finite() & (weights >= 0)).fill_null(False)


def text_type(sample: Sequence[Sequence[str]], at: int, role: str, decimal: str = ".") -> Any:
    """Return the Polars type that a text column can be parsed as directly, judging by the first rows."""
    if role == "weight":
        return pl.Float64 if decimal == "." else pl.String
    whole = all(re.fullmatch(r"-?\d+", row[at]) for row in sample if len(row) > at)
    return pl.Int64 if whole else pl.String


def _by_order(names: Sequence[str], where: str, sample: Sequence[Sequence[str]]) -> Columns:
    if not 2 <= len(names) <= 4:
        row = ", ".join(sample[0]) if sample else ""
        cells = [cell for line in sample for cell in line]
        matrix = (
            " If it is a matrix of users x items, such as Jester's with 99 for missing, convert it to rows: frame = "
            'pandas.read_csv(path, header=None); frame = frame.mask(frame == 99).stack().dropna().rename_axis(["user", "item"]); '
            "read_log(frame + 10), since weights must not be negative."
            if len(names) > 8 and cells and all(map(is_number, cells))
            else ""
        )
        raise ValueError(
            f"{where} has no header and {len(names)} columns, its first row is: {shorten(row, 200)}. "
            "Without names they must be user, item and optionally weight and time; otherwise give positions, "
            f"such as user=0, item=1, weight=3.{matrix}"
        )
    if len(names) == 3 and sample and all(_is_large(row[2]) for row in sample if len(row) > 2):
        return Columns(0, 1, None, 2)
    return Columns(0, 1, 2 if len(names) > 2 else None, 3 if len(names) > 3 else None)


def _is_large(text: str) -> bool:
    """Whether a value is a time rather than a weight: a date, or seconds after 1973."""
    try:
        return float(text) >= 1e8
    except ValueError:
        return bool(re.match(r"\d{1,4}[-/.]\d\d?[-/.]\d{1,4}\b|[A-Za-z]{3} [A-Za-z]{3} ", text))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(shorten(name, 40)) for name in names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"


def _spell(found: dict[str, int | None], names: Sequence[str]) -> str:
    return ", ".join(f"{role}={names[at]!r}" for role, at in found.items() if at is not None)

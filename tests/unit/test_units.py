"""Rules of durations and sizes: one grammar, read alike wherever they may stand."""

from __future__ import annotations

import logging
import math
from datetime import timedelta

import pytest
from hypothesis import given, strategies as st

from zwrap.errors import RequestError
from zwrap.units import LONGEST_S, bytes_of, duration, mib, seconds, whole_number

HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        (90, 90),
        (0.2, 1),  # never shorter than what was asked for
        (1564.0, 1564),
        ("90", 90),
        ("1.5", 2),
        (" 1:00:00 ", HOUR),
        ("12:00:00", 12 * HOUR),
        ("0:90:00", 90 * 60),
        ("100:00:00", 100 * HOUR),
        ("1::", HOUR),  # sge_types(5): what is zero can be left out
        ("1::1", HOUR + 1),
        ("::30", 30),
        ("1-12", DAY + 12 * HOUR),  # sbatch(1): days-hours, and so on
        ("1-12:30", DAY + 12 * HOUR + 30 * 60),
        ("3-00:00", 3 * DAY),
        ("1-02:03:04", DAY + 2 * HOUR + 3 * 60 + 4),
        ("PT1H", HOUR),  # ISO 8601
        ("PT1H30M", HOUR + 30 * 60),
        ("P1DT2H", DAY + 2 * HOUR),
        ("P2W", 14 * DAY),
        ("PT0.5S", 1),
        ("1 day, 00:00:00", DAY),  # str(timedelta)
        ("2 days, 3:04:05", 2 * DAY + 3 * HOUR + 4 * 60 + 5),
        ("0:00:01.500000", 2),
        ("1 day", DAY),
        ("2d", 2 * DAY),
        ("1d 2:00", DAY + 2 * HOUR),
    ],
)
def test_each_form_of_a_duration(value: object, expected_s: int) -> None:
    assert seconds(value, "here") == expected_s


@pytest.mark.parametrize(
    "value",
    [
        0, -5, 0.0, True, False, None, math.nan, math.inf, 1e308, 10**30, LONGEST_S + 1, [], {},
        "", "soon", "0", "0:00:00", "::", ":", "1:", ":1", "-1", "-1:00:00", "1-", "1 day, 1-12",
        "P", "PT", "P1H", "1e3", "nan", "inf", "UNLIMITED", "9" * 5000, "1:" + "9" * 5000 + ":00",
        "٣٠", "1:00:00:00", "100000 days", "1:00:00\n2", "1_000",
    ],
)  # fmt: skip
def test_what_is_not_a_duration_is_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(RequestError) as caught:
        seconds(value, "node 1, key 'time_limit'")
    text = str(caught.value)
    assert text.startswith("node 1, key 'time_limit' is ")
    assert "a duration above 0" in text
    assert "H:MM:SS" in text
    assert len(text) < 400
    assert "\n" not in text


def test_two_numbers_are_hours_and_minutes_and_one_warning_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(3):
        assert seconds("01:00", "node 1 of here, key 'time_limit'") == HOUR
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert text.startswith("node 1 of here, key 'time_limit' is '01:00'")
    assert "'01:00:00'" in text, "how to write it as it is read"
    assert "'0:01:00'" in text, "how to write minutes and seconds"
    assert seconds("1 day, 01:00", "elsewhere") == DAY + HOUR
    assert seconds("1-02:30", "elsewhere") == DAY + 2 * HOUR + 30 * 60
    assert len(caplog.records) == 1, "nothing else is ambiguous"


def test_a_number_that_python_does_not_write_is_refused_like_any_other() -> None:
    with pytest.raises(RequestError, match=r"here is a number of more digits .*a duration above"):
        seconds(10**5000, "here")


durations = st.integers(1, LONGEST_S)


def clock(total_s: int) -> str:
    return f"{total_s // HOUR}:{total_s // 60 % 60:02}:{total_s % 60:02}"


@given(durations)
def test_every_way_to_write_a_duration_means_the_same(total_s: int) -> None:
    days, rest_s = divmod(total_s, DAY)
    ways: list[object] = [
        total_s,
        float(total_s),
        str(total_s),
        clock(total_s),
        f"{days}-{clock(rest_s)}",
        f"{days} days, {clock(rest_s)}",
        str(timedelta(seconds=total_s)),
        f"P{days}DT{rest_s}S",
        f"pt{total_s}s",
    ]
    for way in ways:
        assert seconds(way, "here") == total_s
    assert seconds(f"{days}-{clock(rest_s)}", "here", in_minutes=True) == total_s


@given(st.integers(0, 99), st.integers(0, 99))
def test_one_and_two_numbers_are_read_as_sbatch_reads_them_where_sbatch_reads(
    first: int, second: int
) -> None:
    if first:
        assert seconds(str(first), "here", in_minutes=True) == first * 60
    if first or second:
        assert seconds(f"{first}:{second:02}", "here", in_minutes=True) == first * 60 + second
        assert (
            seconds(f"{first}-{second:02}", "here", in_minutes=True) == first * DAY + second * HOUR
        )
        assert seconds(f"{first}-{second:02}", "here") == first * DAY + second * HOUR


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.lists(st.integers())))
def test_any_value_is_a_bounded_duration_or_refused(value: object) -> None:
    try:
        found_s = seconds(value, "here")
    except RequestError:
        return
    assert 0 < found_s <= LONGEST_S


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200M", 200 * 2**20),
        ("328.402MB", round(328.402 * 2**20)),
        ("1.5g", 3 * 2**29),  # small letters as powers of 1024, too: never too little
        ("4GiB", 4 * 2**30),
        ("2T", 2**41),
        ("12K", 12 * 2**10),
        ("7", 7),
        ("0.000", 0),
        ("", None),
        ("N/A", None),
        ("-1M", None),
        ("1.2.3", None),
        ("9" * 5000, None),
        ("1P", None),
        ("٣M", None),
    ],
)
def test_each_form_of_a_size(text: str, expected: int | None) -> None:
    assert bytes_of(text) == expected


def test_a_size_that_is_asked_for_is_rounded_up_and_not_zero() -> None:
    assert mib("1.5G", "here") == 1536
    assert mib("1500K", "here") == 2
    assert mib("1", "here") == 1
    assert mib("64", "here", bare=2**20) == 64, "sbatch(1): megabytes where there is no letter"
    for wrong in ("0", "0G", "lots", "-1", "", "9" * 15 + "T"):
        with pytest.raises(RequestError, match=r"here is .*; a size above 0 .*'4G'"):
            mib(wrong, "here")


@given(st.integers(1, 2**30), st.sampled_from("KMGT"))
def test_a_size_in_mebibytes_is_never_below_what_was_asked_for(number: int, letter: str) -> None:
    asked = bytes_of(f"{number}{letter}")
    assert asked is not None
    if asked <= 2**60:
        given = mib(f"{number}{letter}", "here")
        assert (given - 1) * 2**20 < asked <= given * 2**20


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("9" * 5000, None),
     ("", None), ("-1", None), ("1.0", None), (" 1", None), ("١٢", None), ("²", None)],
)  # fmt: skip
def test_a_whole_number_of_others_is_short_and_of_ascii_digits(
    text: str, number: int | None
) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    ("given_s", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2 minutes"), (3600, "1 hour"), (7200, "2 hours"),
     (2 * 86_400, "2 days"), (14 * 86_400, "14 days"), (float("inf"), "inf days")],
)  # fmt: skip
def test_a_time_in_words(given_s: float, words: str) -> None:
    assert duration(given_s) == words

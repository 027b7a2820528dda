"""Bytes from ActiveMQ: only those are changed that no reader of STOMP could read."""

from __future__ import annotations

import itertools

from hypothesis import given, strategies as st

from zwrap.transport.stomp.incoming import REPLACEMENT, Incoming

WORDS = st.binary(min_size=1, max_size=6).map(lambda word: word.translate(None, b"\r\n:\0") or b"x")
HEADERS = st.lists(st.tuples(WORDS, WORDS), max_size=3)


def frame(headers: list[tuple[bytes, bytes]], body: bytes, *, counted: bool, end: bytes) -> bytes:
    lines = [b"MESSAGE", *(key + b":" + value for key, value in headers)]
    if counted:
        lines.append(b"content-length:%d" % len(body))
    else:
        body = body.replace(b"\0", b"")
    return end.join(lines) + 2 * end + body + b"\0"


FRAMES = st.lists(
    st.builds(
        frame, HEADERS, st.binary(max_size=20), counted=st.booleans(),
        end=st.sampled_from([b"\n", b"\r\n"]),
    )
    | st.sampled_from([b"\n", b"\r\n"]),
    max_size=5,
)  # fmt: skip


def pieces(text: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in itertools.pairwise(places)]


@given(FRAMES, st.lists(st.integers(0, 1000)))
def test_frames_that_can_be_read_stay_as_they_are(frames: list[bytes], cuts: list[int]) -> None:
    text, incoming = b"".join(frames), Incoming()
    assert b"".join(map(incoming.mended, pieces(text, cuts))) == text


@given(
    HEADERS, st.binary(max_size=20), st.booleans(), st.lists(st.integers(0, 1000)),
    st.sampled_from([b"\0", b"\0\0", b"\0a"]),
)  # fmt: skip
def test_a_nul_in_a_header_is_replaced_and_what_follows_stays(
    headers: list[tuple[bytes, bytes]], body: bytes, counted: bool, cuts: list[int], odd: bytes
) -> None:
    after = frame([(b"k", b"v")], b"next", counted=True, end=b"\n")
    text = frame([*headers, (b"x", odd)], body, counted=counted, end=b"\n") + after
    told = frame(
        [*headers, (b"x", odd.replace(b"\0", REPLACEMENT))], body, counted=counted, end=b"\n"
    )
    incoming = Incoming()
    assert b"".join(map(incoming.mended, pieces(text, cuts))) == told + after

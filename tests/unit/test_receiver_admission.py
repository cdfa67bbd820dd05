"""What is in flight is bounded, and the one who gives way is the one who holds most."""

from __future__ import annotations

import pytest

from collector.errors import Overloaded, Refused
from collector.receivers.admission import Admission, Held
from collector.receivers.config import LimitsConfig

MIB = 2**20


class _Requests:
    def __init__(self, size: int = 4 * MIB, requests: int = 10) -> None:
        self.room = Admission(LimitsConfig(max_in_flight_size=size, max_in_flight_requests=requests))
        self.refused: list[int] = []

    def enter(self, number: int) -> Held:
        return self.room.enter(lambda error: self._give_way(number, error))

    def _give_way(self, number: int, error: Refused) -> None:
        assert isinstance(error, Overloaded)
        self.refused.append(number)


def test_the_largest_request_that_is_still_coming_gives_way_to_a_small_one() -> None:
    requests = _Requests()
    large, small = requests.enter(1), requests.enter(2)
    large.grow(3 * MIB)
    small.grow(MIB)
    small.grow(1)
    assert requests.refused == [1]
    assert requests.room.bytes == MIB + 1


def test_the_largest_itself_is_refused_when_it_asks_for_more() -> None:
    requests = _Requests()
    large, small = requests.enter(1), requests.enter(2)
    small.grow(MIB)
    large.grow(3 * MIB)
    with pytest.raises(Overloaded):
        large.grow(1)
    assert requests.refused == []


def test_a_complete_request_does_not_give_way() -> None:
    requests = _Requests()
    complete, coming = requests.enter(1), requests.enter(2)
    complete.grow(3 * MIB)
    complete.become(3 * MIB)
    with pytest.raises(Overloaded):
        coming.grow(2 * MIB)
    assert requests.refused == []


def test_inflating_beyond_the_room_is_refused_and_shrinking_frees() -> None:
    requests = _Requests()
    held = requests.enter(1)
    held.grow(MIB)
    held.become(3 * MIB)
    assert requests.room.bytes == 3 * MIB
    held.become(2 * MIB)
    assert requests.room.bytes == 2 * MIB
    with pytest.raises(Overloaded):
        held.become(5 * MIB)
    held.release()
    assert (requests.room.bytes, requests.room.requests) == (0, 0)


def test_releasing_twice_frees_once() -> None:
    requests = _Requests()
    first, second = requests.enter(1), requests.enter(2)
    first.grow(10)
    second.grow(7)
    first.release()
    first.release()
    first.become(100)
    assert (requests.room.bytes, requests.room.requests) == (7, 1)


def test_too_many_requests_are_refused_while_all_are_complete() -> None:
    requests = _Requests(requests=3)
    for number in range(3):
        requests.enter(number).become(5)
    with pytest.raises(Overloaded):
        requests.enter(3)


def test_the_oldest_that_is_still_coming_gives_way_when_there_are_too_many() -> None:
    requests = _Requests(requests=3)
    requests.enter(0).become(5)
    requests.enter(1)
    requests.enter(2)
    requests.enter(3)
    assert requests.refused == [1]
    assert requests.room.requests == 3

"""Work in the background keeps its order, goes no further ahead than told, and hands errors on."""

import threading

import pytest

from pretext.artifacts.overlap import overlap


def test_results_come_in_order_from_one_other_thread():
    threads = set()

    def work(item):
        threads.add(threading.current_thread())
        return item**2

    assert list(overlap(work, range(20))) == [item**2 for item in range(20)]
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_nothing_gives_nothing():
    assert list(overlap(abs, [])) == []


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_items_are_taken_no_further_ahead_than_told(depth):
    taken = []

    def items():
        for item in range(8):
            taken.append(item)
            yield item

    for result in overlap(lambda item: item, items(), depth=depth):
        assert len(taken) == min(result + depth + 1, 8)


def test_later_items_are_made_while_an_earlier_one_is_worked_on():
    made_second = threading.Event()

    def items():
        yield "first"
        made_second.set()
        yield "second"

    assert list(overlap(lambda item: (item, made_second.wait(5)), items())) == [("first", True), ("second", True)]


def test_an_error_is_raised_where_its_result_would_come():
    results = overlap(lambda item: 1 // item, [1, 0, 1], depth=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)

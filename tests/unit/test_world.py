"""Processes of one job: alone nothing changes, and two tell each other what they must."""

import json
import os
import socket
import subprocess
import sys

import pytest

from pretext import world

PAIR = """
import json, os
from pretext import world

found = {
    "rank": [world.rank(), world.size(), world.local_rank(), world.is_first()],
    "share": world.share("abcde"),
    "cores": world.cores(),
    "gather": world.gather({"text": "\\u00e9\\ud800" * (1 + world.rank()), "number": 0.1}),
    "first": world.from_first(lambda: [world.rank(), world.size(), world.gather(7), world.from_first(lambda: 8)]),
    "joined": world.size(),
}
world.wait()
print(json.dumps(found), flush=True)
try:
    world.from_first(lambda: 1 / 0)
except Exception as error:
    print(json.dumps([type(error).__name__, getattr(error, "hint", None), world.size()]), flush=True)
os._exit(3)
"""


@pytest.fixture
def alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_is_the_first_and_does_everything_itself(alone):
    assert (world.rank(), world.size(), world.local_rank(), world.is_first()) == (0, 1, 0, True)
    assert world.share([3, 1, 2]) == [3, 1, 2]
    something = object()
    assert world.gather(something) == [something]
    assert world.from_first(lambda: something) is something
    with pytest.raises(ZeroDivisionError):
        world.from_first(lambda: 1 / 0)
    assert world.wait() is None


def test_one_process_loads_no_pytorch():
    code = "import sys; from pretext import world as w; w.join(); w.wait(); w.from_first(w.cores); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_cores_are_divided_among_the_processes_of_a_machine(alone, monkeypatch):
    cores = len(os.sched_getaffinity(0))
    assert world.cores() == cores
    monkeypatch.setenv("WORLD_SIZE", "64")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(cores))
    assert world.cores() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * cores))
    assert world.cores() == 1


def test_a_share_is_every_item_once(alone, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(world.share(range(8)))
    assert parts == [[0, 3, 6], [1, 4, 7], [2, 5]]


def environment(**changes):
    """That of this process, without what a launcher may have put there."""
    kept = {name: value for name, value in os.environ.items() if "RANK" not in name and "WORLD_SIZE" not in name}
    return kept | changes


def test_two_processes_gather_share_and_learn_from_the_first():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    pair = [
        subprocess.Popen([sys.executable, "-c", PAIR], stdout=subprocess.PIPE, text=True, env=environment(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="localhost",
            MASTER_PORT=port))
        for rank in (0, 1)
    ]  # fmt: skip
    (first, failure), (second, other) = (
        [json.loads(line) for line in one.communicate()[0].splitlines()] for one in pair
    )
    assert (first["rank"], second["rank"]) == ([0, 2, 0, True], [1, 2, 1, False])
    assert (first["share"], second["share"]) == (["a", "c", "e"], ["b", "d"])
    said = "\u00e9\ud800"
    assert first["gather"] == second["gather"] == [{"text": said, "number": 0.1}, {"text": 2 * said, "number": 0.1}]
    assert first["first"] == second["first"] == [0, 1, [7], 8]  # inside it there is one process
    assert first["joined"] == second["joined"] == 2
    assert failure == ["ZeroDivisionError", None, 2]
    assert other == ["OtherRankError", "its own output says why; the same command goes on from here", 2]

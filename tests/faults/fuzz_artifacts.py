"""Coverage-guided fuzzing of every reader of artifacts, with atheris (not a dependency: install it where you like).

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris
    PYTHONPATH=.:tests/helpers:.venv/lib/python3.11/site-packages \\
        /tmp/fuzz/bin/python tests/faults/fuzz_artifacts.py checkpoint -max_total_time=600 -rss_limit_mb=4096

The first argument is one of `hostile_readers.READERS`; the others are libFuzzer's. A find is any exception that is no
PretextError: its traceback is printed once for each place, its input is kept in finds/READER, and the search goes on. An
end of the interpreter, more memory than the limit, or more than ten seconds end the search. The same readers are tried by
hypothesis, for seconds and without coverage, in test_hostile_artifacts.py.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import traceback
from pathlib import Path


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["pretext", "json", "tomllib"]):
        import hostile_readers
    from hostile_bytes import harmed

    from pretext.errors import PretextError

    name = sys.argv.pop(1)
    # in memory, where there is such a place: every try writes the file anew
    root = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    files = hostile_readers.whole_files(root / "files")
    (root / "corpus").mkdir()
    shutil.copy(files[name], root / "corpus" / "whole")

    def try_one(data: bytes) -> None:
        files[name].write_bytes(data)
        try:
            hostile_readers.read_as(name, files[name])
        except PretextError:
            pass
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/pretext/" in frame.filename]
            place = (
                f"{type(error).__name__}-{Path(frames[-1].filename).stem}-{frames[-1].lineno}"
                if frames
                else repr(error)
            )
            if place not in finds:
                finds.add(place)
                kept.mkdir(parents=True, exist_ok=True)
                (kept / place.replace("/", " ")[:80]).write_bytes(data)
                traceback.print_exc()
                print(f"FIND {len(finds)}: {place}", file=sys.stderr, flush=True)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        # what libFuzzer does to bytes seldom leaves JSON that is read further than to its first error
        rng = random.Random(seed)
        return harmed(name, data, rng)[:max_size] if rng.random() < 0.6 else atheris.Mutate(data, max_size)

    kept = Path("finds") / name
    finds: set[str] = set()
    options = ["-timeout=10", "-max_len=65536", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], str(root / "corpus")], try_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Extraction under torchrun: two processes divide the parts and make, byte for byte, what one makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tiny_chain import extract

from pretext.tasks import extraction

PART_ROWS, BATCH = 32, 16
SCRIPT = f"""
import os
import sys
from pathlib import Path
from pretext import world
from pretext.stage_configs import ExtractFeaturesConfig
from pretext.stages import extract_features
from pretext.tasks import extraction

extraction.PART_ROWS = {PART_ROWS}
write = extraction.SplitReader.write
def tell(*words):  # in one piece: both processes write to the same pipe, and unbuffered print() writes word by word
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def told(self, path, *rest):
    tell("wrote", world.rank(), path.name)
    write(self, path, *rest)
extraction.SplitReader.write = told
root = Path(sys.argv[1])
config = ExtractFeaturesConfig(run=root / "runs/run", data_dir=root / "data", device="cpu", batch_size={BATCH},
                               splits=("train", "unlabeled"), overwrite=True)
tell("status", world.rank(), extract_features.run(config)["status"])
"""


@pytest.fixture
def torchrun(tmp_path):
    def launch(root):
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        kept = {name: value for name, value in os.environ.items() if "RANK" not in name and "WORLD_SIZE" not in name}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, root]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=120, env=kept | {"OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr
        return [line.split() for line in done.stdout.splitlines()]

    return launch


def test_two_processes_make_what_one_makes(root, torchrun, monkeypatch):
    monkeypatch.setattr(extraction, "PART_ROWS", PART_ROWS)
    folder = root / "runs/run"
    extract(root, batch_size=BATCH, splits=("train", "unlabeled"), overwrite=True)
    alone = (folder / "features.parquet").read_bytes()
    manifest = json.loads((folder / "features.manifest.json").read_text())
    (folder / "features.parquet").unlink()

    lines = torchrun(root)
    assert sorted(line[1:] for line in lines if line[0] == "status") == [["0", "done"], ["1", "done"]]
    assert (folder / "features.parquet").read_bytes() == alone
    again = json.loads((folder / "features.manifest.json").read_text())
    assert [again[name] for name in ("request", "summary", "outputs")] == [
        manifest[name] for name in ("request", "summary", "outputs")
    ]
    wrote = {rank: {name for word, who, name in lines if word == "wrote" and who == rank} for rank in "01"}
    assert wrote["0"] == {"part-train-0-32.parquet", "part-unlabeled-0-32.parquet", "part-unlabeled-64-96.parquet"}
    assert wrote["1"] == {"part-train-32-60.parquet", "part-unlabeled-32-64.parquet"}
    assert not (folder / "features-resume").exists()

"""The pictures that runs hold: the first seed's of each method, and only whole ones."""

from __future__ import annotations

from pretext.reports.pictures import KINDS, run_pictures


def test_each_kind_is_read_from_the_runs_that_have_it(workshop):
    layout = workshop.add("a")
    workshop.add_color("b", seed=1)
    first = workshop.add_color("c", seed=0)
    workshop.add_color("r", space=None)
    study = workshop.compare()
    found = {kind: run_pictures(study, kind) for kind in KINDS}
    ((reconstruction,), missing) = found["reconstructions"]
    assert (reconstruction.name, reconstruction.caption, missing) == ("reconstruction-1", "cnn-mse (run a)", [])
    assert reconstruction.png == layout.picture("reconstructions").read_bytes()
    ((colorization,), missing) = found["colorizations"]
    assert (colorization.name, missing) == ("colorization-1", [])
    assert colorization.caption == "simplenet5-split-brain-lab (run c)"
    assert colorization.png == first.picture("colorizations").read_bytes()
    assert colorization.is_raster


def test_broken_picture_is_named(workshop):
    layout = workshop.add_color("a")
    study = workshop.compare()
    layout.picture("colorizations").write_bytes(b"no picture")
    assert run_pictures(study, "colorizations") == ([], ["a"])

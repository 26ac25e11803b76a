"""With what and on what an artifact was made."""

import platform

from pretext.artifacts import provenance as module
from pretext.artifacts.provenance import device_facts, versions


def test_versions_name_what_decides_numbers(monkeypatch):
    found = versions()
    assert {"pretext", "python", "torch", "numpy", "pyarrow"} <= found.keys()
    monkeypatch.setattr(module, "LIBRARIES", ("numpy", "surely-not-installed"))
    assert versions().keys() == {"pretext", "python", "numpy"}


def test_hardware_is_named_by_model_never_by_host():
    facts = device_facts("NVIDIA H200")
    assert facts["device"] == "NVIDIA H200"
    assert facts["processor"]
    assert facts["cores"] >= 1
    assert platform.node() not in [str(value) for value in facts.values()]
    assert device_facts(None)["device"] == "cpu"

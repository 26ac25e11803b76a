"""`auto` becomes a device and a precision."""

from pathlib import Path

import pytest
import torch

from pretext.errors import DeviceError
from pretext.training import device as module
from pretext.training.device import Compute, resolve_compute


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def old_cuda(monkeypatch):
    """A GPU that can only emulate bf16, or not do it at all."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Old GPU")


def processor(monkeypatch, flags):
    monkeypatch.setattr(Path, "read_text", lambda self, **more: f"flags\t\t: fpu {flags} sse\n")


@pytest.mark.usefixtures("no_cuda")
class TestWithoutCuda:
    @pytest.mark.parametrize("asked", ["auto", "cpu"])
    def test_the_processor_is_taken(self, asked):
        compute = resolve_compute(asked)
        assert compute == Compute(torch.device("cpu"), "fp32")
        assert compute.name == "cpu"

    def test_cuda_by_name_is_an_error_with_the_way_out(self):
        with pytest.raises(
            DeviceError, match="--device cuda was asked for, but PyTorch finds no CUDA device"
        ) as caught:
            resolve_compute("cuda")
        assert "--device cpu" in caught.value.hint
        assert caught.value.exit_code == 6

    @pytest.mark.parametrize(
        ("flags", "precision"),
        [("avx2", "fp32"), ("avx512f avx512_bf16", "bf16"), ("amx_bf16 amx_tile", "bf16"), ("avx512f", "fp32")],
    )
    def test_auto_precision_is_bf16_where_the_processor_has_it(self, monkeypatch, flags, precision):
        processor(monkeypatch, flags)
        assert resolve_compute("auto", "auto").precision == precision

    def test_auto_precision_on_a_system_that_does_not_tell(self, monkeypatch):
        def fail(self, **more):
            raise FileNotFoundError

        monkeypatch.setattr(Path, "read_text", fail)
        assert resolve_compute("auto", "auto").precision == "fp32"

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_precision_by_name_is_kept(self, monkeypatch, precision):
        processor(monkeypatch, "avx2")
        assert resolve_compute("cpu", precision).precision == precision


@pytest.mark.usefixtures("old_cuda")
class TestWithCuda:
    def test_auto_takes_it_and_cpu_does_not(self):
        assert resolve_compute("auto").device == torch.device("cuda")
        assert resolve_compute("cuda").device == torch.device("cuda")
        assert resolve_compute("cpu").device == torch.device("cpu")
        assert resolve_compute("auto").name == "Old GPU"

    def test_bf16_by_name_where_it_is_not_there_is_an_error(self):
        with pytest.raises(DeviceError, match="Old GPU has no bf16 arithmetic") as caught:
            resolve_compute("cuda", "bf16")
        assert caught.value.hint == "--precision fp32"

    def test_auto_precision_needs_real_bf16(self, monkeypatch):
        assert resolve_compute("cuda", "auto").precision == "fp32"
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        assert resolve_compute("cuda", "auto").precision == "bf16"
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
        assert resolve_compute("cuda", "auto").precision == "fp32", "an emulated bf16 is slower than fp32"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_is_what_the_precision_says(precision, dtype):
    with Compute(torch.device("cpu"), precision).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert not torch.is_autocast_enabled("cpu")


def test_the_module_has_no_state_of_import_time():
    assert not [value for value in vars(module).values() if isinstance(value, (torch.device, Compute))]

"""CIFAR-10 and CIFAR-100 from fabricated binary batches."""

import numpy as np
import pytest

from pretext.datasets.base import SplitInfo
from pretext.datasets.cifar import CIFAR10, CIFAR100, build_cifar10, build_cifar100
from pretext.errors import DataError

BUILDERS = {"cifar10": (build_cifar10, CIFAR10), "cifar100": (build_cifar100, CIFAR100)}


@pytest.fixture(params=BUILDERS)
def made(request, tmp_path):
    """(build function, layout, folder, records by split as written)."""
    builder, layout = BUILDERS[request.param]
    folder = tmp_path / layout.archive.folder
    folder.mkdir()
    generator = np.random.default_rng(1)
    written = {}
    for split, names in layout.files.items():
        batches = []
        for number, name in enumerate(names):
            record_NR = generator.integers(0, 256, size=(number + 2, layout.label_bytes + 3072), dtype=np.uint8)
            record_NR[:, layout.label_bytes - 1] %= layout.num_classes
            record_NR.tofile(folder / name)
            batches.append(record_NR)
        written[split] = np.concatenate(batches)
    (folder / layout.names_file).write_text("".join(f"class{number}\n" for number in range(layout.num_classes)) + "\n")

    def build(**changes):
        return builder(**{"root": tmp_path, "offline": True, **changes})

    return build, layout, folder, written


def test_every_record_comes_out_upright(made):
    build, layout, _, written = made
    source = build()
    for split, record_NR in written.items():
        samples = list(source.read(split, np.arange(len(record_NR))))
        assert len(samples) == len(record_NR)
        for index, (sample, record) in enumerate(zip(samples, record_NR, strict=True)):
            assert (sample.id, sample.label) == (f"{split}/{index:05d}", record[layout.label_bytes - 1])
            for row, column, channel in [(0, 0, 0), (3, 17, 1), (31, 30, 2)]:
                expected = record[layout.label_bytes + channel * 1024 + row * 32 + column]
                assert sample.image_HWC[row, column, channel] == expected
            assert sample.image_HWC.flags.c_contiguous
            assert sample.image_HWC.shape == (32, 32, 3)


def test_facts_and_order(made):
    build, layout, _, written = made
    source = build()
    assert source.splits == tuple(SplitInfo(split, len(written[split]), True) for split in ("train", "test"))
    assert (source.name, source.image_size, source.missing) == (layout.name, 32, ())
    assert source.class_names == tuple(f"class{number}" for number in range(layout.num_classes))
    assert [sample.id for sample in source.read("train", np.array([1, 0]))] == ["train/00001", "train/00000"]


def test_other_sizes_are_resized(made):
    build, _, _, _ = made
    [sample] = build(image_size=48).read("test", np.array([0]))
    assert sample.image_HWC.shape == (48, 48, 3)


def test_absent_and_partial_splits(made):
    build, layout, folder, _ = made
    (folder / layout.files["test"][0]).unlink()
    source = build()
    assert source.missing == ("test",)
    assert [info.name for info in source.splits] == ["train"]
    (folder / layout.files["train"][-1]).unlink()
    with pytest.raises(DataError, match=r"data_batch_5\.bin missing" if layout is CIFAR10 else r"none of train\.bin"):
        build()


def test_a_label_out_of_range_names_its_image(made):
    build, layout, folder, written = made
    written["test"][1, layout.label_bytes - 1] = layout.num_classes
    written["test"].tofile(folder / layout.files["test"][0])
    with pytest.raises(DataError, match=f"label {layout.num_classes} for test image 1"):
        list(build().read("test", np.arange(2)))


def test_broken_files_are_told_with_their_figures(made):
    build, layout, folder, _ = made
    (folder / layout.names_file).write_text("cat\n")
    with pytest.raises(DataError, match=f"has 1 names, {layout.name} has {layout.num_classes} classes"):
        build()
    (folder / layout.files["test"][0]).write_bytes(bytes(100))
    with pytest.raises(DataError, match=f"100 bytes, .* records of {3072 + layout.label_bytes} bytes"):
        build()


def test_fingerprint_follows_files_and_options(made):
    build, layout, folder, written = made
    first = build().fingerprint()
    assert build().fingerprint() == first
    assert build(image_size=31).fingerprint() != first
    np.concatenate([written["test"]] * 2).tofile(folder / layout.files["test"][0])
    assert build().fingerprint() != first


def test_absent_files_are_told_with_address_and_checksum(made, tmp_path):
    build, layout, _, _ = made
    with pytest.raises(DataError, match=f"{layout.archive.folder} is missing") as caught:
        build(root=tmp_path / "empty")
    assert layout.archive.url in caught.value.hint
    assert layout.archive.checksum in caught.value.hint

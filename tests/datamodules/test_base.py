from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_trees import (
    VOC_IMAGES,
    build_voc_tree,
    draw_image,
    make_training,
    make_voc,
    make_whole,
    write_jpeg,
    write_mask,
)

from datamodules.choosing import choose_shots, warn
from datamodules.labels import LabelsFromXml, keep_labels_in_crop
from fmawsss.files.storage import write_superpixels
from fmawsss.records import ImageRecord
from fmawsss.resizing import ResizeSquare
from fmawsss.superpixels import Superpixels


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return build_voc_tree(tmp_path / "VOC2012")


def test_an_image_without_label_is_left_out_of_training_and_reported(
    tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = make_voc(tree, training=make_training(), whole=make_whole())
    module.setup("fit")
    module.setup("fit")
    assert [record.name for record in module.choose_training_images()] == list(VOC_IMAGES)[:4]
    assert caplog.messages[0] == "1 images without any label are left out of training: 2008_000015"
    assert len(module.read_records(module.whole.split)) == 5


def test_labels_are_not_read_unless_asked_for(tree: Path) -> None:
    (tree / "SegmentationClassAug" / "2007_000032.png").write_text("broken")
    module = make_voc(tree, training=make_training(), labelled=False)
    module.setup("fit")
    assert next(iter(module.train_dataloader())).labels is None
    with pytest.raises(ValueError, match=r"2007_000032\.png"):
        make_voc(tree, training=make_training()).setup("fit")


def test_labels_follow_the_crop(tree: Path) -> None:
    write_mask(tree / "seeds" / "2007_000032.png", np.ones((36, 50), np.uint8))
    write_lists_of_one(tree, "2007_000032")
    training = make_training(
        "one", crop_labels=keep_labels_in_crop, seeds=tree / "seeds", batch_size=1
    )
    module = make_voc(tree, training=training)
    module.setup("fit")  # refuses seeds that show nothing
    write_mask(tree / "seeds" / "2007_000032.png", np.zeros((36, 50), np.uint8))
    batch = next(iter(module.train_dataloader()))
    assert not batch.labels.any()
    assert batch.seeds.max() == 0


def write_lists_of_one(tree: Path, name: str) -> None:
    (tree / "ImageSets" / "Segmentation" / "one.txt").write_text(f"{name}\n")


def test_whole_images_come_with_what_was_asked_for(tree: Path, tmp_path: Path) -> None:
    for name in VOC_IMAGES:
        write_superpixels(
            tmp_path / "superpixels" / f"{name}.npz", Superpixels.empty((36, 50)), "x"
        )
    whole = make_whole(superpixels=tmp_path / "superpixels", truths=True, originals=True)
    module = make_voc(tree, whole=whole)
    module.setup("predict")
    batches = list(module.predict_dataloader())
    assert [batch.names[0] for batch in batches] == list(VOC_IMAGES)
    first = batches[0]
    assert first.images.shape == (1, 3, 48, 64)
    assert first.sizes == [(36, 50)]
    assert first.truths[0].unique().tolist() == [0, 1, 3, 255]
    assert first.superpixels[0].size == (36, 50)
    assert first.originals[0].shape == (36, 50, 3)
    assert first.labels.tolist() == [[True, False, True]]


def test_images_of_one_network_size_share_a_batch(tree: Path) -> None:
    write_jpeg(tree / "JPEGImages" / "2007_000039.jpg", draw_image(1, (40, 60)))  # 48 x 64 as well
    write_jpeg(tree / "JPEGImages" / "2007_000063.jpg", draw_image(1, (50, 40)))
    module = make_voc(tree, whole=make_whole(batch_size=3))
    batches = list(module.predict_dataloader())
    assert [len(batch) for batch in batches] == [3, 1, 1]
    assert all(batch.padding is None for batch in batches)
    assert batches[0].sizes == [(36, 50), (40, 60), (36, 50)]


def test_only_the_records_that_remain_are_loaded(tree: Path) -> None:
    module = make_voc(tree, whole=make_whole())
    remaining = [r for r in module.read_records("trainaug") if not r.name.startswith("2007")]
    loader = module.whole_loader(remaining, 0, 1, False)
    assert [name for batch in loader for name in batch.names] == ["2008_000008", "2008_000015"]
    assert len(loader) == 2
    shares = [module.whole_loader(remaining, rank, 2, False) for rank in (0, 1)]
    assert [batch.names for share in shares for batch in share] == [
        ["2008_000008"],
        ["2008_000015"],
    ]


def test_batches_are_as_large_whatever_is_left(tree: Path) -> None:
    module = make_voc(tree, whole=make_whole(batch_size=2, resize=ResizeSquare(16, 1)))
    records = module.read_records("trainaug")
    shares = [list(module.whole_loader(records[-2:], rank, 2, False)) for rank in (0, 1)]
    assert [[len(batch) for batch in share] for share in shares] == [[2], []]


def test_validation_has_its_own_size(tree: Path) -> None:
    module = make_voc(tree, validation=make_whole("val", resize=ResizeSquare(16, 1)))
    module.setup("validate")
    assert next(iter(module.val_dataloader())).images.shape == (1, 3, 16, 16)
    assert make_voc(tree).val_dataloader() == []
    assert make_voc(tree, validation=make_whole(None)).val_dataloader() == []


def test_validation_may_take_a_few_images(tree: Path) -> None:
    module = make_voc(tree, validation=make_whole(images=2))
    assert [batch.names[0] for batch in module.val_dataloader()] == ["2007_000032", "2007_000063"]


def test_inputs_are_described_by_names_and_labels(tree: Path) -> None:
    def describe(**changes: Any) -> dict[str, Any]:
        settings = {"whole": make_whole("val"), **changes}
        module = make_voc(tree, **settings)
        module.setup("predict")
        return module.describe_inputs()

    assert describe() == describe(whole=make_whole("val", batch_size=8))
    assert list(describe()) == ["val"]
    assert describe()["val"]["images"] == 2
    assert describe() != describe(labelled=False)


def test_missing_truths_are_reported_or_refused(
    tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warn.cache_clear()  # what another test was told
    module = make_voc(tree, whole=make_whole("val,test", truths=True), labelled=False)
    module.setup("predict")
    assert [batch.truths is None for batch in module.predict_dataloader()] == [False, False, True]
    assert caplog.messages == ["1 of 3 images have no ground truth: 2008_000006"]
    with pytest.raises(
        FileNotFoundError, match="1 of 1 images of split 'test' have no ground-truth mask"
    ):
        make_voc(tree, validation=make_whole("test"), labelled=False).setup("validate")


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        (
            "fit",
            {"training": make_training(seeds="nowhere")},
            r"5 of 5 seeds are missing.*2007_000032\.png.*task=cls",
        ),
        (
            "predict",
            {"whole": make_whole("val", superpixels="nowhere")},
            r"2 of 2 superpixels.*infer\.py task=superpixels",
        ),
    ],
)
def test_missing_files_are_counted_with_the_command_that_makes_them(
    tree: Path, stage: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        make_voc(tree, labelled=False, **changes).setup(stage)


def test_missing_images_and_labels_are_counted(tree: Path) -> None:
    with pytest.raises(
        ValueError, match=r"1 of 1 images of split 'test' have no known labels, first '2008_000006'"
    ):
        make_voc(tree, whole=make_whole("test"), labels=LabelsFromXml(difficult=True)).setup(
            "predict"
        )
    (tree / "JPEGImages" / "2007_000039.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 5 images of split 'trainaug'.*2007_000039\.jpg"
    ):
        make_voc(tree, whole=make_whole()).setup("predict")


def test_wrong_sizes_and_values_are_named_when_read(tree: Path, tmp_path: Path) -> None:
    write_lists_of_one(tree, "2007_000032")
    whole = make_whole("one", truths=True, superpixels=tmp_path)
    module = make_voc(tree, whole=whole, labelled=False)
    write_superpixels(tmp_path / "2007_000032.npz", Superpixels.empty((5, 5)), "x")
    with pytest.raises(
        ValueError, match=r"2007_000032\.npz are of size \(5, 5\), the image is \(36, 50\)"
    ):
        next(iter(module.predict_dataloader()))
    module = make_voc(tree, whole=make_whole("one", truths=True), labelled=False)
    for mask, message in (
        (np.zeros((5, 5), np.uint8), r"size \(5, 5\)"),
        (np.full((36, 50), 4, np.uint8), "value 4"),
    ):
        write_mask(tree / "SegmentationClassAug" / "2007_000032.png", mask)
        with pytest.raises(ValueError, match=message):
            next(iter(module.predict_dataloader()))


def test_settings_that_do_not_fit_are_refused(tree: Path) -> None:
    with pytest.raises(ValueError, match="built without `training`"):
        make_voc(tree).setup("fit")
    with pytest.raises(ValueError, match="built without `whole`"):
        make_voc(tree).predict_dataloader()
    with pytest.raises(ValueError, match="needs `split`"):
        make_training(None)
    with pytest.raises(ValueError, match="needs `augment`"):
        make_training(augment=None)
    with pytest.raises(ValueError, match=r"3 classes and 2 prompt names; dataset\.classes and"):
        make_voc(tree, prompt_names=("a", "b"))


def test_images_of_several_sizes_are_padded(tree: Path) -> None:
    write_jpeg(tree / "JPEGImages" / "2007_000032.jpg", draw_image(0, (40, 44)))
    module = make_voc(tree, training=make_training(batch_size=4))
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch.images.shape == (4, 3, 40, 50)
    index = batch.names.index("2007_000032")
    assert batch.padding[index].sum() == 40 * 6


def test_shots_are_chosen_once_and_never_twice(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    records = [
        ImageRecord(f"i{n}", Path("x"), tuple(np.flatnonzero(rng.random(4) < 0.4).tolist()))
        for n in range(80)
    ]
    chosen = choose_shots(records, 5, "abcd", seed=1)
    assert len(chosen) == len({record.name for record in chosen}) == 20
    assert all(sum(c in record.labels for record in chosen) >= 5 for c in range(4))
    assert (
        choose_shots(records, 5, "abcd", seed=1)
        == chosen
        != choose_shots(records, 5, "abcd", seed=2)
    )
    choose_shots(records[:3], 5, "abcd", seed=1)
    assert "instead of 5 shots" in caplog.messages[0]


def test_no_shots_are_refused(tree: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.shots=0.*or null"):
        make_voc(tree, training=make_training(shots=0)).setup("fit")

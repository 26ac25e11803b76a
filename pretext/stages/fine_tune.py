"""`fine-tune`: a classifier on top of, or through, a pretrained encoder, by a named protocol."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pretext import __version__, world
from pretext.artifacts.checkpoint import read_header, read_tensors, write_tensors
from pretext.artifacts.layout import RunLayout, find_data, find_run, fine_tune_stem
from pretext.artifacts.manifest import Parent, Record, require_done
from pretext.artifacts.results import describe_run, write_few_label_sets, write_predictions, write_result
from pretext.artifacts.rows import Rows
from pretext.artifacts.shards import DataSet, Split, open_data
from pretext.artifacts.verify import check_recorded
from pretext.augment import get_augmentation
from pretext.config import identity
from pretext.encoders.restore import build_encoder, load_encoder
from pretext.errors import ArtifactError, ConfigError, DataError
from pretext.progress import Progress, Silent, Task
from pretext.stage_configs import FineTuneConfig
from pretext.tasks.classifier import Classifier, ClassifierLearner, build_classifier, run_over, with_instance_norm
from pretext.tasks.evaluation import Judged, few_label_rows, headline, score_folds, tell_headline
from pretext.tasks.head_state import fit_heads_in
from pretext.tasks.plans import FewLabelPlan, FoldPlan, few_label_ids, few_label_plans, label_facts, plan_folds
from pretext.tasks.protocols import Protocol
from pretext.training.device import Compute, resolve_compute
from pretext.training.loop import LoopConfig, fit
from pretext.training.pool import ImagePool
from pretext.training.seeds import derive_seed, make_generator
from pretext.training.state import copy_state
from pretext.training.views import rows_for
from pretext.variants import choose_row


@dataclass(frozen=True, slots=True)
class Job:
    """What every model of this stage shares."""

    config: FineTuneConfig
    layout: RunLayout
    stem: str
    record: Record
    protocol: Protocol
    options: dict[str, Any]
    compute: Compute
    layer: str
    space: str
    images: Split
    rows: Rows
    label_N: np.ndarray
    test_images: Split | None
    test_rows: Rows | None
    num_classes: int

    @property
    def resume(self) -> Path:
        return self.layout.stage_resume(self.stem)


def run(config: FineTuneConfig, *, explicit: Collection[str] = (), progress: Progress | None = None) -> dict[str, Any]:
    """Fine-tune one run's encoder; see `FineTuneConfig` for the options.

    Args:
        config: The options.
        explicit: Which of them the user gave; one that the protocol does not read is then an error.
        progress: Where progress goes.

    Returns:
        The result file, status, and scores for the terminal.

    Raises:
        PretextError: For anything wrong with the options, the run, the data, the device or the disk.
    """
    progress = progress or Silent()
    row, options = choose_row(config, "protocol", explicit)
    layout, manifest = _find(config)
    data = open_data(find_data(config.data_dir, config.data or str(manifest["summary"]["data"]["name"])))
    stem = fine_tune_stem(config.protocol)
    parents = _parents(layout, manifest, data)
    record = Record(layout.record(stem), stem, _request(config, options), parents)
    compute = resolve_compute(config.device, config.precision)
    if config.dry_run:
        return {"output": str(layout.result(stem)), "status": "dry run", "reads": str(layout.checkpoint),
                "data": str(data.layout.folder), "options": options}  # fmt: skip
    if record.is_done(
        overwrite=config.overwrite, stale=[layout.stage_resume(stem), *layout.folder.glob(f"{stem}-fold-*")]
    ):
        if world.is_first():
            shutil.rmtree(layout.stage_resume(stem), ignore_errors=True)  # left by a kill after the work was done
        return tell_headline(layout.result(stem), record.content, "already done")

    job = _job(config, layout, stem, record, row.load(), options, compute, data)
    plans, selected_on = plan_folds(job.label_N, job.images.folds(), folds=config.folds, k=config.k, seed=config.fold_seed,
                                    has_test=job.test_images is not None)  # fmt: skip
    few_plans = few_label_plans(job.label_N, config.labels_per_class or (), draws=config.draws, seed=config.seed,
                                stratified=not config.unstratified, has_test=job.test_images is not None)  # fmt: skip
    record.begin(_request(config, options) | {"precision": compute.precision, "layer": job.layer, "reads": job.space},
                 seed=config.seed, device=compute.name)  # fmt: skip
    with progress.task(f"{layout.folder.name} {stem}", None, "steps") as task:
        fit_models = _fit_on_features if _has_static_features(job) else _fit_on_images
        judged = fit_models(job, plans, [layout.fold(stem, number) for number in range(len(plans))], task)
        few = fit_models(job, [few_plan.plan for few_plan in few_plans], _few_files(job, few_plans), task)
    outputs, summary = [], {}
    if world.is_first():
        shown = job.images if job.test_images is None else job.test_images
        sections, predictions = score_folds(judged, shown.labels(), shown.ids())
        content = {
            "kind": stem, "protocol": _protocol_facts(job), **describe_run(manifest, data), **sections, "selected_on": selected_on,
            "labels_per_class": few_label_rows(few_plans, few, shown.labels()) or None,
            "parents": [parent.as_json() for parent in parents], "notes": [job.protocol.note] if job.protocol.note else [],
        }  # fmt: skip
        outputs = _write(layout, stem, content, predictions, few_plans, job.images.ids(), len(plans))
        summary = headline(content)
    content = record.finish(outputs, summary=summary)
    if world.is_first():
        shutil.rmtree(job.resume, ignore_errors=True)
    return tell_headline(layout.result(stem), content, "done")


def _find(config: FineTuneConfig) -> tuple[RunLayout, dict[str, Any]]:
    layout = find_run(config.run)
    if not layout.manifest.exists():
        raise ArtifactError(
            f"{config.run} holds raw pixels: there is no encoder to train on", hint="pretext probe scores them"
        )
    return layout, require_done(layout.manifest, hint=f"run `pretext pretrain` again to finish {config.run}")


def _parents(layout: RunLayout, manifest: dict[str, Any], data: DataSet) -> list[Parent]:
    checkpoint = manifest["outputs"]["checkpoint.safetensors"]["sha256"]
    return [
        Parent("data", str(data.layout.folder), data.fingerprint),
        Parent("checkpoint", str(layout.checkpoint), checkpoint),
    ]


def _request(config: FineTuneConfig, options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity(config).items() if name not in ("run", "data")} | options


def _job(config: FineTuneConfig, layout: RunLayout, stem: str, record: Record, protocol: Protocol, options: dict[str, Any],
         compute: Compute, data: DataSet) -> Job:  # fmt: skip
    """Open the labelled splits.

    Raises:
        DataError: If there are no labels to learn from.
        ConfigError: If the images are not of the size that the encoder was trained on, or the encoder lacks the
            protocol's layer.
    """
    if "train" not in data.num_images:
        raise DataError(f"data set {data.name} has no `train` split: there are no labels to learn from",
                        hint="--data NAME chooses one that has")  # fmt: skip
    check_recorded(layout.checkpoint, layout.manifest)
    with torch.device("meta"):  # its shape alone, without weights
        encoder = build_encoder(read_header(layout.checkpoint), layout.checkpoint)
    if encoder.image_size != data.image_size:
        raise ConfigError(f"the encoder was trained on {encoder.image_size} px, data set {data.name} has {data.image_size} px",
                          hint=f"pretext prepare-data ... --image-size {encoder.image_size}")  # fmt: skip
    layer = protocol.layer_in(encoder)
    if layer not in encoder.layers:
        raise ConfigError(f"--protocol {config.protocol} puts its head on layer '{layer}', which the {encoder.name} of this "
                          f"run lacks: it has {', '.join(encoder.layers)}",
                          hint=f"--protocol {config.protocol} needs a run that predicts colours, such as one of split-brain; "
                               "--protocol full fits every run")  # fmt: skip
    images = data.split("train")
    test_images = data.split("test") if "test" in data.num_images else None
    label_N = images.labels()
    for name, labels in (("train", label_N), ("test", np.empty(0) if test_images is None else test_images.labels())):
        if (labels < 0).any():
            raise DataError(f"{int((labels < 0).sum())} images of split `{name}` have no label")
    changes = get_augmentation(options["augment"]).changes_colours
    rows, space = rows_for(data, "train", encoder.input_space, colour_changes=changes)
    test_rows = None if test_images is None else rows_for(data, "test", encoder.input_space, colour_changes=changes)[0]
    return Job(
        config, layout, stem, record, protocol, options, compute, layer, space, images=images, rows=rows, label_N=label_N,
        test_images=test_images, test_rows=test_rows, num_classes=max(len(data.class_names), int(label_N.max()) + 1),
    )  # fmt: skip


def _has_static_features(job: Job) -> bool:
    """Whether every epoch sees the same features, so that they are computed once."""
    plain = job.options["augment"] == "none" and job.protocol.norm == "eval"
    return job.protocol.weights == "fixed" and (job.protocol.static or plain)


def _pool(job: Job, rows: Rows, index_N: np.ndarray | None = None) -> ImagePool:
    return ImagePool(rows, np.arange(len(rows)) if index_N is None else index_N, device=job.compute.device)


def _fit_on_features(job: Job, plans: list[FoldPlan], files: list[Path], task: Task) -> list[Judged]:
    """Train the heads of all models together on features computed once; this is quick, and the first rank's alone."""
    if not plans or not world.is_first():
        return []
    encoder = load_encoder(job.layout.folder)
    if job.protocol.norm == "instance":
        encoder = with_instance_norm(encoder)
    encoder = encoder.to(job.compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    features = Classifier(encoder, nn.Identity(), layer=job.layer, space=job.space)
    try:
        feature_ND = run_over(features, _pool(job, job.rows), job.compute, augmentation=job.options["augment"],
                              generator=make_generator(job.config.seed, "augment"))  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"--protocol {job.config.protocol} does not fit {encoder.name} at {encoder.image_size} px: {error}",
                          hint="a larger image, or --protocol frozen") from error  # fmt: skip
    judge_ND = feature_ND if job.test_rows is None else run_over(features, _pool(job, job.test_rows), job.compute)
    config = job.config
    heads = fit_heads_in(job.resume / f"heads-{files[0].stem}", feature_ND, job.label_N, [(plan.fit, plan.select) for plan in plans], standardize=job.protocol.standardize, kind=job.options["head"],
                      num_classes=job.num_classes, epochs=config.epochs, lr=config.lr, weight_decay=config.weight_decay,
                      batch_size=config.batch_size, patience=config.patience, grad_clip=config.grad_clip,
                      schedule=config.schedule, warmup_epochs=config.warmup_epochs,
                      seed=config.seed, device=job.compute.device)  # fmt: skip
    judged = []
    for plan, file, head in zip(plans, files, heads, strict=True):
        chosen = {"epoch": head.best_epoch}
        tensors = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
        tensors |= {f"head.{name}": value for name, value in head.state_dict.items()}
        write_tensors(file, tensors, _fold_header(job, chosen))
        judged.append(Judged(head.logits(judge_ND), plan.judge, chosen))
        task.advance(1)
    return judged


def _fit_on_images(job: Job, plans: list[FoldPlan], files: list[Path], task: Task) -> list[Judged]:
    """Train one model after the other, each through the one training loop; a model whose file is there is kept.

    Several ranks divide the models, and hand the first one their answers in files: of all ranks it alone returns any.
    """
    judged = {}
    answers = [job.resume / f"{file.stem}-answer.safetensors" for file in files]
    for number in world.share(range(len(plans))):
        plan, file = plans[number], files[number]
        module = _new_classifier(job, number, len(plan.fit))
        if file.exists():
            module.load_state_dict(read_tensors(file))
            chosen = read_header(file)["chosen"]
        else:
            chosen = _fit_one(job, plan, module, file, task)
        judge_rows = job.rows if job.test_rows is None else job.test_rows
        logit_NK = run_over(module, _pool(job, judge_rows), job.compute)
        judged[number] = Judged(logit_NK, plan.judge, chosen)
        if not world.is_first():
            write_tensors(answers[number], {"logit_NK": torch.from_numpy(logit_NK)}, {"chosen": chosen})
    world.wait()
    if not world.is_first():
        return []
    for number in set(range(len(plans))) - judged.keys():
        logit_NK = read_tensors(answers[number])["logit_NK"].numpy()
        judged[number] = Judged(logit_NK, plans[number].judge, read_header(answers[number])["chosen"])
    return [judged[number] for number in range(len(plans))]


def _new_classifier(job: Job, number: int, num_labels: int) -> Classifier:
    torch.manual_seed(derive_seed(job.config.seed, "weights", number, num_labels))
    checkpoint = job.layout.checkpoint
    encoder = (
        build_encoder(read_header(checkpoint), checkpoint)
        if job.protocol.weights == "new"
        else load_encoder(checkpoint)
    )
    module = build_classifier(encoder, head=job.options["head"], num_classes=job.num_classes, protocol=job.protocol,
                              space=job.space)  # fmt: skip
    return module.to(job.compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fit_one(job: Job, plan: FoldPlan, module: Classifier, file: Path, task: Task) -> dict[str, Any]:
    config, folder = job.config, job.resume / file.stem
    learner = ClassifierLearner(module, job.protocol, job.options["augment"], job.label_N[plan.fit],
                                job.label_N[plan.select], job.compute.device)  # fmt: skip
    selects = len(plan.select) > 0
    loop = LoopConfig(
        epochs=config.epochs, batch_size=config.batch_size, lr=config.lr, weight_decay=config.weight_decay,
        schedule=config.schedule, warmup_epochs=config.warmup_epochs, grad_clip=config.grad_clip,
        patience=config.patience if selects else 0, seed=derive_seed(config.seed, file.stem), save_every=config.save_every,
    )  # fmt: skip
    val = _pool(job, job.rows, plan.select) if selects else None
    result = fit(learner, _pool(job, job.rows, plan.fit), val, loop, job.compute, folder=folder, task=task,
                 on_save=lambda: job.record.note({}))  # fmt: skip
    # Without images to choose by, the last epoch is taken: the one with the least training loss would be the most overfitted.
    chosen = {"epoch": result.best_epoch if selects else result.epochs_run, "epochs_run": result.epochs_run}
    if selects:
        module.load_state_dict(result.best)
    write_tensors(file, copy_state(module), _fold_header(job, chosen))
    shutil.rmtree(folder, ignore_errors=True)
    return chosen


def _fold_header(job: Job, chosen: dict[str, Any]) -> dict[str, Any]:
    source = read_header(job.layout.checkpoint)
    return {"kind": job.stem, "code": __version__, "encoder": source["encoder"], "head": job.options["head"],
            "layer": job.layer, "num_classes": job.num_classes, "chosen": chosen}  # fmt: skip


def _few_files(job: Job, plans: list[FewLabelPlan]) -> list[Path]:
    """Few-label models are many and small in worth: they are kept only until the stage is done."""
    return [job.resume / f"few-{few.labels_per_class}-{few.draw}.safetensors" for few in plans]


def _protocol_facts(job: Job) -> dict[str, Any]:
    facts = label_facts(job.config, has_test=job.test_images is not None) | {"layer": job.layer} | job.options
    return facts | {name: getattr(job.config, name) for name in
                    ("epochs", "batch_size", "lr", "weight_decay", "schedule", "warmup_epochs", "grad_clip", "patience")}  # fmt: skip


def _write(layout: RunLayout, stem: str, content: dict[str, Any], predictions: Any, few_plans: list[FewLabelPlan],
           ids: list[str], num_folds: int) -> list[Path]:  # fmt: skip
    write_result(layout.result(stem), content)
    write_predictions(layout.predictions(stem), predictions)
    outputs = [layout.result(stem), layout.predictions(stem), *(layout.fold(stem, fold) for fold in range(num_folds))]
    if few_plans:
        write_few_label_sets(layout.few_label_sets(stem), few_label_ids(few_plans, ids))
        outputs.append(layout.few_label_sets(stem))
    return outputs

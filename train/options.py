"""What a recipe may say about data and training: frozen, flat, with a unit beside every number."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from serve.contract.digest import sha256_of_file

__all__ = [
    "AugmentOptions",
    "DataOptions",
    "LossOptions",
    "TrainOptions",
    "as_json",
    "check_at_least",
    "check_positive",
    "check_within",
    "deciding",
]

NEWER = {"newer": True}  # metadata of a key that joined later, see `as_json`


@dataclass(frozen=True)
class DataOptions:
    """How the folder of images is read and split."""

    val_fraction: float = 0.15  # of each class; used where the val folder is missing
    test_fraction: float = 0.2  # of each class; used where the test folder is missing
    unreadable: Literal["error", "skip"] = "error"  # what to do with images that do not decode
    near_duplicates: Literal["together", "apart"] = "together"  # one side of the split, or any
    cache_mib: int = 2048  # decoded training images kept on disk, at most; 0: none
    max_megapixels: int = field(
        default=40, metadata=NEWER
    )  # of one image; the service has limits of its own
    # Which folder is which split, where the names do not say it: {train = "A", test = "B"}.
    splits: dict[str, str] = field(default_factory=dict, metadata=NEWER)
    # Of the class folders: 1 lie in PHOTOS, 2 in a folder of it; 0: found.
    class_level: int = field(default=0, metadata=NEWER)

    def __post_init__(self) -> None:
        check_within(self, 1, 10_000, "max_megapixels")
        check_within(self, 0, 1, "val_fraction", "test_fraction")
        check_at_least(self, 0, "cache_mib", "class_level")
        if self.splits and not {"train"} <= set(self.splits) <= {"train", "val", "test"}:
            raise ValueError(
                f"splits = {self.splits}: expected a folder for train, and perhaps val and test"
            )
        folders = [PurePosixPath(folder).parts for folder in self.splits.values()]
        if not all(folders) or len(set(folders)) < len(folders):
            raise ValueError(f"splits = {self.splits}: expected a folder of its own for each split")


@dataclass(frozen=True)
class AugmentOptions:
    """Random views of a training image. Everything can be switched off; most is by default."""

    min_scale: float = 0.35  # smallest crop, as a share of the image's area
    max_aspect: float = 1.33  # crops are between 1 : max_aspect and max_aspect : 1
    box_jitter: float = 0.0  # each edge of the crop moves by up to this share of the crop's side
    multi_scale: float = 0.0  # side of a batch's views drawn from train_size_px * (1 +- this)
    resample: Literal["bicubic", "bilinear", "mixed"] = "bicubic"  # mixed: one of five, each time
    flip: float = 0.5  # probability of a left-right mirror
    rotate_deg: float = 0.0  # rotation drawn from +- this
    brightness: float = 0.2  # factor drawn from 1 +- this
    contrast: float = 0.2  # factor drawn from 1 +- this
    saturation: float = 0.2  # factor drawn from 1 +- this
    policy: Literal["none", "randaugment", "trivialaugment"] = "none"  # of torchvision
    policy_ops: int = 2  # randaugment: operations a view
    policy_magnitude: int = 9  # randaugment: 0 to 30
    blur: float = 0.0  # probability of a Gaussian blur
    blur_radius_px: float = 1.5  # largest radius
    noise: float = 0.0  # probability of Gaussian noise
    noise_levels: float = 12.0  # largest standard deviation, in grey levels of 255
    jpeg: float = 0.0  # probability of a JPEG round trip
    jpeg_quality: int = 40  # lowest quality; the highest is 95
    erase: float = 0.0  # probability of a grey rectangle over 2-20 % of the view
    mixup: float = 0.0  # alpha of mixup, arXiv:1710.09412; 0 = off
    cutmix: float = 0.0  # alpha of cutmix, arXiv:1905.04899; 0 = off; with both, half each
    mix_off_epochs: int = 0  # last epochs that see unmixed images

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"min_scale = {self.min_scale}: expected more than 0, at most 1")
        if self.max_aspect < 1:
            raise ValueError(f"max_aspect = {self.max_aspect}: expected 1 or more")
        check_within(self, 0, 1, "flip", "erase", "blur", "noise", "jpeg")
        check_within(self, 0, 0.5, "box_jitter", "multi_scale")
        check_within(self, 0, 30, "policy_magnitude")
        check_at_least(self, 0, "rotate_deg")
        check_within(self, 1, 95, "jpeg_quality")
        check_at_least(self, 0, "mixup", "cutmix", "mix_off_epochs", "blur_radius_px")
        check_at_least(self, 0, "noise_levels", "brightness", "contrast", "saturation")
        check_at_least(self, 1, "policy_ops")


@dataclass(frozen=True)
class LossOptions:
    """What is minimised on the labels, as a weighted sum of named terms."""

    kind: Literal["cross_entropy", "focal"] = "cross_entropy"  # focal: hard images count more
    focal_gamma: float = 2.0  # arXiv:1708.02002; 0 is cross-entropy
    class_weights: Literal["none", "inverse", "effective"] = "none"  # effective: arXiv:1901.05555
    centre_weight: float = 0.0  # of the centre loss on the features before the classifier; 0 = off
    centre_rate: float = 0.5  # how far a class's centre moves towards its batch mean

    def __post_init__(self) -> None:
        check_at_least(self, 0, "focal_gamma", "centre_weight")
        check_within(self, 0, 1, "centre_rate")


@dataclass(frozen=True)
class TrainOptions:
    """One training: a model, a resolution, a schedule."""

    arch: str = "resnet18"  # any timm model name
    weights: str = "none"  # none | hub | package | a file of the architecture's own weights
    init: Literal["timm", "kaiming", "xavier", "orthogonal"] = "timm"  # of what weights leave open
    head: Literal["linear", "bilinear"] = "linear"  # bilinear: compact bilinear pooling
    bilinear_dim: int = 4096  # width of the bilinear features, 1 024 to 8 192
    train_size_px: int = 128  # side of the views that are trained on
    test_size_px: int = 0  # evaluation size; 0 = train_size_px
    crop_pct: float = 1.0  # evaluation: share of the shorter side that the centre crop keeps
    epochs: int = 10  # of all layers; 0 trains the classifier alone, for head_epochs
    head_epochs: int = 0  # epochs of the new classifier alone, before the `epochs` of all layers
    head_lr: float = 1e-2  # peak learning rate of those
    restarts: int = 0  # times that `epochs` are repeated from the best weights so far
    freeze_stages: int = 0  # first stages of the backbone that never change
    batch_size: int = 64  # images a step
    balance_limit: float = 5.0  # rare classes are drawn more often until max / min < this; 0: never
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd has Nesterov momentum 0.9
    lr: float = 1e-3  # peak, after warm-up
    layer_decay: float = 1.0  # factor of the rate from each group of layers to the one before it
    # How the rate falls from `lr` to `min_lr`.
    schedule: Literal["cosine", "constant", "step", "plateau", "cyclic"] = "cosine"
    cycles: int = 1  # cyclic: cosines with warm restarts, each as long as the others
    decay_epochs: float = 3.0  # step: epochs between two decays; plateau: epochs of patience
    decay_factor: float = 0.1  # step and plateau: of the rate
    min_lr: float = 1e-5  # floor of every schedule
    warmup_epochs: float = 1.0  # at most a quarter of all steps
    weight_decay: float = 0.02  # not on biases and norms
    l1: float = 0.0  # weight of the sum of absolute weights; not of biases and norms
    label_smoothing: float = 0.0  # share of the target that all classes get alike
    drop_rate: float = 0.0  # dropout before the classifier
    drop_path_rate: float = 0.0  # stochastic depth, where the architecture has it
    ema_decay: float = 0.999  # 0 = no moving average of the weights
    swa_epochs: int = 0  # last epochs whose weights are averaged; 0 = no such average
    swa_lr: float = 0.0  # rate of those epochs; 0 = as the schedule says
    sync_bn: bool = False  # several GPUs: batch norm over the batch of all ranks, not of each
    precise_bn_images: int = 0  # batch norm of averaged weights measured on so many; 0 = off
    clip_norm: float = 5.0  # largest gradient norm; 0 = off
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # auto: bf16 or fp16 on a GPU
    accumulate: int = 1  # parts a batch is computed in, one after the other, to save memory
    compile: bool = False  # by torch.compile: minutes at the start, then perhaps faster
    deterministic: bool = False  # on a GPU: the same bits in every run, slower
    workers: int = 1  # loader processes; 0 loads in the training process
    save_minutes: float = 10.0  # between two saves within an epoch; every epoch's end is saved
    loss: LossOptions = field(default_factory=LossOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)

    def __post_init__(self) -> None:
        check_at_least(self, 1, "train_size_px", "batch_size", "cycles")
        check_at_least(self, 0, "test_size_px", "head_epochs", "restarts", "freeze_stages")
        check_at_least(self, 0 if self.head_epochs else 1, "epochs")
        check_at_least(self, 0, "swa_epochs", "precise_bn_images", "l1", "weight_decay", "min_lr")
        check_at_least(self, 0, "warmup_epochs", "clip_norm", "workers", "swa_lr", "decay_epochs")
        check_at_least(self, 0, "save_minutes")
        check_within(self, 1, self.batch_size, "accumulate")
        if self.bilinear_dim < 16:
            raise ValueError(f"bilinear_dim = {self.bilinear_dim}: expected 16 or more")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct = {self.crop_pct}: expected more than 0, at most 1")
        check_positive(self, "lr", "head_lr")
        for name in ("label_smoothing", "drop_rate", "drop_path_rate", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected 0 to less than 1")
        for name in ("layer_decay", "decay_factor"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected more than 0, at most 1")
        if self.balance_limit and self.balance_limit < 1:
            raise ValueError(f"balance_limit = {self.balance_limit}: expected 1 or more, or 0")
        if self.swa_epochs > self.epochs:
            raise ValueError(f"swa_epochs = {self.swa_epochs}: expected at most epochs")

    @property
    def eval_size_px(self) -> int:
        """Side of the square that evaluation sees, in pixels."""
        return self.test_size_px or self.train_size_px


def deciding(options: TrainOptions) -> dict[str, Any]:
    """The options that decide what a training ends with, as JSON.

    Weights in a file count by its digest, for its path says nothing of what is in it.
    """
    values = as_json(options)
    del values["workers"], values["save_minutes"]
    source = values["weights"]
    if source not in ("none", "hub", "package") and Path(source).is_file():
        values["weights"] = f"sha256:{sha256_of_file(Path(source))}"
    return values


def as_json(options: Any) -> dict[str, Any]:
    """Options as JSON, nested ones too, without NEWER keys that have their default.

    So a key may join without making anybody's run stale: runs from before it know nothing of it.
    """
    values = {}
    for each in fields(options):
        value = getattr(options, each.name)
        made = each.default if each.default_factory is MISSING else each.default_factory()
        if not (each.metadata == NEWER and value == made):
            values[each.name] = as_json(value) if is_dataclass(value) else value
    return values


def check_within(options: Any, low: float, high: float, *names: str) -> None:
    """Refuse (ValueError) fields that are not between two values, both allowed."""
    for name in names:
        if not low <= getattr(options, name) <= high:
            raise ValueError(f"{name} = {getattr(options, name)}: expected {low} to {high}")


def check_at_least(options: Any, low: float, *names: str) -> None:
    """Refuse (ValueError) fields below a value."""
    for name in names:
        if not getattr(options, name) >= low:
            raise ValueError(f"{name} = {getattr(options, name)}: expected {low} or more")


def check_positive(options: Any, *names: str) -> None:
    """Refuse (ValueError) fields that are not above 0."""
    for name in names:
        if not getattr(options, name) > 0:
            raise ValueError(f"{name} = {getattr(options, name)}: expected more than 0")

"""The one console script. Each command is a few lines; what it does lives in the packages."""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from serve.contract.errors import Interrupted, StillroomError, UsageError
from serve.contract.shortage import shortage_of
from serve.contract.signals import ending_signals
from stillroom.commands.artifact.export import export, parity
from stillroom.commands.service.admin import admin_app
from stillroom.commands.service.loadtest import loadtest_app
from stillroom.commands.studies.ablate import ablate
from stillroom.commands.studies.sweep import sweep_app
from stillroom.commands.training.evaluate import evaluate
from stillroom.terminal import settle_terminal
from train.data.folders.file_names import refuse_arguments
from train.engine.world import world_from_env

if TYPE_CHECKING:
    from stillroom.run.folder import RunFolder

__all__ = ["app", "main"]

TRAINING = "cpu,train,loadtest"
EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "timm", "onnx", "sklearn", "scipy"), TRAINING),
    **dict.fromkeys(("safetensors", "jinja2", "matplotlib", "tensorboard"), TRAINING),
    **dict.fromkeys(("pytorch_grad_cam", "optuna"), TRAINING),
    "locust": "loadtest",
    "onnxruntime": "cpu",
    **dict.fromkeys(("webdataset", "braceexpand"), f"{TRAINING},shards"),
}

app = typer.Typer(
    name="stillroom",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command()(ablate)
app.command()(evaluate)
app.command()(export)
app.command()(parity)
app.add_typer(sweep_app, name="sweep")
app.add_typer(admin_app, name="admin")
app.add_typer(loadtest_app, name="loadtest")

Photos = Annotated[
    str,
    typer.Argument(
        help="Folder with one folder of images per class, a list file, or shards: x-{00..09}.tar."
    ),
]
Run = Annotated[Path, typer.Argument(help="Run folder.")]
Served = Annotated[Path, typer.Argument(help="Run folder or artifact folder.")]
Target = Annotated[str, typer.Argument(help="Run folder, artifact folder or URL of a service.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value of the recipe.")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder [runs/<photos>].")]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="A .toml file or a shipped recipe.")
]
UntilOption = Annotated[str, typer.Option(help="Last stage to build.")]
FromOption = Annotated[
    str | None, typer.Option("--from", help="Build this stage and all after it again.")
]


@app.callback(invoke_without_command=True)
def stillroom(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """From a folder of labelled photographs to a small, load-tested classifier behind HTTP."""
    if version:
        typer.echo(f"stillroom {metadata.version('stillroom')}")
        return
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        return
    refuse_arguments(sys.argv[1:])
    if context.invoked_subcommand != "train" and world_from_env(os.environ).world_size > 1:
        raise UsageError(
            f"torchrun started stillroom {context.invoked_subcommand}, which is one process.",
            "Only stillroom train runs under torchrun; run the rest without it.",
        )


@app.command()
def demo(
    run: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    overrides: Overrides = None,
) -> None:
    """The whole pipeline on 1 797 handwritten digits, in minutes.

    Example: stillroom demo
    """
    from stillroom.commands.data.demo import write_digits

    photos = run.parent / f"{run.name}-photos"
    photos.parent.mkdir(parents=True, exist_ok=True)
    write_digits(photos)
    _run(str(photos), run, "digits", overrides, "report", None)


@app.command("run")
def run_command(
    photos: Photos,
    overrides: Overrides = None,
    run: RunOption = None,
    recipe: RecipeOption = None,
    until: UntilOption = "report",
    rebuild_from: FromOption = None,
) -> None:
    """From photographs to a load-tested service; resumes where it was.

    Audit, teacher, student, FixRes, baseline, export with parity gate, HTTP parity, load, report.

    Example: stillroom run photos/ --recipe flowers-cpu teacher.epochs=8
    """
    _run(photos, run, recipe, overrides, until, rebuild_from)


@app.command()
def audit(
    photos: Photos,
    overrides: Overrides = None,
    run: RunOption = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail on leaks, conflicting labels, bad and missed files."),
    ] = False,
) -> None:
    """What is in the folder, and what is wrong with it: figures here, pictures in data/audit.html.

    Example: stillroom audit photos/ --strict
    """
    folder = _run(photos, run, None, overrides, "audit", None)
    from stillroom.commands.data.audit import show_audit

    show_audit(folder, strict=strict)


@app.command()
def convert(
    photos: Annotated[Path, typer.Argument(help="Folder of images, searched in depth.")],
) -> None:
    """Write PNG copies of BMP, TIFF and other images that are not read, beside their originals.

    Example: stillroom convert photos/
    """
    from stillroom.commands.data.convert import convert_images

    convert_images(photos)


@app.command()
def train(
    photos: Photos,
    overrides: Overrides = None,
    run: RunOption = None,
    recipe: RecipeOption = None,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Check for a minute whether it can work; no training.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time some steps and write a trace; no training.")
    ] = False,
    choices: Annotated[
        bool, typer.Option("--choices", help="Time each precision and torch.compile; no training.")
    ] = False,
    nproc: Annotated[
        int, typer.Option(min=1, help="Processes on this machine that train together.")
    ] = 1,
) -> None:
    """Audit the photographs and train the teacher.

    Example: stillroom train photos/ --run runs/mine teacher.epochs=20
    """
    from stillroom.run.execution import Request
    from train.data.shards.patterns import origin_of
    from train.data.source import name_of

    origin = origin_of(photos)
    run = run or Path("runs") / name_of(origin)
    request = Request(run, origin, recipe, tuple(overrides or ()), "teacher")
    world = world_from_env(os.environ)
    asked = {"--sanity": sanity, "--profile": profile, "--choices": choices}
    if option := next((name for name, wanted in asked.items() if wanted), ""):
        from stillroom.commands.training.choices import measure_run
        from stillroom.commands.training.profile import profile_run
        from stillroom.commands.training.sanity import check_training
        from stillroom.run.section_advice import advising

        if nproc > 1 or world.world_size > 1:
            raise UsageError(f"{option} needs one process.", "Leave --nproc and torchrun out.")
        looks = {"--sanity": check_training, "--profile": profile_run, "--choices": measure_run}
        with advising("teacher"):
            looks[option](request)
    elif nproc > 1:
        from stillroom.extras.distributed.launch_ranks import launch_ranks

        options = ["--run", str(run), *(["--recipe", recipe] if recipe else [])]
        arguments = ["train", *options, "--", photos, *request.overrides]
        raise typer.Exit(launch_ranks(nproc, arguments))
    elif world.world_size > 1:
        from stillroom.commands.tables import summary_table
        from stillroom.extras.distributed.ranks import run_as_rank

        folder = run_as_rank(world, request)
        if folder is not None:
            summary_table(folder)
    else:
        _run(photos, run, recipe, overrides, "teacher", None)


@app.command()
def compress(  # noqa: PLR0913  # typer reads options from parameters
    run: Run,
    overrides: Overrides = None,
    teachers: Annotated[
        list[Path] | None,
        typer.Option("--teacher", help="Checkpoint folder of a further teacher; may be repeated."),
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="Folder of photographs without labels, to distil on too.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(help="Students to choose from, on val: arch,arch:weights. Builds no stage."),
    ] = None,
    test_sizes: Annotated[str, typer.Option(help="Search: px, such as 112,144.")] = "",
    precisions: Annotated[
        str, typer.Option(help="Search: files besides fp32, such as int8 or fp16,int8.")
    ] = "",
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Search: of one image on the CPU, for the pick.")
    ] = None,
    min_top1: Annotated[
        float | None, typer.Option(help="Search: on val, 0 to 1, for the pick.")
    ] = None,
) -> None:
    """Distil the student, run FixRes, train the baseline; or search which student to distil.

    The baseline is the same student without a teacher: what compression is judged against.

    Example: stillroom compress runs/mine distil.temperature=4

    Example: stillroom compress runs/mine --search resnet18,mobilenetv3_small_100 --max-latency-ms 5
    """
    told = [*(overrides or ())]
    if teachers:
        told.append(f"distil.more_teachers={json.dumps([str(t.resolve()) for t in teachers])}")
    if unlabelled is not None:
        told.append(f"distil.unlabelled={json.dumps(str(unlabelled.resolve()))}")
    if search is not None:
        from stillroom.commands.training.search_students import search_student

        search_student(run, told, search, test_sizes, precisions, max_latency_ms, min_top1)
        return
    if test_sizes or precisions or max_latency_ms is not None or min_top1 is not None:
        raise UsageError(
            "--test-sizes, --precisions, --max-latency-ms and --min-top1 belong to --search.",
            "Name the students to choose from: --search arch,arch:weights",
        )
    _build(None, run, None, told, "fixres", None, later=("baseline",))
    _run(None, run, None, told, "baseline", None)


@app.command()
def report(run: Run, overrides: Overrides = None) -> None:
    """Build whatever the report needs, then the report.

    Example: stillroom report runs/mine
    """
    _run(None, run, None, overrides, "report", None)


@app.command()
def serve(
    target: Served,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 3000,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve a new artifact once it is published here.")
    ] = False,
) -> None:
    """Serve an artifact over HTTP until Ctrl-C. Settings: STILLROOM_* variables (docs/serving.md).

    Example: stillroom serve runs/mine --port 3000
    """
    from serve.process.launch import serve_forever

    _say_if_stale(target)
    raise typer.Exit(serve_forever(target, host=host, port=port, watch=watch))


@app.command()
def build(
    target: Served,
    gpu: Annotated[bool, typer.Option("--gpu", help="With ONNX Runtime's CUDA build.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also into one file, .bento.")] = None,
) -> None:
    """Build a Bento with the artifact inside: for a container, or for another machine.

    Example: stillroom build runs/mine --out flowers.bento
    """
    from stillroom.commands.service.build import build_bento

    _say_if_stale(target)
    build_bento(target, gpu=gpu, out=out)


@app.command()
def predict(
    target: Target,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    top_k: Annotated[int, typer.Option(min=1, help="Answers per image.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each image.")] = False,
) -> None:
    """Classify image files, here or through a running service.

    A busy service is asked again when it says so; other files are not held up by one that fails.

    Example: stillroom predict runs/mine photo.jpg
    """
    from stillroom.commands.service.predict import is_url, predict_images

    if not is_url(target):
        _say_if_stale(Path(target))
    predict_images(target, images, top_k, as_json=as_json)


@app.command()
def verify(target: Target) -> None:
    """Re-hash the chain of digests and replay the golden images.

    Example: stillroom verify runs/mine
    """
    from stillroom.commands.artifact.verify import verify_target

    verify_target(target)


@app.command()
def compare(
    first: Run, second: Annotated[Path, typer.Argument(help="The other run folder.")]
) -> None:
    """Compare two runs image by image, with paired statistics.

    Example: stillroom compare runs/mine runs/more-epochs
    """
    from stillroom.commands.training.compare import compare_runs

    compare_runs(first, second)


@app.command()
def status(run: Run) -> None:
    """Which stages of a run are done, stale (and why), half done, running or not built.

    Example: stillroom status runs/mine
    """
    from stillroom.commands.tables import status_table

    status_table(run)


def main() -> None:
    """Entry point: one-line errors with the next step, and the exit codes of docs/pipeline.md."""
    settle_terminal()
    # Threads of torch wait for one another by spinning. Where another process wants the core (a
    # loader worker, a server) the default spin halves the training speed; a short one costs nothing
    # that could be measured. Read by libgomp when torch is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    for number in ending_signals():
        signal.signal(number, _interrupt)
    try:
        code = app(standalone_mode=False)
    except StillroomError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        from stillroom.usage import usage_error

        sys.stderr.write(usage_error(error, sys.argv[1:]))
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (extra := EXTRAS.get(str(error.name).split(".")[0])) is None:
            raise
        sys.stderr.write(
            f"error: This command needs {error.name}, which a server installation does not have. "
            f'Install it from a checkout: pip install ".[{extra}]"\n'
        )
        sys.exit(2)
    except Exception as error:
        if (line := _line_of(error)) is None:
            raise
        sys.stderr.write(f"error: {line}\n")
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _say_if_stale(target: Path) -> None:
    from stillroom.run.status import stale_note

    if note := stale_note(target):
        sys.stderr.write(f"{note}\n")


def _line_of(error: Exception) -> str | None:
    """What to say of an error that is the machine's or the path's; None of one that is ours."""
    if line := shortage_of(error):
        return line
    if not isinstance(error, OSError) or error.filename is None:
        return None
    reason = error.strerror or type(error).__name__
    return f"{os.fspath(error.filename)}: {reason}. Check the path, rights and space."


def _run(
    photos: str | None,
    run: Path | None,
    recipe: str | None,
    overrides: list[str] | None,
    until: str,
    rebuild_from: str | None,
) -> Path:
    from stillroom.commands.tables import summary_table

    folder = _build(photos, run, recipe, overrides, until, rebuild_from)
    summary_table(folder)
    return folder.path


def _build(
    photos: str | None,
    run: Path | None,
    recipe: str | None,
    overrides: list[str] | None,
    until: str,
    rebuild_from: str | None,
    later: tuple[str, ...] = (),
) -> RunFolder:
    from stillroom.run.execution import Request, run_stages
    from stillroom.run.pipeline import PIPELINE
    from train.data.shards.patterns import origin_of
    from train.data.source import name_of

    origin = None if photos is None else origin_of(photos)
    if run is None:
        run = Path("runs") / (name_of(origin) if origin else "run")
    told = tuple(overrides or ())
    request = Request(run, origin, recipe, told, until, rebuild_from, later=later)
    return run_stages(PIPELINE, request)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise Interrupted("Stopped.", "Run the same command again to go on.")

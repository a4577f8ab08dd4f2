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
from stillroom.ablate_cli import ablate
from stillroom.evaluate_cli import evaluate
from stillroom.sweep_cli import sweep_app
from train.place import place_from_env

if TYPE_CHECKING:
    from stillroom.run_folder import RunFolder

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
app.add_typer(sweep_app, name="sweep")

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
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    elif context.invoked_subcommand != "train" and place_from_env(os.environ).world > 1:
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
    from stillroom.demo import write_digits

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
        bool, typer.Option("--strict", help="Fail on leaks, conflicting labels and bad files.")
    ] = False,
) -> None:
    """What is in the folder, and what is wrong with it: figures here, pictures in data/audit.html.

    Example: stillroom audit photos/ --strict
    """
    folder = _run(photos, run, None, overrides, "audit", None)
    from stillroom.audit_command import show_audit

    show_audit(folder, strict=strict)


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
    from stillroom.run import Request
    from train.shard_names import origin_of
    from train.source import name_of

    origin = origin_of(photos)
    run = run or Path("runs") / name_of(origin)
    request = Request(run, origin, recipe, tuple(overrides or ()), "teacher")
    place = place_from_env(os.environ)
    asked = {"--sanity": sanity, "--profile": profile, "--choices": choices}
    if option := next((name for name, wanted in asked.items() if wanted), ""):
        from stillroom.choices_command import measure_run
        from stillroom.profile_command import profile_run
        from stillroom.sanity_command import check_training

        if nproc > 1 or place.world > 1:
            raise UsageError(f"{option} needs one process.", "Leave --nproc and torchrun out.")
        looks = {"--sanity": check_training, "--profile": profile_run, "--choices": measure_run}
        looks[option](request)
    elif nproc > 1:
        from stillroom.launch_ranks import launch_ranks

        options = ["--run", str(run), *(["--recipe", recipe] if recipe else [])]
        arguments = ["train", *options, "--", photos, *request.overrides]
        raise typer.Exit(launch_ranks(nproc, arguments))
    elif place.world > 1:
        from stillroom.ranks import run_as_rank
        from stillroom.show import summary_table

        folder = run_as_rank(place, request)
        if folder is not None:
            summary_table(folder)
    else:
        _run(photos, run, recipe, overrides, "teacher", None)


@app.command()
def compress(
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
        from stillroom.search_command import search_student

        search_student(run, told, search, test_sizes, max_latency_ms, min_top1)
        return
    if test_sizes or max_latency_ms is not None or min_top1 is not None:
        raise UsageError(
            "--test-sizes, --max-latency-ms and --min-top1 belong to --search.",
            "Name the students to choose from: --search arch,arch:weights",
        )
    _build(None, run, None, told, "fixres", None)
    _run(None, run, None, told, "baseline", None)


@app.command()
def export(
    run: Run,
    overrides: Overrides = None,
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="Then build TensorRT engines, and check them.")
    ] = False,
    gpus: Annotated[
        list[str] | None,
        typer.Option("--gpu", help="Engines for another GPU, such as sm86; may be repeated."),
    ] = None,
) -> None:
    """Export to ONNX behind the parity gate.

    The artifact appears only if its answers are those of the checkpoint. With --tensorrt an
    artifact folder will do: engines are built for the GPU that is here, run and checked; without
    one, or with --gpu, they are built ahead of time by TensorRT-RTX, and not run.

    Example: stillroom export runs/mine

    Example: stillroom export runs/mine --tensorrt --gpu sm86 --gpu sm89
    """
    if gpus and not tensorrt:
        raise UsageError("--gpu belongs to --tensorrt.", "Add --tensorrt, or leave --gpu out.")
    if not (tensorrt and (run / "model.onnx").is_file()):
        _run(None, run, None, overrides, "export", None)
    if tensorrt:
        from stillroom.tensorrt_command import build_engines

        build_engines(run, gpus or [])


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
) -> None:
    """Serve an artifact over HTTP until Ctrl-C. Settings: STILLROOM_* variables (docs/serving.md).

    Example: stillroom serve runs/mine --port 3000
    """
    from serve.launch import serve_forever

    raise typer.Exit(serve_forever(target, host=host, port=port))


@app.command()
def predict(
    target: Target,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    top_k: Annotated[int, typer.Option(min=1, help="Answers per image.")] = 3,
) -> None:
    """Classify image files, here or through a running service.

    Example: stillroom predict runs/mine photo.jpg
    """
    from stillroom.predict import predict_images

    predict_images(target, images, top_k)


@app.command()
def verify(target: Target) -> None:
    """Re-hash the chain of digests and replay the golden images.

    Example: stillroom verify runs/mine
    """
    from stillroom.verify import verify_target

    verify_target(target)


@app.command()
def parity(
    target: Served,
    photos: Annotated[
        Path | None, typer.Option(help="Other images; labels are not needed.")
    ] = None,
) -> None:
    """Compare answers on this machine with the stored ones.

    Example: stillroom parity runs/mine --photos photos/
    """
    from stillroom.local_parity import check_local_parity

    check_local_parity(target, photos)


@app.command()
def loadtest(
    target: Annotated[str, typer.Argument(help="Run folder or URL of a service.")],
    photos: Annotated[Path | None, typer.Option(help="Corpus; a URL needs one.")] = None,
    slo: Annotated[str, typer.Option(help="Objective, such as p99=50ms.")] = "p99=100ms",
    rate: Annotated[float, typer.Option(min=0.01, help="Requests a second, open loop.")] = 20.0,
    duration_s: Annotated[float, typer.Option(min=1, help="Seconds measured.")] = 30.0,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("loadtest-results"),
) -> None:
    """Load a service at a fixed rate and report its latency.

    Latency counts from the intended send time, so a stalled server cannot hide it.

    Example: stillroom loadtest runs/mine --rate 50 --slo p99=50ms
    """
    from stillroom.loadtest_command import loadtest_target

    options = {"slo": slo, "rate": rate, "duration_s": duration_s}
    raise typer.Exit(loadtest_target(target, photos, out, **options))  # type: ignore[arg-type]


@app.command()
def compare(
    first: Run, second: Annotated[Path, typer.Argument(help="The other run folder.")]
) -> None:
    """Compare two runs image by image, with paired statistics.

    Example: stillroom compare runs/mine runs/more-epochs
    """
    from stillroom.compare import compare_runs

    compare_runs(first, second)


@app.command()
def status(run: Run) -> None:
    """Which stages of a run are done, and why others are not.

    Example: stillroom status runs/mine
    """
    from stillroom.show import status_table

    status_table(run)


def main() -> None:
    """Entry point: one-line errors with the next step, and the exit codes of docs/pipeline.md."""
    # Threads of torch wait for one another by spinning. Where another process wants the core (a
    # loader worker, a server) the default spin halves the training speed; a short one costs nothing
    # that could be measured. Read by libgomp when torch is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        code = app(standalone_mode=False)
    except StillroomError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        sys.stderr.write(f"error: {error.format_message().rstrip('.')}. See stillroom --help.\n")
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        reason = error.strerror or type(error).__name__
        sys.stderr.write(f"error: {error.filename}: {reason}. Check the path, rights and space.\n")
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (extra := EXTRAS.get(str(error.name).split(".")[0])) is None:
            raise
        sys.stderr.write(
            f"error: This command needs {error.name}, which a server installation does not have. "
            f'Install it from a checkout: pip install ".[{extra}]"\n'
        )
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _run(
    photos: str | None,
    run: Path | None,
    recipe: str | None,
    overrides: list[str] | None,
    until: str,
    rebuild_from: str | None,
) -> Path:
    from stillroom.show import summary_table

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
) -> RunFolder:
    from stillroom.pipeline import PIPELINE
    from stillroom.run import Request, run_stages
    from train.shard_names import origin_of
    from train.source import name_of

    origin = None if photos is None else origin_of(photos)
    if run is None:
        run = Path("runs") / (name_of(origin) if origin else "run")
    request = Request(run, origin, recipe, tuple(overrides or ()), until, rebuild_from)
    return run_stages(PIPELINE, request)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise Interrupted("Stopped.", "Run the same command again to go on.")

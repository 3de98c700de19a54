"""The commands: what can be said on the command line, and nothing of what it does."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from chaosgrade.cli import observe
from chaosgrade.concealment import ConcealingStream
from chaosgrade.errors import ChaosgradeError, Exit

app = typer.Typer(
    name="chaosgrade",
    help="Break an AWS system on purpose, measure what its customers feel, undo it, and grade it.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=(
        "Exit codes: 0 the gate holds, 1 a weakness was found, 2 usage or configuration error, "
        "3 inconclusive, 4 halted, 5 something was not undone."
    ),
)
stage_app = typer.Typer(help="The embedded AWS, for other tools.", rich_markup_mode=None)
app.add_typer(stage_app, name="stage")
lab_app = typer.Typer(help="Simulators of client policies.", rich_markup_mode=None)
app.add_typer(lab_app, name="lab")
app.add_typer(observe.app, name="observe")

# Typer keeps click's classes under a private name; what it makes public derives from them.
_ClickException: Any = next(k for k in typer.BadParameter.__mro__ if k.__name__ == "ClickException")

_TargetKind = Annotated[
    str, typer.Option("--target", help="Where to run: stage, localstack or aws.")
]
_StageUrl = Annotated[
    str | None,
    typer.Option(
        "--stage", metavar="URL", help="A stage that is up; else a private one is started."
    ),
]
_Template = Annotated[
    str | None,
    typer.Option(
        "--template",
        help="What a private stage is built from, a name or a file; else what experiments name.",
    ),
]
_Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", metavar="KEY=VALUE", help="A parameter of the template; repeatable."
    ),
]
_TimeScale = Annotated[
    float,
    typer.Option("--time-scale", help="How many times faster AWS's waits pass on a private stage."),
]
_Fabric = Annotated[
    str,
    typer.Option(
        "--fabric",
        help="Of a private stage: namespaces, loopback, or auto for the best that works here.",
    ),
]
_Trials = Annotated[int, typer.Option("--trials", help="How often to run each experiment.")]
_Seed = Annotated[
    int | None, typer.Option("--seed", help="Repeat a run's random choices; drawn when not given.")
]
_FailUnder = Annotated[
    str | None,
    typer.Option("--fail-under", metavar="GRADE", help="Exit 1 only when the grade is below this."),
]
_Baseline = Annotated[
    Path | None,
    typer.Option("--baseline", metavar="SCORE.JSON", help="Exit 1 when credibly worse than this."),
]
_Safety = Annotated[
    Path | None,
    typer.Option("--safety", metavar="SAFETY.YAML", help="What may be touched, and how much."),
]
_Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write to a file instead of standard output."),
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
_Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN]...", help="Run folders; the latest under runs/ by default."),
]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib import metadata

        print(f"chaosgrade {metadata.version('chaosgrade')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(Exit.USAGE)


@app.command()
def gameday(
    suite: Annotated[str, typer.Option("--suite", help="Which experiments to run.")] = "default",
    target: _TargetKind = "stage",
    stage: _StageUrl = None,
    template: _Template = None,
    parameter: _Parameters = None,
    time_scale: _TimeScale = 20.0,
    fabric: _Fabric = "auto",
    trials: _Trials = 1,
    seed: _Seed = None,
    fail_under: _FailUnder = None,
    baseline: _Baseline = None,
    safety: _Safety = None,
    as_json: _Json = False,
) -> None:
    """Run a suite of experiments, grade the system, write the run folder."""
    from chaosgrade import experiment
    from chaosgrade.cli.campaign import Campaign, carry_out
    from chaosgrade.cli.gate import Gate
    from chaosgrade.cli.target import Target

    _use(safety)
    chosen = Target(target, stage, template, tuple(parameter or ()), time_scale, fabric)
    campaign = Campaign("gameday", tuple(experiment.suite(suite)), chosen, trials, seed)
    raise typer.Exit(carry_out(campaign, Gate(fail_under, baseline), as_json=as_json))


@app.command()
def run(
    experiments: Annotated[
        list[str], typer.Argument(metavar="EXPERIMENT...", help="Names or files of experiments.")
    ],
    target: _TargetKind = "stage",
    stage: _StageUrl = None,
    template: _Template = None,
    parameter: _Parameters = None,
    time_scale: _TimeScale = 20.0,
    fabric: _Fabric = "auto",
    trials: _Trials = 1,
    seed: _Seed = None,
    fail_under: _FailUnder = None,
    baseline: _Baseline = None,
    safety: _Safety = None,
    as_json: _Json = False,
) -> None:
    """Run one or several experiments and grade what they found."""
    from chaosgrade.cli.campaign import Campaign, carry_out
    from chaosgrade.cli.gate import Gate
    from chaosgrade.cli.target import Target

    _use(safety)
    chosen = Target(target, stage, template, tuple(parameter or ()), time_scale, fabric)
    name = Path(experiments[0]).stem if len(experiments) == 1 else "run"
    campaign = Campaign(name, tuple(experiments), chosen, trials, seed)
    raise typer.Exit(carry_out(campaign, Gate(fail_under, baseline), as_json=as_json))


@app.command()
def plan(
    experiment: Annotated[str, typer.Argument(help="Name or file of an experiment.")],
    target: _TargetKind = "stage",
    stage: _StageUrl = None,
    template: _Template = None,
    parameter: _Parameters = None,
    time_scale: _TimeScale = 20.0,
    seed: _Seed = None,
    safety: _Safety = None,
    as_json: _Json = False,
) -> None:
    """Show what an experiment would hit, change and leave irreversible. Makes no write call."""
    from chaosgrade.cli import planning
    from chaosgrade.cli.target import Target

    _use(safety)
    chosen = Target(target, stage, template, tuple(parameter or ()), time_scale)
    planning.show(experiment, chosen, seed, as_json=as_json)


@app.command()
def iam_policy(
    experiment: Annotated[str, typer.Argument(help="Name or file of an experiment.")],
    target: _TargetKind = "stage",
    stage: _StageUrl = None,
    template: _Template = None,
    parameter: _Parameters = None,
    time_scale: _TimeScale = 20.0,
    seed: _Seed = None,
    safety: _Safety = None,
    as_json: _Json = False,
) -> None:
    """Print the least privilege that an experiment needs, as an IAM policy. Makes no write call."""
    from chaosgrade.cli import planning
    from chaosgrade.cli.target import Target

    _use(safety)
    chosen = Target(target, stage, template, tuple(parameter or ()), time_scale)
    planning.show_iam_policy(experiment, chosen, seed)


@app.command()
def runbook(
    experiment: Annotated[str, typer.Argument(help="Name or file of an experiment.")],
    target: _TargetKind = "stage",
    stage: _StageUrl = None,
    template: _Template = None,
    parameter: _Parameters = None,
    time_scale: _TimeScale = 20.0,
    seed: _Seed = None,
    safety: _Safety = None,
    out: _Out = None,
    as_json: _Json = False,
) -> None:
    """Write an experiment down for a person, as commands there and back. Makes no write call."""
    from chaosgrade.cli import planning
    from chaosgrade.cli.target import Target

    _use(safety)
    chosen = Target(target, stage, template, tuple(parameter or ()), time_scale)
    planning.show_runbook(experiment, chosen, seed, out, as_json=as_json)


@app.command()
def score(
    runs: _Runs = None,
    fail_under: _FailUnder = None,
    baseline: _Baseline = None,
    as_json: _Json = False,
) -> None:
    """Compute the grade of runs anew, from their evidence alone."""
    from chaosgrade.cli import past
    from chaosgrade.cli.gate import Gate, present

    verdicts, folder = past.trials(runs or [])
    raise typer.Exit(present(verdicts, folder, Gate(fail_under, baseline), as_json=as_json))


@app.command()
def explain(runs: _Runs = None, as_json: _Json = False) -> None:
    """List each lost point, worst first, with its evidence and a remedy."""
    from chaosgrade.cli import past

    past.explain(past.trials(runs or [])[0], as_json=as_json)


@app.command()
def status(as_json: _Json = False) -> None:
    """Show runs that are under way and changes that are outstanding; 5 if any is orphaned."""
    from chaosgrade.cli import leftovers

    raise typer.Exit(leftovers.show_status(as_json=as_json))


@app.command()
def recover(
    from_aws: Annotated[
        bool,
        typer.Option("--from-aws", help="From the tags on AWS: where the journal is lost."),
    ] = False,
    run: Annotated[
        str | None,
        typer.Option("--run", help="With --from-aws: this run, even before its time is over."),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", help="With --from-aws: stage, localstack or aws.")
    ] = "aws",
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="URL", help="With --from-aws: a stage.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Undo what runs have left whose process is gone."""
    from chaosgrade.cli import leftovers
    from chaosgrade.cli.target import Target
    from chaosgrade.errors import UsageError

    if not from_aws:
        if run or stage or target != "aws":
            raise UsageError("--run, --target and --stage go with --from-aws")
        raise typer.Exit(leftovers.recover_all(as_json=as_json))
    chosen = Target("stage" if stage else target, stage)
    if chosen.kind == "stage" and not stage:
        raise UsageError("--target stage needs --stage URL: a new stage remembers nothing")
    raise typer.Exit(leftovers.recover_from_aws(chosen, run, as_json=as_json))


@app.command()
def halt(as_json: _Json = False) -> None:
    """Stop every run of this user on this machine, and undo."""
    from chaosgrade.cli import leftovers

    raise typer.Exit(leftovers.halt_all(as_json=as_json))


@stage_app.command("up")
def stage_up(
    template: Annotated[str, typer.Option("--template", help="A name or a file.")] = "three-tier",
    parameter: _Parameters = None,
    time_scale: Annotated[
        float, typer.Option("--time-scale", help="How many times faster AWS's waits pass.")
    ] = 20.0,
    fabric: _Fabric = "auto",
    port: Annotated[int, typer.Option("--port", help="Of the endpoint; 0 takes a free one.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON when ready.")] = False,
) -> None:
    """Run the embedded AWS in the foreground until interrupted."""
    from chaosgrade.cli.target import stage_command

    options = ["--port", str(port), *(["--json"] if as_json else [])]
    command = stage_command(template, tuple(parameter or ()), time_scale, fabric, *options)
    os.execv(command[0], command)  # noqa: S606 - a fixed argument list; no shell is wanted


@lab_app.command("backoff")
def lab_backoff(
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario",
            help="contention: clients write one row; herd: a dependency was down and comes back.",
        ),
    ] = "contention",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="FAMILY[:NAME=VALUE,...]",
            help=(
                "Such as full or full:base=0.05,cap=2,attempts=5 (seconds); repeatable. Families: "
                "no-retry, none, fixed, linear, fibonacci, exponential, full, equal, decorrelated, "
                "additive, multiplicative."
            ),
        ),
    ] = None,
    clients: Annotated[
        str | None, typer.Option("--clients", metavar="N[,N...]", help="How many, or a sweep.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="How often, independently; 100, of a herd 10.")
    ] = None,
    seed: _Seed = None,
    capacity: Annotated[
        float | None,
        typer.Option("--capacity", help="Herd: requests that the dependency serves per second."),
    ] = None,
    load: Annotated[
        float | None, typer.Option("--load", help="Herd: share of it that is asked for.")
    ] = None,
    down: Annotated[
        float | None, typer.Option("--down", help="Herd: seconds without the dependency.")
    ] = None,
    after: Annotated[
        float | None, typer.Option("--after", help="Herd: seconds watched when it is back.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.SVG|PNG", help="Draw a picture.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Simulate how policies of retrying fare: the calls that they make, the time that they take."""
    from chaosgrade.cli.lab_backoff import Question, show

    given = {"capacity": capacity, "load": load, "down_s": down, "after_s": after}
    outage = {name: value for name, value in given.items() if value is not None}
    question = Question(scenario, policy or (), clients, trials, seed, outage, plot)
    show(question, as_json=as_json)


@lab_app.command("shuffle-sharding")
def lab_shuffle_sharding(
    workers: Annotated[int, typer.Option("--workers", help="Workers there are.")] = 100,
    shard: Annotated[int, typer.Option("--shard", help="Workers of each customer.")] = 5,
    customers: Annotated[int, typer.Option("--customers", help="Customers there are.")] = 1000,
    failures: Annotated[int, typer.Option("--failures", help="Workers that fail.")] = 5,
    tries: Annotated[
        int | None,
        typer.Option("--tries", help="Tries of a request; else 3, or the shard if less."),
    ] = None,
    poison: Annotated[
        int, typer.Option("--poison", help="Customers who take all their workers down.")
    ] = 1,
    zones: Annotated[
        int, typer.Option("--zones", help="Zones; with several, one is lost as well.")
    ] = 1,
    sharding: Annotated[
        list[str] | None,
        typer.Option(
            "--sharding",
            help="none, plain, shuffle, lattice (as many of each zone) or stateful:overlap=M; "
            "repeatable, the first three when not given.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", help="Assignments that are drawn.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")] = 0,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="A .png, .svg or .pdf picture.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Show how far failures and poisonous customers reach under shuffle sharding."""
    from chaosgrade.cli import lab_sharding

    lab_sharding.show(
        workers=workers,
        shard=shard,
        customers=customers,
        failures=failures,
        tries=min(3, shard) if tries is None else tries,
        poison=poison,
        zones=zones,
        shardings=sharding,
        trials=trials,
        seed=seed,
        plot=plot,
        as_json=as_json,
    )


def _use(safety: Path | None) -> None:
    """Let this process, and those that it starts, find the rules; a mistake in them ends here."""
    from chaosgrade.policies.safety import load_safety

    if safety is not None:
        os.environ["CHAOSGRADE_SAFETY"] = str(safety.resolve())
    load_safety()


def main() -> None:
    """Run the command line; exits."""
    sys.stdout = ConcealingStream(sys.stdout)
    sys.stderr = ConcealingStream(sys.stderr)
    try:
        code = app(standalone_mode=False)
    except _ClickException as error:
        _say(error.format_message())
        code = Exit.USAGE
    except ChaosgradeError as error:
        _say(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _say("stopped; nothing was under way")
        code = Exit.HALTED
    except BrokenPipeError:
        code = Exit.HOLDS  # whoever read our output has seen enough
        sys.stderr.close()
    except Exception as error:
        if os.environ.get("CHAOSGRADE_TRACEBACK"):
            traceback.print_exc()
        _say(
            f"internal error, {type(error).__name__}: {error}; "
            "please report it with what CHAOSGRADE_TRACEBACK=1 shows"
        )
        code = Exit.INCONCLUSIVE
    raise SystemExit(int(code or 0))


def _say(message: str) -> None:
    print("chaosgrade: " + " ".join(message.split()), file=sys.stderr)

"""What the command lines share: what verbs are given, run, submit and status; errors into exit codes.

    app = stage_app("download", "Raw text, at hand and cut into units.", "Fetch the raw texts")

    @verb(app, "report", "demo")              # the example in its help
    def report_verb(given: OfRecipe, as_json: Json = False) -> None: ...

A parameter that is one of the values below stands for its fields: here RECIPE and overrides.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from jobs import ending
from kit.config import presets
from kit.errors import INTERRUPTED, USER_MISTAKE, ConfigError
from kit.relay import resolve
from kit.relay.submit import run_here, show_dry_run, submit, withdraw_broken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.config.recipe import Recipe
    from kit.config.run import Project

_SETTINGS = {"help_option_names": ["-h", "--help"]}
# Of which typer has no name of its own.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
_BY_CTRL_C = 130  # typer's exit code for a KeyboardInterrupt


def _path(text: str) -> Path:
    """A path, that stays one: of ./demo and demo/ only the name would be left."""
    path = Path(text)
    return Path.cwd() / path if "/" in text and presets.is_name(str(path)) else path


def _recipes(incomplete: str) -> list[str]:
    return [name for name in sorted(presets.recipes()) if name.startswith(incomplete)]


def _clusters(incomplete: str) -> list[str]:
    known = presets.clusters(Path("configs"))
    return [name for name in sorted(known) if name.startswith(incomplete)]


RecipeFile = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE",
        parser=_path,
        autocompletion=_recipes,
        help="A recipe, as demo or configs/demo.yaml, or a run directory.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[section.key=value ...]", help="Keys of the recipe, or of cluster."),
]
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        autocompletion=_clusters,
        help="A name in configs/cluster, or a YAML file; else local, or the run directory's own.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read every file, not only its size.")]


@dataclass(frozen=True)
class OfRecipe:
    """What a verb is given that uses no cluster."""

    recipe_file: RecipeFile
    overrides: Overrides = None

    def load(self, *, refuse: bool = True) -> Recipe:
        """The resolved recipe; `refuse` as in `resolve.load`. Raises ConfigError for a key of a cluster."""
        self.refuse_cluster_keys()
        return resolve.load(self.recipe_file, self.overrides, refuse=refuse).recipe

    def refuse_cluster_keys(self) -> None:
        """Raises ConfigError for an override of the cluster."""
        for override in self.overrides or ():
            if override.startswith("cluster."):
                raise ConfigError(
                    f"override '{override}': this command uses no cluster; leave it out"
                )


@dataclass(frozen=True)
class Given:
    """What most verbs are given."""

    recipe_file: RecipeFile
    overrides: Overrides = None
    cluster_name: ClusterName = None

    def load(self, *, refuse: bool = True) -> Project:
        """The run with its resolved recipe and cluster; `refuse` as in `resolve.load`."""
        return resolve.load(self.recipe_file, self.overrides, self.cluster_name, refuse=refuse)

    @property
    def words(self) -> list[str]:
        """The same as another command is given it."""
        from kit.relay import status

        return status.words_of(self.recipe_file, self.overrides, self.cluster_name)


@dataclass(frozen=True)
class Doing:
    """How a stage is run or submitted."""

    dry_run: DryRun = False
    verify: Verify = False


@dataclass(frozen=True)
class Showing:
    """How `status` looks and answers."""

    verify: Verify = False
    as_json: Json = False


class _Verb(TyperCommand):
    """A verb whose help ends with an example, as the command was called."""

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002
        return _in_short(self.help)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Example"):
            formatter.write(f"  {ctx.command_path} {self.epilog or ''}".rstrip() + "\n")


class _Job(TyperGroup):
    """The verbs of a job."""

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002
        return _in_short(self.help)


def _in_short(text: str | None) -> str:
    """The first paragraph of a help, whole."""
    return " ".join((text or "").partition("\n\n")[0].split())


def new_app(text: str, *, completion: bool = False) -> typer.Typer:
    """A command line with that help."""
    return typer.Typer(
        cls=_Job,
        help=text,
        add_completion=completion,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # to import rich takes longer than all else that --help does
        context_settings=_SETTINGS,
    )


def verb(
    app: typer.Typer,
    name: str,
    example: str,
    text: str | None = None,
    settings: dict[str, Any] | None = None,
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Make a function a verb: with its docstring or another text, and an example of its arguments.

    `settings` are those of its context.
    """

    def register(function: Callable[..., object]) -> Callable[..., object]:
        command = app.command(
            name,
            cls=_Verb,
            help=text,
            epilog=example,
            context_settings=_SETTINGS | (settings or {}),
        )
        command(_flat(function))
        return function

    return register


def main(app: typer.Typer) -> None:
    """Run a command line; a user's mistake is one line on stderr and its exit code."""
    with ending.in_order():
        try:
            code = app(standalone_mode=False)
        except _UsageError as mistake:
            sys.exit(_answer(mistake))
        sys.exit(INTERRUPTED if code == _BY_CTRL_C else code)


def tell_differences(project: Project) -> list[str]:
    """Say on stderr what a recipe that is looked at has otherwise than its run; returns it."""
    from kit.run import begun

    if lines := begun.differences(project):
        what = f"{project.run.root}: was begun with another recipe ({begun.shown(lines)})"
        print(f"warning: {what}; shown is that run", file=sys.stderr, flush=True)
    return lines


def print_json(value: Any) -> None:
    """One object, for programs."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def stage_app(
    name: str,
    text: str,
    does: str,
    *,
    do: Callable[..., None] | None = None,
    show: Callable[..., None] | None = None,
) -> typer.Typer:
    """The command line of one stage, and of the passes that belong to it: run, submit, status.

    `does` says in the imperative what the stage does. `do(name, act, given, doing)` and `show(name, given,
    showing)` stand in for `do_stage` and `show_status`; their further parameters are options.
    """
    app = new_app(text)
    do, show = do or do_stage, show or show_status
    here = f"{does}, on this machine, in the foreground."
    verb(app, "run", "demo", here)(partial(do, name, run_here))
    sent = f"{does}, on the cluster: send what is not done of it, and return at once."
    verb(app, "submit", "gpt2-xl-ja --cluster mdx", sent)(partial(do, name, submit))
    stands = (
        f"Show what is done of {name}, missing, stale or broken; what became of its job, and what to "
        "type next."
    )
    verb(app, "status", "gpt2-xl-ja --verify", stands)(partial(show, name))
    return app


Act = Any  # run_here or submit: of a project and stages


def do_stage(name: str, act: Act, given: Given, doing: Doing) -> None:
    """Run or submit a stage with its passes, or say what that would do."""
    do_resolved(name, act, given.load(), doing)


def do_resolved(name: str, act: Act, project: Project, doing: Doing) -> None:
    """The same of what was loaded already."""
    from kit.relay.stages import stages_of

    stages = stages_of(project.recipe, name)
    if doing.dry_run:
        show_dry_run(project, stages)
        return
    if doing.verify:
        withdraw_broken(project, stages)
    act(project, stages)


def show_status(name: str, given: Given, showing: Showing) -> None:
    """Print where a stage stands with its passes."""
    from kit.relay import status

    project = given.load(refuse=False)
    differing = tell_differences(project)
    stages = status.facts(project, given.words, name, verify=showing.verify)
    if showing.as_json:
        passes = {key: value for key, value in stages.items() if key != name}
        more = {"passes": passes, "differs": differing}
        print_json({"stage": name, **stages[name], **{k: v for k, v in more.items() if v}})
        return
    for stage, found in stages.items():
        print(f"{stage}: {status.headline(found)}", *status.details(found), sep="\n")


def _answer(mistake: Any) -> int:
    """One line for arguments that cannot be meant, or the help where there are none; the exit code."""
    if type(mistake).__name__ == "NoArgsIsHelpError":
        print(mistake.format_message(), file=sys.stderr)
        return USER_MISTAKE
    message = " ".join(str(mistake.format_message()).split())
    way = f" ({mistake.ctx.command_path} --help)" if mistake.ctx else ""
    print(f"error: {message[:1].lower()}{message[1:].rstrip('.')}{way}", file=sys.stderr)
    return USER_MISTAKE


def _flat(function: Callable[..., object]) -> Callable[..., object]:
    """A function as typer takes it: in place of a value of several fields it has these as parameters."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    groups: dict[str, Any] = {
        one.name: one.annotation for one in parameters if is_dataclass(one.annotation)
    }
    flat = [part.replace(kind=part.KEYWORD_ONLY) for one in parameters for part in _parts(one)]
    flat.sort(key=lambda one: one.default is not one.empty)  # what is required comes first

    def call(**values: Any) -> None:
        made = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        function(**made, **values)

    call.__doc__ = function.__doc__
    call.__annotations__ = {one.name: one.annotation for one in flat}
    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    return call


def _parts(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    kind: Any = parameter.annotation
    if not is_dataclass(kind):
        yield parameter
        return
    made = cast("Callable[..., Any]", kind)
    yield from inspect.signature(made, eval_str=True).parameters.values()

"""Shared parts of the command lines: arguments of their verbs, help, errors as exit codes.

    app = new_app("The whole relay: from raw text to a released model.")

    @verb(app, "report", "demo")              # the example in its help
    def report_verb(arguments: OfRecipe, as_json: Json = False) -> None: ...

A parameter annotated with one of the dataclasses below expands to its fields: here RECIPE and overrides.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from jobs import ending
from kit.config import presets
from kit.errors import INTERRUPTED, USER_MISTAKE, ConfigError
from kit.output import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kit.config.recipe import Recipe
    from kit.config.run import Project

_SETTINGS = {"help_option_names": ["-h", "--help"]}
# Typer does not export it.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
_BY_CTRL_C = 130  # typer's exit code for a KeyboardInterrupt


def recipe_path(text: str) -> Path:
    """Make ./demo and demo/ absolute; a Path would drop the slash, and leave the name of a preset."""
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
        parser=recipe_path,
        autocompletion=_recipes,
        help="A recipe (demo, configs/demo.yaml) or a run directory.",
    ),
]
OptionalRecipe = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RECIPE]",
        parser=recipe_path,
        autocompletion=_recipes,
        help="A recipe, as demo or configs/demo.yaml, or a run directory; else only this machine.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[section.key=value ...]",
        help="Override keys of the recipe, or of the cluster file.",
    ),
]
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        autocompletion=_clusters,
        help="A name in configs/cluster or a YAML file. Default: the run's own, else local.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Check the contents of every file, not only its size.")
]


@dataclass(frozen=True)
class OfRecipe:
    """Arguments of a verb that uses no cluster."""

    recipe_file: RecipeFile
    overrides: Overrides = None

    def load(self, *, refuse: bool = True) -> Recipe:
        """Load the resolved recipe; `refuse` as in `resolve.load`. Raises ConfigError for a cluster key."""
        from kit.relay import resolve

        self.refuse_cluster_keys()
        return resolve.load(self.recipe_file, self.overrides, refuse=refuse).recipe

    def refuse_cluster_keys(self) -> None:
        """Raise ConfigError if an override is for the cluster."""
        for override in self.overrides or ():
            if override.startswith("cluster."):
                raise ConfigError(f"override '{override}': this command uses no cluster; remove it")


@dataclass(frozen=True)
class Arguments:
    """Arguments of most verbs."""

    recipe_file: RecipeFile
    overrides: Overrides = None
    cluster_name: ClusterName = None

    def load(self, *, refuse: bool = True, keep_micro_batch: bool = True) -> Project:
        """Load the run with its resolved recipe and cluster; the options are those of `resolve.load`."""
        from kit.relay import resolve

        given = self.recipe_file, self.overrides, self.cluster_name
        return resolve.load(*given, refuse=refuse, keep_micro_batch=keep_micro_batch)

    @property
    def words(self) -> list[str]:
        """The same arguments as words, to show in another command."""
        from kit.relay import status

        return status.words_of(self.recipe_file, self.overrides, self.cluster_name)

    def words_for(self, project: Project) -> list[str]:
        """Arguments that continue the project's run: the same, unless these would start it otherwise.

        Another recipe than the run's would be refused, and another cluster taken silently: then it is
        the run directory, which has both.
        """
        from kit.relay import status
        from kit.run import begun

        of_cluster = [one for one in self.overrides or () if one.startswith("cluster.")]
        chosen = bool(self.cluster_name or of_cluster)
        if not begun.differences(project) and (chosen or begun.is_on_its_cluster(project)):
            return self.words
        return status.words_of(project.run.root, of_cluster, self.cluster_name)


class _Verb(TyperCommand):
    """A verb whose help ends with an example."""

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002
        return _summary(self.help)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Example"):
            formatter.write(f"  {ctx.command_path} {self.epilog or ''}".rstrip() + "\n")


class _Job(TyperGroup):
    """The verbs of a job."""

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002
        return _summary(self.help)


class WithDefault(_Job):
    """The verbs of a job whose first verb is understood if none is named: `watch demo`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the verb, and parse as click does."""
        first = next(iter(self.commands))
        if args and args[0] not in (*self.commands, *_SETTINGS["help_option_names"]):
            args = [first, *args]
        return super().parse_args(ctx, args)


def _summary(text: str | None) -> str:
    """The first paragraph of a help text, unshortened."""
    return " ".join((text or "").partition("\n\n")[0].split())


def new_app(
    text: str, *, completion: bool = False, cls: type[TyperGroup] | None = None
) -> typer.Typer:
    """Create a command line with that help text."""
    return typer.Typer(
        cls=cls or _Job,
        help=text,
        add_completion=completion,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # importing rich would take longer than the rest of --help
        context_settings=_SETTINGS,
    )


def verb(
    app: typer.Typer,
    name: str,
    example: str,
    text: str | None = None,
    settings: dict[str, Any] | None = None,
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Register a function as a verb, with its docstring or `text` as help, and an example of its arguments.

    `settings` go to click's context.
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
    """Run a command line. A user's mistake becomes one line on stderr and an exit code."""
    with ending.in_order():
        try:
            code = app(standalone_mode=False)
        except _UsageError as mistake:
            sys.exit(_answer(mistake))
        sys.exit(INTERRUPTED if code == _BY_CTRL_C else code)


def tell_differences(project: Project, spare: str = "-", shown: str = "the run's own") -> list[str]:
    """Warn if the run was started with a different recipe; returns the differences.

    Keys that begin with `spare` may differ; `shown` is the recipe that the command goes by.
    """
    from kit.run import begun

    lines = [line for line in begun.differences(project) if not line.startswith(spare)]
    if lines:
        warning = f"{project.run.root}: started with a different recipe ({begun.abridged(lines)})"
        print(f"warning: {warning}; showing {shown}", file=sys.stderr, flush=True)
    return lines


def tell_kept_micro_batch(arguments: Arguments, project: Project) -> None:
    """Say on stderr that `training.micro_batch: auto` is the number that the run has, if it has begun."""
    from kit.relay import resolve

    given = arguments.recipe_file, arguments.overrides
    if line := resolve.kept_micro_batch(*given, project):
        print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON object, for programs."""
    import json

    escaped = not ending.is_unicode(sys.stdout.encoding)
    print(json.dumps(value, ensure_ascii=escaped, indent=1))


def _answer(mistake: Any) -> int:
    """Print one line about invalid arguments, or the help if there are none; returns the exit code."""
    if type(mistake).__name__ == "NoArgsIsHelpError":
        print(mistake.format_message(), file=sys.stderr)
        return USER_MISTAKE
    message = " ".join(str(mistake.format_message()).replace("Value error, ", "").split())
    hint = f" ({mistake.ctx.command_path} --help)" if mistake.ctx else ""
    line = f"error: {message[:1].lower()}{message[1:].rstrip('.')}{program.respelled(hint)}"
    print(line, file=sys.stderr)
    return USER_MISTAKE


def _flat(function: Callable[..., object]) -> Callable[..., object]:
    """Wrap a function for typer: each dataclass among its parameters is replaced by its fields."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    groups: dict[str, Any] = {
        parameter.name: parameter.annotation
        for parameter in parameters
        if is_dataclass(parameter.annotation)
    }
    flat = [field.replace(kind=field.KEYWORD_ONLY) for one in parameters for field in _fields(one)]
    flat.sort(key=lambda field: field.default is not field.empty)  # required ones first

    def call(**values: Any) -> None:
        dataclasses = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        function(**dataclasses, **values)

    call.__doc__ = function.__doc__
    call.__annotations__ = {field.name: field.annotation for field in flat}
    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    return call


def _fields(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    kind: Any = parameter.annotation
    if not is_dataclass(kind):
        yield parameter
        return
    constructor = cast("Callable[..., Any]", kind)
    yield from inspect.signature(constructor, eval_str=True).parameters.values()

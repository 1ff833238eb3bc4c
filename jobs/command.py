"""What the command lines share: what their verbs are given, and errors into exit codes.

    app = new_app("The whole relay: from raw text to a released model.")

    @verb(app, "report", "demo")              # the example in its help
    def report_verb(arguments: OfRecipe, as_json: Json = False) -> None: ...

A parameter that is one of the values below stands for its fields: here RECIPE and overrides.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from jobs import ending
from kit.config import presets
from kit.errors import INTERRUPTED, USER_MISTAKE, ConfigError
from kit.relay import resolve

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
class Arguments:
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


def new_app(
    text: str, *, completion: bool = False, cls: type[TyperGroup] | None = None
) -> typer.Typer:
    """A command line with that help."""
    return typer.Typer(
        cls=cls or _Job,
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

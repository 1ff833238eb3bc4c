"""Push a released model to the Hugging Face Hub.

python -m jobs.push demo ann/demo-gpt2 --dry-run
python -m jobs.push work/demo/runs/demo/export ann/demo-gpt2 --public
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.command import DryRun, Json, RecipeFile, main, new_app, print_json, verb
from jobs.release import Step, export_of
from kit.output import quantities

if TYPE_CHECKING:
    from kit.release.push import Plan

app = new_app("Push a released model to the Hugging Face Hub.")


@verb(app, "run", "demo ann/demo-gpt2 --dry-run")
def run_verb(
    recipe_file: RecipeFile,
    repository: Annotated[str, typer.Argument(metavar="REPO", help="As OWNER/NAME.")],
    step: Step = None,
    tag: Annotated[
        str | None, typer.Option("--tag", help="Tag of the commit. Default: step-N.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Create a public repository, or push to one.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Push an export as one commit with a tag of its step, into a private repository.

    RECIPE may also be an exported folder, wherever it lies. A push that broke off goes on when you run the
    command again. Set HF_TOKEN, or run `hf auth login` first.
    """
    from kit.release import push

    folder, _ = export_of(recipe_file, step)
    plan = push.plan(folder)
    tag = tag or plan.tag
    if dry_run:
        print_json(_facts(plan, repository, tag)) if as_json else _show(plan, repository, tag)
        return
    done = push.push(plan, repository, tag=tag, public=public)
    if as_json:
        rest = {"url": done.url, "commit": done.commit, "removed": done.removed}
        print_json(_facts(plan, repository, tag) | rest)
        return
    removed = f"; removed {', '.join(done.removed)}" if done.removed else ""
    print(f"push: {_summary(plan)} at {done.url}/tree/{tag}{removed}")


def _facts(plan: Plan, repository: str, tag: str) -> dict[str, Any]:
    """The push as plain values, for JSON."""
    return {
        "export": str(plan.folder),
        "repository": repository,
        "tag": tag,
        "step": plan.step,
        "files": dict(plan.files),
        "by_hand": plan.by_hand,
    }


def _show(plan: Plan, repository: str, tag: str) -> None:
    """List the files with their sizes."""
    for name, size in plan.files.items():
        hand = "  changed by hand" if name in plan.by_hand else ""
        print(f"{quantities.size(size):>10}  {name}{hand}")
    print(f"push: would send {_summary(plan)} to {repository} with the tag {tag}; nothing was sent")


def _summary(plan: Plan) -> str:
    return f"{quantities.count(len(plan.files), 'file')}, {quantities.size(plan.bytes)}"


if __name__ == "__main__":
    main(app)

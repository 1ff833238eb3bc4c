"""The container of a cluster's tasks: pyxis starts it as an option of srun, or a command of yours does.

The batch shell stays outside, where Slurm's programs are; only the ranks are inside.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from kit.config.section import Section

_OPTIONS = ("container-image", "container-mounts")  # of srun, by pyxis
Words = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]*$")]


class Container(Section):
    """Image and Python of the container in which every task runs."""

    AMENDABLE: ClassVar = frozenset({"image", "mounts", "command", "python"})

    image: Words | None = Field(
        default=None,
        description="image for srun's --container-image, if the site has pyxis: a file, or REGISTRY#IMAGE",
    )
    mounts: list[Annotated[Words, Field(pattern="^[^,]*$")]] = Field(
        default=[],
        description="for srun's --container-mounts, such as /lustre:/lustre. The workspace and texts must "
        "have the same paths inside",
    )
    command: list[Words] = Field(
        default=[],
        description="without pyxis: words to put before python, such as [apptainer, exec, --nv, --bind, "
        "/lustre, /images/ekiden.sif]",
    )
    python: Words = Field(default="python3", description="Python inside, as a path or a name")

    @model_validator(mode="after")
    def _one_way(self) -> Container:
        if (self.image is None) == (not self.command):
            raise ValueError("give either image, for pyxis, or command, for apptainer or enroot")
        if self.command and self.mounts:
            raise ValueError("mounts has no effect with command; write --bind among its words")
        return self

    @property
    def srun(self) -> dict[str, str]:
        """Its options of srun."""
        given = {"container-image": self.image, "container-mounts": ",".join(self.mounts)}
        return {name: value for name, value in given.items() if value}

    @staticmethod
    def refuse_beside(options: dict[str, str]) -> None:
        """Raise ValueError if options of srun name another container."""
        for name, value in options.items():
            if name.replace("_", "-") in _OPTIONS:
                raise ValueError(
                    f"srun has {name}={value!r:.80}, and there is a section container; give one of them"
                )

"""What pyproject.toml cannot say: configs/ and sbatch/ go into the wheel, as kit/share."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FILES = (
    "configs/*.yaml",
    "configs/*.json",
    "configs/cluster/*.yaml",
    "configs/deepspeed/*.json",
    "configs/demo/*.bz2",
    "configs/demo/*.xz",
    "sbatch/**/*",
)


class BuildWithFiles(build_py):
    """The packages and the files, and nothing that an earlier build has left."""

    def run(self) -> None:
        """Fill the folder that becomes the wheel; for an editable one the files stay where they are."""
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        for pattern in FILES:
            for path in sorted(Path().glob(pattern)):
                if path.is_file():
                    target = Path(self.build_lib, "kit", "share", path)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": BuildWithFiles})

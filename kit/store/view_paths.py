"""Paths of the views of a run's ledger: the report, TensorBoard's files, MLflow's position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Views:
    """The files of the views of a run's ledger."""

    root: Path  # the run directory

    @property
    def report(self) -> Path:
        """The folder of the report: a page, and its charts as pictures."""
        return self.root / "report"

    @property
    def report_page(self) -> Path:
        """The page of the report."""
        return self.report / "report.html"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard event files."""
        return self.root / "tensorboard"

    @property
    def mlflow_cursor(self) -> Path:
        """The position up to which the ledger has been sent to MLflow."""
        return self.root / "mlflow-cursor.json"

"""The report on a run: one page of HTML that loads nothing from elsewhere, and its pictures as PNG."""

"""The model card, filled from the run: facts, gathered once, as metadata and as a page in two languages."""

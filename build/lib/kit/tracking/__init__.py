"""The ledger of a training run, and its views."""

"""MLflow as a view of the ledger and of a tokenizer's candidates.

A process beside the training publishes (`beside` starts it, `process` is its program), and so does `ekiden
watch sync`. They share a cursor in the run directory, and may work at the same time. Only `client` imports
MLflow, on the first connection.

The ledger is authoritative: a run in MLflow's trash is restored, and a deleted one is created again. A
step is published once: after a rollback, steps that MLflow has are not sent again, since it can neither
replace nor remove them. Nor can it change parameters: an amended one is a tag, `amended.KEY`, beside its
first value.
"""

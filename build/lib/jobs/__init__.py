"""One module a job: the command line, and nothing else."""

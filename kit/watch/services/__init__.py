"""TensorBoard and MLflow as services: on this machine, or as a job on a node."""

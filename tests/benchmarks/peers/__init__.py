"""Programs that the kit is measured against, each as its users write it; one process a rank."""

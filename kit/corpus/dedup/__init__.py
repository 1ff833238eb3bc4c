"""Documents that stood in the corpus before, found in two passes of array jobs."""

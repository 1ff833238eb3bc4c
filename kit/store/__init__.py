"""Storage: atomic files, paths, manifests, units of work."""

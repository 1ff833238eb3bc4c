"""What lies on disk: files that are whole or absent, paths, manifests, units."""

"""Charts as values, drawn as SVG for a page or as PNG for a folder."""

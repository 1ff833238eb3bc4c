"""Document filters, applied to the normalised text in a fixed order; each is a key of the recipe."""

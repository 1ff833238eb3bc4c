"""The engines of word segmentation."""

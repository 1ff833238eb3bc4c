"""What is made and where: recipes and cluster files, read, overridden and checked."""

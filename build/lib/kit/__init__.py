"""The library of ekiden: everything the jobs are made of."""

"""What the kit says: lines of a log, progress of long work, quantities as people write them."""

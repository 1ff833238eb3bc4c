"""From raw dumps to segmented documents."""

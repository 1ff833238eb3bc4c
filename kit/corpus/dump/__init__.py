"""Wikipedia dumps: their streams, wikiextractor as a program, and cleaning of the markup it leaves."""

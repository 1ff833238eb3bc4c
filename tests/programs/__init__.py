"""What starts programs: the corpus's commands, wikiextractor, and a stand-in for Juman++."""

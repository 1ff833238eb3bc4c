"""Wikipedia dumps: streams, wikiextractor as a program, and what it leaves of wikitext."""

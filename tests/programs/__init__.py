"""What drives other programs: Juman++, by a stand-in for it, and wikiextractor."""

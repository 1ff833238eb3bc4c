"""Train and select tokenizers on segmented words, and encode documents as tokens."""

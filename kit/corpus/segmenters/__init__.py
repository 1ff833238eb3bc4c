"""The segmenters: MeCab with JumanDIC, and Juman++ in a pool of processes."""

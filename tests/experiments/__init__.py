"""Whether a change of model, optimizer, schedule or tokenizer learns better, at small sizes, with seeds."""

"""A BPE tokenizer from the shards.

python -m jobs.tokenizer run configs/demo.yaml
"""

from jobs.command import main, stage_app

app = stage_app("tokenizer", "A BPE tokenizer from the shards.")

if __name__ == "__main__":
    main(app)

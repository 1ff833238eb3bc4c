"""Shards into token files.

python -m jobs.tokenize run configs/demo.yaml
"""

from jobs.command import main, stage_app

app = stage_app("tokenize", "Shards into token files.")

if __name__ == "__main__":
    main(app)

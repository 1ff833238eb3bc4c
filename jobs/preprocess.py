"""Raw text into shards of segmented documents.

python -m jobs.preprocess run configs/demo.yaml
"""

from jobs.command import main, stage_app

app = stage_app("preprocess", "Raw text into shards of segmented documents.")

if __name__ == "__main__":
    main(app)

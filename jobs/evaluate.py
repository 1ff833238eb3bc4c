"""Perplexity and bits per byte on the held-out part.

python -m jobs.evaluate run configs/demo.yaml
"""

from jobs.command import main, stage_app

app = stage_app("evaluate", "Perplexity and bits per byte on the held-out part.")

if __name__ == "__main__":
    main(app)

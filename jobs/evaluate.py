"""Measure perplexity and bits per byte on the held-out documents.

python -m jobs.evaluate run demo
python -m jobs.evaluate run work/demo/runs/demo --step 80
"""

from jobs.command import main
from jobs.release import release_app

app = release_app(
    "evaluate",
    "Measure perplexity and bits per byte on the held-out documents.",
    "Measure perplexity and bits per byte",
)

if __name__ == "__main__":
    main(app)

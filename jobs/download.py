"""Fetch the raw texts and cut them into units.

python -m jobs.download run demo
"""

from jobs.command import main
from jobs.stage import stage_app

app = stage_app(
    "download",
    "Fetch the raw texts and cut them into units.",
    "Fetch the missing raw texts, and cut all of them into units",
)

if __name__ == "__main__":
    main(app)

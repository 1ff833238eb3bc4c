"""Raw text, at hand and cut into units.

python -m jobs.download run demo
"""

from jobs.command import main
from jobs.stage import stage_app

app = stage_app(
    "download",
    "Raw text, at hand and cut into units.",
    "Fetch the raw texts that are not at hand, and cut them into units",
)

if __name__ == "__main__":
    main(app)

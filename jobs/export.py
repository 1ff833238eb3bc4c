"""Export the model as a folder that transformers loads.

python -m jobs.export run demo
python -m jobs.export run work/demo/runs/demo --step 80
"""

from jobs.command import main
from jobs.release import release_app

app = release_app(
    "export",
    "Export the model as a folder that transformers loads.",
    "Write the folder that transformers loads",
)

if __name__ == "__main__":
    main(app)

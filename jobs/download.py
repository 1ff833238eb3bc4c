"""Raw text, at hand and cut into units.

python -m jobs.download run configs/demo.yaml
"""

from jobs.command import main, stage_app

app = stage_app("download", "Raw text, at hand and cut into units.")

if __name__ == "__main__":
    main(app)

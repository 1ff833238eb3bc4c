"""A folder that transformers loads.

python -m jobs.export run configs/demo.yaml
"""

from jobs.command import main, stage_app

app = stage_app("export", "A folder that transformers loads.")

if __name__ == "__main__":
    main(app)

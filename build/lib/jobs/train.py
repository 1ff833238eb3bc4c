"""The long training job: ZeRO, checkpoints, requeued until it is done.

python -m jobs.train run configs/demo.yaml
"""

from jobs.command import main, stage_app

app = stage_app("train", "The long training job: ZeRO, checkpoints, requeued until it is done.")

if __name__ == "__main__":
    main(app)

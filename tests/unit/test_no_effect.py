"""What has no effect is refused by name; what only an override made idle is let pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from jobs import generate, preprocess, tokenize, tokenizer, train
from kit.cluster.decisions import Decision
from kit.cluster.restart_rules import decide_task
from kit.cluster.state import JobState
from kit.config.cluster import Cluster, TaskResources, TrainingResources
from kit.config.load import load_cluster, load_recipe
from kit.errors import ConfigError, RunError, StageError
from kit.relay import resolve
from kit.store.files import file_hash, write_json
from tests.conftest import ROOT

if TYPE_CHECKING:
    import typer

    from kit.store.paths import Run
    from tests.conftest import Workdir

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
CLUSTERS = [*(ROOT / "configs/cluster").glob("*.yaml"), ROOT / "sbatch/slurm/cluster.yaml"]
SUM = "0" * 64


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_kits_own_recipes_give_nothing_without_effect(path: Any) -> None:
    assert load_recipe(path, []).name == path.stem


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_the_kits_own_clusters_give_nothing_without_effect(path: Any) -> None:
    load_cluster(str(path), CONFIGS[0], [])


ONE = "tokenizer.candidates=[{algorithm: unigram, vocab_size: 900}]"
# What makes a key idle, a key, why.
IDLE = [
    ("", "corpus.sources.web.title=drop", "kind=plaintext: it is for wikipedia dumps"),
    ("", "corpus.sources.web.index=i.txt", "kind=plaintext: it is for wikipedia dumps"),
    ("", "corpus.sources.jawiki.text_key=body", "kind=wikipedia: it is for jsonl"),
    ("", "corpus.sources.web.url_key=url", "kind=plaintext: it is for jsonl and parquet"),
    ("", "corpus.sources.jawiki.id_key=id", "kind=wikipedia: it is for jsonl and parquet"),
    (
        "corpus.sources={web: {kind: jsonl, location: a.jsonl}}",
        "corpus.filters.urls={bad: {file: a}}",
        "without a source that has URLs; set url_key",
    ),
    ("", "corpus.sources.web.mirrors=[http://a/b]", "if location is a path"),
    ("", "corpus.segmenter_version=mine", "set corpus.segmenter"),
    ("", "corpus.filters.length={}", "set min or max"),
    ("corpus.mode=article", "corpus.normalise.keep_ranges=true", "which preserves none"),
    ("corpus.mode=article", "corpus.normalise.keep_url_tildes=false", "which preserves none"),
    ("corpus.mode=article", "corpus.normalise={keep_accent_spaces: true}", "which preserves none"),
    ("corpus.mode=article", "corpus.wikipedia.lists=drop", "with corpus.mode=article"),
    (
        "corpus.sources={web: {kind: plaintext, location: web.txt}}",
        "corpus.wikipedia={headings: drop}",
        "without a source of kind wikipedia",
    ),
    ("", "tokenizer.choose.margin=0.1", "with a single candidate"),
    ("tokenizer.algorithm=unigram", "tokenizer.min_frequency=3", "pairs that BPE merges"),
    (ONE, "tokenizer.algorithm=bpe", "each of tokenizer.candidates sets its own"),
    (ONE, "tokenizer.vocab_size=901", "each of tokenizer.candidates sets its own"),
    ("training.steps=5", "training.epochs=1", "give only one of them"),
    ("training.decay=constant", "training.minimum_learning_rate=0.1", "decay=constant"),
    ("training.weight_decay=0", "training.decay_all=true", "weight_decay=0"),
    ("", "training.muon_momentum=0.9", "with training.optimizer=adamw"),
    ("training.loss_kernel=liger", "training.loss_chunk=512", "liger, which chooses its own"),
    ("", "training.health.window=20", "without loss_spike or gradient_spike"),
    ("", "training.precision_reason=mine", "set training.precision"),
    ("", "training.micro_batch_reason=mine", "set training.micro_batch"),
    ("tracking.mlflow=null", "tracking.experiment=mine", "only MLflow uses it"),
    ("", "alerts.timeout=5", "without alerts.command or alerts.heartbeat_url"),
]  # fmt: skip


@pytest.mark.parametrize(("makes", "key", "why"), IDLE, ids=[key for _, key, _ in IDLE])
def test_a_key_without_effect_is_refused_by_name(
    workdir: Workdir, makes: str, key: str, why: str
) -> None:
    overrides = [makes, key] if makes else [key]
    with pytest.raises(ConfigError, match="has no effect") as refused:
        load_recipe(workdir.recipe_file, overrides)
    assert str(refused.value).startswith(f"override '{key}': ")
    assert why in str(refused.value)


def test_a_file_is_told_the_same(workdir: Workdir) -> None:
    tree = yaml.safe_load(workdir.recipe_file.read_text(encoding="utf-8"))
    tree["training"] |= {"decay": "constant", "minimum_learning_rate": 0.1}
    path = workdir.write("other.yaml", tree)
    with pytest.raises(ConfigError) as refused:
        load_recipe(path, [])
    assert str(refused.value) == (
        f"{path}: training.minimum_learning_rate=0.1 has no effect with training.decay=constant; "
        "leave it out"
    )


def test_what_an_override_makes_idle_in_a_file_is_let_pass(workdir: Workdir) -> None:
    tree = yaml.safe_load(workdir.recipe_file.read_text(encoding="utf-8"))
    tree["training"]["minimum_learning_rate"] = 0.0001
    path = workdir.write("other.yaml", tree)
    assert load_recipe(path, ["training.decay=constant"]).training.decay == "constant"
    with pytest.raises(ConfigError, match=r"override 'training\.minimum_learning_rate=1e-4'"):
        load_recipe(path, ["training.decay=constant", "training.minimum_learning_rate=1e-4"])


def test_on_the_command_line_steps_and_epochs_take_each_others_place(workdir: Workdir) -> None:
    training = load_recipe(workdir.recipe_file, ["training.epochs=2"]).training
    assert (training.steps, training.epochs) == (None, 2)
    assert training.steps_over(40) == 10  # 80 blocks, 8 a step
    article = ROOT / "configs/gpt2-xl-ja-article.yaml"
    training = load_recipe(article, ["training.steps=7"]).training
    assert (training.steps, training.epochs) == (7, None)


SLURM_ONLY = (
    "arrays.partition=p", "arrays.gpus=1", "arrays.memory_gb=4", "arrays.minutes=5", "setup=[a]",
    "training.partition=p", "training.gpus_per_node=2", "training.cpus_per_rank=2",
    "training.memory_gb=4", "sbatch.account=a", "arrays.sbatch.qos=a", "training.sbatch.qos=a",
    "srun.mpi=a", "arrays.srun.mpi=a", "training.srun.mpi=a",
    "single.parallel=3", "single.retries=1",
    "network.partition=p",
)  # fmt: skip


@pytest.mark.parametrize("key", SLURM_ONLY)
def test_what_is_asked_of_slurm_is_refused_of_a_local_cluster(workdir: Workdir, key: str) -> None:
    with pytest.raises(ConfigError, match="has no effect with kind: local"):
        load_cluster(None, workdir.recipe_file, [f"cluster.{key}"])
    slurm = {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2}}
    path = str(workdir.write("far.yaml", slurm))
    assert load_cluster(path, workdir.recipe_file, [f"cluster.{key}"]).kind == "slurm"


def test_a_drill_is_refused_of_slurm(workdir: Workdir) -> None:
    slurm = {"name": "far", "kind": "slurm", "training": {"ranks_per_node": 2}}
    path = str(workdir.write("far.yaml", slurm | {"preempt_at_step": 3}))
    with pytest.raises(ConfigError, match=r"far\.yaml: preempt_at_step=3 has no effect"):
        load_cluster(path, workdir.recipe_file, [])


def test_a_task_has_the_retries_of_its_own_section(run: Run) -> None:
    cluster = Cluster(
        name="far",
        kind="slurm",
        arrays=TaskResources(retries=2),
        single=TaskResources(retries=0),
        training=TrainingResources(ranks_per_node=1),
    )
    at_work = JobState("RUNNING")
    asked = (run, lambda: cluster, "export", "9.0", 1, at_work)
    assert decide_task(*asked, resources="single") == Decision(False, "failed 1 time (exit code 1)")
    assert decide_task(*asked, resources="network").requeue  # null: as arrays


@pytest.fixture
def begun(workdir: Workdir) -> Run:
    """The run of the small recipe, with a checkpoint and an export, of which only names are looked at."""
    project = resolve.load(workdir.recipe_file)
    run = project.run
    write_json(run.recipe, project.recipe.model_dump(mode="json"))
    write_json(run.cluster, project.cluster.model_dump(mode="json"))
    write_json(run.attempt(1).start, {"from_step": 0, "amendments": 0})
    write_json(run.attempt(1).end, {"outcome": "done", "step": 10})
    write_json(run.export / "manifest.json", {"causes": {}, "outputs": {}})
    # Another dtype than the run's: where the text would begin to be written, this is said.
    released = project.recipe.release.model_copy(update={"dtype": "float32"})
    exported = project.recipe.model_copy(update={"release": released})
    write_json(run.export / "recipe.json", exported.model_dump(mode="json"))
    return run


def text(workdir: Workdir, where: object, *overrides: str) -> None:
    arguments = ["text", str(where), "--prompt", "霧浜県の", *overrides]
    CliRunner().invoke(generate.app, arguments, catch_exceptions=False)


OF_TEXT = ("temperature=0.01", "top_p=0.5", "max_new_tokens=3", "seed=7")


def test_a_text_of_a_run_takes_what_decides_it_and_refuses_the_rest(
    workdir: Workdir, begun: Run
) -> None:
    for where in (begun.root, workdir.recipe_file):
        with pytest.raises(
            StageError, match=r"exported with release\.dtype=float32.* ekiden export"
        ):
            text(workdir, where, *(f"release.{key}" for key in OF_TEXT))
        with pytest.raises(ConfigError, match=r"release\.temperature=0: "):
            text(workdir, where, "release.temperature=0")
        with pytest.raises(ConfigError, match=r"'cluster\.training\.minutes=3': .* no cluster"):
            text(workdir, where, "cluster.training.minutes=3")
    with pytest.raises(ConfigError, match=r"'release\.license=mit': .*: release\.temperature, "):
        text(workdir, begun.root, "release.license=mit")
    with pytest.raises(RunError, match=r"release\.license: other -> mit"):
        text(workdir, workdir.recipe_file, "release.license=mit", "release.temperature=0.01")


LOOKS = [
    (preprocess.app, "report"), (tokenizer.app, "report"), (tokenize.app, "inspect", "0"),
]  # fmt: skip


@pytest.mark.parametrize("looks", LOOKS, ids=["preprocess", "tokenizer", "tokenize"])
def test_a_command_without_a_cluster_refuses_its_keys(
    workdir: Workdir, looks: tuple[typer.Typer, ...]
) -> None:
    app, verb, *more = looks
    arguments = [str(verb), str(workdir.recipe_file), *map(str, more), "cluster.arrays.cpus=2"]
    with pytest.raises(ConfigError, match=r"override 'cluster\.arrays\.cpus=2': this command uses"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_verify_reads_the_checkpoints_of_a_training(workdir: Workdir, begun: Run) -> None:
    folder = begun.checkpoint(10, 1)
    (folder / "state").mkdir(parents=True)
    weights = folder / "state" / "weights.pt"
    weights.write_text("weights")
    file = {"size": 7, "xxh3": file_hash(weights)}
    write_json(folder / "checkpoint.json", {"step": 10, "files": {"weights.pt": file}})

    def status(*options: str) -> str:
        asked = ["status", str(workdir.recipe_file), "--json", *options]
        return CliRunner().invoke(train.app, asked, catch_exceptions=False).stdout

    assert '"broken": 0' in status("--verify")
    weights.write_text("weightX")
    assert "broken" not in status()
    assert '"broken": 1' in status("--verify")


@pytest.mark.parametrize("spike", ["loss_spike", "gradient_spike"])
def test_either_kind_of_spike_gives_the_window_its_effect(workdir: Workdir, spike: str) -> None:
    recipe = workdir.recipe("training.health.window=20", f"training.health.{spike}=2")
    assert recipe.training.health.window == 20

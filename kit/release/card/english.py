"""The model card in English: README.md without its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.output.quantities import count, duration, size
from kit.release.card import snippets
from kit.release.card.markdown import day, fenced, has, page, pairs, section, table
from kit.release.card.picture import PICTURE
from kit.tokenizer.huggingface import END

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.release.card.facts import CardFacts, EnergyFacts, LlamaFacts

OTHER = "README_ja.md"
_MODES = {
    "default": "as a reader saw it, with its paragraphs",
    "article": "one normalised sentence per line",
}
_SPACES = {
    "lossless": "Words are separated by U+2063, which is not seen",
    "article": "Words are separated by a space",
}
_LLAMA = {
    "article": "It takes a llama.cpp of 2026; characters outside the vocabulary are dropped there, where "
    "this tokenizer writes `<unk>`."
}
_FILES = {
    "report.html": "the report on the run, as a page",
    "runs": "the curve of the training, for TensorBoard",
    "scores.jsonl": "every score, with its step, data, version and date",
}
_MEASURES = {
    "fertility": ("fertility, tokens a word", ".3f"),
    "characters_per_token": ("characters a token", ".3f"),
    "bits_per_byte": ("bits a byte, of a unigram model", ".3f"),
    "unknown_rate": ("unknown characters", ".2%"),
    "exact": ("documents that decoding restores exactly", ".1%"),
    "raw_share": ("sentences that get the same ids as raw text", ".1%"),
    "vocabulary_used": ("entries that occur in the held-out text", ".1%"),
}


def text(facts: CardFacts) -> str:
    """The page."""
    return page(
        f"# {facts.name}\n\nEnglish | [日本語]({OTHER})",
        _summary(facts),
        _use(facts),
        _model(facts),
        _data(facts),
        _tokenizer(facts),
        _training(facts),
        _hardware(facts),
        _scores(facts),
        _samples(facts),
        _limits(facts),
        _provenance(facts),
        _citation(facts),
    )


def _summary(facts: CardFacts) -> str:
    model, training = facts.model, facts.training
    begun = "random weights"
    if training.origin is not None:
        run, step = training.origin
        begun = f"step {step:,} of the run {run}"
    text = (
        f"A {model.title} language model for Japanese with {model.parameters:,} parameters, pre-trained "
        f"from {begun} on {training.tokens_seen:,} tokens with ekiden. It is a base model: "
        "it continues text, and was not tuned to follow instructions or to refuse."
    )
    if facts.unfinished and facts.moment is not None:
        text = f"**The {facts.moment.words}.**\n\n{text}"
    return text


def _use(facts: CardFacts) -> str:
    mecab = facts.corpus.segmenter == "mecab"
    packages = "`pip install fugashi jumandic`" if mecab else "Juman++ 2"
    return section(
        "Use",
        fenced(snippets.raw(facts).rstrip(), "python"),
        f"Prompt and continuation share the context of {facts.model.positions:,} tokens: as the model "
        f"writes up to {facts.new_tokens:,} by default, a prompt has up to "
        f"{facts.model.positions - facts.new_tokens:,}. For a longer one, pass a smaller "
        f"`max_new_tokens`. A document begins after the token `{END}`.",
        f"In training, text was normalised by neologdn and cut into words by {facts.corpus.segmenter} "
        f"({facts.corpus.segmenter_version}). {_SPACES[facts.tokenizer.spaces]}. Raw text works, but may "
        "get other tokens than training saw. To give the model the words that it knows, cut the prompt "
        f"first, with {packages}; this goes on from above, and takes the prompt as normalised:",
        fenced(snippets.segmented(facts).rstrip(), "python"),
        _raw(facts),
        "`ekiden generate text FOLDER --prompt ...` normalises and cuts any text.",
        "To teach it texts of yours, and to stop where they end:",
        fenced(snippets.tuning(facts).rstrip(), "python"),
    )


def _raw(facts: CardFacts) -> str | None:
    """The cost of raw text, once it is scored."""
    scores = facts.scores
    if scores is None or "raw_share" not in scores:
        return None
    return (
        f"Without that, {scores['raw_share']:.1%} of the held-out sentences get the tokens of training, "
        f"and the text costs {scores['raw_bits_per_byte']:.3f} bits per byte, in place of "
        f"{scores['bits_per_byte']:.3f}."
    )


def _model(facts: CardFacts) -> str:
    model, release = facts.model, facts.release
    license_ = release.license_name or release.license
    if release.license_link:
        license_ = f"[{license_}]({release.license_link})"
    return section(
        "Model",
        pairs(
            [
                ("architecture", f"{model.title} (`{model.model_class}`)"),
                ("layers", f"{model.layers:,}"),
                ("width", f"{model.width:,}"),
                ("attention heads", f"{model.heads:,}"),
                *_llama(model.llama),
                ("context, tokens", f"{model.positions:,}"),
                ("vocabulary", f"{facts.tokenizer.size:,}"),
                ("parameters", f"{model.parameters:,}"),
                ("weights", f"{model.dtype}, {size(model.weights_bytes)}"),
                ("licence of the weights", license_),
                ("base model", release.base_model),
            ]
        ),
        _gguf(facts),
    )


def _llama(shape: LlamaFacts | None) -> list[tuple[str, object]]:
    """The rows that only a Llama has."""
    if shape is None:
        return []
    return [
        ("heads of keys and values", f"{shape.key_value_heads:,}"),
        ("width of the MLP", f"{shape.inner_width:,}"),
        ("base of the rotary positions", f"{shape.rope_theta:,.0f}"),
        ("output", "the weights of the embedding" if shape.is_tied else "weights of its own"),
    ]


def _gguf(facts: CardFacts) -> str | None:
    """The files for llama.cpp, and which llama.cpp reads them."""
    if not facts.gguf:
        return None
    files = ", ".join(f"`{name}` ({size(number)})" for name, number in facts.gguf.items())
    needs = f" {_LLAMA[facts.tokenizer.spaces]}" if facts.tokenizer.spaces in _LLAMA else ""
    if facts.tokenizer.algorithm == "Unigram" and not needs:
        needs = " It takes a llama.cpp of 2025-07 or later."
    return f"For llama.cpp and programs built on it: {files}.{needs}"


def _data(facts: CardFacts) -> str:
    corpus = facts.corpus
    rows = [
        (
            one.name, one.kind, f"[{one.dataset or one.location}]({one.url})" if one.url else one.location,
            one.license or "not given", size(one.raw_bytes), f"{one.documents:,}", f"{one.characters:,}",
        )
        for one in corpus.sources
    ]  # fmt: skip
    head = ("source", "kind", "location", "licence", "raw", "documents", "characters")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(corpus.tools.items()))
    tools = f" Tools: {versions}." if versions else ""
    preset = f" Filters follow the preset `{corpus.preset}`." if corpus.preset else ""
    return section(
        "Data",
        table(head, rows, 3),
        f"{count(corpus.documents, 'document')} for training, {corpus.held_out:,} held out; "
        f"{corpus.tokens:,} tokens for training from {size(corpus.text_bytes)} of text. The text is "
        f"{_MODES[corpus.mode]}.{preset}{tools}",
        "What each step left, with the documents that each filter took out:",
        table(
            ("step", "documents", "characters"),
            [(one.name, f"{one.documents:,}", f"{one.characters:,}") for one in corpus.steps],
            2,
        ),
        "`croissant.json` describes the shards, with their hashes, in Croissant.",
    )


def _tokenizer(facts: CardFacts) -> str:
    tokenizer = facts.tokenizer
    measures = [
        (name, f"{tokenizer.measures[key]:{form}}")
        for key, (name, form) in _MEASURES.items()
        if key in tokenizer.measures
    ]
    note = "On the held-out documents:" if measures else None
    kind = f"{tokenizer.algorithm} with {tokenizer.size:,} entries. {_SPACES[tokenizer.spaces]}."
    return section("Tokenizer", kind, note, pairs(measures))


def _training(facts: CardFacts) -> str:
    one = facts.training
    (first, first_loss), (last, last_loss) = one.first_loss, one.last_loss
    tokens_a_step = one.global_batch * facts.model.positions
    losses = f"{first_loss:.3f} at step {first:,}, {last_loss:.3f} at step {last:,}"
    return section(
        "Training",
        pairs(
            [
                ("steps", f"{one.step:,} of {tokens_a_step:,} tokens ({one.global_batch:,} blocks)"),
                ("tokens seen", f"{one.tokens_seen:,}, {one.epochs:.2f} times the training tokens"),
                ("optimizer", one.optimizer),
                *((name, value) for name, value in one.settings.items()),
                ("precision", one.precision),
                ("loss, nats a token", losses),
            ]
        ),
        f"![Training and validation loss over the tokens seen]({PICTURE})",
    )  # fmt: skip


def _hardware(facts: CardFacts) -> str:
    training, hardware, nodes = facts.training, facts.training.hardware, facts.training.node_time
    whole = max(training.ended - training.began, training.step_seconds)
    start_to_end = (
        f"{duration(whole)}, {training.step_seconds / whole:.1%} of it in the steps above"
    )
    interrupted = training.attempts - 1
    were = "was" if interrupted == 1 else "were"
    attempts = f"{training.attempts:,}, of which {interrupted:,} {were} interrupted and continued"
    machine, versions = None, None
    if hardware is not None:
        where = count(hardware.nodes, "node")
        machine = f"{count(hardware.ranks, 'rank')} on {where}: {hardware.device}"
        versions = ", ".join(f"{name} {version}" for name, version in hardware.versions.items())
    return section(
        "Hardware, time and energy",
        pairs(
            [
                ("hardware", machine),
                ("software", versions),
                ("attempts", attempts),
                ("from start to end", start_to_end),
                (
                    "GPU time held" if hardware is not None and hardware.gpus else "rank time held",
                    nodes and f"{nodes.held_seconds / 3600:,.2f} h, summed over the ranks",
                ),
                (
                    "goodput",
                    nodes and f"{nodes.goodput:.1%} of that, in steps that were kept",
                ),
                ("steps lost", nodes and f"{nodes.lost_steps:,}"),
            ]
        ),
        _energy(facts.energy) if facts.energy is not None else None,
    )


def _energy(energy: EnergyFacts) -> str:
    source = "the mean of NVML's readings" if energy.measured else "the limit of the board"
    factor = f" x PUE {energy.pue:g}" if energy.pue is not None else ""
    lines = [
        f"Energy, estimated: {energy.device_hours:,.2f} GPU hours x {energy.watts:,.0f} W ({source})"
        f"{factor} = {energy.kwh:,.3g} kWh, of the GPUs{'' if factor else ' alone, without a PUE'}."
    ]
    if energy.co2_kg is not None:
        lines.append(
            f"CO2, estimated: {energy.kwh:,.3g} kWh x {energy.grid:,g} g/kWh = {energy.co2_kg:,.3g} kg."
        )
    return "\n".join(lines)


def _scores(facts: CardFacts) -> str:
    scores = facts.scores
    if scores is None:
        return section("Scores", "This checkpoint has not been scored yet.", _tasks(facts))
    rows = [
        ("loss, nats a token", f"{scores['loss']:.3f}", f"{scores['unigram_loss']:.3f}"),
        ("perplexity a token", f"{scores['perplexity']:.1f}", f"{scores['unigram_perplexity']:.1f}"),
        ("bits a byte", f"{scores['bits_per_byte']:.3f}", ""),
    ]  # fmt: skip
    return section(
        "Scores",
        f"On {scores['held_out_tokens']:,} tokens ({size(scores['held_out_bytes'])}) of documents held out "
        f"from training and tokenizer, at step {scores['step']:,}. Perplexity depends on the tokenizer; "
        "bits per byte compare models on the same text.",
        table(("", "this model", "unigram model"), rows, 2),
        _tasks(facts),
    )


def _tasks(facts: CardFacts) -> str:
    """The main metric of each task."""
    rows = [
        (row["task"], row["metric"], f"{row['value']:.3f}", row.get("shots", ""), row.get("text", ""),
         row.get("harness", ""), day(row["time"]))
        for row in facts.task_scores
        if row.get("main")
    ]  # fmt: skip
    return table(("task", "metric", "value", "shots", "text", "measured by", "date"), rows)


def _samples(facts: CardFacts) -> str:
    training = facts.training
    if training.sampled_at is None:
        return ""
    return section(
        "Samples",
        f"Written at step {training.sampled_at:,}, one for each prompt of the recipe, not selected:",
        *(fenced(text, "text") for _, text in training.samples),
    )


def _limits(facts: CardFacts) -> str:
    return section("Limits and risks", "\n".join(f"- {line}" for line in _risks(facts)))


def _risks(facts: CardFacts) -> Iterator[str]:
    yield (
        "A base model continues text. It does not know that a request is one, does not decline any, and "
        "does not say that it does not know."
    )
    yield (
        "It repeats its sources: errors, what is out of date, and prejudice about people in Japan by "
        "gender, age, origin, region or occupation. In a study of 3,612 Japanese prompts on 301 social "
        "groups, the model trained in Japan refused least, and wrote toxic and negative text more often "
        "than those trained on English and Chinese ([arXiv:2503.01947](https://arxiv.org/abs/2503.01947))."
    )
    yield (
        "The scores above measure no safety. Before you build on the model, test it for your use, for "
        "example with the questions of AnswerCarefully, which were written for Japan "
        "([arXiv:2506.02372](https://arxiv.org/abs/2506.02372))."
    )
    yield (
        "Texts of the web name real people. The model may write personal data that it has seen, or invent "
        "some; filter its output where that does harm."
    )
    yield (
        "Its text is unfit to decide on people (medicine, law, credit, employment) unless a person who "
        "knows the subject checks it."
    )
    yield (
        f"It knows {facts.model.positions:,} tokens of context, and the Japanese of the sources above. "
        "Dialects, polite speech, other languages and program code were not measured."
    )


def _provenance(facts: CardFacts) -> str:
    code = f", commit `{facts.commit}`" if facts.commit else ""
    return section(
        "Provenance",
        pairs(
            [
                ("`recipe.json`", "every setting of corpus, tokenizer, model and training"),
                ("`ledger.jsonl`", "each step and validation of the training"),
                *((f"`{name}`", _FILES[name]) for name in _FILES if has(facts, name)),
                ("`bom.cdx.json`", "bill of materials of model, data and packages, in CycloneDX"),
                ("`croissant.json`", "the corpus, in Croissant"),
                ("`manifest.json`", "SHA-256 of every file: `ekiden export verify FOLDER` compares them"),
            ]
        ),
        f"Made by ekiden {facts.version}{code}.",
    )  # fmt: skip


def _citation(facts: CardFacts) -> str:
    entries = [snippets.citation(facts), snippets.citation_of_kit(facts)]
    return section("Citation", *(fenced(entry.rstrip(), "bibtex") for entry in entries if entry))

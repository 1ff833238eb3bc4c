"""The model card in Japanese: README_ja.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kit.output import quantities
from kit.output.quantities import size
from kit.release.card import japanese_words as words
from kit.release.card import snippets
from kit.release.card.markdown import day, fenced, has, page, pairs, section, table
from kit.release.card.picture import PICTURE
from kit.tokenizer.huggingface import END

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kit.release.card.facts import CardFacts, EnergyFacts, LlamaFacts

OTHER = "README.md"


def text(facts: CardFacts) -> str:
    """The page."""
    return page(
        f"# {facts.name}\n\n[English]({OTHER}) | 日本語",
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


def duration(seconds: float) -> str:
    """Seconds in the one or two largest units that matter: `95秒`, `2日3時間`."""
    text = quantities.duration(seconds)
    return re.sub(r" ?([\d.,]+) (d|h|min|s)\b", lambda m: m[1] + words.UNITS[m[2]], text)


def _summary(facts: CardFacts) -> str:
    model, training = facts.model, facts.training
    begun = "ランダムな初期値から"
    if training.origin is not None:
        run, step = training.origin
        begun = f"学習 {run} のステップ {step:,} を引き継いで"
    text = (
        f"日本語の {model.title} 言語モデルです。パラメータ数は {model.parameters:,} で、{begun} "
        f"{training.tokens_seen:,} トークンを ekiden で事前学習しました。文章の続きを書くベースモデルで"
        "あり、指示に従うための調整も、不適切な依頼を断るための調整も行っていません。"
    )
    if facts.unfinished and facts.moment is not None:
        moment = facts.moment
        text = (
            f"**学習の途中のモデルです(全 {moment.steps:,} ステップのうち {moment.step:,} ステップ、"
            f"{moment.tokens:,} トークンまで)。**\n\n{text}"
        )
    return text


def _use(facts: CardFacts) -> str:
    mecab = facts.corpus.segmenter == "mecab"
    packages = "`pip install fugashi jumandic`" if mecab else "Juman++ 2"
    return section(
        "使い方",
        fenced(snippets.raw(facts).rstrip(), "python"),
        f"プロンプトと続きの文章は、合わせて {facts.model.positions:,} トークンまでです。既定では続きを"
        f"最大 {facts.new_tokens:,} トークン生成するため、プロンプトは "
        f"{facts.model.positions - facts.new_tokens:,} トークンまでです。それより長い場合は、"
        "`max_new_tokens` を小さくしてください。"
        f"文書は `{END}` の直後から始まります。",
        f"学習時のテキストは neologdn で正規化し、{facts.corpus.segmenter}"
        f"({facts.corpus.segmenter_version})で単語に分割しています。{words.SPACES[facts.tokenizer.spaces]}。"
        "生のテキストもそのまま入力できますが、学習時と異なるトークン列になることがあります。"
        f"学習時と同じ単語列を渡すには、先にプロンプトを分割します(要 {packages})。次のコードは上の続きで、"
        "正規化済みのプロンプトを前提とします。",
        fenced(snippets.segmented(facts).rstrip(), "python"),
        _raw(facts),
        "`ekiden generate text FOLDER --prompt ...` は、どのようなテキストでも正規化と分割まで行います。",
        "手元のテキストを、その終わり方とともに追加で学習させるには、次のようにします。",
        fenced(snippets.tuning(facts).rstrip(), "python"),
    )


def _raw(facts: CardFacts) -> str | None:
    """The cost of raw text, once it is scored."""
    scores = facts.scores
    if scores is None or "raw_share" not in scores:
        return None
    return (
        f"分割しない場合、評価用の文のうち学習時と同じトークン列になるのは {scores['raw_share']:.1%} で、"
        f"1バイトあたりのビット数は {scores['bits_per_byte']:.3f} から {scores['raw_bits_per_byte']:.3f} に"
        "なります。"
    )


def _model(facts: CardFacts) -> str:
    model, release = facts.model, facts.release
    license_ = release.license_name or release.license
    if release.license_link:
        license_ = f"[{license_}]({release.license_link})"
    return section(
        "モデル",
        pairs(
            [
                ("アーキテクチャ", f"{model.title}(`{model.model_class}`)"),
                ("層数", f"{model.layers:,}"),
                ("隠れ層の次元", f"{model.width:,}"),
                ("アテンションヘッド数", f"{model.heads:,}"),
                *_llama(model.llama),
                ("コンテキスト長(トークン)", f"{model.positions:,}"),
                ("語彙サイズ", f"{facts.tokenizer.size:,}"),
                ("パラメータ数", f"{model.parameters:,}"),
                ("重み", f"{model.dtype}、{size(model.weights_bytes)}"),
                ("重みのライセンス", license_),
                ("元のモデル", release.base_model),
            ]
        ),
        _gguf(facts),
    )


def _llama(shape: LlamaFacts | None) -> list[tuple[str, object]]:
    """The rows that only a Llama has."""
    if shape is None:
        return []
    return [
        ("キー・バリューのヘッド数", f"{shape.key_value_heads:,}"),
        ("MLPの次元", f"{shape.inner_width:,}"),
        ("回転位置埋め込みの底", f"{shape.rope_theta:,.0f}"),
        ("出力層", "埋め込みと重みを共有" if shape.is_tied else "埋め込みと別の重み"),
    ]


def _gguf(facts: CardFacts) -> str | None:
    """The files for llama.cpp, and which llama.cpp reads them."""
    if not facts.gguf:
        return None
    files = "、".join(f"`{name}`({size(number)})" for name, number in facts.gguf.items())
    needs = words.LLAMA.get(facts.tokenizer.spaces, "")
    if facts.tokenizer.algorithm == "Unigram" and not needs:
        needs = "2025-07 以降の llama.cpp が必要です。"
    return f"llama.cpp と、それを使うプログラム向けのファイル: {files}。{needs}"


def _data(facts: CardFacts) -> str:
    corpus = facts.corpus
    rows = [
        (
            one.name, one.kind, f"[{one.dataset or one.location}]({one.url})" if one.url else one.location,
            one.license or "記載なし", size(one.raw_bytes), f"{one.documents:,}", f"{one.characters:,}",
        )
        for one in corpus.sources
    ]  # fmt: skip
    head = ("名前", "形式", "入手元", "ライセンス", "元データ", "文書数", "文字数")
    versions = "、".join(f"{name} {version}" for name, version in sorted(corpus.tools.items()))
    tools = f"使用したツール: {versions}。" if versions else ""
    preset = f"フィルタは `{corpus.preset}` に準じます。" if corpus.preset else ""
    return section(
        "データ",
        table(head, rows, 3),
        f"学習用は {corpus.documents:,} 文書({size(corpus.text_bytes)}、{corpus.tokens:,} トークン)、"
        f"評価用は {corpus.held_out:,} 文書です。{words.MODES[corpus.mode]}。{preset}{tools}",
        "各段階で残った量と、フィルタごとに除いた文書の数は次のとおりです。",
        table(
            ("段階", "文書数", "文字数"),
            [
                (_step(one.name), f"{one.documents:,}", f"{one.characters:,}")
                for one in corpus.steps
            ],
            2,
        ),
        "`croissant.json` に、コーパスの各ファイルをハッシュとともに Croissant 形式で記載しています。",
    )


def _step(name: str) -> str:
    """The name of a step of the corpus."""
    if name.startswith(words.LEFT_OUT):
        return f"除外: {name.removeprefix(words.LEFT_OUT)}"
    return words.STEPS.get(name, name)


def _tokenizer(facts: CardFacts) -> str:
    tokenizer = facts.tokenizer
    measures = [
        (name, f"{tokenizer.measures[key]:{form}}")
        for key, (name, form) in words.MEASURES.items()
        if key in tokenizer.measures
    ]
    note = "評価用の文書での値:" if measures else None
    kind = (
        f"{tokenizer.algorithm}、語彙サイズ {tokenizer.size:,}。{words.SPACES[tokenizer.spaces]}。"
    )
    return section("トークナイザ", kind, note, pairs(measures))


def _training(facts: CardFacts) -> str:
    one = facts.training
    (first, first_loss), (last, last_loss) = one.first_loss, one.last_loss
    tokens_a_step = one.global_batch * facts.model.positions
    a_step = f"1ステップ {tokens_a_step:,} トークン、{one.global_batch:,} ブロック"
    losses = f"{first_loss:.3f}(ステップ {first:,})→ {last_loss:.3f}(ステップ {last:,})"
    return section(
        "学習",
        pairs(
            [
                ("ステップ数", f"{one.step:,}({a_step})"),
                ("学習トークン数", f"{one.tokens_seen:,}(学習データの {one.epochs:.2f} 周分)"),
                ("最適化", one.optimizer),
                *((name, value) for name, value in one.settings.items()),
                ("精度", one.precision),
                ("損失(nat/トークン)", losses),
            ]
        ),
        f"![学習と検証の損失(横軸は学習したトークン数)]({PICTURE})",
    )  # fmt: skip


def _hardware(facts: CardFacts) -> str:
    training, hardware, nodes = facts.training, facts.training.hardware, facts.training.node_time
    whole = max(training.ended - training.began, training.step_seconds)
    begin_to_end = f"{duration(whole)}(うち {training.step_seconds / whole:.1%} が上記のステップ)"
    attempts = f"{training.attempts:,} 回(うち {training.attempts - 1:,} 回は中断後に再開)"
    machine, versions = None, None
    if hardware is not None:
        machine = f"{hardware.device}、{hardware.nodes:,} ノード、{hardware.ranks:,} ランク"
        versions = "、".join(f"{name} {version}" for name, version in hardware.versions.items())
    return section(
        "計算環境・時間・電力",
        pairs(
            [
                ("ハードウェア", machine),
                ("ソフトウェア", versions),
                ("ジョブの起動", attempts),
                ("開始から終了まで", begin_to_end),
                (
                    "GPU の占有時間"
                    if hardware is not None and hardware.gpus
                    else "ランクの占有時間",
                    nodes and f"{nodes.held_seconds / 3600:,.2f} 時間(全ランクの合計)",
                ),
                ("グッドプット", nodes and f"そのうち {nodes.goodput:.1%} が有効なステップ"),
                ("失われたステップ", nodes and f"{nodes.lost_steps:,}"),
            ]
        ),
        _energy(facts.energy) if facts.energy is not None else None,
    )


def _energy(energy: EnergyFacts) -> str:
    source = "NVML による測定の平均" if energy.measured else "ボードの電力上限"
    factor = f" × PUE {energy.pue:g}" if energy.pue is not None else ""
    scope = "GPU の分" if factor else "GPU のみ、PUE は含まず"
    lines = [
        f"電力量(推定): {energy.device_hours:,.2f} GPU 時間 × {energy.watts:,.0f} W({source}){factor} = "
        f"{energy.kwh:,.3g} kWh({scope})。"
    ]
    if energy.co2_kg is not None:
        lines.append(
            f"CO2 排出量(推定): {energy.kwh:,.3g} kWh × {energy.grid:,g} g/kWh = {energy.co2_kg:,.3g} kg。"
        )
    return "\n".join(lines)


def _scores(facts: CardFacts) -> str:
    scores = facts.scores
    if scores is None:
        return section("評価", "このチェックポイントはまだ評価していません。", _tasks(facts))
    rows = [
        ("損失(nat/トークン)", f"{scores['loss']:.3f}", f"{scores['unigram_loss']:.3f}"),
        ("パープレキシティ", f"{scores['perplexity']:.1f}", f"{scores['unigram_perplexity']:.1f}"),
        ("1バイトあたりのビット数", f"{scores['bits_per_byte']:.3f}", ""),
    ]  # fmt: skip
    return section(
        "評価",
        f"学習にもトークナイザにも使っていない文書({scores['held_out_tokens']:,} トークン、"
        f"{size(scores['held_out_bytes'])})での、ステップ {scores['step']:,} の値です。パープレキシティは"
        "トークナイザによって変わります。1バイトあたりのビット数は、同じテキストであればモデル間で比較できます。",
        table(("", "このモデル", "ユニグラムモデル"), rows, 2),
        _tasks(facts),
    )


def _tasks(facts: CardFacts) -> str:
    """The main metric of each task."""
    rows = [
        (row["task"], row["metric"], f"{row['value']:.3f}", row.get("shots", ""),
         words.TEXTS[row.get("text")], row.get("harness", ""), day(row["time"]))
        for row in facts.task_scores
        if row.get("main")
    ]  # fmt: skip
    return table(("タスク", "指標", "値", "ショット数", "入力", "評価ツール", "評価日"), rows)


def _samples(facts: CardFacts) -> str:
    training = facts.training
    if training.sampled_at is None:
        return ""
    return section(
        "生成例",
        f"ステップ {training.sampled_at:,} での出力です。プロンプトごとに1件で、選別はしていません。",
        *(fenced(text, "text") for _, text in training.samples),
    )


def _limits(facts: CardFacts) -> str:
    return section("限界とリスク", "\n".join(f"- {line}" for line in _risks(facts)))


def _risks(facts: CardFacts) -> Iterator[str]:
    yield (
        "文章の続きを書くベースモデルです。依頼を依頼として理解せず、断ることも「わからない」と答えることもありません。"
    )
    yield (
        "学習データの誤りや古い情報、性別・年齢・出身・地域・職業などに関する偏見をそのまま再現することがあります。"
        "301 の社会集団についての日本語プロンプト 3,612 件を用いた研究では、日本語で学習したモデルは、英語"
        "や中国語で学習したモデルよりも回答を拒否することが少なく、有害・否定的な文を出力しやすいと報告されて"
        "います"
        "([arXiv:2503.01947](https://arxiv.org/abs/2503.01947))。"
    )
    yield (
        "上の評価は安全性を測るものではありません。利用の前に、用途に合わせて検証してください。たとえば、日本の社会や"
        "文化に即して作られた AnswerCarefully の設問が使えます([arXiv:2506.02372](https://arxiv.org/abs/2506.02372))。"
    )
    yield (
        "ウェブのテキストには実在の人物の情報が含まれます。学習した個人情報を出力したり、存在しない情報を作り出したりする"
        "ことがあります。支障がある用途では、出力を確認し、除いてください。"
    )
    yield (
        "医療、法律、与信、採用など、人に関わる判断には、専門の知識を持つ人が確認しない限り使わないでください。"
    )
    yield (
        f"扱えるのは {facts.model.positions:,} トークンまでの文脈と、上記のデータにある日本語です。方言、"
        "敬語、日本語以外の言語、プログラムについては評価していません。"
    )


def _provenance(facts: CardFacts) -> str:
    code = f"(コミット `{facts.commit}`)" if facts.commit else ""
    return section(
        "来歴",
        pairs(
            [
                ("`recipe.json`", "コーパス、トークナイザ、モデル、学習のすべての設定"),
                ("`ledger.jsonl`", "学習の全ステップと検証の記録"),
                *((f"`{name}`", words.FILES[name]) for name in words.FILES if has(facts, name)),
                ("`bom.cdx.json`", "モデル、データ、パッケージの部品表(CycloneDX)"),
                ("`croissant.json`", "コーパスの記述(Croissant)"),
                (
                    "`manifest.json`",
                    "全ファイルの SHA-256。`ekiden export verify FOLDER` で照合できます",
                ),
            ]
        ),
        f"ekiden {facts.version}{code} で作成しました。",
    )


def _citation(facts: CardFacts) -> str:
    entries = [snippets.citation(facts), snippets.citation_of_kit(facts)]
    return section("引用", *(fenced(entry.rstrip(), "bibtex") for entry in entries if entry))

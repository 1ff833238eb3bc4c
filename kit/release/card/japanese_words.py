"""The words of the Japanese card for what the facts name in English."""

from __future__ import annotations

MODES = {
    "default": "段落を残し、読者が目にする形のまま収録しています",
    "article": "正規化した文を1行に1文ずつ収録しています",
}
SPACES = {
    "lossless": "単語と単語の間には、表示されない文字 U+2063 が入ります",
    "article": "単語と単語の間には半角スペースが入ります",
}
TEXTS = {"segmented": "分かち書き", "raw": "生のテキスト", None: ""}
LLAMA = {
    "article": "2026 年の llama.cpp が必要です。語彙にない文字は、このトークナイザでは `<unk>` になりますが"
    "、llama.cpp では消えます。"
}
FILES = {
    "report.html": "学習の記録をまとめたページ",
    "runs": "学習曲線(TensorBoard 用)",
    "scores.jsonl": "全スコアと、そのステップ、データ、バージョン、日付",
}
MEASURES = {
    "fertility": ("1単語あたりのトークン数(fertility)", ".3f"),
    "characters_per_token": ("1トークンあたりの文字数", ".3f"),
    "bits_per_byte": ("1バイトあたりのビット数(ユニグラムモデル)", ".3f"),
    "unknown_rate": ("未知文字の割合", ".2%"),
    "exact": ("復号すると元に戻る文書の割合", ".1%"),
    "raw_share": ("生のテキストでも同じトークン列になる文の割合", ".1%"),
    "vocabulary_used": ("評価用テキストに現れる語彙の割合", ".1%"),
}
STEPS = {
    "read": "読み込み",
    "normalised": "正規化後",
    "written: train": "学習用",
    "written: held-out": "評価用",
}
UNITS = {"d": "日", "h": "時間", "min": "分", "s": "秒"}
LEFT_OUT = "left out: "

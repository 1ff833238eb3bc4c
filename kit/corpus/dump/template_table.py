"""What the templates of the Japanese Wikipedia give: data, no code.

`GROUPS` maps a pattern (kit/config/template_pattern.py) to the names it is for; None stands for a template
whose text only the wiki knows: its sentence is left out. A `*` in a name stands for anything. Which names
are here follows from counts over articles of a dump of July 2022 and from their usual aliases; what they
give, from https://ja.wikipedia.org/wiki/Template:NAME.
"""

from __future__ import annotations

GROUPS: tuple[tuple[str | None, str], ...] = (
    # The text of a sentence.
    (
        "{1}",
        "nowrap, nobr, nobold, noitalic, normal, small, smaller, xsmall, big, larger, large, "
        "bold, 太字, 斜体, italic, em, strong, strike, del, underline, 下線, u, s, overline, "
        "inline-block, unicode, IPA2, font-serif, serif, 明朝, Mincho, ilq, 行内引用, "
        "JIS2004フォント, JIS90フォント, JIS X 0213, 補助漢字フォント, 拡張漢字, 旧字体, 旧字, "
        "新字体, 外字, 外字フォント, 環境依存文字, 機種依存文字, ハングル, 効果音, 読み, "
        "音声ルビ, よみ, 要出典範囲, 要出典箇所, 要検証範囲, いつ範囲, 誰範囲, どこ範囲, "
        "独自研究範囲, 疑問点範囲, 正確性範囲, 要説明範囲, 要追加記述範囲, 未検証範囲, "
        "信頼性要検証範囲, 要高次出典範囲, 中立的観点範囲, 要文献特定詳細情報範囲, "
        "要ページ番号範囲, 出典無効範囲, 更新範囲, 要更新範囲, 言葉を濁さない範囲, "
        "大言壮語範囲, 要曖昧さ回避範囲, 要非一次資料範囲, citation needed span, ピン音, 拼音, "
        "pinyin, mvar, var, tt, code, kbd, samp, tooltip, sic, lang-*, 高線, hiddentext, nwr, 改行禁止, "
        "center, 右寄せ, 右, PDFlink, 節リンク, 日本語版にない記事リンク, 赤リンク, sname, "
        "snamei, taxon italics, abbr, polytonic, math, 数式, bigmath, dts, 日付ソート, sort, ソート, nts",
    ),
    (
        "{label|1}",
        "仮リンク, ill2, ill, 仮リンク2, 仮リンク短, interlanguage link, "
        "interlanguage link multi, illm, 仮link, link-interwiki, 日本語版にない記事, 多言語リンク, "
        "他言語リンク",
    ),
    ("{3|2}", "interlang, transl, transliteration, translit, interlang2, 翻字"),
    (
        "{2}",
        "lang, lang2, langwithname, color, 色, colored, font color, fontcolor, 背景色, "
        "background color, bgcolor, fontsize, font size, フォントサイズ, font, style, 文字色, "
        "colorlink, legend2, coloredlink, 角丸枠線, 枠線, 色文字, lang-rtl, rtl-lang, wiktlang, "
        "wikt-lang, script, resize",
    ),
    ("(?{2})", "audio, 音声, audio-nohelp, pronunciation, 発音"),
    ("(?{title})", "wayback, webarchive, archive.today"),
    ("{2|1}", "URL, 公式URL, link, 内部リンク, リンク, wikt, wiktja, wikisource link, 表記, 節"),
    (
        "{1}（{2}(?、{3})）",
        "読み仮名, 読み仮名2, 読み仮名 ruby不使用, 読み仮名 ruby使用, 読みがな, ふりがな, "
        "フリガナ, 振り仮名, よみがな, 読み方, nihongo",
    ),
    ("{1}（{2}）", "ruby, ルビ, rubyja, ruby-ja, ルビ表示, ruby2"),
    ("{1}ꜜ", "下げ核"),
    ("[{1}]", "IPA, IPA-*, API"),
    ("/{1}/", "ipa"),
    ("⟨{1}⟩", "angbr, angle bracket"),
    ("<sup>{1}</sup>", "sup, 上付き, 上付き文字, ^"),
    ("<sub>{1}</sub>", "sub, 下付き, 下付き文字, chem sub"),
    ("{1}/{2}", "frac, fraction, 分数, sfrac, frac2, vfrac"),
    ("√{1}", "sqrt, radic"),
    ("{1} {2}", "convert, cvt, 単位, 単位変換"),
    ("{1}(?×10<sup>{e}</sup>)(? {u|ul})", "val"),
    ("{1*・}", "hlist, ドット区切り"),
    ("{1*、}", "hlist-comma, 読点区切り, コンマ区切り, cslist"),
    (
        "{=country}",
        "flag, fb, 国旗, flagcountry, flagu, flag2, 国名, flaglist, 国旗と国名, country",
    ),
    ("{=era}", "和暦, 西暦和暦, 西暦 (和暦)"),
    ("{=years}", "年数, years, age in years"),
    ("{=age}", "年齢, age"),
    ("{=died}", "死亡年月日と没年齢, 没年齢, death date and age, 没年月日と没年齢"),
    ("{=born}", "生年月日と年齢, birth date and age, 生年月日年齢"),
    (
        "{=date}",
        "生年月日, birth date, death date, 死亡年月日, start date, end date, 年月日, 開始日",
    ),
    ("合衆国法典{1}編{2}条", "合衆国法典"),
    ("ISBN {1}", "ISBN, ISBN2"),
    ("ISSN {1}", "ISSN"),
    ("NAID {1}", "naid, NAID"),
    ("doi:{1}", "doi"),
    ("OCLC {1}", "OCLC"),
    # Lines of their own.
    (
        "\n{1}\n",
        "quotation, quote, bquote, blockquote, cquote, cquote2, 引用, 引用文, 引用文2, rquote, "
        "quote2, epigraph, poemquote, 詩, indent, no col break, flatlist, plainlist, col, "
        "indented plainlist, 表2列, 表3列, 折りたたみリスト",
    ),
    ("\n{2|1}\n", "col-list, columns-list, columns list, colum-list, 段組, 段組リスト, 複数列"),
    (
        "\n{1*\n}\n",
        "ubl, ul, unbulleted list, ublist, 箇条書き, bulleted list, blist, ulist, ol, "
        "ordered list, numbered list, リスト",
    ),
    # Signs.
    (
        " ",
        "nbsp, space, spaces, スペース, 空白, pad, thinsp, thin space, 全角スペース, indent space, "
        "sp, ensp, emsp",
    ),
    ("=", "="),
    ("・", "·, •, dot, bullet, ・, middot"),
    ("–", "ndash, en dash, –"),
    (" – ", "snd, spnd, spaced ndash, spaced en dash"),
    ("—", "mdash, em dash, emdash"),
    ("→", "→"),
    ("'", "'"),
    ("〓", "〓, 外字不明"),
    # Marks of editors, behind a text or around it.
    (
        "(?{1})",
        "要出典, 要検証, 要追加記述, 要曖昧さ回避, 要出典科学, 要出典2, 要出典明記, 要説明, "
        "要ページ番号, 要文献特定詳細情報, 要高次出典, 要非一次資料, 要校閲, 要改訳, 要更新, "
        "信頼性要検証, 出典無効, 誰, 誰2, いつ, どこ, どれ, どの, なぜ, 何, どのように, "
        "独自研究?, 独自研究, 疑問点, 正確性, 中立的観点, citation needed, cn, fact, when, who, "
        "where, why, which, clarify, by whom, 誰によって, 言葉を濁さない, 大言壮語",
    ),
    # Notes, icons, boxes and what lays out a page: nothing of a sentence.
    (
        "",
        "R, Rp, GR, Sfn, Sfnp, Sfnm, Sfn0, Harv, Harvnb, Harvp, Harvtxt, Harvcol, Harvcolnb, "
        "Harvcoltxt, Harvard citation, Harvard citation no brackets, SfnRef, Sfnref, HarvRef, "
        "Refn, Refnest, Efn, Efn2, Efn-ua, Efn-la, Efn-lr, Ref, Ref label, Note, Note label, "
        "Fn, Fnb, Ref2, Cref, Cref2, 脚注, 注, 注釈, 注釈2, 出典ref, Ref num, リンク切れ, "
        "dead link, deadlink, 死リンク, full, 検証, 未検証, "
        "cite *, citation, citation2, 英語版表記, * icon, ja icon, PDFlink icon, 登録制, "
        "要購読, 要登録, subscription required, subscription, Flagicon, Flagicon2, "
        "flagicon image, 国旗アイコン, 旗アイコン, 国旗画像, flag icon, 路線記号, JR*路線記号, "
        "駅番号, 駅番号s, 駅番号c, *路線記号, 東京メトロ路線記号, Ja Exp Route Sign, "
        "Ja Route Sign, Jct, 国道番号, 都道府県道番号, color sample, 色見本, 色見本2, 0, 00, -, "
        "clear, clear left, clear right, clr, br, nbr, br0, zwsp, wbr, zwj, zwnj, shy, anchor, "
        "anchors, アンカー, Vanchor, anchor2, ウィキ座標, ウィキ座標*, coord, coord2, coor *, "
        "座標一覧, 座標*, maplink*, osm*, googlemap*, location map*, 特殊文字, main, main2, "
        "main list, see, see also, seealso, also, 参照, 関連, details, further, "
        "further information, 詳細, 詳細記事, otheruses*, otheruse, other people, for, about, "
        "redirect*, 混同, distinguish, 暫定記事名, 記事名の制約, 複数の問題, 出典の明記, "
        "参照方法, 存命人物の出典明記, 大規模改訂, 節スタブ, *スタブ, *stub, 脚注ヘルプ, "
        "reflist*, notelist*, 注釈リスト, 脚注リスト, 出典リスト, normdaten, 典拠管理, "
        "kotobank, 人名辞典, デジタル*, sisterlinks*, commons*, wiktionary*, wikiquote*, "
        "wikisource*, wikibooks*, wikinews*, wikivoyage*, wikispecies*, wikiversity*, ウィキ*, "
        "official website, official, infobox*, 基礎情報*, navbox*, 公式サイト, multicol*, "
        "col-begin, col-break, col-end, col-start, col-1-of-*, col-2, col-3, div col, "
        "div col end, div end, div begin, colbegin, colend, end, s-*, succession*, start box, "
        "end box, 段組開始, 段組終了, legend, multiple image*, 画像*, gallery, external media, "
        "photomontage, listen, 音楽, bar box, bar percent, 人口統計, 日本の*位置図, "
        "基礎自治体位置図, climate chart, 国土航空写真, after float, デフォルトソート, "
        "名前空間, toc*, 目次*, notoc, shortcut, pp-*, 半保護, 全保護, 注意*, ネタバレ*, "
        "column, columns-start, columns-end, hidden begin, hidden end, vertical images list, "
        "double image*, wide image, flexbox*, flex-item*, pathnav*, weather box, pie chart, "
        "familytree*, refbegin, refend, TOC limit, aimai, 別人, WikipediaPage, portal*, "
        "ポータル*, 画像提供依頼*, 年譜のみの経歴, 単一の出典, 一次資料, 雑多な内容の箇条書き, "
        "観点, 孤立, 内容過剰, 宣伝, 百科事典的でない, 誤訳, 翻訳直後, 特筆性, 性急",
    ),
    # Figures that the wiki keeps elsewhere.
    (
        None,
        "自治体人口/*, 自治体面積/*, 自治体データ/*, 郡データ換算, 都道府県人口/*, "
        "衆議院小選挙区当選者, 現在の*, 人口/*, 世帯数/*, 為替レート, inflation, インフレ, "
        "Metadata *, 駅利用*, NUMBEROFARTICLES",
    ),
)

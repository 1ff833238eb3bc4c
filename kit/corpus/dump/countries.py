"""Names of countries by the codes of their templates, {{JPN}} and {{flag|JPN}}: ISO 3166 and IOC."""

from __future__ import annotations

_NAMES = """
AFG アフガニスタン|AGO ANG アンゴラ|ALB アルバニア|AND アンドラ|ARE UAE アラブ首長国連邦
ARG アルゼンチン|ARM アルメニア|ATG ANT アンティグア・バーブーダ|AUS オーストラリア
AUT オーストリア|AZE アゼルバイジャン|BDI ブルンジ|BEL ベルギー|BEN ベナン
BFA BUR ブルキナファソ|BGD BAN バングラデシュ|BGR BUL ブルガリア|BHR BRN バーレーン
BHS BAH バハマ|BIH ボスニア・ヘルツェゴビナ|BLR ベラルーシ|BLZ BIZ ベリーズ|BOL ボリビア
BRA ブラジル|BRB BAR バルバドス|BRU ブルネイ|BTN BHU ブータン|BWA BOT ボツワナ
CAF 中央アフリカ共和国|CAN カナダ|CHE SUI スイス|CHL CHI チリ|CHN PRC 中華人民共和国
CIV コートジボワール|CMR カメルーン|COD コンゴ民主共和国|COG CGO コンゴ共和国|COL コロンビア
COM コモロ|CPV カーボベルデ|CRI CRC コスタリカ|CUB キューバ|CYP キプロス|CZE チェコ
DEU GER ドイツ|DJI ジブチ|DMA ドミニカ国|DNK DEN デンマーク|DOM ドミニカ共和国
DZA ALG アルジェリア|ECU エクアドル|EGY エジプト|ERI エリトリア|ESP スペイン|EST エストニア
ETH エチオピア|FIN フィンランド|FJI FIJ フィジー|FRA フランス|FSM ミクロネシア連邦|GAB ガボン
GBR UK イギリス|GEO ジョージア|GHA ガーナ|GIN GUI ギニア|GMB GAM ガンビア|GNB GBS ギニアビサウ
GNQ GEQ 赤道ギニア|GRC GRE ギリシャ|GRD GRN グレナダ|GTM GUA グアテマラ|GUY ガイアナ|HKG 香港
HND HON ホンジュラス|HRV CRO クロアチア|HTI HAI ハイチ|HUN ハンガリー|IDN INA インドネシア
IND インド|IRL アイルランド|IRN IRI イラン|IRQ イラク|ISL アイスランド|ISR イスラエル
ITA イタリア|JAM ジャマイカ|JOR ヨルダン|JPN 日本|KAZ カザフスタン|KEN ケニア|KGZ キルギス
KHM CAM カンボジア|KIR キリバス|KNA SKN セントクリストファー・ネイビス|KOR 大韓民国
KWT KUW クウェート|LAO ラオス|LBN LIB レバノン|LBR リベリア|LBY LBA リビア|LCA セントルシア
LIE リヒテンシュタイン|LKA SRI スリランカ|LSO LES レソト|LTU リトアニア|LUX ルクセンブルク
LVA LAT ラトビア|MAC マカオ|MAR モロッコ|MCO MON モナコ|MDA モルドバ|MDG MAD マダガスカル
MDV モルディブ|MEX メキシコ|MHL マーシャル諸島|MKD 北マケドニア|MLI マリ共和国|MLT マルタ
MMR MYA ミャンマー|MNE モンテネグロ|MNG MGL モンゴル国|MOZ モザンビーク|MRT MTN モーリタニア
MUS MRI モーリシャス|MWI MAW マラウイ|MYS MAS マレーシア|NAM ナミビア|NER NIG ニジェール
NGA NGR ナイジェリア|NIC NCA ニカラグア|NLD NED オランダ|NOR ノルウェー|NPL NEP ネパール
NRU ナウル|NZL ニュージーランド|OMN OMA オマーン|PAK パキスタン|PAN パナマ|PER ペルー
PHL PHI フィリピン|PLW パラオ|PNG パプアニューギニア|POL ポーランド|PRK 朝鮮民主主義人民共和国
PRT POR ポルトガル|PRY PAR パラグアイ|PSE PLE パレスチナ国|PRI PUR プエルトリコ|QAT カタール
ROU ROM ルーマニア|RUS ロシア|RWA ルワンダ|SAU KSA サウジアラビア|SDN SUD スーダン|SEN セネガル
SGP SIN シンガポール|SLB SOL ソロモン諸島|SLE シエラレオネ|SLV ESA エルサルバドル|SMR サンマリノ
SOM ソマリア|SRB セルビア|SSD 南スーダン|STP サントメ・プリンシペ|SUR スリナム|SVK スロバキア
SVN SLO スロベニア|SWE スウェーデン|SWZ エスワティニ|SYC SEY セーシェル|SYR シリア
TCD CHA チャド|TGO TOG トーゴ|THA タイ|TJK タジキスタン|TKM トルクメニスタン|TLS 東ティモール
TON TGA トンガ|TTO TRI TRT トリニダード・トバゴ|TUN チュニジア|TUR トルコ|TUV ツバル
TWN ROC 中華民国|TPE チャイニーズタイペイ|TZA TAN タンザニア|UGA ウガンダ|UKR ウクライナ
URY URU ウルグアイ|USA US アメリカ合衆国|UZB ウズベキスタン|VAT バチカン
VCT VIN セントビンセント・グレナディーン|VEN ベネズエラ|VNM VIE ベトナム|VUT VAN バヌアツ
WSM SAM サモア|YEM イエメン|ZAF RSA 南アフリカ共和国|ZMB ZAM ザンビア|ZWE ZIM ジンバブエ
ENG イングランド|SCO スコットランド|WAL ウェールズ|NIR 北アイルランド|SUN URS ソビエト連邦
DDR GDR 東ドイツ|FRG 西ドイツ|YUG ユーゴスラビア|TCH チェコスロバキア|EUR EU 欧州連合
UN UNO 国際連合|JPN1870 日本|JPN1947 日本
"""
NAMES = {
    code: name
    for entry in _NAMES.replace("\n", "|").split("|")
    if entry
    for *codes, name in [entry.split(" ")]
    for code in codes
}

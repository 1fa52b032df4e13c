"""The page's style: colours in light and dark, sizes, and what the classes of the charts mean."""

STYLE = """
:root{--ground:#eef1f6;--panel:#fff;--line:#d3dbe7;--text:#131c2b;--soft:#48566d;--truth:#131c2b;--published:#1f6fc0;
--seen:#7a8699;--worse:#c65300;--good:#0b7a4b;--bad:#c8102e;--plum:#7b3fa0;--heat:#1f5fae;color-scheme:light}
@media (prefers-color-scheme:dark){:root{--ground:#0a0f1a;--panel:#111a2c;--line:#22304a;--text:#e8eef8;--soft:#a3b1c9;
--truth:#e8eef8;--published:#5fb0ff;--seen:#8796b0;--worse:#ff8c42;--good:#38c98a;--bad:#ff5c78;--plum:#c79bf0;
--heat:#7db8ff;color-scheme:dark}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);font:15px/1.5 system-ui,"Segoe UI",Roboto,sans-serif}
main{max-width:1240px;margin:0 auto;padding:22px 28px 60px}
header h1{font-size:26px;margin:0 0 2px;line-height:1.25}header p{margin:0;color:var(--soft)}
nav{margin:14px 0 18px;display:flex;flex-wrap:wrap;gap:6px 18px;border-bottom:1px solid var(--line);padding-bottom:10px}
nav a{color:var(--published);text-decoration:none}nav a:hover,nav a:focus{text-decoration:underline}
section{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:18px 22px 20px;margin:0 0 18px}
h2{font-size:19px;margin:0 0 6px}h3{font-size:15px;margin:20px 0 4px}
p{margin:4px 0 10px;max-width:92ch}.note{color:var(--soft);font-size:13.5px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0 0 18px}
.tile{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:10px 13px}
.tile b{display:block;font-size:22px;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{display:block;font-size:13.5px}.tile small{display:block;color:var(--soft);font-size:12.5px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;margin:6px 0 4px}
th,td{padding:4px 12px 4px 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600;color:var(--soft)}th:first-child,td:first-child,td.words,th.words{text-align:left}
tr.total td{font-weight:600}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:8px 28px;align-items:start}
.three{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:8px 20px}
svg{width:100%;height:auto;display:block;font:12px system-ui,"Segoe UI",Roboto,sans-serif}
svg .rule{stroke:var(--line);stroke-width:1}svg .zero{stroke:var(--soft);stroke-width:1}
svg .tick{fill:var(--soft)}svg .axis{fill:var(--soft)}svg .name{fill:var(--text);font-size:13px}
svg .panel{fill:var(--text);font-weight:600}
svg .line{fill:none;stroke-width:1.8;stroke-linejoin:round}svg .dashed{stroke-dasharray:5 4}
svg .line.truth{stroke:var(--truth)}svg .line.published{stroke:var(--published)}svg .line.seen{stroke:var(--seen)}
svg .line.worse{stroke:var(--worse)}svg .line.good{stroke:var(--good)}
svg .bar{fill:var(--published);opacity:.75}svg .bias{fill:var(--worse)}svg .heat{fill:var(--heat)}
svg .none-wrong{stroke:var(--worse);stroke-width:1.4;stroke-dasharray:5 4}
svg .dots circle{opacity:.65}svg .dots.seen circle{fill:var(--seen)}svg .dots.published circle{fill:var(--published)}
svg .dots.worse circle{fill:var(--worse)}svg .dots.good circle{fill:var(--good)}svg .dots.plum circle{fill:var(--plum)}
svg .dot.published{fill:var(--published)}
svg .found{fill:var(--good);opacity:.7}svg .missed{fill:var(--bad);opacity:.7}svg .unfelt{fill:var(--seen);opacity:.5}
svg .span{fill:var(--seen);fill-opacity:.16;stroke:var(--seen);stroke-opacity:.5}
svg .tail{fill:var(--soft);opacity:.45}svg .mark{fill:var(--text);stroke:var(--panel);stroke-width:1}
.legend{display:flex;flex-wrap:wrap;gap:2px 18px;font-size:13px;color:var(--soft);margin:4px 0 12px}
.key{display:inline-block;width:20px;height:0;border-top:3px solid;vertical-align:middle;margin-right:7px}
.key.dashed{border-top-style:dashed}.key.truth{color:var(--truth)}.key.published{color:var(--published)}
.key.seen{color:var(--seen)}.key.worse{color:var(--worse)}.key.good{color:var(--good)}.key.plum{color:var(--plum)}
.key.bad{color:var(--bad)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;font-size:13.5px;margin:6px 0}dt{font-weight:600}
dd{margin:0;color:var(--soft)}
@media print{body{background:#fff}section{break-inside:avoid}}
"""

"""Every text a person sees on the screen, in English and Chinese: a key in, a text out. No other module has any.

A text may hold ``{name}`` places; ``key.one`` is the singular of ``key`` where a language has one. Codes (reasons of a
warning, kinds of alerts, names of vital signs) are part of keys, so that texts are never stored, only codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

_TABLE: dict[str, tuple[str, str]] = {
    # the page
    "app.name": ("City Brain", "城市大脑"),
    "app.title": ("City Brain · {city}", "城市大脑 · {city}"),
    "app.skip": ("Skip to the alerts", "跳到告警"),
    "app.no_script": ("The live page needs JavaScript.", "实时页面需要 JavaScript。"),
    "nav.views": ("Views", "视图"),
    "nav.live": ("Live", "实时"),
    "nav.run": ("Replay {run}", "回放 {run}"),
    "switch.language": ("中文", "EN"),
    "switch.language_hint": ("Switch to Chinese", "切换到英文"),
    "switch.light": ("Light", "浅色"),
    "switch.dark": ("Dark", "深色"),
    "switch.theme_hint": ("Switch between dark and light", "切换深色与浅色"),
    # trust: age of data, feeds, broker, sound
    "status.data": ("data {age} old", "数据 {age}前"),
    "status.replay": ("replay up to {time}", "回放至 {time}"),
    "status.no_data": ("no data yet", "尚无数据"),
    "status.feeds": ("feeds {ok} of {all}", "数据源 {ok}/{all}"),
    "status.feed": ("{name}: {state}, {age}", "{name}：{state}，{age}"),
    "status.feed.ok": ("arriving", "正常"),
    "status.feed.late": ("late", "延迟"),
    "status.feed.silent": ("silent", "静默"),
    "status.broker_lost": ("message log lost", "消息日志中断"),
    "status.simulated": ("simulated, {speed}×", "模拟，{speed} 倍速"),
    "status.simulated_real": ("simulated, real time", "模拟，实时"),
    "status.sound_on": ("sound on", "声音开"),
    "status.sound_off": ("sound off", "声音关"),
    "status.sound_hint": (
        "A sound for each new alert; the browser allows it after a click",
        "每个新告警响一声；浏览器要求先点击一次",
    ),
    "status.connecting": ("connecting", "正在连接"),
    "banner.broker": (
        "The message log cannot be reached since {time}. What is shown is as it was; it goes on by itself.",
        "自 {time} 起无法连接消息日志。画面保持原样，恢复后自动继续。",
    ),
    "banner.link": (
        "No connection to the server since {time}. Trying again; what was missed will be caught up.",
        "自 {time} 起与服务器断开。正在重连，遗漏的内容会自动补上。",
    ),
    "banner.stale": (
        "No new data since {time} ({age}). The map shows what was known then.",
        "{time}（{age}前）以来没有新数据。地图显示当时的状态。",
    ),
    "banner.network": ("The road network has changed. Reload the page.", "路网已更新，请刷新页面。"),
    "map.failed": ("The road network could not be loaded. Trying again.", "路网加载失败，正在重试。"),
    # vital signs
    "vital.tpi": ("Congestion index", "拥堵指数"),
    "vital.delay_veh_h_per_h": ("Delay", "延误"),
    "vital.speed_kmh": ("Mean speed", "平均车速"),
    "vital.vehicles": ("On the road", "在途车辆"),
    "vital.congested_km": ("Congested", "拥堵里程"),
    "vital.alerts": ("Open alerts", "未结告警"),
    "vital.sensors": ("Sensors", "检测器"),
    "vital.data_age": ("Data age", "数据时效"),
    "vital.tpi.hint": (
        "Traffic performance index, 0 (free) to 10, from the share of travel time that is delay (GB/T 33171)",
        "城市交通运行指数，0（畅通）至 10，由延误时间比得出（GB/T 33171）",
    ),
    "vital.delay_veh_h_per_h.hint": (
        "Vehicle-hours lost against free flow, per hour, over all observed segments",
        "全部观测路段相对自由流每小时损失的车·时",
    ),
    "vital.speed_kmh.hint": (
        "Vehicle-kilometres divided by vehicle-hours over all observed segments",
        "全部观测路段的车·公里除以车·时",
    ),
    "vital.vehicles.hint": ("Mean number of vehicles on the observed segments", "观测路段上的平均车辆数"),
    "vital.congested_km.hint": (
        "Length of directed segments at light congestion or worse",
        "处于轻度拥堵及以上的有向路段长度",
    ),
    "vital.alerts.hint": ("Alerts that are not resolved", "尚未解除的告警"),
    "vital.sensors.hint": (
        "Share of detectors that report; the others are silent or doubtful",
        "正常上报的检测器比例；其余静默或可疑",
    ),
    "vital.data_age.hint": ("Time since the end of the newest data", "距最新数据结束的时间"),
    "vital.provisional": ("provisional: the minute is still running", "暂定值：本分钟尚未结束"),
    "vital.hint_coverage": ("{share} % of the length is observed", "观测里程占 {share} %"),
    "vital.hint_typical": ("typical now {typical}", "此刻常态 {typical}"),
    "vital.replay": ("not kept in a replay", "回放不保存"),
    "vital.none": ("not known yet", "暂无"),
    "unit.index": ("/10", "/10"),
    "unit.veh_h_per_h": ("veh·h/h", "车·时/时"),
    "unit.kmh": ("km/h", "公里/时"),
    "unit.vehicles": ("vehicles", "辆"),
    "unit.km_of": ("km of {total}", "公里 / 共 {total}"),
    "unit.km": ("km", "公里"),
    "unit.share_of": ("% of {total}", "% / 共 {total}"),
    "unit.share": ("%", "%"),
    "unit.alerts": ("", "起"),
    "unit.s": ("s", "秒"),
    "unit.min": ("min", "分"),
    "change.above": ("{value} above typical", "高于常态 {value}"),
    "change.below": ("{value} below typical", "低于常态 {value}"),
    "change.as_usual": ("as usual", "与常态相当"),
    "change.no_typical": ("no typical value yet", "暂无常态值"),
    "change.more": ("{value} more in 30 min", "30 分钟内增加 {value}"),
    "change.less": ("{value} less in 30 min", "30 分钟内减少 {value}"),
    "change.steady": ("steady for 30 min", "30 分钟内持平"),
    "change.oldest": ("oldest {age}", "最早 {age}前"),
    "change.none_open": ("none open", "无未结"),
    "change.sensors": ("{silent} silent, {doubtful} doubtful", "静默 {silent}，可疑 {doubtful}"),
    "change.not_heard": ("{n} not heard yet", "{n} 个尚未上报"),
    "change.all_report": ("all report", "全部正常"),
    "change.data_time": ("up to {time}", "截至 {time}"),
    # the map
    "map.label": (
        "Live map of the roads, coloured by level of congestion. The table of the worst roads says the same in words.",
        "道路实时地图，按拥堵等级着色。“当前最堵”表以文字给出相同内容。",
    ),
    "map.keys": (
        "Arrow keys move, plus and minus zoom, 0 shows the whole city, Escape closes the segment.",
        "方向键移动，加减号缩放，0 显示全市，Esc 关闭路段。",
    ),
    "map.horizon": ("When", "时刻"),
    "map.horizon.0": ("Now", "现在"),
    "map.horizon.15": ("+15", "+15"),
    "map.horizon.30": ("+30", "+30"),
    "map.horizon.60": ("+60 min", "+60 分"),
    "map.mode": ("What", "内容"),
    "map.mode.level": ("Level", "等级"),
    "map.mode.typical": ("vs typical", "对比常态"),
    "map.mode.speed": ("Speed", "车速"),
    "map.search": ("Find a road, district, sensor", "查找道路、区域、检测器"),
    "map.search.none": ("Nothing found", "未找到"),
    "map.search.road": ("road", "道路"),
    "map.search.area": ("district", "区域"),
    "map.search.detector": ("sensor", "检测器"),
    "map.zoom_in": ("Zoom in", "放大"),
    "map.zoom_out": ("Zoom out", "缩小"),
    "map.home": ("Whole city", "全市"),
    "map.forecast_missing": (
        "No forecast yet: it appears with the first closed minute.",
        "暂无预测：首个分钟结束后出现。",
    ),
    "map.waiting": ("Waiting for the first data", "等待首批数据"),
    "map.schematic": ("No map positions: segments are drawn in order", "无地图坐标：按顺序绘制路段"),
    "map.at": ("{time} forecast", "{time} 预测"),
    "map.unnamed": ("unnamed road", "无名道路"),
    "map.unnamed_in": ("road in {area}", "{area}内道路"),
    "map.link_to": ("link to {road}", "通往 {road}"),
    "place.to": ("to {road}", "至 {road}"),
    "place.from": ("from {road}", "自 {road}"),
    "map.sensors": ("{n} sensors", "{n} 个检测器"),
    "map.sensors.one": ("1 sensor", "1 个检测器"),
    "tip.free_flow": ("free flow {speed}", "自由流 {speed}"),
    "map.no_sensor": ("no sensor here", "此处无检测器"),
    "legend.title": ("Legend", "图例"),
    "legend.fold": ("Show or hide the legend", "展开或收起图例"),
    "legend.classic": ("Traffic-light colours", "红黄绿配色"),
    "legend.source.level": ("GB/T 33171", "GB/T 33171"),
    "legend.source.typical": ("against this weekday and minute", "对比同类日同一时刻"),
    "legend.source.speed": ("space-mean speed", "空间平均车速"),
    "level.0": ("not known", "未知"),
    "level.1": ("free", "畅通"),
    "level.2": ("mostly free", "基本畅通"),
    "level.3": ("light congestion", "轻度拥堵"),
    "level.4": ("moderate congestion", "中度拥堵"),
    "level.5": ("severe congestion", "严重拥堵"),
    "typical.0": ("not known", "未知"),
    "typical.1": ("much slower (over 40 %)", "慢很多（超过 40 %）"),
    "typical.2": ("slower (20 to 40 %)", "较慢（20–40 %）"),
    "typical.3": ("a bit slower (10 to 20 %)", "略慢（10–20 %）"),
    "typical.4": ("as usual", "与常态相当"),
    "typical.5": ("faster (over 10 %)", "较快（超过 10 %）"),
    "speed.0": ("not known", "未知"),
    "speed.1": ("over 70 km/h", "70 公里/时以上"),
    "speed.2": ("50 to 70", "50–70"),
    "speed.3": ("35 to 50", "35–50"),
    "speed.4": ("20 to 35", "20–35"),
    "speed.5": ("under 20", "20 以下"),
    # the alerts
    "alerts.title": ("Alerts", "告警"),
    "alerts.open": ("{n} open", "未结 {n} 起"),
    "alerts.recent": ("{n} in the last 10 min", "近 10 分钟 {n} 起"),
    "alerts.none": ("No open alerts", "无未结告警"),
    "alerts.none_hint": (
        "A new one appears here with its place, cause and size.",
        "新告警会在此显示地点、原因与规模。",
    ),
    "alerts.waiting": ("{n} new, list held while you read", "新增 {n} 条，阅读时列表保持不动"),
    "alert.congestion": ("Congestion, {road}", "拥堵，{road}"),
    "alert.congestion_expected": ("Congestion expected, {road}", "预计拥堵，{road}"),
    "alert.incident": ("Possible incident, {road}", "疑似事件，{road}"),
    "alert.incident.reported": ("Incident, {road}", "事件，{road}"),
    "alert.resolved": ("Resolved: {title}", "已解除：{title}"),
    "alert.severity.critical": ("critical", "严重"),
    "alert.severity.major": ("major", "较重"),
    "alert.severity.minor": ("minor", "一般"),
    "alert.speed": ("{speed} km/h, usually {expected}", "{speed} 公里/时，常态 {expected}"),
    "alert.speed_only": ("{speed} km/h", "{speed} 公里/时"),
    "alert.queue": ("queue {km} km", "排队 {km} 公里"),
    "alert.queue_grows": ("queue {km} km, growing", "排队 {km} 公里，增长中"),
    "alert.queue_shrinks": ("queue {km} km, shrinking", "排队 {km} 公里，缩短中"),
    "alert.queue_steady": ("queue {km} km, steady", "排队 {km} 公里，稳定"),
    "alert.in_min": ("in {min} min", "{min} 分钟后"),
    "alert.confidence": ("{p} sure", "把握 {p}"),
    "alert.delay": ("{delay} veh·h lost", "已延误 {delay} 车·时"),
    "alert.confidence_hint": (
        "How sure the detection is, from this road's own history",
        "根据该路段历史得出的判定把握",
    ),
    "alert.times": ("began {started}, detected {detected}", "开始 {started}，发现 {detected}"),
    "alert.acknowledge": ("Acknowledge", "确认"),
    "alert.acknowledged": ("acknowledged by {by}", "{by} 已确认"),
    "alert.show": ("Show on the map", "在地图上显示"),
    "alert.lasted": ("lasted {age}", "持续 {age}"),
    "alert.clash": ("Changed by someone else meanwhile; now up to date", "他人已先行更改，现已更新"),
    "alert.failed": ("Could not be sent; try again", "发送失败，请重试"),
    "alert.new": ("New alert: {title}", "新告警：{title}"),
    "operator": ("operator", "值班员"),
    "direction.N": ("northbound", "北向"),
    "direction.E": ("eastbound", "东向"),
    "direction.S": ("southbound", "南向"),
    "direction.W": ("westbound", "西向"),
    "direction.short.N": ("N", "北"),
    "direction.short.E": ("E", "东"),
    "direction.short.S": ("S", "南"),
    "direction.short.W": ("W", "西"),
    # why: codes of signals and alerts (`citybrain.messages`)
    "reason.below_typical": ("slower than typical", "低于常态车速"),
    "reason.queue_downstream": ("queue downstream", "下游排队"),
    "reason.trend_down": ("speed falling", "车速持续下降"),
    "reason.near_capacity": ("near capacity", "接近通行能力"),
    "reason.typical_peak": ("usual peak", "常态高峰"),
    "reason.free_downstream": ("free downstream", "下游畅通"),
    "reason.sudden_drop": ("sudden drop", "车速骤降"),
    "reason.as_usual": ("as on other days", "与平日相同"),
    "reason.cleared": ("cleared", "已消散"),
    "reason.came_true": ("came true", "已发生"),
    "reason.passed": ("did not come", "未发生"),
    "reason.merged": ("part of another alert", "并入其他告警"),
    # coming up
    "coming.title": ("Coming up", "即将发生"),
    "coming.hint": ("early warning, next 30 min", "预警，未来 30 分钟"),
    "coming.none": ("Nothing expected", "暂无预警"),
    "coming.none_hint": (
        "Roads that will probably be congested soon appear here with their probability.",
        "可能很快拥堵的道路会在此显示概率。",
    ),
    "coming.within": ("≤{min} min", "≤{min} 分钟"),
    "coming.within_hint": ("Expected within {min} min", "预计 {min} 分钟内出现"),
    "coming.speed": ("{speed} km/h, usual {expected}", "{speed} 公里/时，常态 {expected}"),
    "coming.speed_hint": (
        "Now {speed} km/h; at this minute of such days {expected} km/h",
        "现在 {speed} 公里/时；同类日同一时刻 {expected} 公里/时",
    ),
    "coming.probability": (
        "Probability of light congestion or worse: {p}",
        "出现轻度及以上拥堵的概率：{p}",
    ),
    "coming.replay": ("Warnings are not kept in a replay", "回放不保存预警"),
    "coming.replay_hint": (
        "Those that became alerts are in the list above.",
        "已成为告警的预警见上方列表。",
    ),
    # the ranking
    "ranking.title": ("Worst now", "当前最堵"),
    "ranking.hint": ("by delay", "按延误"),
    "ranking.number": ("#", "#"),
    "ranking.road": ("road", "道路"),
    "ranking.delay": ("delay veh·h/h", "延误 车·时/时"),
    "ranking.speed": ("speed", "车速"),
    "ranking.tti": ("TTI", "TTI"),
    "ranking.since": ("since", "开始"),
    "ranking.number_hint": ("Rank by delay", "按延误排名"),
    "ranking.road_hint": (
        "Congested neighbours of one road and direction, with the crossing roads before and after",
        "同一道路同一方向相邻拥堵路段，及其前后相交道路",
    ),
    "ranking.delay_hint": (
        "Vehicle-hours lost against free flow, per hour, in the last closed minute",
        "最近一分钟内相对自由流每小时损失的车·时",
    ),
    "ranking.speed_hint": ("Vehicle-kilometres divided by vehicle-hours", "车·公里除以车·时"),
    "ranking.tti_hint": (
        "Travel time index: travel time divided by that at free flow",
        "行程时间指数：行程时间与自由流行程时间之比",
    ),
    "ranking.since_hint": (
        "Congested without a break since; – where no segment is at light congestion or worse",
        "持续拥堵起始时间；– 表示未达轻度拥堵",
    ),
    "ranking.none": ("No congestion", "无拥堵"),
    "ranking.none_hint": ("The roads that lose most time are listed here.", "此处列出延误最多的道路。"),
    # the city's day
    "index.title": ("City index today", "今日城市指数"),
    "index.hint": ("TPI by DTP, 0 to 10", "TPI（DTP），0–10"),
    "index.today": ("today", "今日"),
    "index.typical": ("typical {day}", "常态{day}"),
    "index.forecast": ("forecast, 80 %", "预测，80 %"),
    "index.day.weekday": ("weekday", "工作日"),
    "index.day.saturday": ("Saturday", "周六"),
    "index.day.sunday": ("Sunday", "周日"),
    "index.none": ("No closed minute yet", "尚无完整的一分钟"),
    "index.label": ("Chart of the congestion index today against the typical day", "今日拥堵指数与常态对比图"),
    # one segment
    "segment.close": ("Close", "关闭"),
    "segment.free_flow": ("free flow", "自由流"),
    "segment.typical_now": ("typical now", "此刻常态"),
    "segment.limit": ("limit", "限速"),
    "segment.length": ("length", "长度"),
    "segment.lanes": ("lanes", "车道"),
    "segment.day": ("Speed today, km/h", "今日车速，公里/时"),
    "segment.day_label": (
        "Chart of this segment's speed today, its typical day and the forecast",
        "该路段今日车速、常态与预测图",
    ),
    "segment.detectors": ("Sensors", "检测器"),
    "segment.no_detectors": ("None: what is shown is not measured here", "无：此处数值非实测"),
    "segment.alerts": ("Alerts here", "此处告警"),
    "segment.no_alerts": ("None", "无"),
    "segment.reverse": ("Other direction", "反方向"),
    "segment.failed": ("This segment could not be loaded", "路段加载失败"),
    "segment.today": ("today", "今日"),
    "segment.typical": ("typical", "常态"),
    "segment.forecast": ("forecast", "预测"),
    "segment.none": ("No observation today", "今日无观测"),
    "detector.kind.loop": ("loop", "线圈"),
    "detector.kind.radar": ("radar", "雷达"),
    "detector.kind.camera": ("camera", "摄像机"),
    "detector.kind.probe": ("probe", "浮动车"),
    "detector.kind.single": ("single loop", "单线圈"),
    "detector.kind.bus": ("bus", "公交车"),
    "detector.kind.station": ("station", "断面站"),
    "detector.state.ok": ("reporting", "正常"),
    "detector.state.silent": ("silent", "静默"),
    "detector.state.doubtful": ("doubtful", "可疑"),
    "detector.state.unknown": ("not heard yet", "尚未上报"),
    "detector.reason.stuck": ("repeats one reading", "数据不变"),
    "detector.reason.locked": ("covered, nobody passes", "持续占用、无车通过"),
    "detector.reason.overcounting": ("counts too many", "计数过多"),
    "detector.reason.source": ("its source doubts it", "数据源标记异常"),
    # ages
    "age.s": ("{n} s", "{n} 秒"),
    "age.min": ("{n} min", "{n} 分钟"),
    "age.h": ("{n} h {min} min", "{n} 小时 {min} 分"),
    "age.d": ("{n} d", "{n} 天"),
    "list.separator": (" · ", " · "),
}


def text(key: str, language: Language, **places: object) -> str:
    """Return one text with its places filled.

    Raises
    ------
    KeyError
        If there is no such key: a text that is missing is a fault of the program, not of its user.

    Examples
    --------
    >>> text("status.feeds", "en", ok=2, all=3)
    'feeds 2 of 3'
    """
    return _TABLE[key][LANGUAGES.index(language)].format(**places)


def catalogue(language: Language) -> dict[str, str]:
    """Return all texts of one language, for the browser."""
    column = LANGUAGES.index(language)
    return {key: row[column] for key, row in _TABLE.items()}


def preferred_language(cookies: Mapping[str, str], accept_language: str) -> Language:
    """Return the language to start with: the cookie's, else the browser's first that we have, else English.

    Examples
    --------
    >>> preferred_language({}, "de-DE, zh-CN;q=0.9, en;q=0.8")
    'zh'
    >>> preferred_language({"citybrain_language": "en"}, "zh")
    'en'
    """
    chosen = cookies.get("citybrain_language")
    wanted = [chosen or "", *(part.split(";")[0].strip()[:2].lower() for part in _by_weight(accept_language))]
    return next((language for want in wanted for language in LANGUAGES if language == want), "en")


def _by_weight(accept_language: str) -> list[str]:
    """Split an Accept-Language header, heaviest first; what carries no readable weight counts as 1."""

    def weight(part: str) -> float:
        _, _, q = part.partition("q=")
        try:
            return float(q) if q else 1.0
        except ValueError:
            return 1.0

    return sorted(accept_language.split(","), key=weight, reverse=True)

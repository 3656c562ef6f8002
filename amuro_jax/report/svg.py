"""Figures drawn for the page: one SVG per panel, text in the page's own font, colours as CSS
variables so that light and dark follow the page. No jax.
"""

import html
import math

from amuro_jax.analyses import words
from amuro_jax.analyses.figures import (
    FigureSpec,
    HeatPanel,
    IntervalPanel,
    LegendEntry,
    LinePanel,
    Series,
)

# Sizes in user units. A panel is shown between 0.9 and 1.4 times as large, so that text of 12 units
# is between 11 and 17 pixels high.
SMALL, LARGE = (330, 236), (400, 260)  # one of many panels, an only one
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 42
LABEL = 58  # at the right, for the name of a level
ROW = 24
LEAST = 240  # of an interval's scale, behind its labels
CHARACTER = 6.6  # mean width of a character of 12 units
MOST_OPACITY = 0.42  # of a heat map's cell: text on it keeps 4.5:1


def draw(spec: FigureSpec) -> list[str]:
    """Each panel as an SVG element."""
    size = LARGE if len(spec.panels) == 1 else SMALL
    makers = {LinePanel: _lines, IntervalPanel: _intervals, HeatPanel: _heat}
    return [makers[type(panel)](panel, size) for panel in spec.panels]


def legend_key(entry: LegendEntry) -> str:
    """The sign of a legend's entry."""
    parts = []
    if entry.line:
        dash = ' stroke-dasharray="5 3"' if entry.dashed else ""
        parts.append(f'<path d="M0 7H26" stroke="{_color(entry.color)}" stroke-width="2"{dash}/>')
    if entry.marker:
        parts.append(_marker(entry.marker, 13, 7, 4.5, entry.color))
    return f'<svg viewBox="0 0 26 14" aria-hidden="true">{"".join(parts)}</svg>'


def width(spec: FigureSpec) -> int:
    """Widest that the figure's panel is shown, in pixels."""
    panel = spec.panels[0]
    if isinstance(panel, HeatPanel):
        return int(1.2 * _heat_size(panel)[0])
    return int(1.4 * LARGE[0])


def _color(role):
    return f"var(--c-{role})"


def _element(size, title, parts):
    label = html.escape(title, quote=True)
    wide, high = (f"{value:.0f}" for value in size)
    return (
        f'<svg viewBox="0 0 {wide} {high}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def _text(x, y, text, anchor="middle", kind="", turned=False):
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    name = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}{turn}>'
        f"{html.escape(str(text))}</text>"
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` round numbers (1, 2, 2.5 or 5 times a power of ten apart) in a range."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 2.5, 5, 10, 20):
        step = factor * power
        first = math.ceil(low / step - 1e-9)
        count = math.floor(high / step + 1e-9) - first + 1
        if count <= most:
            return [round((first + index) * step, 12) for index in range(count)]
    return [low]


def number(value: float) -> str:
    """An axis label: no trailing zeros, a true minus."""
    return f"{value:.6g}".replace("-", "−")


def _lines(panel, size):
    wide, high = size
    right = LABEL if any(level.label for level in panel.levels) else RIGHT
    x0, x1, y0, y1 = LEFT, wide - right, high - BOTTOM, TOP
    low, up = panel.y.low, panel.y.high

    def at_x(value):
        return x0 + (value - panel.x.low) / (panel.x.high - panel.x.low) * (x1 - x0)

    def at_y(value):
        return y0 + (value - low) / (up - low) * (y1 - y0)

    if low is None:
        return _element(size, panel.title, [_text(wide / 2, high / 2, "no scores")])
    parts = []
    for value in ticks(low, up):
        y = at_y(value)
        parts.append(f'<path class="grid" d="M{x0} {y:.1f}H{x1}"/>')
        parts.append(_text(x0 - 6, y + 4, number(value), "end"))
    for value, label in panel.x.ticks:
        parts.append(_text(at_x(value), y0 + 17, label))
    parts.append(f'<path class="axis" d="M{x0} {y0}H{x1}"/>')
    for level in panel.levels:
        y = at_y(level.value)
        parts.append(f'<path class="level" d="M{x0} {y:.1f}H{x1}"/>')
        if level.label:
            parts.append(_text(x1 + 5, y + 4, level.label, "start", "soft"))
    for line in panel.series:
        parts.append(_band(line, at_x, at_y))
    for line in panel.series:
        parts.append(_line(line, at_x, at_y))
    parts.append(_text((x0 + x1) / 2, high - 6, panel.x.title, kind="soft"))
    parts.append(_text(13, (y0 + y1) / 2, panel.y.title, kind="soft", turned=True))
    title = f"{panel.title}: {panel.y.title} by {panel.x.title}".lstrip(": ")
    return _element(size, title, parts)


def _band(line: Series, at_x, at_y):
    known = [
        (at_x(x), at_y(low), at_y(high))
        for x, low, high in zip(line.x, line.low, line.high, strict=False)
        if math.isfinite(low) and math.isfinite(high)
    ]
    if len(known) < 2:
        return ""
    upper = [f"{x:.1f} {high:.1f}" for x, _, high in known]
    lower = [f"{x:.1f} {low:.1f}" for x, low, _ in reversed(known)]
    return f'<path d="M{"L".join([*upper, *lower])}Z" fill="{_color(line.color)}" opacity=".17"/>'


def _line(line: Series, at_x, at_y):
    points = [(at_x(x), at_y(y)) for x, y in zip(line.x, line.y, strict=True)]
    dash = ' stroke-dasharray="5 3"' if line.dashed else ""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    parts = [f'<path class="line" d="M{path}" stroke="{_color(line.color)}"{dash}/>'] * bool(points)
    for index, (x, y) in enumerate(points):
        name = line.names[index] if line.names else ""
        mark = _marker(line.marker, x, y, 3.6, line.color)
        parts.append(_point(mark, f"{line.label}, {name}: {_value(line, index)}", name))
    label = html.escape(line.label, quote=True)
    return f'<g class="series" data-series="{label}">{"".join(parts)}</g>'


def _point(mark, title, at=""):
    """A marker with its value, and the checkpoint it belongs to, for readers who point at it."""
    title, at = html.escape(title, quote=True), html.escape(at, quote=True)
    attribute = f' data-at="{at}"' if at else ""
    return f'<g data-value="{title}"{attribute}>{mark}<title>{title}</title></g>'


def _value(line, index):
    text = f"{line.y[index]:.3f}"
    if index < len(line.low) and math.isfinite(line.low[index]):
        text += f" ({line.low[index]:.3f} to {line.high[index]:.3f})"
    return text.replace("-", "−")


def _marker(marker, x, y, r, role):
    shapes = {
        "square": f"M{x - r:.1f} {y - r:.1f}h{2 * r:.1f}v{2 * r:.1f}h-{2 * r:.1f}z",
        "triangle": f"M{x:.1f} {y - r * 1.2:.1f}l{r * 1.2:.1f} {r * 2.1:.1f}h-{r * 2.4:.1f}z",
        "down": f"M{x:.1f} {y + r * 1.2:.1f}l{r * 1.2:.1f} -{r * 2.1:.1f}h-{r * 2.4:.1f}z",
        "diamond": f"M{x:.1f} {y - r * 1.3:.1f}l{r * 1.3:.1f} {r * 1.3:.1f}"
        f"l-{r * 1.3:.1f} {r * 1.3:.1f}l-{r * 1.3:.1f} -{r * 1.3:.1f}z",
        "plus": f"M{x - r / 2.5:.1f} {y - r:.1f}h{r * 0.8:.1f}v{r * 0.6:.1f}h{r * 0.6:.1f}"
        f"v{r * 0.8:.1f}h-{r * 0.6:.1f}v{r * 0.6:.1f}h-{r * 0.8:.1f}v-{r * 0.6:.1f}"
        f"h-{r * 0.6:.1f}v-{r * 0.8:.1f}h{r * 0.6:.1f}z",
    }
    if marker in shapes:
        return f'<path d="{shapes[marker]}" fill="{_color(role)}"/>'
    # A line without markers still has points to point at.
    unseen = "" if marker else ' opacity="0"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{_color(role)}"{unseen}/>'


def _intervals(panel, size):
    high = ROW * len(panel.rows) + BOTTOM + TOP
    left = 14 + CHARACTER * max(len(row.label) for row in panel.rows)
    wide = max(size[0], left + LEAST)
    x0, x1, y0 = left, wide - RIGHT - 6, high - BOTTOM
    ends = [v for row in panel.rows for v in (row.value, row.low, row.high) if math.isfinite(v)]
    low, up = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.05 * (up - low or 1)
    low, up = low - margin, up + margin

    def at_x(value):
        return x0 + (value - low) / (up - low) * (x1 - x0)

    parts = []
    for value in ticks(low, up, 4):
        parts.append(f'<path class="grid" d="M{at_x(value):.1f} {TOP}V{y0}"/>')
        parts.append(_text(at_x(value), y0 + 17, number(value)))
    parts.append(f'<path class="axis" d="M{at_x(0):.1f} {TOP}V{y0}"/>')
    for index, row in enumerate(panel.rows):
        y = TOP + ROW * (index + 0.5)
        parts.append(_text(x0 - 8, y + 4, row.label, "end"))
        interval = ""
        if math.isfinite(row.low):
            interval = f" ({row.low:+.3f} to {row.high:+.3f})"
            parts.append(
                f'<path d="M{at_x(row.low):.1f} {y:.1f}H{at_x(row.high):.1f}" '
                f'stroke="{_color(row.color)}" stroke-width="2.5"/>'
            )
        mark = _marker(row.marker, at_x(row.value), y, 4.5, row.color)
        title = f"{row.label}: {row.value:+.3f}{interval}".replace("-", "−")
        parts.append(_point(mark, title))
    parts.append(_text((x0 + x1) / 2, high - 6, panel.x.title, kind="soft"))
    return _element((wide, high), panel.title or panel.x.title, parts)


CELL = (88, 46)


def _heat_size(panel):
    left = 30 + CHARACTER * max(map(len, panel.rows))
    return left + CELL[0] * len(panel.columns) + 6, CELL[1] * len(panel.rows) + 58


def _heat(panel, _):
    size = _heat_size(panel)
    left, parts = 30 + CHARACTER * max(map(len, panel.rows)), []
    for y, name in enumerate(panel.rows):
        middle = CELL[1] * (y + 0.5)
        parts.append(_text(left - 8, middle + 4, name, "end"))
        for x in range(len(panel.columns)):
            value, half = panel.values[y][x], panel.half_widths[y][x]
            if not math.isfinite(value):
                continue
            role = "less" if value < 0 else "more"
            share = min(1.0, abs(value) / panel.limit)
            centre = left + CELL[0] * (x + 0.5)
            parts.append(
                f'<rect x="{centre - CELL[0] / 2 + 2:.1f}" y="{CELL[1] * y + 2:.1f}" '
                f'width="{CELL[0] - 4}" height="{CELL[1] - 4}" rx="4" fill="{_color(role)}" '
                f'opacity="{0.06 + (MOST_OPACITY - 0.06) * share:.3f}"/>'
            )
            parts.append(_text(centre, middle - 1, words.signed(value, 2)))
            if math.isfinite(half):
                parts.append(_text(centre, middle + 14, f"± {half:.2f}", kind="small"))
    bottom = CELL[1] * len(panel.rows)
    for x, name in enumerate(panel.columns):
        for row, piece in enumerate(_broken(name)):
            parts.append(_text(left + CELL[0] * (x + 0.5), bottom + 16 + 14 * row, piece))
    middle = left + CELL[0] * len(panel.columns) / 2
    parts.append(_text(middle, bottom + 52, panel.column_title, kind="soft"))
    parts.append(_text(12, bottom / 2, panel.row_title, kind="soft", turned=True))
    title = f"{panel.title or 'changes'}, {panel.row_title}, {panel.column_title}"
    return _element(size, title, parts)


def _broken(name):
    """A name in two lines where it is too wide for a column."""
    head, joint, tail = name.partition("_")
    return [head + joint, tail] if tail and len(name) * CHARACTER > CELL[0] else [name]

// The table of scores: a row per set, model and format with a small curve, sorted by any column.

function drawScores(root, lines, studies) {
  const study = studies[0], places = view.checkpoints(study);
  const heads = [["set", "set"], ["model", "model"], ["format", "format"], ["", "trend"], ["change", "last − first"],
    ...places.map((i) => [`at-${study.checkpoints[i].name}`, study.checkpoints[i].step === null ? study.checkpoints[i].name : short(study.checkpoints[i].step)])];
  const values = (line) => {
    const at = places.map((i) => (line.study === study ? i : line.study.placeOf(study.checkpoints[i])));
    return at.map((i) => (i >= 0 && line.cells[i] >= 0 ? line.study.at(line.cells[i]) : null));
  };
  const rows = lines.map((line) => ({ line, cells: values(line) }));
  sortRows(rows, places.map((i) => study.checkpoints[i].name));
  root.replaceChildren(
    make("thead", {}, make("tr", {}, heads.map(([name, words], place) => head(name, words, study.checkpoints[places[place - 5]])))),
    make("tbody", { id: "score-rows" }, rows.map((row, i) => scoreRow(row, rows[i - 1], places))),
  );
}

function head(name, words, checkpoint) {
  const [column, way] = view.sort.split(/:(?=\w+$)/);
  const kind = ["set", "model", "format"].includes(name) ? "words" : null;
  if (!name) return make("th", { scope: "col" }, words);
  const sorted = column === name ? way : null;
  const next = sorted === "descending" ? "" : `${name}:${sorted ? "descending" : "ascending"}`;
  const button = make("button", { type: "button", title: checkpoint?.name, onclick: () => view.change({ sort: next }) }, words);
  return make("th", { scope: "col", class: kind, "aria-sort": sorted }, button);
}

function changeOf(cells) {
  const known = cells.filter((cell) => cell && cell.value !== null);
  return known.length < 2 ? null : known.at(-1).value - known[0].value;
}

function sortRows(rows, names) {
  const [column, way] = view.sort.split(/:(?=\w+$)/);
  if (!column) return;
  const value = ({ line, cells }) => {
    if (column === "change") return changeOf(cells);
    if (column.startsWith("at-")) return cells[names.indexOf(column.slice(3))]?.value ?? null;
    return { set: line.set, model: line.label, format: line.format }[column] ?? null;
  };
  const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  rows.sort((one, other) => {
    const a = value(one), b = value(other);
    if (a === null || b === null) return (a === null) - (b === null); // the missing come last
    return (way === "descending" ? -1 : 1) * order(a, b);
  });
}

function scoreRow({ line, cells }, before, places) {
  const first = !before || before.line.set !== line.set;
  const known = line.study.common[line.study.sets.findIndex((one) => one.name === line.set)] ?? [];
  const change = changeOf(cells);
  const name = make("th", { scope: "row" }, first || view.sort ? make("b", {}, line.set) : make("span", { class: "again" }, line.set),
    (first || view.sort) && known.length ? dot(line.study, known) : null);
  return make("tr", { class: `${line.kind === "base" ? "base" : "tuned"}${first && !view.sort ? " first" : ""}`, "data-line": `${line.order}.${line.study.place}`, "data-task": line.set, "data-model": line.kind },
    name,
    make("td", { class: "words" }, line.label, line.study.place ? make("small", {}, ` ${line.study.name}`) : null),
    make("td", { class: "words" }, line.format, make("small", {}, ` ${line.shots}-shot`)),
    make("td", {}, spark(cells)),
    make("td", {}, change === null ? "–" : signed(change)),
    cells.map((cell, i) => scoreCell(cell, places[i], known)));
}

function scoreCell(cell, place, known) {
  if (!cell) return make("td", { "data-at": place }, make("small", {}, "missing"));
  const flags = cell.study.flagsAt(cell.i).filter((flag) => !known.includes(flag));
  const half = cell.low === null ? "" : ` ±${((cell.high - cell.low) / 2).toFixed(3).replace(/^0/, "")}`;
  const button = make("button", { type: "button", "aria-haspopup": "dialog", "data-key": cell.key, onclick: () => openCell(cell.study, cell.key) },
    fixed(cell.value), make("small", {}, half));
  return make("td", { "data-at": place }, button, flags.length ? dot(cell.study, flags) : null);
}

function dot(study, flags) {
  const words = flags.map((flag) => `${study.flags[flag].code.replaceAll("_", " ")}: ${study.flags[flag].what}`).join("; ");
  const kind = study.worst(flags);
  const target = document.getElementById(`flag-${study.flags[flags[0]].code}`) ? `#flag-${study.flags[flags[0]].code}` : null;
  return make("a", { class: `dot ${kind}`, href: target, role: target ? null : "img", title: words, "aria-label": `${kind}: ${words}` });
}

function spark(cells) {
  const known = cells.map((cell, i) => [i, cell?.value ?? null]).filter(([, value]) => value !== null);
  if (known.length < 2) return null;
  const values = known.map(([, value]) => value), low = Math.min(...values), high = Math.max(...values);
  const points = known.map(([i, value]) => `${(2 + (i / (cells.length - 1)) * 68).toFixed(1)} ${(18 - ((value - low) / (high - low || 1)) * 16).toFixed(1)}`);
  return make("svg", { class: "spark", viewBox: "0 0 72 20", "aria-hidden": "true" }, make("svg:path", { d: `M${points.join("L")}` }));
}

// What is shown, as a table for other programs.
function toCsv(lines) {
  const quote = (value) => (/[",\n]/.test(value ?? "") ? `"${String(value).replaceAll('"', '""')}"` : (value ?? ""));
  const heads = ["study", "task", "tuned_on", "format", "shots", "metric", "checkpoint", "step", "tokens", "value", "low", "high", "n", "baseline", "flags", "key"];
  const rows = lines.flatMap((line) => view.checkpoints(line.study).filter((i) => line.cells[i] >= 0).map((i) => {
    const cell = line.study.at(line.cells[i]), at = line.study.checkpoints[i];
    return [line.study.name, line.set, line.tuned, line.format, line.shots, line.about.metric, at.name, at.step, at.tokens, cell.value, cell.low, cell.high, cell.n, cell.baseline, cell.flags.map((flag) => line.study.flags[flag].code).join(" "), cell.key];
  }));
  return [heads, ...rows].map((row) => row.map(quote).join(",")).join("\n") + "\n";
}

// The panels as one SVG file with the page's colours written out.
function toSvg(root) {
  const panels = all(".panel", root), columns = Math.min(3, panels.length || 1);
  const style = getComputedStyle(document.documentElement), value = (name) => style.getPropertyValue(name).trim();
  const rules = `text{font:12px sans-serif;fill:${value("--ink")}}.soft{fill:${value("--soft")}}.grid{stroke:${value("--line")}}.axis{stroke:${value("--ink")}}.level{stroke:${value("--soft")};stroke-dasharray:3 3}.line{fill:none;stroke-width:2}.guide,.ring{display:none}`;
  const rows = Math.ceil(panels.length / columns), wide = panels[0]?.querySelector("svg").viewBox.baseVal.width ?? PLOT;
  const out = make("svg", { xmlns: SVG, viewBox: `0 0 ${columns * wide} ${rows * (HIGH + 24)}` }, make("svg:style", {}, rules),
    make("svg:rect", { width: "100%", height: "100%", fill: value("--paper") }));
  panels.forEach((panel, i) => {
    const group = make("svg:g", { transform: `translate(${(i % columns) * wide} ${Math.floor(i / columns) * (HIGH + 24) + 20})` },
      make("svg:text", { x: LEFT, y: -4, "font-weight": "bold" }, panel.dataset.set));
    group.append(...[...panel.querySelector("svg").childNodes].map((one) => one.cloneNode(true)));
    out.append(group);
  });
  return new XMLSerializer().serializeToString(out).replace(/var\((--[\w-]+)\)/g, (_, name) => value(name));
}

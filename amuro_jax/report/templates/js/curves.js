// Curves over pre-training: a panel per set, drawn again at every choice. Pointing at a point tells
// its value, marks the same checkpoint in all panels and its column in the table, and fades what is
// not of the same model and format.

const HIGH = 250, PLOT = 232, LEFT = 46, TOP = 12, BOTTOM = 40;
const LABELS = { short: 82, long: 136 }; // behind the lines: a model, or a model and more
const MARKS = ["circle", "square", "triangle", "diamond", "down"];
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 4"];
const COLORS = { base: "base", "fine-tuned": "tuned", others: "d" };
const MOST_LABELS = 9; // behind a panel's lines; the others are read by pointing
const MOST_BANDS = 4; // lines of a panel; more bands would hide each other

// Where checkpoints lie: a function of (study, place of the checkpoint), range, title and ticks.
function horizontal(studies) {
  const kind = view.axis || usualAxis(studies[0]);
  const [what, scale] = kind.split("-");
  const raw = (study, i) => (what === "order" ? i : study.checkpoints[i][what]);
  const known = studies.flatMap((study) => view.checkpoints(study).map((i) => raw(study, i))).filter((one) => one !== null);
  const least = Math.min(...known.filter((one) => one > 0));
  // Step 0 has no logarithm: it is drawn half a factor of ten before the first other one.
  const turn = scale === "log" ? (value) => Math.log10(value > 0 ? value : least / 3) : (value) => value;
  const at = (study, i) => (raw(study, i) === null ? null : turn(raw(study, i)));
  const ends = known.map(turn), low = Math.min(...ends), high = Math.max(...ends);
  const margin = 0.04 * (high - low || 1), main = studies[0];
  const labels = view.checkpoints(main).filter((i) => at(main, i) !== null)
    .map((i) => [at(main, i), what === "order" && main.checkpoints[i].step === null ? main.checkpoints[i].name : short(what === "order" ? main.checkpoints[i].step : raw(main, i))]);
  const title = { step: "pre-training steps", tokens: "pre-training tokens", order: "pre-training steps, evenly spaced" }[what];
  return { at, low: low - margin, high: high + margin, labels, title: scale === "log" ? `${title} (log)` : title };
}

// Steps on a log scale where checkpoints are spread over it, else evenly spaced: as in the report's
// figures (analyses/figures.py, `track`).
function usualAxis(study) {
  const steps = study.checkpoints.map((one) => one.step);
  if (!steps.every((step) => step > 0)) return "order";
  const gaps = steps.slice(1).map((step, i) => Math.log10(step / steps[i]));
  const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
  return gaps.length < 2 || Math.min(...gaps) > mean / 4 ? "step-log" : "order";
}

function axes(study) {
  const known = (name) => study.checkpoints.every((one) => one[name] !== null);
  return [
    ...(known("step") ? [["step-log", "steps (log)"], ["step", "steps"]] : []),
    ...(known("tokens") ? [["tokens-log", "tokens (log)"], ["tokens", "tokens"]] : []),
    ["order", "evenly spaced"],
  ];
}

// Points of a line at the chosen checkpoints.
function pointsOf(line, x) {
  return view.checkpoints(line.study).filter((i) => line.cells[i] >= 0 && x.at(line.study, i) !== null)
    .map((i) => ({ line, place: i, x: x.at(line.study, i), cell: line.study.at(line.cells[i]) }))
    .filter((point) => point.cell.value !== null);
}

function looks(line, formats) {
  const format = Math.max(0, formats.indexOf(line.format));
  return {
    color: `var(--c-${COLORS[line.kind]})`,
    dash: line.study.place ? "3 4" : DASHES[format % DASHES.length],
    mark: MARKS[line.model % MARKS.length],
    hollow: line.study.place === 1,
  };
}

function nameOf(line, many) {
  const model = line.kind === "fine-tuned" && line.about.own.length === 1 ? "fine-tuned" : line.tuned || "base";
  const format = many.formats ? `, ${line.format}` : "";
  return `${model}${format}${many.shots ? `, ${line.shots} shots` : ""}${line.study.place ? ` (${line.study.name})` : ""}`;
}

function drawCurves(root, lines, studies) {
  root.replaceChildren();
  if (!lines.length) return root.append(make("p", { class: "note" }, "Nothing is chosen."));
  const x = horizontal(studies), sets = [...new Set(lines.map((line) => line.set))];
  const formats = studies[0].formats;
  const many = { formats: new Set(lines.map((line) => line.format)).size > 1 && view.formats, shots: view.shots };
  const ranges = {};
  for (const line of lines) {
    const name = view.range === "own" ? line.set : line.about.metric;
    ranges[name] ??= [];
    for (const { cell } of pointsOf(line, x)) ranges[name].push(cell.value, cell.low ?? cell.value, cell.high ?? cell.value, cell.baseline ?? cell.value);
  }
  const right = many.formats || many.shots || studies.length > 1 ? LABELS.long : LABELS.short;
  for (const set of sets) {
    const own = lines.filter((line) => line.set === set);
    root.append(drawPanel(set, own, x, ranges[view.range === "own" ? set : own[0].about.metric], formats, many, right));
  }
}

function drawPanel(set, lines, x, values, formats, many, right) {
  const wide = LEFT + PLOT + right, end = LEFT + PLOT;
  const metric = lines[0].about.metric;
  const svg = make("svg", { viewBox: `0 0 ${wide} ${HIGH}`, role: "group", tabindex: 0,
    "aria-label": `${set}: ${metric} by ${x.title}. Arrow keys read the points, Enter opens one.` });
  const low = Math.min(...values), high = Math.max(...values), margin = 0.05 * (high - low || 0.1);
  const atX = (value) => LEFT + ((value - x.low) / (x.high - x.low)) * PLOT;
  const atY = (value) => HIGH - BOTTOM - ((value - low + margin) / (high - low + 2 * margin)) * (HIGH - BOTTOM - TOP);
  const text = (xx, y, words, anchor = "middle", kind = null) =>
    make("svg:text", { x: xx.toFixed(1), y: y.toFixed(1), "text-anchor": anchor, class: kind }, words);
  for (const value of ticks(low - margin, high + margin)) {
    svg.append(make("svg:path", { class: "grid", d: `M${LEFT} ${atY(value).toFixed(1)}H${end}` }), text(LEFT - 6, atY(value) + 4, minus(value), "end"));
  }
  let last = Infinity;
  for (const [value, label] of [...x.labels].reverse()) {
    if (last - atX(value) < 34) continue;
    last = atX(value);
    svg.append(text(last, HIGH - BOTTOM + 17, label));
  }
  svg.append(make("svg:path", { class: "axis", d: `M${LEFT} ${HIGH - BOTTOM}H${end}` }), text((LEFT + end) / 2, HIGH - 5, x.title, "middle", "soft"));
  const drawn = lines.map((line) => ({ line, points: pointsOf(line, x), look: looks(line, formats) }));
  const height = drawn.flatMap(({ points }) => points.map((point) => point.cell.baseline)).filter((one) => one > 0).at(-1);
  const labels = [];
  if (height) {
    svg.append(make("svg:path", { class: "level", d: `M${LEFT} ${atY(height).toFixed(1)}H${end}` }));
    labels.push({ y: atY(height), words: "baseline", kind: "soft" });
  }
  const guide = make("svg:path", { class: "guide", d: `M0 ${TOP}V${HIGH - BOTTOM}` });
  svg.append(guide);
  for (const { line, points, look } of drawn) {
    if (!points.length) continue;
    const group = make("svg:g", { class: "curve", "data-same": `${line.kind}|${line.format}|${line.study.place}` });
    const path = points.map((point) => `${atX(point.x).toFixed(1)} ${atY(point.cell.value).toFixed(1)}`).join("L");
    const known = points.filter((point) => point.cell.low !== null);
    if (known.length > 1 && lines.length <= MOST_BANDS) {
      const up = known.map((point) => `${atX(point.x).toFixed(1)} ${atY(point.cell.high).toFixed(1)}`);
      const down = known.map((point) => `${atX(point.x).toFixed(1)} ${atY(point.cell.low).toFixed(1)}`).reverse();
      group.append(make("svg:path", { d: `M${[...up, ...down].join("L")}Z`, fill: look.color, opacity: 0.15 }));
    }
    group.append(make("svg:path", { class: "line", d: `M${path}`, stroke: look.color, "stroke-dasharray": look.dash || null }));
    for (const point of points) {
      point.sx = atX(point.x);
      point.sy = atY(point.cell.value);
      const grave = line.study.worst(line.study.flagsAt(point.cell.i)) === "error";
      group.append(make("svg:path", { class: "mark", d: marker(look.mark, point.sx, point.sy, 3.6), fill: look.hollow ? "var(--paper)" : look.color, stroke: look.color }));
      if (grave) group.append(make("svg:path", { class: "ring", d: marker("circle", point.sx, point.sy, 7) }));
    }
    svg.append(group);
    labels.push({ y: points.at(-1).sy, words: nameOf(line, many), color: look.color });
  }
  spread(labels).forEach(({ y, words, color, kind }) => {
    const label = text(end + 7, y + 4, words.length * 6.2 > right ? `${words.slice(0, Math.floor(right / 6.2) - 1)}…` : words, "start", kind);
    if (color) label.style.fill = color;
    svg.append(label);
  });
  listen(svg, drawn.flatMap(({ points }) => points), (place) => guide, atX, x);
  return make("div", { class: "panel", "data-set": set }, make("h3", {}, set, " ", make("small", {}, metric)), svg);
}

// Labels at the right end, moved down and then up again so that none covers another.
function spread(labels) {
  const sorted = labels.sort((a, b) => a.y - b.y), high = 13;
  if (sorted.length > MOST_LABELS) return sorted.filter((one) => one.words === "baseline");
  sorted.forEach((one, i) => { one.y = Math.max(one.y, i ? sorted[i - 1].y + high : TOP); });
  let floor = HIGH - BOTTOM;
  for (const one of [...sorted].reverse()) {
    one.y = Math.min(one.y, floor);
    floor = one.y - high;
  }
  return sorted;
}

function listen(svg, points, guideOf, atX, x) {
  svg.points = points;
  svg.guide = (study, place) => {
    const at = x.at(study, place), guide = guideOf(place);
    guide.setAttribute("d", `M${at === null ? 0 : atX(at).toFixed(1)} ${TOP}V${HIGH - BOTTOM}`);
  };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
    const px = (event.clientX - box.x) / scale, py = (event.clientY - box.y) / scale;
    const far = (point) => Math.hypot((point.sx - px) * 1.5, point.sy - py);
    return points.reduce((best, point) => (!best || far(point) < far(best) ? point : best), null);
  };
  svg.addEventListener("pointermove", (event) => point(nearest(event), svg));
  svg.addEventListener("pointerleave", () => point(null));
  svg.addEventListener("click", (event) => nearest(event) && openCell(nearest(event).line.study, nearest(event).cell.key));
  let chosen = -1;
  svg.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!points.length || !(way || event.key === "Enter")) return;
    event.preventDefault(); // Enter would go on to the button that the dialog puts into focus
    if (!way) return points[chosen] && openCell(points[chosen].line.study, points[chosen].cell.key);
    chosen = (chosen + way + points.length) % points.length;
    point(points[chosen], svg);
  });
  svg.addEventListener("blur", () => point(null));
}

// Shows a point's value, and marks what belongs to it everywhere.
function point(found, svg) {
  const note = document.getElementById("tip"), root = document.getElementById("curves");
  note.hidden = !found;
  root.classList.toggle("pointing", Boolean(found));
  all(".linked").forEach((one) => one.classList.remove("linked"));
  all(".near").forEach((one) => one.classList.remove("near"));
  if (!found) return;
  const { line, place, cell } = found, study = line.study;
  const same = `${line.kind}|${line.format}|${study.place}`;
  all(".curve", root).forEach((one) => one.classList.toggle("near", one.dataset.same === same));
  all("#curves svg").forEach((one) => one.guide?.(study, place));
  all(`#score-rows [data-at="${place}"], #score-rows tr[data-line="${CSS.escape(`${line.order}.${study.place}`)}"]`).forEach((one) => one.classList.add("linked"));
  const flags = study.flagsAt(cell.i).map((flag) => study.flags[flag]);
  note.replaceChildren(
    make("b", {}, `${line.set}, ${line.label}`),
    make("span", {}, `${study.checkpoints[place].name} · ${line.format}, ${line.shots} shots${study.place ? ` · ${study.name}` : ""}`),
    make("span", { class: "value" }, `${fixed(cell.value)}${cell.low === null ? "" : ` (${fixed(cell.low)} to ${fixed(cell.high)})`} ${line.about.metric}, ${rowsIn(cell)}`),
    ...flags.slice(0, 3).map((flag) => make("span", { class: "flag" }, `⚑ ${flag.code.replaceAll("_", " ")}: ${flag.what}`)),
  );
  const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
  put(note, box.x + found.sx * scale, box.y + found.sy * scale);
}

function put(note, x, y) {
  const above = y - note.offsetHeight - 12;
  note.style.left = `${Math.max(4, Math.min(innerWidth - note.offsetWidth - 4, x - note.offsetWidth / 2))}px`;
  note.style.top = `${above < 4 ? y + 14 : above}px`;
}

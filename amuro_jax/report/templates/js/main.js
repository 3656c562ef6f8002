// Puts the parts together: controls, curves, table, and the static figures' own hover and sort.
// Everything that the study says is in the page without this script too.

let studies = [];

function chosenLines() {
  return studies.flatMap((study) => study.lines).filter((line) => view.shows(line))
    .sort((a, b) => a.order - b.order || a.study.place - b.study.place);
}

function draw() {
  const lines = chosenLines();
  drawCurves(document.getElementById("curves"), lines, studies);
  drawScores(document.getElementById("score-lines"), lines, studies);
  drawControls();
  const sets = view.sets, kinds = view.models;
  all("section [data-task], figure [data-task]").forEach((one) => {
    one.hidden = Boolean(sets && !sets.includes(one.dataset.task));
  });
  all("[data-series=base], [data-series=fine-tuned]").forEach((one) => {
    one.style.display = kinds.includes(one.dataset.series) ? "" : "none";
  });
  showCell();
}

function menu(name, title, words, ...children) {
  const known = document.getElementById(`menu-${name}`);
  return make("details", { class: "menu", id: `menu-${name}`, open: Boolean(known?.open) },
    make("summary", {}, make("span", {}, title), ` ${words}`), make("div", { class: "sheet" }, children));
}

function boxes(name, title, values, words = (value) => value) {
  const on = (value) => (view[name] ?? values).includes(value);
  const change = (value) => (event) => {
    const kept = values.filter((one) => (one === value ? event.target.checked : on(one)));
    view.change({ [name]: kept.length === values.length ? null : kept });
    document.querySelector(`#menu-${name} input[value="${CSS.escape(value)}"]`)?.focus();
  };
  const count = values.filter(on).length;
  return menu(name, title, count === values.length ? `all ${values.length}` : count <= 2 ? values.filter(on).join(", ") || "none" : `${count} of ${values.length}`,
    make("p", {}, make("button", { type: "button", onclick: () => view.change({ [name]: null }) }, "all"), make("button", { type: "button", onclick: () => view.change({ [name]: [] }) }, "none")),
    values.map((value) => make("label", {}, make("input", { type: "checkbox", value, checked: on(value), onchange: change(value) }), ` ${words(value)}`)));
}

function choice(name, words, options) {
  return make("select", { id: `choose-${name}`, "aria-label": words, onchange: (event) => { view.change({ [name]: event.target.value }); document.getElementById(`choose-${name}`).focus(); } },
    options.map(([value, text]) => make("option", { value, selected: value === view[name] }, text)));
}

const KIND_WORDS = { base: "base", "fine-tuned": "fine-tuned on the set's task", others: "fine-tuned on other tasks" };

function drawControls() {
  const root = document.getElementById("controls"), study = studies[0], finding = document.activeElement?.id === "find";
  const kinds = Object.keys(KIND_WORDS), shots = [...new Set(studies.flatMap((one) => one.cells.shots))].sort((a, b) => a - b).map(String);
  const several = study.sets.some((_, set) => new Set(study.cells.shots.filter((_, i) => study.cells.set[i] === set)).size > 1);
  const names = study.checkpoints.map((one) => [one.name, one.name]);
  const formats = view.formats;
  const formatMenu = menu("formats", "Formats", formats ? formats.join(", ") || "none" : "each set's main one",
    make("label", {}, make("input", { type: "checkbox", checked: !formats, onchange: (event) => view.change({ formats: event.target.checked ? null : [...study.formats] }) }), " each set's main format"),
    study.formats.map((value) => make("label", {}, make("input", { type: "checkbox", value, checked: Boolean(formats?.includes(value)), onchange: (event) => {
      const kept = study.formats.filter((one) => (one === value ? event.target.checked : formats?.includes(one)));
      view.change({ formats: kept.length ? kept : null });
    } }), ` ${value}`)));
  const search = make("input", { id: "find", type: "search", placeholder: "filter", "aria-label": "filter the scores", value: view.find, oninput: (event) => view.change({ find: event.target.value }) });
  const kindMenu = menu("models", "Models", view.models.join(", ") || "none", kinds.map((value) => make("label", {}, make("input", { type: "checkbox", value, checked: view.models.includes(value), onchange: (event) => view.change({ models: kinds.filter((one) => (one === value ? event.target.checked : view.models.includes(one))) }) }), ` ${KIND_WORDS[value]}`)));
  root.replaceChildren(
    boxes("sets", "Sets", study.sets.map((one) => one.name)), kindMenu, formatMenu,
    ...(several ? [boxes("shots", "Shots", shots)] : []),
    menu("checkpoints", "Checkpoints", view.from || view.to ? `${view.from || "first"} to ${view.to || "last"}` : `all ${names.length}`,
      choice("from", "first checkpoint", [["", "from the first"], ...names]), choice("to", "last checkpoint", [["", "to the last"], ...names])),
    choice("axis", "horizontal axis", axes(study).map(([value, words]) => [value === usualAxis(study) ? "" : value, words])),
    choice("range", "vertical range", [["common", "common range"], ["own", "range per set"]]),
    search,
    make("button", { type: "button", onclick: () => view.change({ ...USUAL }) }, "reset"),
    make("span", { class: "downloads" }, make("button", { type: "button", id: "csv", onclick: () => save("scores.csv", "text/csv", toCsv(chosenLines())) }, "CSV"),
      make("button", { type: "button", id: "svg", onclick: () => save("curves.svg", "image/svg+xml", toSvg(document.getElementById("curves"))) }, "SVG")));
  if (finding) {
    search.focus();
    search.setSelectionRange(view.find.length, view.find.length);
  }
}

// The tables and figures of the analyses, which are in the page as they are.
function sortTable(column) {
  const table = column.closest("table"), body = table.tBodies[0], place = column.cellIndex;
  const down = column.getAttribute("aria-sort") === "ascending";
  const value = (row) => {
    const text = row.cells[place].textContent.replace("−", "-"), number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };
  const order = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
  all("th", column.parentNode).forEach((one) => one.removeAttribute("aria-sort"));
  column.setAttribute("aria-sort", down ? "descending" : "ascending");
  [...body.rows].sort((a, b) => (down ? -1 : 1) * order(value(a), value(b))).forEach((row) => body.append(row));
}

function readStatic() {
  all("table.words thead th").forEach((column) => {
    column.replaceChildren(make("button", { type: "button", onclick: () => sortTable(column) }, column.textContent));
  });
  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest?.("[data-value]"), note = document.getElementById("tip");
    all(".same").forEach((one) => one.classList.remove("same"));
    if (!mark) return event.target.closest?.("#curves") || (note.hidden = true);
    note.hidden = false;
    note.replaceChildren(make("span", { class: "value" }, mark.dataset.value));
    const box = mark.getBoundingClientRect();
    put(note, box.x + box.width / 2, box.y);
    if (mark.dataset.at) all("[data-at]").filter((one) => one.dataset.at === mark.dataset.at && one.dataset.value).forEach((one) => one.classList.add("same"));
  });
}

// A link to evidence opens what it leads to.
function unfold() {
  const target = /^#[\w-]+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
  for (let one = target; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
}

async function start() {
  readStatic();
  studies = (await Promise.all(["study", "beside"].map((name) => document.getElementById(name)).filter(Boolean).map(unpack))).map((raw, place) => new Study(raw, place));
  all(".plain-scores").forEach((one) => { one.hidden = true; });
  all(".lively").forEach((one) => { one.hidden = false; });
  view.listeners.push(draw);
  document.addEventListener("click", (event) => {
    // What was clicked may have been drawn anew: then the menu is still in use.
    if (event.target.isConnected) all("details.menu[open]").forEach((one) => { one.open &&= one.contains(event.target); });
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && all("details.menu[open]").forEach((one) => { one.open = false; one.querySelector("summary").focus(); }));
  const dialog = document.getElementById("cell");
  dialog.addEventListener("close", () => view.cell && view.change({ cell: "", row: "" }, true));
  dialog.addEventListener("click", (event) => event.target === dialog && closeCell());
  addEventListener("hashchange", () => { unfold(); view.read(); });
  view.read();
  if (/^#[^=]+$/.test(location.hash)) draw(); // an anchor, which is no view
  unfold();
  document.body.dataset.ready = "yes";
}

start();

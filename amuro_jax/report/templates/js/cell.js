// One score opened: its value and flags, the rows behind it, each row's prompt and candidates, the
// same row under other checkpoints and formats, and how the number was made.

const PAGE = 40; // rows that are listed at once
const TEXT_MOVED = 0.05; // a change of a text's score that counts as a change
const open = { line: null, cell: null, rows: null, before: null, base: null, shown: PAGE };

// A score's name in the address: two studies may have scores of one key.
const nameOfCell = (study, key) => (study.place ? `beside.${key}` : key);

function whereIs(name) {
  const [key, prefix] = name.split(".").reverse();
  const study = studies.find((one) => one.place === (prefix === "beside" ? 1 : 0));
  const i = study?.byKey.get(key);
  if (i === undefined) return null;
  const line = study.lines.find((one) => one.cells.includes(i));
  return { line, cell: study.at(i), place: line.cells.indexOf(i) };
}

function openCell(study, key, row = "") {
  view.change({ cell: nameOfCell(study, key), row: String(row) }, true);
  showCell();
}

function closeCell() {
  document.getElementById("cell").close();
  view.change({ cell: "", row: "" }, true);
}

async function showCell() {
  const dialog = document.getElementById("cell"), found = view.cell && whereIs(view.cell);
  if (!found) return dialog.open && dialog.close();
  const { line, cell, place } = found, study = line.study;
  const key = cell.key, name = view.cell;
  Object.assign(open, { line, cell, place, rows: null, shown: PAGE });
  point(null);
  dialog.replaceChildren(titleOf(line, cell, place), numbers(line, cell), neighbours(line, place),
    make("section", { id: "rows" }, make("p", { class: "note" }, "Reading the rows …")), making(line, cell));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  const other = (which) => (which >= 0 ? store.rowsOf(line, study.cells.key[which]) : null);
  const base = study.lines.find((one) => one.model === 0 && one.set === line.set && one.format === line.format && one.shots === line.shots);
  const before = line.cells.slice(0, place).filter((i) => i >= 0).at(-1) ?? -1;
  const [rows, earlier, first] = await Promise.all([store.rowsOf(line, key), other(before), other(line.model && base ? base.cells[place] : -1)]);
  if (view.cell !== name) return; // another one was opened meanwhile
  Object.assign(open, { rows, before: earlier, base: first });
  drawRows();
}

function titleOf(line, cell, place) {
  const study = line.study, at = study.checkpoints[place];
  return make("header", {},
    make("button", { type: "button", class: "close", "aria-label": "Close", onclick: closeCell }, "×"),
    make("h2", { tabindex: -1, id: "cell-title" }, `${line.set}, ${line.label}`),
    make("p", {}, `${at.name}${at.same ? ` (the same weights as ${at.same})` : ""} · ${line.format} · ${line.shots} shots · ${study.name}`));
}

function numbers(line, cell) {
  const interval = cell.low === null ? "" : ` (95 % interval ${fixed(cell.low)} to ${fixed(cell.high)})`;
  const flags = cell.flags.map((flag) => line.study.flags[flag]);
  return make("div", {},
    make("p", { class: "figure" }, make("b", {}, fixed(cell.value)), ` ${line.about.metric}${interval}, ${rowsIn(cell)}, baseline ${fixed(cell.baseline)}`),
    ...studies.filter((study) => study !== line.study).map((study) => otherValue(study, line, cell)),
    flags.length ? make("ul", { class: "flags" }, flags.map((flag) => make("li", {}, make("span", { class: `tag ${flag.severity}` }, flag.severity), `${flag.code.replaceAll("_", " ")}: ${flag.what}. ${flag.effect[0].toUpperCase()}${flag.effect.slice(1)}.`))) : null);
}

// The same score in the other study, published values for example.
function otherValue(study, line, cell) {
  const place = study.placeOf(line.study.checkpoints[cell.checkpoint]);
  const same = study.lines.find((one) => one.set === line.set && one.tuned === line.tuned && one.format === line.format && one.shots === line.shots);
  const i = place >= 0 && same ? same.cells[place] : -1;
  if (i < 0) return make("p", { class: "note" }, `${study.name} has no such score.`);
  const value = study.cells.value[i];
  return make("p", { class: "other" }, `${study.name}: ${fixed(value)}; the difference to it is ${signed(cell.value - value)}.`);
}

// The scores around this one: its checkpoints × its formats and models.
function neighbours(line, place) {
  const study = line.study, around = study.lines.filter((one) => one.set === line.set && (one.model === line.model || (one.format === line.format && one.shots === line.shots)));
  const row = (one) => make("tr", {}, make("th", { scope: "row" }, `${one.label}, ${one.format}`, make("small", {}, ` ${one.shots}-shot`)),
    one.cells.map((i, at) => make("td", {}, i < 0 ? "" : make("button", { type: "button", "aria-current": one === line && at === place ? "true" : null, onclick: () => openCell(study, study.cells.key[i], view.row) }, fixed(study.cells.value[i])))));
  return make("details", { class: "plain" }, make("summary", {}, "The same set at other checkpoints, in other formats, after other fine-tuning"),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "scores around this one" }, make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "model and format"), study.checkpoints.map((one) => make("th", { scope: "col", title: one.name }, one.step === null ? one.name : short(one.step))))), make("tbody", {}, around.map(row)))));
}

const KINDS = {
  all: ["all rows", () => true],
  right: ["right", (row) => row.score >= 0.5],
  wrong: ["wrong", (row) => row.score < 0.5],
  gained: ["gained by fine-tuning", (row) => row.base !== null && row.score - row.base > TEXT_MOVED],
  lost: ["lost in fine-tuning", (row) => row.base !== null && row.base - row.score > TEXT_MOVED],
  up: ["gained since the checkpoint before", (row) => row.before !== null && row.score - row.before > TEXT_MOVED],
  down: ["lost since the checkpoint before", (row) => row.before !== null && row.before - row.score > TEXT_MOVED],
};

function rowList() {
  const { rows, before, base } = open;
  const scoreIn = (other) => {
    if (!other) return () => null;
    const known = new Map(other.row.map((row, i) => [row, other.score[i]]));
    return (row) => known.get(row) ?? null;
  };
  const [atBefore, atBase] = [scoreIn(before), scoreIn(base)];
  return rows.row.map((row, i) => ({
    i, row, score: rows.score[i], before: atBefore(row), base: atBase(row),
    reference: rows.reference?.[i] ?? "", prediction: rows.prediction?.[i] ?? "",
    logprobs: rows.choice_logprobs?.[i] ?? null,
  }));
}

function drawRows() {
  const root = document.getElementById("rows");
  if (!root) return;
  if (!open.rows) {
    const why = open.line.study.place ? "The rows of the study beside are in its own report."
      : document.body.dataset.served === "yes" ? "This score has no rows (imported results have none)."
        : "The rows of this set are not in the page, which they would make too large. `amuro report --workdir=DIR --serve` shows them.";
    return root.replaceChildren(make("h3", {}, "Rows"), make("p", { class: "note" }, why));
  }
  const list = rowList(), kinds = Object.entries(KINDS).filter(([name]) => (open.base || !["gained", "lost"].includes(name)) && (open.before || !["up", "down"].includes(name)));
  const only = kinds.some(([name]) => name === view.only) ? view.only : "all";
  const chosen = list.filter(KINDS[only][1]);
  const target = list.findIndex((row) => String(row.row) === view.row);
  if (target >= 0 && chosen.indexOf(list[target]) >= open.shown) open.shown = chosen.indexOf(list[target]) + 1;
  const select = make("select", { "aria-label": "which rows", onchange: (event) => { open.shown = PAGE; view.change({ only: event.target.value }, true); drawRows(); } },
    kinds.map(([name, [words, test]]) => make("option", { value: name, selected: name === only }, `${words} (${list.filter(test).length})`)));
  const seeds = open.rows.seeds; // of a mean over training seeds
  root.replaceChildren(make("h3", {}, "Rows"), make("p", { class: "choose" }, select),
    seeds ? make("p", { class: "note" }, `The score is a mean over training seeds ${seeds.seed.join(", ")}: each row has the answers of all of them; candidates are those of seed ${seeds.seed[0]}.`) : "",
    ...chosen.slice(0, open.shown).map(rowItem),
    chosen.length > open.shown ? make("button", { type: "button", class: "more", onclick: () => { open.shown += PAGE; drawRows(); } }, `${chosen.length - open.shown} more`) : "");
}

function rowItem(row) {
  const body = make("div", {}), right = row.score >= 0.5, seeds = seedsOf(row.i);
  const answers = [...new Set(seeds.map((one) => one.prediction))];
  const said = answers.length > 1 ? seeds.map((one) => `seed ${one.seed}: ${one.prediction || "(nothing)"}`).join("; ") : row.prediction || "(nothing)";
  const item = make("details", { class: "row", "data-row": row.row },
    make("summary", {}, make("span", { class: `mark ${right ? "right" : "wrong"}` }, open.line.about.metric === "accuracy" ? rightOf(row, right, seeds) : fixed(row.score, 2)),
      ` ${row.row} `, make("span", { class: "said" }, said), right && row.prediction === row.reference ? "" : make("span", { class: "gold" }, ` gold: ${row.reference}`)), body);
  item.addEventListener("toggle", () => {
    if (item.open && !body.hasChildNodes()) fillRow(body, row);
    if (item.open) view.change({ row: String(row.row) }, true);
  });
  if (String(row.row) === view.row) item.open = true;
  return item;
}

// What each training seed answered to a row; none where one model stands behind the score.
function seedsOf(i) {
  const seeds = open.rows.seeds;
  return seeds ? seeds.seed.map((seed, at) => ({ seed, score: seeds.score[at][i], prediction: seeds.prediction[at][i] })) : [];
}

function rightOf(row, right, seeds) {
  if (!seeds.length) return right ? "✓ right" : "✗ wrong";
  return `${right ? "✓" : "✗"} ${seeds.filter((one) => one.score >= 0.5).length} of ${seeds.length} seeds right`;
}

function bySeed(i) {
  const accuracy = open.line.about.metric === "accuracy", seeds = seedsOf(i);
  if (!seeds.length) return null;
  const cells = (one) => [make("td", {}, one.score === null ? "–" : accuracy ? (one.score >= 0.5 ? "✓ right" : "✗ wrong") : fixed(one.score)), make("td", {}, one.prediction || "(nothing)")];
  return make("div", {}, make("h4", {}, "Training seeds"), make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "training seeds" }, make("table", { class: "words by-seed" },
    make("thead", {}, make("tr", {}, ["seed", accuracy ? "answer is" : "score", "answer"].map((words) => make("th", { scope: "col" }, words)))),
    make("tbody", {}, seeds.map((one) => make("tr", {}, make("th", { scope: "row" }, one.seed ?? "–"), cells(one)))))));
}

async function fillRow(body, row) {
  const { line, cell, rows } = open;
  body.append(make("p", { class: "note" }, "Reading the prompt …"));
  const prompt = await store.promptOf(line, cell.key, row.row);
  body.replaceChildren(prompt ? promptOf(prompt) : make("p", { class: "note" }, "The prompt cannot be rendered again here: data or tokenizer are not where the study had them, or have changed."),
    cutOf(rows, row.i), bySeed(row.i) ?? "", row.logprobs ? candidates(rows, row.i, prompt) : answers(row), elsewhere(line, row.row));
}

function cutOf(rows, i) {
  const dropped = rows.dropped_shots?.[i], cut = rows.cut_tokens?.[i];
  return dropped || cut ? make("p", { class: "note" }, `To fit the context ${dropped ?? 0} shots were dropped and ${cut ?? 0} tokens cut.`) : "";
}

// The prompt, its shots folded, each token in a box of its own where the tokenizer is known.
function promptOf([text, shots, lengths]) {
  const characters = Array.from(text); // Python counts code points
  const pieces = [];
  let at = 0;
  for (const length of lengths.length ? lengths : [shots, characters.length - shots]) {
    pieces.push({ from: at, text: characters.slice(at, at + length).join("") });
    at += length;
  }
  const shown = (piece) => (lengths.length ? make("span", { class: "token" }, piece.text.replaceAll("\n", "⏎\n")) : piece.text);
  const before = pieces.filter((piece) => piece.from < shots).map(shown), after = pieces.filter((piece) => piece.from >= shots).map(shown);
  const tokens = lengths.length ? ` (${lengths.length} tokens)` : "";
  return make("div", {}, make("h4", {}, `Prompt${tokens}`),
    shots ? make("details", { class: "plain" }, make("summary", {}, "Shots"), make("pre", {}, before)) : null, make("pre", { class: "prompt" }, after));
}

function answers(row) {
  return make("dl", {}, make("dt", {}, "generated"), make("dd", {}, row.prediction || "(nothing)"), make("dt", {}, "reference"), make("dd", {}, row.reference));
}

function candidates(rows, i, prompt) {
  const logprobs = rows.choice_logprobs[i], tokens = rows.choice_tokens?.[i], free = rows.choice_logprobs_unconditional?.[i];
  const names = logprobs.map((_, choice) => prompt?.[3][choice]?.trim() ?? (choice === rows.gold?.[i] ? rows.reference[i] : choice === rows.predicted?.[i] ? rows.prediction[i] : `candidate ${choice + 1}`));
  const most = Math.max(...logprobs.filter((one) => one !== null));
  const heads = ["candidate", "log-probability", "per token", ...(free ? ["without context"] : []), "answer"];
  const mass = rows.label_mass?.[i];
  return make("div", {}, make("h4", {}, rows.seeds ? `Candidates, seed ${rows.seeds.seed[0]}` : "Candidates"), make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "candidates" }, make("table", { class: "words" }, make("thead", {}, make("tr", {}, heads.map((words) => make("th", { scope: "col" }, words)))),
    make("tbody", {}, logprobs.map((value, choice) => make("tr", {}, make("th", { scope: "row" }, names[choice]),
      make("td", {}, fixed(value), make("span", { class: "bar", style: `width:${(4 * Math.exp((value ?? -99) - most)).toFixed(2)}rem` })),
      make("td", {}, tokens ? fixed(value / tokens[choice]) : "–"), free ? make("td", {}, fixed(free[choice])) : null,
      make("td", {}, [choice === rows.gold?.[i] ? "gold" : "", choice === rows.predicted?.[i] ? "chosen" : ""].filter(Boolean).join(", "))))))),
    mass === null || mass === undefined ? null : make("p", { class: "note" }, `The candidates together have probability ${mass}.`));
}

// The same row under every model, format and checkpoint of the set.
function elsewhere(line, row) {
  const body = make("div", {}), study = line.study;
  const box = make("details", { class: "plain elsewhere" }, make("summary", {}, "This row under other checkpoints, formats and models"), body);
  box.addEventListener("toggle", async () => {
    if (!box.open || body.hasChildNodes()) return;
    const around = study.lines.filter((one) => one.set === line.set);
    const table = await Promise.all(around.map((one) => Promise.all(one.cells.map(async (i) => {
      const rows = i < 0 ? null : await store.rowsOf(one, study.cells.key[i]), at = rows ? rows.row.indexOf(row) : -1;
      const seeds = at < 0 ? [] : (rows.seeds?.score ?? []).map((score) => score[at]);
      return at < 0 ? null : { i, score: rows.score[at], said: rows.prediction?.[at] ?? "", seeds };
    }))));
    const cell = (found) => make("td", {}, found && make("button", { type: "button", class: found.score >= 0.5 ? "right" : "wrong", title: found.said, onclick: () => openCell(study, study.cells.key[found.i], row) },
      line.about.metric !== "accuracy" ? fixed(found.score, 2) : found.seeds.length ? `${found.seeds.filter((one) => one >= 0.5).length}/${found.seeds.length}` : found.score >= 0.5 ? "✓" : "✗"));
    body.replaceChildren(make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "this row elsewhere" }, make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "model and format"), study.checkpoints.map((one) => make("th", { scope: "col", title: one.name }, one.step === null ? one.name : short(one.step))))),
      make("tbody", {}, around.map((one, place) => make("tr", {}, make("th", { scope: "row" }, `${one.label}, ${one.format}`), table[place].map(cell)))))));
  });
  return box;
}

function making(line, cell) {
  const study = line.study, made = study.made[cell.made], checkpoint = study.checkpoints[study.cells.checkpoint[cell.i]].name;
  const source = `${study.suite}@${checkpoint}`, computed = made.flags.length > 0, root = made.flags.find((flag) => flag.startsWith("--config.data_root"));
  const commands = [];
  if (line.model) {
    commands.push(["amuro train", `--config.checkpoint=${source}`, ...(study.trained[line.tuned] ?? []), root, "--config.workdir=work/again/train"]);
  }
  commands.push(["amuro score", `--config.checkpoint=${line.model ? "work/again/train/model" : source}`, ...made.flags, "--config.workdir=work/again/score"]);
  const model = `${checkpoint}${line.tuned ? ` fine-tuned on ${line.tuned}` : ""}`;
  const parts = computed
    ? { model: `${model}, identity ${cell.weights}`, ...made.parts, computed: `${cell.created}, ${cell.seconds} s`, key: cell.key }
    : { model, ...made.parts, key: cell.key };
  return make("section", { class: "made" }, make("h3", {}, "How was this number made"),
    make("dl", {}, Object.entries(parts).flatMap(([name, words]) => [make("dt", {}, name), make("dd", {}, words)])),
    computed && make("p", { class: "note" }, "To compute it again:"),
    computed && make("pre", { class: "command", tabindex: 0 }, commands.map((parts) => parts.map(shell).join(" \\\n  ")).join("\n")));
}

function shell(word) {
  return /^[\w@%+=:,./ -]*$/.test(word) && !/=.*\s/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

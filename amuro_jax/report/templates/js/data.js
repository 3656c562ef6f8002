// The studies that travel in the page (report/payload.py writes them), and the rows behind their
// scores: in the page, or asked of `amuro report --serve`, which the page was then read from.

const SEVERE = ["note", "warning", "error"];

async function unpack(element) {
  const bytes = Uint8Array.from(atob(element.textContent.trim()), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

// A study's scores as lines: one per set, model, format and number of shots, with the place of each
// checkpoint's score in `cells`, or -1 where it is missing.
class Study {
  constructor(raw, place) {
    Object.assign(this, raw);
    this.place = place; // 0: the report's own study; 1: the one beside it
    this.byKey = new Map(raw.cells.key.map((key, i) => [key, i]));
    const lines = new Map();
    raw.cells.key.forEach((key, i) => {
      const { set, model, format, shots, checkpoint } = this.at(i);
      const name = `${set}|${model}|${format}|${shots}`;
      if (!lines.has(name)) lines.set(name, this.line(set, model, format, shots));
      lines.get(name).cells[checkpoint] = i;
    });
    this.lines = [...lines.values()].sort((a, b) => a.order - b.order);
    this.common = this.sets.map((_, set) => this.flagsOfAll(set));
  }

  at(i) {
    const found = { i, study: this };
    for (const name in this.cells) found[name] = this.cells[name][i];
    return found;
  }

  line(set, model, format, shots) {
    const about = this.sets[set];
    const kind = model === 0 ? "base" : about.own.includes(model) ? "fine-tuned" : "others";
    const main = format === about.format && shots === about.shots;
    return {
      study: this, set: about.name, about, model, kind, main, shots,
      tuned: this.models[model],
      format: this.formats[format],
      label: model === 0 ? "base" : `after ${this.models[model]}`,
      cells: this.checkpoints.map(() => -1),
      order: ((set * 64 + model) * 64 + (main ? 0 : format + 1)) * 64 + shots,
    };
  }

  // What the auditor finds in every score of a set is about the set.
  flagsOfAll(set) {
    const own = this.cells.key.flatMap((_, i) => (this.cells.set[i] === set ? [this.flagsAt(i)] : []));
    return own.length < 2 ? [] : own.reduce((a, b) => a.filter((one) => b.includes(one)));
  }

  // The place of another study's checkpoint in this one: of that name, or at that step.
  placeOf({ name, step }) {
    const named = this.checkpoints.findIndex((one) => one.name === name);
    return named >= 0 || step === null ? named : this.checkpoints.findIndex((one) => one.step === step);
  }

  flagsAt(i) {
    return this.cells.flags[i].filter((flag) => this.flags[flag].severity !== "note");
  }

  worst(flags) {
    return SEVERE[Math.max(0, ...flags.map((flag) => SEVERE.indexOf(this.flags[flag].severity)))];
  }
}

// Rows of scores by key, and prompts by view of a set; each set is unpacked when it is first needed.
const store = {
  rows: new Map(),
  prompts: new Map(),
  opened: new Map(),

  async open(study, set) {
    const element = document.getElementById(`rows-of-${study.sets.findIndex((one) => one.name === set)}`);
    if (!element) return false;
    if (!this.opened.has(set)) this.opened.set(set, unpack(element));
    const found = await this.opened.get(set);
    for (const key in found.rows) this.rows.set(key, found.rows[key]);
    for (const view in found.prompts) this.prompts.set(`${set}|${view}`, found.prompts[view]);
    return true;
  },

  async ask(path) {
    if (document.body.dataset.served !== "yes") return null;
    const answer = await fetch(path);
    return answer.ok ? answer.json() : null;
  },

  // The rows of one score in columns; null where they are not at hand.
  async rowsOf(line, key) {
    if (line.study.place) return null; // the rows of the study beside are in its own report
    if (!this.rows.has(key) && !(await this.open(line.study, line.set))) {
      this.rows.set(key, await this.ask(`rows/${key}.json`));
    }
    return this.rows.get(key) ?? null;
  },

  // [text, characters of shots, token lengths, choices] of one row; null where it is not at hand.
  async promptOf(line, key, row) {
    await this.open(line.study, line.set);
    const view = this.prompts.get(`${line.set}|${line.format} ${line.shots}`);
    return view ? (view[row] ?? null) : this.ask(`prompts/${key}/${row}.json`);
  },
};

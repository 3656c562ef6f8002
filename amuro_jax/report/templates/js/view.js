// What a reader has chosen to see. It is written into the URL's fragment (#sets=a,b&axis=tokens), so
// that a view can be shared, and read back from there.

const USUAL = {
  sets: null, formats: null, shots: null, models: ["base", "fine-tuned"],
  from: "", to: "", axis: "", range: "common", sort: "", find: "", cell: "", row: "", only: "all",
};
const LISTS = ["sets", "formats", "shots", "models"]; // null: the usual choice

const view = {
  ...USUAL,
  listeners: [],

  change(values, quietly = false) {
    Object.assign(this, values);
    this.write();
    if (!quietly) this.listeners.forEach((listener) => listener());
  },

  write() {
    const parts = [];
    for (const name in USUAL) {
      const text = LISTS.includes(name) ? this[name]?.map(encodeURIComponent).join(",") : encodeURIComponent(this[name]);
      const usual = LISTS.includes(name) ? USUAL[name]?.join(",") : encodeURIComponent(USUAL[name]);
      if (text !== usual && text !== undefined) parts.push(`${name}=${text}`);
    }
    const anchor = /^#[\w-]+$/.test(location.hash) ? location.hash : location.pathname + location.search;
    history.replaceState(null, "", parts.length ? `#${parts.join("&")}` : anchor);
  },

  // An anchor (#flags) is no view: it changes nothing.
  read() {
    const fragment = location.hash.slice(1);
    if (fragment && !fragment.includes("=")) return;
    const given = new Map(fragment.split("&").filter(Boolean).map((part) => part.split(/=(.*)/s)));
    for (const name in USUAL) {
      const text = given.get(name);
      if (text === undefined) this[name] = USUAL[name];
      else if (LISTS.includes(name)) this[name] = text.split(",").filter(Boolean).map(plain);
      else this[name] = plain(text);
    }
    this.listeners.forEach((listener) => listener());
  },

  // Whether a line of a study is chosen.
  shows(line) {
    if (this.sets && !this.sets.includes(line.set)) return false;
    if (!this.models.includes(line.kind)) return false;
    if (this.formats ? !this.formats.includes(line.format) : !line.main) return false;
    if (this.formats && !this.shots && line.shots !== line.about.shots) return false;
    if (this.shots && !this.shots.includes(String(line.shots))) return false;
    const text = `${line.set} ${line.label} ${line.format} ${line.about.metric}`.toLowerCase();
    return this.find.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  },

  // Places of the chosen checkpoints of a study.
  checkpoints(study) {
    const names = study.checkpoints.map((one) => one.name);
    const first = Math.max(0, names.indexOf(this.from));
    const last = names.includes(this.to) ? names.indexOf(this.to) : names.length - 1;
    return names.map((_, i) => i).filter((i) => i >= first && i <= last);
  },
};

// A fragment that was cut or typed by hand must not stop the page.
function plain(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

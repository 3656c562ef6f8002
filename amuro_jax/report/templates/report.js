// What a reader may do in the page: choose sets and models, sort tables, read values off the
// figures. The state is in the URL's fragment (#sets=a,b&models=base), so that a view can be shared.
// Everything is in the page without this script; it only shows, hides and orders.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const sets = all("#sets input"), models = all("#models input"), note = document.getElementById("tip");

  const chosen = (boxes) => boxes.filter((box) => box.checked).map((box) => box.value);

  function show() {
    const tasks = new Set(chosen(sets)), kinds = new Set(chosen(models));
    all("[data-task]").forEach((one) => {
      one.hidden = !tasks.has(one.dataset.task) || (one.dataset.model && !kinds.has(one.dataset.model));
    });
    all("[data-series=base], [data-series=fine-tuned]").forEach((one) => {
      one.style.display = kinds.has(one.dataset.series) ? "" : "none";
    });
  }

  function write() {
    const parts = [];
    if (sets.some((box) => !box.checked)) parts.push("sets=" + chosen(sets).map(encodeURIComponent).join(","));
    if (models.some((box) => !box.checked)) parts.push("models=" + chosen(models).join(","));
    history.replaceState(null, "", "#" + parts.join("&"));
  }

  function read() {
    const fragment = location.hash.slice(1);
    if (fragment && !fragment.includes("=")) return;
    const state = new Map(fragment.split("&").filter(Boolean).map((part) => part.split("=")));
    const set = (boxes, text) => {
      const names = text === undefined ? null : new Set(text.split(",").map(decodeURIComponent));
      boxes.forEach((box) => { box.checked = !names || names.has(box.value); });
    };
    set(sets, state.get("sets"));
    set(models, state.get("models"));
    show();
  }

  function sort(head) {
    const table = head.closest("table"), body = table.tBodies[0], place = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    const value = (row) => {
      const text = row.cells[place].textContent.replace("−", "-");
      const number = parseFloat(text);
      return Number.isNaN(number) ? text : number;
    };
    const order = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
    all("th", head.parentNode).forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    [...body.rows].sort((a, b) => (down ? -1 : 1) * order(value(a), value(b))).forEach((row) => body.append(row));
  }

  function tip(point) {
    all(".same").forEach((one) => one.classList.remove("same"));
    note.hidden = !point;
    if (!point) return;
    note.textContent = point.dataset.value;
    const box = point.getBoundingClientRect();
    note.style.left = Math.max(4, Math.min(innerWidth - note.offsetWidth - 4, box.x - note.offsetWidth / 2)) + "px";
    note.style.top = Math.max(4, box.y - note.offsetHeight - 8) + "px";
    if (point.dataset.at) {
      all("[data-at]").filter((one) => one.dataset.at === point.dataset.at).forEach((one) => one.classList.add("same"));
    }
  }

  document.getElementById("view").hidden = false;
  [...sets, ...models].forEach((box) => box.addEventListener("change", () => { show(); write(); }));
  all("#view button").forEach((button) => button.addEventListener("click", () => {
    sets.forEach((box) => { box.checked = button.value === "all"; });
    show();
    write();
  }));
  all("table.words thead th").forEach((head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head));
    head.replaceChildren(button);
  });
  document.addEventListener("pointerover", (event) => tip(event.target.closest?.("[data-value]")));
  addEventListener("hashchange", read);
  read();
})();

// Making elements. All that is shown is text: nothing here takes HTML.

const SVG = "http://www.w3.org/2000/svg";

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export function h(tag, attributes = {}, ...children) {
  return make(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return make(document.createElementNS(SVG, tag), attributes, children);
}

/** Sets an element's text, and leaves it alone where it is that already: selections and readers are not disturbed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute, likewise. */
export function mark(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

const known = new WeakMap();

/** Replaces an element's children by `build()` where `data` is another than the last time. */
export function refill(element, data, build) {
  const key = JSON.stringify(data);
  if (known.get(element) === key) return;
  known.set(element, key);
  element.replaceChildren(...[build()].flat(Infinity));
}

/** A table; `rows` are arrays of texts or nodes, of which the first is the row's header. */
export function table(caption, columns, rows) {
  const cell = (each, i) => (i === 0 ? h("th", { scope: "row" }, each) : h("td", {}, each));
  return h(
    "table",
    {},
    h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col" }, column)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell)))),
  );
}

/** A chart's data for those who can't see it, or want the numbers; made only while it is open. */
export class Numbers {
  constructor(caption, columns) {
    this.place = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption });
    this.element = h("details", {}, h("summary", {}, "As a table"), this.place);
    this.element.addEventListener("toggle", () => this.#fill());
    this.caption = caption;
    this.columns = columns;
    this.rows = () => [];
  }

  update(rows) {
    this.rows = rows;
    this.#fill();
  }

  #fill() {
    if (!this.element.open) return;
    const rows = this.rows();
    refill(this.place, rows, () => table(this.caption, this.columns, rows));
  }
}

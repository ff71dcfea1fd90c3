"use strict";
(() => {
  const data = JSON.parse(document.getElementById("closer-data").textContent);
  const view = document.getElementById("closer-view");
  const form = document.getElementById("closer-form");
  const field = (name) => document.getElementById("closer-" + name);
  const SHOWN = 12, NEAR = 8, TOP = 6;

  // Elements, from a tag, attributes and children; texts are never read as HTML.
  const SVG = "http://www.w3.org/2000/svg";
  const drawn = new Set(["svg", "path", "line", "text", "g", "title", "polygon", "circle"]);
  function make(tag, attributes, ...children) {
    const element = drawn.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "on") element.addEventListener("click", value);
      else if (value !== null && value !== false) element.setAttribute(name, value);
    }
    for (const child of children.flat()) if (child !== null && child !== undefined) element.append(child);
    return element;
  }
  const percent = (share) => (Number.isNaN(share) ? "–" : Math.round(100 * share) + "\u00a0%");
  const plain = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
  const mean = (values) => {
    const defined = values.filter((value) => !Number.isNaN(value));
    return defined.length ? defined.reduce((sum, value) => sum + value, 0) / defined.length : NaN;
  };

  // Read-outs in nats, row by row.
  function unpack(text, columns) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const numbers = new DataView(bytes.buffer);
    const rows = [];
    for (let at = 0; at < bytes.length; ) {
      const row = new Float64Array(columns);
      for (let column = 0; column < columns; column++, at += 2) {
        const whole = numbers.getInt16(at, true);
        row[column] = whole === data.undefined ? NaN : whole * data.step;
      }
      rows.push(row);
    }
    return rows;
  }

  class Condition {
    constructor(plainData) {
      Object.assign(this, plainData);
      this.images = unpack(this.images, this.hypernyms.length);
      this.words = unpack(this.words, this.hypernyms.length);
      this.sets = this.has.map((columns) => new Set(columns));
      this.rowsOf = this.leaves.map(() => []);
      this.leaf.forEach((leaf, row) => this.rowsOf[leaf].push(row));
      this.known = new Map();
    }
    hasIt(row, column) { return this.sets[this.leaf[row]].has(column); }
    // The share of the other pictures without a hypernym whose read-out of it is lower; ties count half.
    standing(column) {
      if (!this.known.has(column)) {
        const rows = this.images.map((row) => row[column]);
        const others = rows.filter((value, row) => !this.hasIt(row, column) && !Number.isNaN(value)).sort((a, b) => a - b);
        this.known.set(column, rows.map((value, row) => {
          const own = this.hasIt(row, column) ? 0 : 1;
          const count = others.length - own;
          return Number.isNaN(value) || count < 1 ? NaN : (between(others, value) - own / 2) / count;
        }));
      }
      return this.known.get(column);
    }
    profile(leaf) {
      return this.hypernyms.map((_, column) => mean(this.rowsOf[leaf].map((row) => this.standing(column)[row])));
    }
    // Of closed questions the probability of Yes; else the share of a hypernym in the probability of all of them.
    probabilities(readouts) {
      if (this.closed) return Array.from(readouts, (value) => 1 / (1 + Math.exp(-value)));
      const top = Math.max(...readouts);
      const odds = Array.from(readouts, (value) => Math.exp(value - top));
      const sum = odds.reduce((total, value) => total + value, 0);
      return odds.map((value) => value / sum);
    }
  }
  function between(sorted, value) {
    let low = 0, high = sorted.length;
    while (low < high) { const middle = (low + high) >> 1; if (sorted[middle] < value) low = middle + 1; else high = middle; }
    let end = low;
    while (end < sorted.length && sorted[end] === value) end++;
    return (low + end) / 2;
  }
  const conditions = data.conditions.map((one) => new Condition(one));
  let condition = conditions[0];
  const state = { condition: 0, hypernym: conditions[0].hypernyms[0], leaf: "", curve: "" };

  function thumb(picture, label) {
    const place = data.places[picture];
    if (place < 0) return make("span", { class: "thumb none", role: "img", "aria-label": label + ", picture not shown" });
    const { columns, rows } = data.sprite;
    const part = (at, count) => (count > 1 ? (100 * at) / (count - 1) : 0);
    const position = `${part(place % columns, columns)}% ${part(Math.floor(place / columns), rows)}%`;
    return make("span", {
      class: "thumb", role: "img", "aria-label": label, title: data.pictures[picture],
      style: `background-position: ${position}; background-size: ${100 * columns}% ${100 * rows}%`,
    });
  }
  const name = (text, kind) => make("button", { type: "button", class: "name", on: () => show({ [kind]: text, ...(kind === "hypernym" ? { leaf: "" } : {}) }) }, text);
  const marked = (right, text) => make("span", { class: right ? "right" : "wrong" }, text + (right ? "\u00a0✓" : "\u00a0✗"));
  function pictures(rows, note) {
    return make("ul", { class: "thumbs" }, rows.map((row) => {
      const leaf = condition.leaves[condition.leaf[row]];
      const looks = condition.shuffled ? `${leaf} (shows ${condition.shown[row]})` : leaf;
      return make("li", {}, thumb(condition.picture[row], looks), name(leaf, "leaf"), condition.shuffled ? ` shows ${condition.shown[row]} ` : " ", ...note(row));
    }));
  }
  function table(caption, header, rows) {
    const numeric = (cell) => typeof cell === "string" && /^[–\d.]/.test(cell);
    const head = (text, at) => make("th", { scope: "col", class: rows.length && numeric(rows[0][at]) ? "n" : null }, text);
    const cells = (row) => row.map((cell, at) => make(at ? "td" : "th", at ? { class: numeric(cell) ? "n" : null } : { scope: "row" }, cell));
    return make("div", {}, make("p", { class: "caption" }, caption), make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      make("table", {}, make("thead", {}, make("tr", {}, header.map(head))),
        make("tbody", {}, rows.map((row) => make("tr", {}, cells(row)))))));
  }

  const COLOURS = ["var(--bar)", "var(--mark)", "var(--good)", "var(--bad)", "var(--link)", "var(--soft)"];
  const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 2", "10 4"];
  function curves(targets) {
    const kind = condition.curves[state.curve];
    if (!kind) return make("p", { class: "soft" }, "No curves along the layers: no analysis of this run has them for single hypernyms or leaves.");
    const own = targets.filter((target) => kind.of[target]).slice(0, COLOURS.length);
    if (!own.length) return make("p", { class: "soft" }, `${state.curve}: not there for ${targets.join(", ")}.`);
    const box = { left: 46, right: 480, top: 12, bottom: 220 };
    const numbers = own.flatMap((target) => kind.of[target].flat()).filter((value) => value !== null).concat(kind.null);
    const low = Math.min(...numbers), high = Math.max(...numbers, low + 0.01);
    const [first, last] = [kind.layers[0], kind.layers[kind.layers.length - 1]];
    const x = (layer) => box.left + ((layer - first) / (last - first || 1)) * (box.right - box.left);
    const y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
    const svg = make("svg", { class: "curves", viewBox: "0 0 640 270", role: "img", "aria-label": `${state.curve}, ${kind.measure} of ${own.join(", ")} by block` });
    svg.append(make("path", { class: "axis", d: `M ${box.left} ${box.top} V ${box.bottom} H ${box.right}` }));
    svg.append(make("line", { class: "null", x1: box.left, x2: box.right, y1: y(kind.null), y2: y(kind.null) }));
    for (const value of [low, (low + high) / 2, high]) svg.append(make("text", { x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2)));
    const step = Math.max(1, Math.ceil(kind.layers.length / 8));
    kind.layers.forEach((layer, at) => { if (at % step === 0) svg.append(make("text", { x: x(layer), y: box.bottom + 16, "text-anchor": "middle" }, layer === -2 ? "enc." : layer === -1 ? "in" : String(layer))); });
    svg.append(make("text", { x: (box.left + box.right) / 2, y: box.bottom + 36, "text-anchor": "middle" }, `block (dashed: null, ${kind.null})`));
    const ends = [];
    own.forEach((target, at) => {
      const [values, lower, upper] = kind.of[target];
      const points = values.map((value, layer) => [kind.layers[layer], value]).filter(([, value]) => value !== null);
      if (own.length === 1) {
        const up = upper.map((value, layer) => [kind.layers[layer], value]).filter(([, value]) => value !== null);
        const down = lower.map((value, layer) => [kind.layers[layer], value]).filter(([, value]) => value !== null).reverse();
        svg.append(make("polygon", { points: [...up, ...down].map(([layer, value]) => `${x(layer)},${y(value)}`).join(" "), fill: COLOURS[at], opacity: 0.18 }));
      }
      svg.append(make("path", { d: "M " + points.map(([layer, value]) => `${x(layer)} ${y(value)}`).join(" L "), fill: "none", stroke: COLOURS[at], "stroke-width": 2, "stroke-dasharray": DASHES[at] }));
      ends.push([y(points[points.length - 1][1]), target, at]);
    });
    ends.sort((a, b) => a[0] - b[0]);
    let free = -Infinity;
    for (const [wanted, target, at] of ends) {
      free = Math.max(wanted, free + 15);
      svg.append(make("line", { x1: box.right + 6, x2: box.right + 26, y1: free, y2: free, stroke: COLOURS[at], "stroke-width": 2, "stroke-dasharray": DASHES[at] }));
      svg.append(make("text", { x: box.right + 31, y: free + 4 }, target));
    }
    return svg;
  }

  function ofHypernym(hypernym) {
    const column = condition.hypernyms.indexOf(hypernym);
    const share = condition.standing(column);
    const order = share.map((_, row) => row).filter((row) => !Number.isNaN(share[row])).sort((a, b) => condition.images[b][column] - condition.images[a][column]);
    const having = order.filter((row) => condition.hasIt(row, column));
    const leaves = condition.leaves.map((leaf, at) => [leaf, at, mean(condition.rowsOf[at].map((row) => share[row]))]).filter((one) => !Number.isNaN(one[2])).sort((a, b) => b[2] - a[2]);
    const note = (row) => [marked(condition.hasIt(row, column), percent(share[row]))];
    const list = (some) => make("p", {}, some.flatMap(([leaf, , value], at) => [at ? ", " : "", name(leaf, "leaf"), ` ${percent(value)}`]));
    const wrong = leaves.filter(([, at]) => !condition.sets[at].has(column));
    const right = leaves.filter(([, at]) => condition.sets[at].has(column));
    return [
      make("h3", {}, hypernym),
      table("AUROC of its read-out, with its 95 % interval over leaves (and seeds); chance .5.", ["condition", "AUROC", "95 %", "n, leaves"], conditions.map((one) => {
        const [value, lower, upper, n] = one.auroc[hypernym] || [];
        return [one.name, plain(value), `${plain(lower)} – ${plain(upper)}`, n === undefined ? "–" : String(n)];
      })),
      make("h4", {}, `The pictures with the highest read-outs (${condition.name})`), pictures(order.slice(0, SHOWN), note),
      make("h4", {}, "Those that have it and stand lowest"), pictures(having.slice(-SHOWN).reverse(), note),
      make("div", { class: "columns" },
        make("div", {}, make("h4", {}, `Leaves that have it (${right.length}), by where their pictures stand`), list(right)),
        make("div", {}, make("h4", {}, "Errors: leaves without it that stand highest"), list(wrong.slice(0, 2 * NEAR)))),
      make("h4", {}, "Along the layers"), curves([hypernym]),
    ];
  }

  function ofLeaf(leaf) {
    const at = condition.leaves.indexOf(leaf);
    if (at < 0) return [make("p", {}, `${leaf} is not among the leaves of ${condition.name}.`)];
    const rows = condition.rowsOf[at], profile = condition.profile(at);
    const words = condition.probabilities(condition.words[at]);
    const columns = condition.hypernyms.map((_, column) => column);
    const chances = rows.map((row) => condition.probabilities(condition.images[row]));
    const inPictures = (column) => mean(chances.map((one) => one[column]));
    const has = (column) => condition.sets[at].has(column);
    const order = columns.filter((column) => !Number.isNaN(profile[column])).sort((a, b) => profile[b] - profile[a]);
    const listed = [...columns.filter(has), ...order.filter((column) => !has(column)).slice(0, TOP)];
    const counts = new Map();
    rows.forEach((row) => { const called = condition.called[row]; counts.set(called, (counts.get(called) || 0) + 1); });
    const given = [...counts].sort((a, b) => b[1] - a[1]);
    const near = condition.leaves.map((other, place) => [other, place, place === at || !condition.rowsOf[place].length ? -2 : correlation(profile, condition.profile(place))])
      .sort((a, b) => b[2] - a[2]).slice(0, NEAR);
    const asked = condition.closed ? "P(Yes)" : "P";
    const best = (row, chance) => columns.slice().sort((a, b) => chance[b] - chance[a]).slice(0, 3)
      .flatMap((column, place) => [place ? ", " : " ", make("span", { class: has(column) ? "right" : "wrong" }, `${condition.hypernyms[column]} ${percent(chance[column])}${has(column) ? " ✓" : ""}`)]);
    return [
      make("h3", {}, leaf),
      make("p", {}, "Its hypernyms: ", columns.filter(has).flatMap((column, place) => [place ? ", " : "", name(condition.hypernyms[column], "hypernym")]), "."),
      make("h4", {}, `Its test pictures (${rows.length}), what ${condition.name} calls them, and its likeliest hypernyms`),
      rows.length ? make("ul", { class: "thumbs" }, rows.slice(0, 2 * SHOWN).map((row, place) => make("li", {}, thumb(condition.picture[row], leaf),
        "called ", marked(condition.called[row] === at, condition.leaves[condition.called[row]] || "?"), make("br"), ...best(row, chances[place])))) : make("p", { class: "soft" }, "None was evaluated."),
      table(`Hypernyms: those that are true, then the ${TOP} others for which its pictures stand highest. ${asked}: ${condition.closed ? "probability of Yes" : "share in the probability of all hypernyms, each relative to its usual level"}, mean over its pictures, and for its name in words.`,
        ["hypernym", "true", "pictures stand above", `${asked}, pictures`, `${asked}, words`],
        listed.map((column) => [name(condition.hypernyms[column], "hypernym"), has(column) ? "✓" : "✗", percent(profile[column]), percent(inPictures(column)), percent(words[column])])),
      make("div", { class: "columns" },
        make("div", {}, make("h4", {}, condition.named ? "Names that it is given, of all leaves" : `Names that it is given, of ${condition.choices} choices`),
          make("p", {}, given.flatMap(([other, count], place) => [place ? ", " : "", other < 0 ? "?" : name(condition.leaves[other], "leaf"), ` ${count}`]))),
        make("div", {}, make("h4", {}, "Leaves with the most similar answers (correlation)"),
          make("p", {}, near.filter((one) => one[2] > -2).flatMap(([other, , value], place) => [place ? ", " : "", name(other, "leaf"), ` ${plain(value)}`])))),
      make("h4", {}, "Along the layers, its hypernyms"), curves([leaf, ...columns.filter(has).map((column) => condition.hypernyms[column])]),
    ];
  }
  function correlation(first, second) {
    const both = first.map((value, at) => [value, second[at]]).filter(([a, b]) => !Number.isNaN(a) && !Number.isNaN(b));
    const [m, k] = [mean(both.map((pair) => pair[0])), mean(both.map((pair) => pair[1]))];
    let [xy, xx, yy] = [0, 0, 0];
    for (const [a, b] of both) { xy += (a - m) * (b - k); xx += (a - m) ** 2; yy += (b - k) ** 2; }
    return xx && yy ? xy / Math.sqrt(xx * yy) : 0;
  }

  function options(select, names, chosen) {
    select.replaceChildren(...names.map((text) => make("option", { value: text }, text)));
    select.value = chosen;
  }
  function show(change, fromAddress) {
    Object.assign(state, change);
    condition = conditions[state.condition] || conditions[0];
    if (!condition.hypernyms.includes(state.hypernym)) state.hypernym = condition.hypernyms[0];
    const kinds = Object.keys(condition.curves);
    if (!kinds.includes(state.curve)) state.curve = kinds.find((kind) => kind.includes("auroc") && kind.includes("image")) || kinds[0] || "";
    field("condition").value = String(state.condition);
    options(field("hypernym"), condition.hypernyms, state.hypernym);
    options(field("curve"), kinds, state.curve);
    field("curve").disabled = !kinds.length;
    field("leaves").replaceChildren(...condition.leaves.map((leaf) => make("option", { value: leaf })));
    field("leaf").value = state.leaf;
    view.replaceChildren(...(state.leaf ? ofLeaf(state.leaf) : ofHypernym(state.hypernym)));
    if (fromAddress) return;
    const address = new URLSearchParams({ condition: state.condition, [state.leaf ? "leaf" : "hypernym"]: state.leaf || state.hypernym });
    history.replaceState(null, "", "#" + address);
  }
  function address() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const change = {};
    if (asked.has("condition")) change.condition = Number(asked.get("condition"));
    if (asked.has("hypernym")) Object.assign(change, { hypernym: asked.get("hypernym"), leaf: "" });
    if (asked.has("leaf")) change.leaf = asked.get("leaf");
    return change;
  }

  conditions.forEach((one, at) => field("condition").append(make("option", { value: at }, `${one.name} (${one.run})`)));
  field("condition").addEventListener("change", (event) => show({ condition: Number(event.target.value) }));
  field("hypernym").addEventListener("change", (event) => show({ hypernym: event.target.value, leaf: "" }));
  field("curve").addEventListener("change", (event) => show({ curve: event.target.value }));
  field("leaf").addEventListener("change", (event) => {
    if (!event.target.value || condition.leaves.includes(event.target.value)) show({ leaf: event.target.value });
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show(address(), true);
  window.addEventListener("hashchange", () => { const change = address(); if (Object.keys(change).length) show(change, true); });
  if (new URLSearchParams(location.hash.slice(1)).has("leaf") || location.hash.includes("hypernym=")) document.getElementById("closer").scrollIntoView();
})();

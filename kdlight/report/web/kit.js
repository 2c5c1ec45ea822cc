
"use strict";

/** An HTML element; children that are text are escaped by the DOM. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

function svg(tag, attributes = {}, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) if (value != null) node.setAttribute(key, value);
  if (text != null) node.textContent = text;
  return node;
}

/** A number with three significant digits, thousands separated. */
function short(value) {
  if (value === 0) return "0";
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  if (magnitude < -4) return value.toExponential(2);
  const digits = Math.max(0, 2 - magnitude);
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A tick's label: as few digits as tell it apart. */
function tickText(value) {
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(0).replace("e+", "e");
  return Number(value.toPrecision(6)).toLocaleString("en", { maximumFractionDigits: 6 });
}

const DATA = JSON.parse(document.getElementById("data").textContent);
const { columns: COLUMNS, comparison: COMPARISON, runs: RUNS } = DATA;
const ARROW = { lower: " ↓", higher: " ↑", one: " → 1" };
const ARMS = [...new Set(RUNS.map((run) => run.name))];
const columnOf = (key) => COLUMNS.find((column) => column.key === key);
// A run alone is its student; arms side by side have colours that no model has.
const armColour = (name) => (RUNS.length === 1 ? "k-student" : `k${ARMS.indexOf(name) % 8}`);
// Colour and shape together tell 32 arms apart, and the shape alone those who see no colours.
const armShape = (name) => SHAPES[(ARMS.indexOf(name) + Math.floor(ARMS.indexOf(name) / 8)) % SHAPES.length];
const modelColour = (model) => `k-${["teacher", "student"].includes(model) ? model : "other"}`;
// What a model was measured at several numbers of: the levels of a codec, or a sampler's steps.
const isCodec = (run) => run.rows.some((row) => "kbps" in row.values);
const STEP = RUNS.some(isCodec) ? "level" : "step";
/** What more of makes a sample better: short and long. */
const EFFORT = STEP === "level" ? ["levels", "levels of the quantiser"] : ["NFE", "network evaluations (NFE)"];
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A count, which is whole unless it is a median of an even number of seeds. */
const wholeOr = (value) => (Number.isInteger(value) ? value.toLocaleString("en") : short(value));

/** A metric's value as it is shown, with its unit where `unit` asks for it. */
function shown(value, column, unit = true) {
  if (value == null) return "–";
  const scaled = value * column.scale;
  const text = column.decimals == null ? short(scaled)
    : scaled.toLocaleString("en", { minimumFractionDigits: column.decimals, maximumFractionDigits: column.decimals });
  return unit && column.unit ? text + { "%": "\u00a0%", x: "×" }[column.unit] : text;
}

function duration(seconds) {
  if (seconds < 60) return `${short(seconds)} s`;
  const whole = Math.round(seconds), minutes = Math.round(seconds / 60);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function section(title, controls, ...children) {
  return el("section", {}, el("div", { class: "head" }, el("h2", {}, title), controls && el("div", { class: "controls" }, controls)), children);
}

/** A labelled select; `choices` are [value, text] or [group, [[value, text], …]]. */
function picker(label, choices, value, onchange) {
  const option = ([key, text]) => el("option", { value: key, selected: String(key) === String(value) }, text);
  const nodes = choices.map((choice) => (Array.isArray(choice[1]) ? el("optgroup", { label: choice[0] }, choice[1].map(option)) : option(choice)));
  return el("label", {}, label, el("select", { "aria-label": label, onchange: (event) => onchange(event.target.value) }, nodes));
}

/** Two or more buttons of which one is pressed. */
function segments(label, choices, value, onchange) {
  const buttons = choices.map(([key, text]) =>
    el("button", {
      type: "button", "aria-pressed": String(key === value),
      onclick: (event) => {
        for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.currentTarget));
        onchange(key);
      },
    }, text));
  return el("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

function swatch(colour, text, hollow = false) {
  return el("span", { class: colour }, el("i", { class: `dot${hollow ? " hollow" : ""}`, "aria-hidden": "true" }), el("span", {}, text));
}

function armSwatch(name, text = name) {
  const badge = svg("svg", { class: "badge", viewBox: "0 0 12 12", "aria-hidden": "true" });
  badge.append(shapeAt(armShape(name), 6, 6, 4.6));
  return el("span", { class: armColour(name) }, badge, el("span", {}, text));
}

const headingText = (column) => `${column.label}${column.unit === "%" ? " %" : ""}${ARROW[column.better] ?? ""}`;
const stepsText = (steps) => (steps == null ? "any steps" : plural(steps, STEP));

/** How far a value is from the best that there could be, or null where no way is better. */
function distanceFromBest(value, column) {
  return { lower: value, higher: -value, one: Math.abs(Math.log(value)) }[column.better] ?? null;
}

/** The best of some values as it is shown; null where they are shown alike, or no way is better. */
function bestText(values, column) {
  const found = values.filter((value) => value != null && distanceFromBest(value, column) != null);
  const texts = new Set(found.map((value) => shown(value, column)));
  if (texts.size < 2) return null;
  return shown(found.reduce((a, b) => (distanceFromBest(b, column) < distanceFromBest(a, column) ? b : a)), column);
}

/** A table in a box; where it is wider than the box, its rows become cards that repeat the headings. */
function fitting(label, table) {
  const box = el("div", { class: "fit", role: "region", "aria-label": label }, table);
  let seen = -1;
  const fit = () => {
    table.classList.remove("cards");
    table.classList.toggle("cards", table.scrollWidth > box.clientWidth + 1);
  };
  new ResizeObserver(() => {
    if (box.clientWidth !== seen) { seen = box.clientWidth; fit(); }
  }).observe(box);
  // A table that draws itself anew may have become wider.
  new MutationObserver(fit).observe(table, { childList: true });
  return box;
}

/** Gives each cell the heading of its column, for the cards of `fitting`. */
function labelled(table) {
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  for (const row of table.tBodies[0].rows)
    [...row.cells].forEach((cell, index) => { if (index) cell.dataset.label = heads[index]; });
  return table;
}

/** What some figures mean, to unfold. */
function glossary(columns) {
  return el("details", { class: "glossary" }, el("summary", {}, "What the figures mean"),
    el("dl", {}, columns.map((column) => el("div", {}, el("dt", {}, headingText(column)), el("dd", {}, column.word)))));
}


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
  return unit && column.unit ? text + { "%": " %", x: "×" }[column.unit] : text;
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

const heading = (column, inner) =>
  el("th", { scope: "col" }, inner ?? `${column.label}${column.unit === "%" ? " %" : ""}${ARROW[column.better] ?? ""}`);

function cell(row, column) {
  const value = row?.values[column.key], floor = row?.values[`${column.key}_floor`];
  const text = shown(value, column, column.unit === "x");
  return el("td", { class: column.better ? null : "plain" }, text, floor != null && el("small", {}, `floor ${shown(floor, column, false)}`));
}

/** A table in a box of its own that scrolls sideways on a narrow screen. */
const scroller = (label, table) => el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);

/** Teacher and student rows of one run. */
function headline(run) {
  const models = [...new Set(run.rows.map((row) => row.model))];
  const title = models.length ? capital(models.join(" and ")) : "Results";
  if (!run.rows.length) return section(title, null, el("p", { class: "note" }, "This run has written no summary yet."));
  const columns = COLUMNS.filter((column) => run.rows.some((row) => column.key in row.values && (column.key !== "non_finite" || row.values.non_finite)));
  const body = run.rows.map((row) =>
    el("tr", { class: row.model }, el("td", {}, swatch(modelColour(row.model), capital(row.model), row.model === "teacher")),
      el("td", {}, row.steps ?? "–", row.algorithm && el("small", {}, row.algorithm)), columns.map((column) => cell(row, column))));
  const head = el("tr", {}, el("th", { scope: "col" }, "Model"), el("th", { scope: "col" }, `${capital(STEP)}s`), columns.map((column) => heading(column)));
  const parts = ["An arrow says which way is better."];
  if (columns.some((column) => column.key.startsWith("frechet"))) parts.push("Fréchet distances are in percent of the reference set’s variance.");
  if (columns.some((column) => column.floor)) parts.push("The floor is the same figure for as many real samples: no model can be expected to do better.");
  return section(title, null,
    scroller(title, el("table", { id: "headline" }, el("thead", {}, head), el("tbody", {}, body))),
    el("p", { class: "note" }, parts.join(" ")));
}

/** One picture with a slider over `images`, each {at, src, width, height}. */
function slideshow(title, images, start, caption, id) {
  const picture = el("img", { alt: "" });
  const says = el("output", { for: id });
  const show = (index) => {
    const image = images[index];
    picture.src = image.src;
    picture.width = image.width;
    picture.height = image.height;
    picture.classList.toggle("tiny", image.width < 700);
    picture.alt = `${title}: grid of samples, ${caption(image)}`;
    says.textContent = caption(image);
    slider?.setAttribute("aria-valuetext", caption(image));
  };
  const slider = images.length < 2 ? null : el("input", {
    type: "range", id, min: 0, max: images.length - 1, step: 1, "aria-label": `${title}: choose a grid`,
    oninput: (event) => show(Number(event.target.value)),
  });
  if (slider) slider.value = start;
  show(start);
  const ends = slider && el("div", { class: "ticks", "aria-hidden": "true" },
    images.length <= 6 ? images.map((image) => el("span", {}, image.at.toLocaleString("en")))
      : [images[0], images.at(-1)].map((image) => el("span", {}, image.at.toLocaleString("en"))));
  return el("figure", {}, el("div", { class: "row" }, el("h3", {}, title), says), el("div", { class: "frame" }, picture), slider, ends);
}

function samples(run) {
  const figures = [];
  const models = [...new Set(run.finals.map((image) => image.model))];
  models.sort((a, b) => (b === "teacher") - (a === "teacher") || (b === "student") - (a === "student"));
  for (const model of models) {
    const images = run.finals.filter((image) => image.model === model);
    const caption = (image) => {
      const row = run.rows.find((item) => item.model === model && item.steps === image.at);
      const column = columnOf("frechet_features"), value = row?.values.frechet_features;
      return plural(image.at, "step") + (value == null ? "" : `, Fréchet ${shown(value, column)}`);
    };
    // The teacher opens at its best, the student at its fastest: the claim that the page is about.
    figures.push(slideshow(capital(model), images, model === "teacher" ? images.length - 1 : 0, caption, `final-${model}`));
  }
  if (run.progress.length)
    figures.push(slideshow("In training", run.progress, run.progress.length - 1, (image) => `iteration ${image.at.toLocaleString("en")}`, "progress"));
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const image of run.animations) {
    const name = image.model.replaceAll("_", " ");
    const frame = el("div", { class: "frame" }, el("img", { src: image.src, width: image.width, height: image.height, class: image.width < 700 ? "tiny" : null, alt: `Animation of sampling ${name}` }));
    const title = `Trajectory${name ? `, ${name}` : ""}`;
    figures.push(calm ? el("details", {}, el("summary", {}, `${title} (moves)`), frame)
      : el("figure", {}, el("div", { class: "row" }, el("h3", {}, title)), frame));
  }
  return figures.length ? section("Samples", null, el("div", { class: "gallery" }, figures)) : null;
}

/** Quality over network evaluations and over time, teacher against student. */
function quality(run) {
  const metrics = COLUMNS.filter((column) => ["lower", "higher"].includes(column.better) && !["ms_per_image", "speed_up"].includes(column.key)
    && run.rows.some((row) => column.key in row.values));
  const costs = [["nfe", "network evaluations (NFE)"], ["ms_per_image", "ms per image"], ["kbps", "kilobits per second"]]
    .filter(([key]) => run.rows.some((row) => row.values[key] > 0));
  if (!metrics.length || !costs.length || run.rows.length < 2) return null;
  const models = [...new Set(run.rows.map((row) => row.model))];
  const options = (column, [cost, label]) => {
    const points = run.rows.filter((row) => row.values[cost] > 0 && column.key in row.values);
    const floor = points.map((row) => row.values[`${column.key}_floor`]).find((value) => value != null);
    return {
      label: `${column.label} over ${label}`, height: 320, xLog: true, yLog: column.better === "lower", snap: "point", xLabel: label,
      yLabel: `${column.label}${column.unit === "%" ? " %" : ""}${ARROW[column.better]}`,
      xTicks: cost === "ms_per_image" ? null : [...new Set(points.map((row) => row.values[cost]))].sort((a, b) => a - b),
      floor: floor == null ? null : { value: floor * column.scale, text: "floor" },
      series: models.map((model) => ({
        name: model, colour: modelColour(model), marks: true, hollow: model === "teacher",
        points: points.filter((row) => row.model === model).sort((a, b) => a.values[cost] - b.values[cost]).map((row) => ({
          x: row.values[cost], y: row.values[column.key] * column.scale, tag: row.steps == null ? "" : String(row.steps),
          text: `${capital(model)}${row.steps == null ? "" : `, ${plural(row.steps, STEP)}`}: ${shown(row.values[column.key], column)} at ${cost === "nfe" ? `${wholeOr(row.values.nfe)} NFE` : `${short(row.values[cost])} ${label}`}`,
        })),
      })),
    };
  };
  const charts = costs.map((cost) => ({ cost, chart: chart(options(metrics[0], cost)) }));
  const pick = picker("Metric", metrics.map((column) => [column.key, column.label]), metrics[0].key, (key) => {
    for (const item of charts) item.chart.update(options(columnOf(key), item.cost));
  });
  return section("Quality and cost", pick,
    el("div", { class: "pair" }, charts.map((item) => el("figure", {}, item.chart.node))),
    el("div", { class: "legend" }, models.map((model) => swatch(modelColour(model), capital(model), model === "teacher"))),
    el("p", { class: "note" }, `The number at a point is its ${STEP === "step" ? "sampling steps" : "levels"}; the axes of cost are logarithmic.`));
}

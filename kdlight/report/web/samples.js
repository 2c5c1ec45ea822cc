
/** A grid of samples; small ones keep their pixels. */
const picture = (image, alt) => el("img", { src: image.src, width: image.width, height: image.height, class: image.width < 700 ? "tiny" : null, alt });

/** One picture with a slider over `images`, each {at, src, width, height}. */
function slideshow(title, images, start, caption, id) {
  const frame = el("div", { class: "frame" });
  const says = el("output", { for: id });
  const show = (index) => {
    const image = images[index];
    frame.replaceChildren(picture(image, `${title}: grid of samples, ${caption(image)}`));
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
  return el("figure", {}, el("div", { class: "row" }, el("h3", {}, title), says), frame, slider, ends);
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
    const frame = el("div", { class: "frame" }, picture(image, `Animation of sampling ${name}`));
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
      floors: floor == null ? [] : [{ value: floor * column.scale, text: "floor" }],
      series: models.map((model) => ({
        name: model, colour: modelColour(model), marks: true, hollow: model === "teacher",
        points: points.filter((row) => row.model === model).sort((a, b) => a.values[cost] - b.values[cost]).map((row) => ({
          x: row.values[cost], y: row.values[column.key] * column.scale, tag: row.steps == null ? "" : String(row.steps),
          text: `${capital(model)}${row.steps == null ? "" : `, ${plural(row.steps, STEP)}`}: ${shown(row.values[column.key], column)} at ${cost === "nfe" ? `${wholeOr(row.values.nfe)} NFE` : `${short(row.values[cost])} ${label}`}`,
        })),
      })),
    };
  };
  const says = el("p", { class: "note" }, metrics[0].word);
  const charts = costs.map((cost) => ({ cost, chart: chart(options(metrics[0], cost)) }));
  const pick = picker("Metric", metrics.map((column) => [column.key, column.label]), metrics[0].key, (key) => {
    for (const item of charts) item.chart.update(options(columnOf(key), item.cost));
    says.textContent = columnOf(key).word;
  });
  return section("Quality and cost", pick, says,
    el("div", { class: "pair" }, charts.map((item) => el("figure", {}, item.chart.node))),
    el("div", { class: "legend" }, models.map((model) => swatch(modelColour(model), capital(model), model === "teacher"))),
    el("p", { class: "note" }, `The number at a point is its ${STEP === "step" ? "sampling steps" : "levels"}; the axes of cost are logarithmic.`));
}

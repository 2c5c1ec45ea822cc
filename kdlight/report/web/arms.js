
const OVERVIEW = COMPARISON.overview;

/** The better end of a figure's range. */
const bestOf = (spread, column) => (column.better === "higher" ? spread.high : column.better === "lower" ? spread.low : spread.median);

/** A teacher's best row at each NFE: runs force it to the same steps with unlike samplers and grids. */
function teacherCurve(teacher, column) {
  const best = new Map();
  for (const row of teacher.rows) {
    const spread = row.values[column.key];
    if (!spread || !(row.nfe > 0)) continue;
    const value = bestOf(spread, column), other = best.get(row.nfe);
    if (!other || (column.better === "higher" ? value > other.value : value < other.value)) best.set(row.nfe, { row, value });
  }
  return [...best.values()].sort((a, b) => a.row.nfe - b.row.nfe);
}

const teacherName = (teacher) => (OVERVIEW.teachers.length > 1 && teacher.source ? `Teacher ${teacher.source.split("/").at(-1)}` : "Teacher");

const floorName = (floor) => (OVERVIEW.floors.length > 1 ? `Floor of ${floor.samples ?? "an unknown number of"} samples` : "Floor");

/** Every arm's quality over NFE against the curve of its teacher. */
function qualityOfArms() {
  const arms = OVERVIEW.arms.filter((arm) => arm.rows.length);
  const metrics = COLUMNS.filter((column) => ["lower", "higher"].includes(column.better) && !["ms_per_image", "speed_up"].includes(column.key)
    && arms.some((arm) => arm.rows.some((row) => column.key in row.values && row.nfe > 0)));
  if (!metrics.length) return null;
  const range = (spread, column) => (spread.count > 1 ? ` (${shown(spread.low, column, false)} to ${shown(spread.high, column)} over ${spread.count} seeds)` : "");
  const state = { column: null, arm: null };
  const options = () => {
    const { column } = state;
    const teachers = OVERVIEW.teachers.map((teacher) => ({
      name: teacherName(teacher), colour: "k-teacher", marks: true, hollow: true,
      points: teacherCurve(teacher, column).map(({ row, value }) => ({
        x: row.nfe, y: value * column.scale, tag: row.steps == null ? "" : String(row.steps),
        text: `${teacherName(teacher)}, ${stepsText(row.steps)}${row.algorithm ? ` (${row.algorithm})` : ""}: ${shown(value, column)} at ${wholeOr(row.nfe)} NFE`,
      })),
    }));
    const students = arms.map((arm, index) => ({
      name: arm.name, colour: armColour(arm.name), shape: armShape(arm.name), marks: true, lane: index, faded: state.arm != null && state.arm !== arm.name,
      points: arm.rows.filter((row) => row.nfe > 0 && column.key in row.values).map((row) => {
        const spread = row.values[column.key];
        return {
          x: row.nfe, y: spread.median * column.scale, low: spread.low * column.scale, high: spread.high * column.scale,
          text: `${arm.name}, ${stepsText(row.steps)}: ${shown(spread.median, column)}${range(spread, column)}${STEP === "step" ? ` at ${wholeOr(row.nfe)} NFE` : ""}`,
        };
      }),
    }));
    const series = [...teachers, ...students];
    const floors = OVERVIEW.floors.filter((floor) => column.key in floor.values);
    return {
      label: `${column.label} over ${EFFORT[1]}, all arms`, height: 440, xLog: true, yLog: column.better === "lower", snap: "point",
      xLabel: EFFORT[1], yLabel: headingText(column), lanes: arms.length,
      xTicks: [...new Set(series.flatMap((item) => item.points.map((point) => point.x)))].sort((a, b) => a - b),
      floors: floors.map((floor) => ({ value: floor.values[column.key].median * column.scale, text: floorName(floor).toLowerCase() })), series,
    };
  };
  state.column = metrics.find((column) => column.key === COMPARISON.metric) ?? metrics[0];
  const plot = chart(options()), says = el("p", { class: "note" }, state.column.word);
  const pick = picker("Metric of all arms", metrics.map((column) => [column.key, column.label]), state.column.key, (key) => {
    state.column = columnOf(key);
    says.textContent = state.column.word;
    plot.update(options());
  });
  const buttons = arms.map((arm) => el("button", {
    type: "button", "aria-pressed": "false",
    onclick: () => {
      state.arm = state.arm === arm.name ? null : arm.name;
      buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(arms[index].name === state.arm)));
      plot.update(options());
    },
  }, armSwatch(arm.name)));
  const notes = [`A mark is the median over an arm’s seeds, the line through it their range; arms at the same ${EFFORT[0]} stand side by side.`];
  if (OVERVIEW.teachers.length) notes.push("The teacher’s curve is its best at each NFE over the runs with the same number of samples; runs with unlike numbers have a curve each; the number at a point is its sampling steps.");
  if (arms.length > 1) notes.push("A name brings its arm to the fore.");
  return section(`Quality over ${EFFORT[0]}`, pick, says, el("figure", { id: "arms-chart" }, plot.node),
    el("div", { class: "legend" }, OVERVIEW.teachers.length > 0 && swatch("k-teacher", "Teacher", true), buttons), el("p", { class: "note" }, notes.join(" ")));
}

/** One row an arm: its most telling figures at its two fewest step counts, and what training cost. */
function methods() {
  const arms = OVERVIEW.arms.filter((arm) => arm.rows.length);
  const counts = [...new Set(arms.flatMap((arm) => arm.rows.map((row) => row.steps)))].sort((a, b) => (a ?? 0) - (b ?? 0)).slice(0, 2);
  const rowOf = (arm, steps) => arm.rows.find((row) => row.steps === steps);
  const having = (column) => arms.some((arm) => counts.some((steps) => column.key in (rowOf(arm, steps)?.values ?? {})));
  const known = COLUMNS.filter((column) => having(column) && distanceFromBest(1, column) != null && !["ms_per_image", "speed_up"].includes(column.key));
  const first = known.filter((column) => column.key === COMPARISON.metric);
  const columns = [...first, ...known.filter((column) => column.short && !first.includes(column))].slice(0, 4);
  if (!columns.length) return null;
  const pairs = columns.flatMap((column) => counts.map((steps, index) => ({
    column, steps, first: index === 0, label: `${column.label}${column.unit === "%" ? " %" : ""}, ${stepsText(steps)}`,
    best: bestText(arms.map((arm) => rowOf(arm, steps)?.values[column.key]?.median), column),
  })));
  const arm = (item) =>
    el("tr", { "data-arm": item.name }, el("td", {}, armSwatch(item.name), el("small", {}, plural(item.seeds, "seed"))),
      pairs.map(({ column, steps, first, label, best }) => {
        const spread = rowOf(item, steps)?.values[column.key];
        const marked = spread && shown(spread.median, column) === best;
        const found = column.key === COMPARISON.metric && COMPARISON.verdicts.find((verdict) => verdict.arm === item.name && verdict.steps === steps);
        return el("td", { class: [first && "first", marked && "best"].filter(Boolean).join(" ") || null, "data-label": label }, spread ? shown(spread.median, column, false) : "–",
          spread?.count > 1 && el("small", {}, `${shown(spread.low, column, false)}–${shown(spread.high, column, false)}`),
          found && el("small", { class: `verdict ${VERDICT_CLASS[found.verdict]}` }, found.verdict.toLowerCase()));
      }),
      el("td", { class: "first", "data-label": "CPU time" }, item.cpu_seconds ? duration(item.cpu_seconds.median) : "–"),
      el("td", { "data-label": "Iterations" }, item.iterations ? wholeOr(item.iterations.median) : "–"));
  const reference = (name, small, value) =>
    el("tr", { class: "reference" }, el("td", {}, name, el("small", {}, small)),
      columns.map((column) => el("td", { class: "first both", colspan: counts.length, "data-label": headingText(column) }, value(column))), el("td", { class: "first" }), el("td"));
  const references = OVERVIEW.teachers.flatMap((teacher) => {
    const full = teacher.rows.at(-1), forced = counts.filter((steps) => teacher.rows.some((row) => row.steps === steps && row !== full));
    const name = swatch("k-teacher", teacherName(teacher), true);
    const valueOf = (row, column) => (row.values[column.key] ? shown(bestOf(row.values[column.key], column), column, false) : "–");
    return [
      reference(name, [stepsText(full.steps), full.nfe == null ? "" : `${wholeOr(full.nfe)} NFE`].filter(Boolean).join(", "), (column) => valueOf(full, column)),
      forced.length > 0 && el("tr", { class: "reference" }, el("td", {}, name.cloneNode(true), el("small", {}, "in as few steps")),
        pairs.map(({ column, steps, first, label }) => {
          const spreads = teacher.rows.filter((row) => row.steps === steps && row !== full).map((row) => row.values[column.key]).filter(Boolean);
          const values = spreads.map((spread) => bestOf(spread, column)).sort((a, b) => distanceFromBest(a, column) - distanceFromBest(b, column));
          return el("td", { class: first ? "first" : null, "data-label": label }, values.length ? shown(values[0], column, false) : "–");
        }), el("td", { class: "first" }), el("td")),
    ].filter(Boolean);
  });
  for (const floor of OVERVIEW.floors)
    if (columns.some((column) => column.key in floor.values))
      references.push(reference(floorName(floor), "real samples", (column) => (floor.values[column.key] ? shown(floor.values[column.key].median, column, false) : "")));
  const head = [
    el("tr", {}, el("th", { scope: "col", rowspan: 2 }, "Arm"), columns.map((column) => el("th", { scope: "colgroup", colspan: counts.length, class: "first", title: column.word }, headingText(column))),
      el("th", { scope: "col", rowspan: 2, class: "first" }, "CPU time"), el("th", { scope: "col", rowspan: 2 }, "Iterations")),
    el("tr", {}, pairs.map(({ steps, first }) => el("th", { scope: "col", class: first ? "first" : null }, steps == null ? "–" : stepsText(steps)))),
  ];
  return section(`Arms at few ${STEP}s`, null,
    fitting(`Arms at few ${STEP}s`, el("table", { id: "methods" }, el("thead", {}, head), el("tbody", {}, arms.map(arm), references))),
    el("p", { class: "note" }, `Medians over seeds, the range below; bold is the best arm of a column. CPU time and iterations are those of one seed, evaluation included.${COMPARISON.verdicts.length ? ` Verdicts are against ${COMPARISON.baseline}.` : ""}`),
    glossary(COLUMNS));
}

/** Runs side by side for one model and number of steps, sortable; a row picks the run shown below. */
function sideBySide(choose) {
  const settings = [...new Map(RUNS.flatMap((run) => run.rows).map((row) => [`${row.model}|${row.steps}`, row])).entries()]
    .sort(([, a], [, b]) => a.model.localeCompare(b.model) || (a.steps ?? 0) - (b.steps ?? 0));
  const wanted = `${COMPARISON.model}|${COMPARISON.steps[0]}`;
  const start = settings.find(([key]) => key === wanted) ?? settings.find(([, row]) => row.model === COMPARISON.model) ?? settings[0];
  let setting = start?.[0], order = { key: "run", up: true }, chosen = 0;
  const table = el("table", { id: "runs" });
  const rowOf = (run) => run.rows.find((row) => `${row.model}|${row.steps}` === setting);

  function draw() {
    const known = COLUMNS.filter((column) => column.better && RUNS.some((run) => column.key in (rowOf(run)?.values ?? {})));
    const columns = known.filter((column) => column.key === COMPARISON.metric || shortColumns(known).includes(column));
    const best = columns.map((column) => bestText(RUNS.map((run) => rowOf(run)?.values[column.key]), column));
    const value = (run) => (order.key === "run" ? run.label : order.key === "seed" ? run.seed : rowOf(run)?.values[order.key]);
    const indices = RUNS.map((_, index) => index).sort((a, b) => {
      const [left, right] = [value(RUNS[a]), value(RUNS[b])];
      if (left == null || right == null) return (left == null) - (right == null);
      const sign = typeof left === "string" ? left.localeCompare(right, "en", { numeric: true }) : left - right;
      return order.up ? sign : -sign;
    });
    const header = (key, text) =>
      el("th", { scope: "col", "aria-sort": order.key === key ? (order.up ? "ascending" : "descending") : null }, el("button", {
        type: "button", "data-key": key,
        onclick: () => {
          order = { key, up: order.key === key ? !order.up : columnOf(key)?.better !== "higher" };
          draw();
          table.querySelector(`button[data-key="${CSS.escape(key)}"]`)?.focus();
        },
      }, text));
    const pick = (index) => { chosen = index; choose(index); draw(); };
    table.replaceChildren(
      el("thead", {}, el("tr", {}, header("run", "Run"), header("seed", "Seed"),
        columns.map((column) => header(column.key, headingText(column))))),
      el("tbody", {}, indices.map((index) =>
        el("tr", { class: "pick", "aria-current": index === chosen ? "true" : null, onclick: () => pick(index) },
          el("td", {}, el("button", { type: "button", "aria-label": `Show ${RUNS[index].label} below` }, armSwatch(RUNS[index].name, RUNS[index].label))),
          el("td", { "data-label": "Seed" }, RUNS[index].seed ?? "–"), columns.map((column, place) => el("td", { "data-label": headingText(column), class: shown(rowOf(RUNS[index])?.values[column.key], column) === best[place] ? "best" : null }, shown(rowOf(RUNS[index])?.values[column.key], column, column.unit === "x")))))));
  }

  draw();
  const choices = settings.map(([key, row]) => [key, `${capital(row.model)}${row.steps == null ? "" : `, ${plural(row.steps, STEP)}`}`]);
  const control = choices.length ? picker(`Model and ${STEP}s`, choices, setting, (key) => { setting = key; draw(); }) : null;
  return section("Runs", control, fitting("Runs side by side", table), el("p", { class: "note" }, "A heading sorts; a row chooses the run that is shown below."));
}


const OVERVIEW = COMPARISON.overview;
const VERDICT_CLASS = { BEATS: "beats", "NO BEATS": "worse", INCONCLUSIVE: "open" };
const stepsText = (steps) => (steps == null ? "any steps" : plural(steps, STEP));
const headingText = (column) => `${column.label}${column.unit === "%" ? " %" : ""}${ARROW[column.better] ?? ""}`;

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

const teacherName = (teacher) => (OVERVIEW.teachers.length > 1 && teacher.source ? `Teacher ${teacher.source}` : "Teacher");

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
    const series = [...teachers, ...students], floor = OVERVIEW.floors[column.key];
    return {
      label: `${column.label} over ${EFFORT[1]}, all arms`, height: 440, xLog: true, yLog: column.better === "lower", snap: "point",
      xLabel: EFFORT[1], yLabel: headingText(column), lanes: arms.length,
      xTicks: [...new Set(series.flatMap((item) => item.points.map((point) => point.x)))].sort((a, b) => a - b),
      floor: floor == null ? null : { value: floor.median * column.scale, text: "floor" }, series,
    };
  };
  state.column = metrics.find((column) => column.key === COMPARISON.metric) ?? metrics[0];
  const plot = chart(options());
  const pick = picker("Metric of all arms", metrics.map((column) => [column.key, column.label]), state.column.key, (key) => {
    state.column = columnOf(key);
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
  return section(`Quality over ${EFFORT[0]}`, pick, el("figure", { id: "arms-chart" }, plot.node),
    el("div", { class: "legend" }, OVERVIEW.teachers.length > 0 && swatch("k-teacher", "Teacher", true), buttons), el("p", { class: "note" }, notes.join(" ")));
}

/** One row an arm: its headline metrics at its two fewest step counts, and what training cost. */
function methods() {
  const arms = OVERVIEW.arms.filter((arm) => arm.rows.length);
  const counts = [...new Set(arms.flatMap((arm) => arm.rows.map((row) => row.steps)))].sort((a, b) => (a ?? 0) - (b ?? 0)).slice(0, 2);
  const rowOf = (arm, steps) => arm.rows.find((row) => row.steps === steps);
  const columns = ["frechet_features", "frechet_pixels", "frechet_pooled_pixels", "sliced_wasserstein", "accuracy", "variance"].concat(COMPARISON.metric)
    .filter((key, index, all) => all.indexOf(key) === index).map(columnOf)
    .filter((column) => column && arms.some((arm) => counts.some((steps) => column.key in (rowOf(arm, steps)?.values ?? {}))));
  if (!columns.length) return null;
  const best = (column, steps) => {
    const rank = { lower: (value) => value, higher: (value) => -value, one: (value) => Math.abs(Math.log(value)) }[column.better];
    const values = arms.map((arm) => rowOf(arm, steps)?.values[column.key]?.median).filter((value) => value != null && rank);
    return values.length > 1 ? shown(values.reduce((a, b) => (rank(b) < rank(a) ? b : a)), column) : null;
  };
  const pairs = columns.flatMap((column) => counts.map((steps, index) => ({ column, steps, first: index === 0, best: best(column, steps) })));
  const arm = (item) =>
    el("tr", { "data-arm": item.name }, el("td", {}, armSwatch(item.name), el("small", {}, plural(item.seeds, "seed"))),
      pairs.map(({ column, steps, first, best }) => {
        const spread = rowOf(item, steps)?.values[column.key];
        const text = spread ? shown(spread.median, column, false) : "–";
        const marked = spread && shown(spread.median, column) === best;
        const found = column.key === COMPARISON.metric && COMPARISON.verdicts.find((verdict) => verdict.arm === item.name && verdict.steps === steps);
        return el("td", { class: [first && "first", marked && "best"].filter(Boolean).join(" ") || null }, text, marked && el("span", { title: "best" }, "\u00a0★"),
          spread?.count > 1 && el("small", {}, `${shown(spread.low, column, false)}–${shown(spread.high, column, false)}`),
          found && el("small", { class: `verdict ${VERDICT_CLASS[found.verdict]}` }, found.verdict.toLowerCase()));
      }),
      el("td", { class: "first" }, item.cpu_seconds ? duration(item.cpu_seconds.median) : "–"), el("td", {}, item.iterations ? item.iterations.median.toLocaleString("en") : "–"));
  const rest = () => [el("td", { class: "first" }), el("td")];
  const references = OVERVIEW.teachers.flatMap((teacher) => {
    const full = teacher.rows.at(-1), forced = counts.filter((steps) => teacher.rows.some((row) => row.steps === steps && row !== full));
    const name = swatch("k-teacher", teacherName(teacher), true);
    return [
      el("tr", { class: "reference" }, el("td", {}, name, el("small", {}, [stepsText(full.steps), full.nfe == null ? "" : `${wholeOr(full.nfe)} NFE`].filter(Boolean).join(", "))),
        columns.map((column) => el("td", { class: "first both", colspan: counts.length }, full.values[column.key] ? shown(bestOf(full.values[column.key], column), column, false) : "–")), rest()),
      forced.length > 0 && el("tr", { class: "reference" }, el("td", {}, name.cloneNode(true), el("small", {}, "in as few steps")),
        pairs.map(({ column, steps, first }) => {
          const spreads = teacher.rows.filter((row) => row.steps === steps && row !== full).map((row) => row.values[column.key]).filter(Boolean);
          const values = spreads.map((spread) => bestOf(spread, column));
          return el("td", { class: first ? "first" : null }, values.length ? shown(column.better === "higher" ? Math.max(...values) : column.better === "lower" ? Math.min(...values) : values[0], column, false) : "–");
        }), rest()),
    ].filter(Boolean);
  });
  if (columns.some((column) => OVERVIEW.floors[column.key]))
    references.push(el("tr", { class: "reference" }, el("td", {}, "Floor"),
      columns.map((column) => el("td", { class: "first both", colspan: counts.length }, OVERVIEW.floors[column.key] ? shown(OVERVIEW.floors[column.key].median, column, false) : "–")), rest()));
  const head = [
    el("tr", {}, el("th", { scope: "col", rowspan: 2 }, "Arm"), columns.map((column) => el("th", { scope: "colgroup", colspan: counts.length, class: "first" }, headingText(column))),
      el("th", { scope: "col", rowspan: 2, class: "first" }, "CPU time"), el("th", { scope: "col", rowspan: 2 }, "Iterations")),
    el("tr", {}, pairs.map(({ steps, first }) => el("th", { scope: "col", class: first ? "first" : null }, steps == null ? "–" : stepsText(steps)))),
  ];
  return section(`Arms at few ${STEP}s`, null,
    scroller(`Arms at few ${STEP}s`, el("table", { id: "methods" }, el("thead", {}, head), el("tbody", {}, arms.map(arm), references))),
    el("p", { class: "note" }, `Medians over seeds, the range below; ★ is the best of a column. CPU time and iterations are those of one seed, evaluation included.${COMPARISON.verdicts.length ? ` Verdicts are against ${COMPARISON.baseline}.` : ""}`));
}

/** Verdicts: for the chosen steps a table with the interval of each ratio drawn around 1. */
function verdicts() {
  if (!COMPARISON.verdicts.length) return null;
  const column = columnOf(COMPARISON.metric);
  const says = el("p", { class: "note" }), box = el("div");
  function draw(steps) {
    says.textContent = `${column.label} of the ${COMPARISON.model}${steps == null ? "" : ` at ${plural(steps, STEP)}`}, against ${COMPARISON.baseline}; ${COMPARISON.better} is better.`;
    box.replaceChildren(verdictTable(column, steps));
  }
  draw(COMPARISON.steps[0]);
  const control = COMPARISON.steps.length > 1 && segments(`${capital(STEP)}s of the verdicts`, COMPARISON.steps.map((steps) => [steps, stepsText(steps)]), COMPARISON.steps[0], draw);
  return section("Verdicts", control, says, box,
    el("p", { class: "note" }, "The ratio is arm over baseline, of geometric means over seeds, with Welch’s interval on logarithms. BEATS and NO BEATS need three seeds on both sides and the whole interval on one side of 1; all else is INCONCLUSIVE."));
}

function verdictTable(column, steps) {
  // One scale for all steps, so that changing them compares.
  const ends = COMPARISON.verdicts.flatMap((item) => [item.low, item.high, item.ratio]).filter((value) => value > 0);
  const list = COMPARISON.verdicts.filter((item) => item.steps === steps);
  const reach = Math.max(1.15, ...ends.flatMap((value) => [value, 1 / value])) ** 1.08;
  const place = (ratio) => (0.5 + Math.log(Math.min(reach, Math.max(1 / reach, ratio))) / Math.log(reach) / 2) * 300;
  const better = column.better === "lower" ? "◂ better" : "better ▸";
  const forest = (item) => {
    const plot = svg("svg", { viewBox: "0 0 300 40", width: "100%", height: 40, role: "img", "aria-label": item.low == null ? "no interval" : `interval ${short(item.low)} to ${short(item.high)}` });
    plot.append(svg("line", { class: "axis", x1: 150, x2: 150, y1: 0, y2: 40 }));
    const group = svg("g", { class: armColour(item.arm) });
    if (item.low != null) group.append(svg("line", { class: "line", x1: place(item.low), x2: place(item.high), y1: 20, y2: 20 }));
    if (item.ratio != null) group.append(svg("circle", { class: "mark", cx: place(item.ratio), cy: 20, r: 5.5 }));
    plot.append(group);
    return plot;
  };
  const scale = () => {
    const plot = svg("svg", { viewBox: "0 0 300 40", width: "100%", height: 40, "aria-hidden": "true" });
    for (const ratio of [1 / reach ** 0.8, 1, reach ** 0.8]) {
      plot.append(svg("line", { class: "axis", x1: place(ratio), x2: place(ratio), y1: 0, y2: ratio === 1 ? 18 : 5 }));
      plot.append(svg("text", { x: place(ratio), y: ratio === 1 ? 34 : 20, "text-anchor": "middle" }, ratio === 1 ? "1" : ratio.toFixed(2)));
    }
    return plot;
  };
  const median = (name) => COMPARISON.arms.find((arm) => arm.name === name && arm.steps === steps)?.median;
  const base = list[0];
  const row = (name, seeds, word, reason, ratio, interval, plot) =>
    el("tr", {}, el("td", {}, armSwatch(name)),
      el("td", { class: "left" }, el("span", { class: `verdict ${VERDICT_CLASS[word] ?? "open"}` }, word), reason && el("small", {}, reason)),
      el("td", {}, ratio, interval && el("small", {}, interval)), el("td", { class: "forest" }, plot), el("td", {}, shown(median(name), column)), el("td", {}, seeds));
  const rows = list.map((item) =>
    row(item.arm, item.seeds, item.verdict, item.reason, item.ratio == null ? "–" : short(item.ratio),
      item.low != null && `${short(item.low)} to ${short(item.high)}`, forest(item)));
  rows.push(row(base.baseline, base.baseline_seeds, "baseline", "", "1", "", scale()));
  const head = [["Arm"], ["Verdict", "left"], ["Ratio, 95 %"], column.better === "lower" ? ["◂ better", "left"] : ["better ▸"], [`Median${ARROW[column.better]}`], ["Seeds"]]
    .map(([text, side]) => el("th", { scope: "col", class: side }, text));
  return scroller("Verdicts", el("table", { id: "verdicts" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
}

/** How soon each arm is as good as the baseline at its end. */
function reach() {
  const found = COMPARISON.reach;
  if (!found) return null;
  const column = columnOf(found.metric) ?? { label: found.metric, unit: "", scale: 1 };
  const [base, ...others] = found.arms;
  const plot = chart({
    label: `${column.label} over ${found.axis}, all runs`, height: 360, xLog: false, yLog: found.better === "lower", snap: "point", xLabel: found.axis, yLabel: headingText(column),
    floor: { value: found.target * column.scale, text: `final value of ${base.arm}` },
    series: found.curves.map((curve) => ({
      name: curve.run, colour: armColour(curve.name),
      points: curve.x.map((x, index) => ({ x, y: curve.y[index] * column.scale, text: `${curve.run}: ${shown(curve.y[index], column)} at ${found.axis === "updates" ? "update" : "iteration"} ${x.toLocaleString("en")}` })),
    })),
  });
  const row = (arm) => el("tr", {}, el("td", {}, armSwatch(arm.arm)),
    el("td", { class: "left" }, arm.verdict ? el("span", { class: `verdict ${VERDICT_CLASS[arm.verdict]}` }, arm.verdict) : el("span", { class: "verdict open" }, "baseline"), arm.reason && el("small", {}, arm.reason)),
    el("td", {}, arm.verdict ? (arm.ratio == null ? "–" : short(arm.ratio)) : "1", arm.low != null && el("small", {}, `${short(arm.low)} to ${short(arm.high)}`)),
    el("td", {}, arm.median == null ? "not reached" : wholeOr(arm.median)), el("td", {}, `${arm.reached} of ${arm.values.length}`));
  const head = [["Arm"], ["Verdict", "left"], ["Ratio, 95 %"], [`Median ${found.axis}`], ["Seeds"]].map(([text, side]) => el("th", { scope: "col", class: side }, text));
  return section(`${capital(found.axis)} to the quality of ${base.arm}`, null,
    el("p", { class: "note" }, `First validation at which the student’s ${column.label} is at least as good as ${shown(found.target, column)}, the median over seeds of what ${base.arm} ends with; fewer ${found.axis} are better.`),
    scroller("How soon", el("table", { id: "reach" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, [...others, base].map(row)))),
    el("figure", { id: "reach-chart" }, plot.node), el("div", { class: "legend" }, found.arms.map((arm) => armSwatch(arm.arm))),
    el("p", { class: "note" }, "A seed that never gets there counts with its last validation; an arm with such a seed cannot win. Times are as fine as the validations are close. The ratio is made as in the verdicts."));
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
    const columns = COLUMNS.filter((column) => column.better && RUNS.some((run) => column.key in (rowOf(run)?.values ?? {})));
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
          el("td", {}, RUNS[index].seed ?? "–"), columns.map((column) => cell(rowOf(RUNS[index]), column))))));
  }

  draw();
  const choices = settings.map(([key, row]) => [key, `${capital(row.model)}${row.steps == null ? "" : `, ${plural(row.steps, STEP)}`}`]);
  const control = choices.length ? picker(`Model and ${STEP}s`, choices, setting, (key) => { setting = key; draw(); }) : null;
  return section("Side by side", control, scroller("Runs side by side", table), el("p", { class: "note" }, "A heading sorts; a row chooses the run that is shown below."));
}

/** Training curves of all runs, the chosen one in full strength. */
function curves(run) {
  const keys = [...new Set(RUNS.flatMap((item) => Object.keys(item.curves)))].sort();
  if (!keys.length) return null;
  const own = Object.keys(run.curves);
  const groups = [...new Set(keys.map((key) => key.split("/")[0]))];
  const choices = groups.map((group) => {
    const inside = keys.filter((key) => key.split("/")[0] === group);
    return [capital(group), inside.map((key) => [key, key.includes("/") ? key.slice(group.length + 1) : key])];
  });
  const state = { key: keys.find((key) => key === curves.key) ?? own.find((key) => key.startsWith("train/loss")) ?? own.find((key) => key.startsWith("train/")) ?? keys[0], log: curves.log ?? false };
  const drawn = RUNS.length > 1 ? [...RUNS.filter((item) => item !== run), run] : [run];
  const options = () => ({
    label: `${state.key} over training iterations`, height: 360, yLog: state.log, snap: "x", xLabel: "iteration", yLabel: state.key,
    series: drawn.filter((item) => state.key in item.curves).map((item) => {
      const curve = item.curves[state.key];
      return {
        name: item.label, colour: armColour(item.name), faded: item !== run,
        points: curve.x.map((x, index) => ({
          x, y: curve.mean[index],
          // Ranges of many runs would hide one another: only the chosen run has its own.
          low: item === run ? curve.low[index] : null, high: item === run ? curve.high[index] : null,
          text: (RUNS.length > 1 ? `${item.label} ` : "") + short(curve.mean[index]) + (curve.high[index] > curve.low[index] ? ` (${short(curve.low[index])} to ${short(curve.high[index])})` : ""),
        })),
      };
    }),
  });
  const plot = chart(options());
  const change = () => { Object.assign(curves, state); plot.update(options()); };
  const controls = [
    picker("Logged value", choices, state.key, (key) => { state.key = key; change(); }),
    segments("Vertical axis", [[false, "Linear"], [true, "Log"]], state.log, (log) => { state.log = log; change(); }),
  ];
  const legend = RUNS.length > 1 && el("div", { class: "legend" }, ARMS.map((name) => armSwatch(name)));
  const many = RUNS.some((item) => Object.values(item.curves).some((curve) => curve.high.some((high, index) => high > curve.low[index])));
  return section("Training", controls, el("figure", { id: "curves" }, plot.node), legend,
    many && el("p", { class: "note" }, "Where more was logged than fits, the line is a mean over neighbouring points and the shade their range."));
}

/** How hard each term of the loss pulls at the generated sample, and the largest over the smallest. */
function balance(run) {
  if (!run.balance) return null;
  const { terms, threshold, sentence } = run.balance;
  const series = (key, colour, text) => {
    const curve = run.curves[`balance/${key}`];
    return {
      name: key, colour,
      points: (curve?.x ?? []).map((x, index) => ({ x, y: curve.mean[index], low: curve.low[index], high: curve.high[index], text: text(short(curve.mean[index])) })),
    };
  };
  const figure = (id, label, yLabel, lines, floor = null) =>
    el("figure", { id }, chart({ label: `${label} over training iterations`, height: 320, yLog: true, snap: "x", xLabel: "iteration", yLabel, floor, series: lines }).node);
  const line = threshold == null ? null : { value: threshold, text: `threshold ${tickText(threshold)}` };
  return section("Loss balance", null, el("p", { class: "note" }, sentence),
    el("div", { class: "pair" },
      figure("norms", "Gradient norm of each term", "gradient norm at the sample", terms.map((term, index) => series(term, `k${index % 8}`, (value) => `${term} ${value}`))),
      figure("ratio", "Largest over smallest gradient norm", "largest over smallest", [series("ratio", "k-student", (value) => `${value} times`)], line)),
    el("div", { class: "legend" }, terms.map((term, index) => swatch(`k${index % 8}`, term))),
    el("p", { class: "note" }, "Each term is weighted as in the loss; the norm is that of its gradient with respect to the generated samples of a batch. A norm of zero has no place on these axes."));
}

function details(run) {
  const blocks = [];
  const block = (title, content) => blocks.push(el("details", {}, el("summary", {}, title), el("pre", { tabindex: "0" }, content)));
  if (run.config) block("Configuration", run.config);
  if (run.command) block("Command", run.command);
  const versions = Object.entries(run.versions);
  if (versions.length) block("Versions", versions.map(([name, version]) => `${name} ${version}`).join("\n"));
  if (!blocks.length && !run.notes.length) return null;
  return section("How it was made", null, blocks, run.notes.map((note) => el("p", { class: "note" }, note)));
}

/** One sentence: what the student at its fewest steps gives and costs beside the teacher. */
function lede(run) {
  if (isCodec(run)) return ledeOfCodec(run);
  const column = columnOf("frechet_features") ?? COLUMNS.find((item) => item.better === "lower");
  if (!column) return null;
  const having = (model) => run.rows.filter((row) => row.model === model && row.steps != null && column.key in row.values).sort((a, b) => a.steps - b.steps);
  const [student] = having("student"), teachers = having("teacher"), full = teachers.at(-1);
  if (!student || !full) return null;
  const bold = (text) => el("b", {}, text);
  const same = teachers.find((row) => row.steps === student.steps && row !== full);
  const speed = student.values.speed_up;
  return el("p", { class: "lede" }, "With ", bold(plural(student.steps, "step")), ` the student has a ${column.label.replace("Fréchet", "Fréchet distance on").toLowerCase().replace("fréchet", "Fréchet")} of `, bold(shown(student.values[column.key], column)),
    "; the teacher has ", bold(shown(full.values[column.key], column)), ` with ${plural(full.steps, "step")}`,
    same ? [" and ", bold(shown(same.values[column.key], column)), ` with ${same.steps === 1 ? "one" : same.steps}`] : "",
    speed == null ? "." : [". It is ", bold(`${short(speed)} times`), ` faster than the teacher with ${plural(full.steps, "step")}.`]);
}

function facts(run) {
  const list = el("dl", { class: "facts" });
  const add = (term, value, code = false, title = null) => value != null && value !== "" && list.append(el("div", {}, el("dt", {}, term), el("dd", { class: code ? "mono" : null, title }, value)));
  add("Seed", run.seed);
  // A trailing plus says that the tree had changes on top of the commit.
  add("Commit", run.commit.slice(0, 10) + (run.commit.length > 10 && run.commit.endsWith("+") ? "+" : ""), true, run.commit);
  add("Teacher", run.teacher);
  add("Teacher’s hash", run.teacher_sha256.slice(0, 12), true, run.teacher_sha256);
  add("Iterations", run.iterations?.toLocaleString("en"));
  add("Wall time", run.wall_seconds == null ? null : duration(run.wall_seconds));
  add("CPU time", run.cpu_seconds == null ? null : duration(run.cpu_seconds));
  return list;
}

function start() {
  const several = RUNS.length > 1;
  const header = document.getElementById("top"), main = document.getElementById("main");
  const shownRun = el("div", { id: "run", "aria-live": "polite" });
  function choose(index) {
    const run = RUNS[index];
    const title = several && el("section", {}, el("h2", { id: "run-name" }, run.label), lede(run), facts(run));
    shownRun.replaceChildren(...[title, headline(run), speech(run), samples(run), codebooks(run), quality(run), curves(run), balance(run), details(run)].filter(Boolean));
  }
  header.append(el("p", { class: "eyebrow" }, several ? "kdlight, comparison" : `kdlight, ${RUNS[0].version}`),
    el("h1", {}, several ? ARMS.join(", ") : RUNS[0].name));
  if (several) header.append(el("p", { class: "lede" }, `${plural(RUNS.length, "run")} of ${plural(ARMS.length, "arm")}.`));
  else header.append(...[lede(RUNS[0]), facts(RUNS[0])].filter(Boolean));
  if (several) main.append(...[qualityOfArms(), methods(), verdicts(), reach(), sideBySide(choose)].filter(Boolean));
  main.append(shownRun);
  choose(0);
  document.getElementById("foot").append(el("p", {}, "Written by kdlight. This file holds all its data and fetches nothing."));
}

start();

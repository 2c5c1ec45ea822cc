
const VERDICT_CLASS = { BEATS: "beats", "NO BEATS": "worse", INCONCLUSIVE: "open" };

/** What a comparison found, before anything else: a sentence a verdict, or how many there are of each. */
function opening() {
  const column = columnOf(COMPARISON.metric), { baseline, verdicts, model } = COMPARISON;
  if (!verdicts.length) return [el("p", { class: "lede" }, `${plural(RUNS.length, "run")} of ${plural(ARMS.length, "arm")}: nothing to judge.`, oneArm(column))];
  const word = (text) => el("b", { class: `verdict ${VERDICT_CLASS[text]}` }, text);
  const median = (arm, steps) => shown(COMPARISON.arms.find((item) => item.name === arm && item.steps === steps)?.median, column);
  const few = COMPARISON.steps[0], list = verdicts.filter((item) => item.steps === few);
  const at = (steps) => (steps == null ? "" : ` with ${plural(steps, STEP)}`);
  if (list.length > 3) {
    const arms = (text) => list.filter((item) => item.verdict === text).map((item) => item.arm);
    return [el("p", { class: "lede" }, `In ${column.label} of the ${model}${at(few)}, against ${baseline}:`),
      el("ul", { class: "lede" }, Object.keys(VERDICT_CLASS).filter((text) => arms(text).length).map((text) => el("li", {}, word(text), `: ${arms(text).join(", ")}`)))];
  }
  return list.map((item) => {
    const sure = item.low == null ? "" : ` (95 % interval ${short(item.low)} to ${short(item.high)})`;
    const others = verdicts.filter((other) => other.arm === item.arm && other.steps !== few);
    const alike = others.length > 0 && others.every((other) => other.verdict === item.verdict);
    return el("p", { class: "lede" }, `${item.arm} against ${baseline}: `, word(item.verdict), item.reason ? ` (${item.reason})` : "", `. ${column.label} of the ${model}${at(few)}: `,
      el("b", {}, median(item.arm, few)), " against ", el("b", {}, median(baseline, few)), item.ratio == null ? "." : `, a ratio of ${short(item.ratio)}${sure}.`,
      alike ? ` The verdict is the same${others.map((other) => at(other.steps)).join(" and")}.`
        : others.map((other) => [` ${capital(at(other.steps).trim())}: `, word(other.verdict), "."]));
  });
}

/** The median of an arm that is alone, over its seeds. */
function oneArm(column) {
  const row = ARMS.length === 1 && OVERVIEW.arms[0].rows[0], spread = row && row.values[column?.key];
  if (!spread) return "";
  return [` ${column.label} of the ${COMPARISON.model}${row.steps == null ? "" : ` with ${plural(row.steps, STEP)}`}: median `, el("b", {}, shown(spread.median, column)),
    ` (${shown(spread.low, column, false)} to ${shown(spread.high, column)}) over ${plural(spread.count, "seed")}.`];
}

/** What is to be compared, as a heading. */
function contest() {
  if (ARMS.length === 1) return ARMS[0];
  const others = ARMS.filter((name) => name !== COMPARISON.baseline);
  return others.length === 1 ? `${others[0]} against ${COMPARISON.baseline}` : `${others.length} arms against ${COMPARISON.baseline}`;
}

/** Verdicts: for the chosen steps a table with the interval of each ratio drawn around 1. */
function verdicts() {
  if (!COMPARISON.verdicts.length) return null;
  const column = columnOf(COMPARISON.metric);
  const says = el("p", { class: "note" }), box = el("div");
  function draw(steps) {
    says.textContent = `${column.label} of the ${COMPARISON.model}${steps == null ? "" : ` at ${plural(steps, STEP)}`}, against ${COMPARISON.baseline}; ${COMPARISON.better} is better. ${column.word}`;
    box.replaceChildren(verdictTable(column, steps));
  }
  draw(COMPARISON.steps[0]);
  const control = COMPARISON.steps.length > 1 && segments(`${capital(STEP)}s of the verdicts`, COMPARISON.steps.map((steps) => [steps, stepsText(steps)]), COMPARISON.steps[0], draw);
  return section("Verdicts", control, says, box,
    el("p", { class: "note" }, "The ratio is arm over baseline, of geometric means over seeds, with Welch’s interval on logarithms. BEATS and NO BEATS need three seeds on both sides, as many samples, and the whole interval on one side of 1; all else is INCONCLUSIVE."));
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
  return fitting("Verdicts", labelled(el("table", { id: "verdicts" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))));
}

/** How soon each arm is as good as the baseline at its end. */
function reach() {
  const found = COMPARISON.reach;
  if (!found) return null;
  const column = columnOf(found.metric) ?? { label: found.metric, unit: "", scale: 1 };
  const [base, ...others] = found.arms;
  const plot = chart({
    label: `${column.label} over ${found.axis}, all runs`, height: 360, xLog: false, yLog: found.better === "lower", snap: "point", xLabel: found.axis, yLabel: headingText(column),
    floors: [{ value: found.target * column.scale, text: `final value of ${base.arm}` }],
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
    fitting("How soon", labelled(el("table", { id: "reach" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, [...others, base].map(row))))),
    el("figure", { id: "reach-chart" }, plot.node), el("div", { class: "legend" }, found.arms.map((arm) => armSwatch(arm.arm))),
    el("p", { class: "note" }, "A seed that never gets there counts with its last validation; an arm with such a seed cannot win. Times are as fine as the validations are close. The ratio is made as in the verdicts."));
}

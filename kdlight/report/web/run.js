
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
  const moves = (key) => new Set(run.curves[key].mean).size > 1;
  const state = {
    key: keys.find((key) => key === curves.key) ?? own.find((key) => key.startsWith("train/loss")) ?? own.find((key) => key.startsWith("train/") && moves(key)) ?? keys[0],
    log: curves.log ?? false,
  };
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
  const plot = chart(options()), says = el("p", { class: "note" }, DATA.words[state.key]);
  const change = () => { Object.assign(curves, state); plot.update(options()); says.textContent = DATA.words[state.key]; };
  const controls = [
    picker("Logged value", choices, state.key, (key) => { state.key = key; change(); }),
    segments("Vertical axis", [[false, "Linear"], [true, "Log"]], state.log, (log) => { state.log = log; change(); }),
  ];
  const legend = RUNS.length > 1 && el("div", { class: "legend" }, ARMS.map((name) => armSwatch(name)));
  const many = RUNS.some((item) => Object.values(item.curves).some((curve) => curve.high.some((high, index) => high > curve.low[index])));
  return section("Training", controls, says, el("figure", { id: "curves" }, plot.node), legend,
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
  const figure = (id, label, yLabel, lines, floors = []) =>
    el("figure", { id }, chart({ label: `${label} over training iterations`, height: 320, yLog: true, snap: "x", xLabel: "iteration", yLabel, floors, series: lines }).node);
  const line = threshold == null ? [] : [{ value: threshold, text: `threshold ${tickText(threshold)}` }];
  return section("Loss balance", null, el("p", { class: "note" }, sentence),
    el("div", { class: "pair" },
      figure("norms", "Gradient norm of each term", "gradient norm at the sample", terms.map((term, index) => series(term, `k${index % 8}`, (value) => `${term} ${value}`))),
      figure("ratio", "Largest over smallest gradient norm", "largest over smallest", [series("ratio", "k-student", (value) => `${value} times`)], line)),
    el("div", { class: "legend" }, terms.map((term, index) => swatch(`k${index % 8}`, term))),
    el("p", { class: "note" }, "Each term is weighted as in the loss; the norm is that of its gradient with respect to the generated samples of a batch. A norm of zero has no place on these axes."));
}

/** A command whose options do not break at their hyphens. */
const words = (command) => command.split(" ").flatMap((word) => [word.startsWith("--") ? el("span", { class: "option" }, word) : word, " "]).slice(0, -1);

/** Commands that go on from here. */
function next(run) {
  if (!run.next.length) return null;
  return section("What to do next", null, el("p", { class: "note" }, "In the folder where the run was started."),
    el("dl", { class: "next" }, run.next.map(({ title, command }) => el("div", {}, el("dt", {}, title), el("dd", {}, el("pre", { tabindex: "0" }, words(command)))))));
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

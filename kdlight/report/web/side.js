
/** A run of an arm, that of the chosen seed where it has one. */
function runOfArm(name, seed, usable) {
  const runs = RUNS.filter((run) => run.name === name && usable(run));
  return runs.find((run) => run.seed === seed) ?? runs[0];
}

const seedsOf = (runs) => [...new Set(runs.map((run) => run.seed))].filter((seed) => seed != null).sort((a, b) => a - b);

function seedPicker(runs, state, draw) {
  const seeds = seedsOf(runs);
  state.seed = seeds[0];
  return seeds.length > 1 && picker("Seed", seeds.map((seed) => [seed, seed]), state.seed, (seed) => { state.seed = Number(seed); draw(); });
}

/** Final samples of every arm from the same noise, beside those of the teacher. */
function samplesOfArms() {
  const { model } = COMPARISON;
  const grid = (run, steps) => run.finals.find((image) => image.model === model && image.at === steps);
  const counts = [...new Set(RUNS.flatMap((run) => run.finals.filter((image) => image.model === model).map((image) => image.at)))].sort((a, b) => a - b);
  if (ARMS.length < 2 || !counts.length) return null;
  const state = { steps: counts[0], seed: null };
  const box = el("div", { class: "gallery", id: "arms-samples" });
  const figure = (title, image, says) =>
    el("figure", {}, el("div", { class: "row" }, el("h3", {}, title), el("output", {}, says.filter(Boolean).map((line) => el("small", {}, line)))), el("div", { class: "frame" }, picture(image, `Samples of ${title.textContent}`)));
  const column = columnOf(COMPARISON.metric);
  const measured = (run, of, steps) => {
    const value = run.rows.find((row) => row.model === of && row.steps === steps)?.values[column?.key];
    return value == null ? "" : `${column.label} ${shown(value, column)}`;
  };
  function draw() {
    const arms = ARMS.map((name) => [name, runOfArm(name, state.seed, (run) => grid(run, state.steps))]).filter(([, run]) => run);
    const figures = arms.map(([name, run]) => {
      return figure(armSwatch(name), grid(run, state.steps), [[run.seed == null ? "" : `seed ${run.seed}`, stepsText(state.steps)].filter(Boolean).join(", "), measured(run, model, state.steps)]);
    });
    const teachers = RUNS.flatMap((run) => run.finals.filter((image) => image.model === "teacher").map((image) => ({ run, image })));
    if (teachers.length) {
      const { run, image } = teachers.reduce((a, b) => (b.image.at > a.image.at ? b : a));
      figures.push(figure(swatch("k-teacher", "Teacher", true), image, [stepsText(image.at), measured(run, "teacher", image.at)]));
    }
    box.replaceChildren(...figures);
  }
  const controls = [
    counts.length > 1 && segments(`${capital(STEP)}s of the samples`, counts.map((steps) => [steps, stepsText(steps)]), state.steps, (steps) => { state.steps = steps; draw(); }),
    seedPicker(RUNS, state, draw),
  ].filter(Boolean);
  draw();
  return section("Samples side by side", controls.length ? controls : null, box,
    el("p", { class: "note" }, "Runs that were evaluated with the same seed drew these from the same noise."));
}

/** One utterance through the codec of every arm. */
function speechOfArms() {
  const heard = RUNS.filter((run) => run.utterances.length);
  const names = [...new Set(heard.flatMap((run) => run.utterances.map((utterance) => utterance.name)))];
  if (ARMS.length < 2 || !names.length) return null;
  const of = (run, name) => run.utterances.find((utterance) => utterance.name === name);
  const levels = [...new Set(heard.flatMap((run) => run.utterances.flatMap((utterance) => utterance.versions.map((version) => version.n_q))))].filter((n_q) => n_q != null).sort((a, b) => a - b);
  const state = { name: names[0], n_q: levels.at(-1), seed: null };
  const box = el("div", { class: "versions", id: "arms-speech" });
  function draw() {
    const players = [], arms = ARMS.map((name) => runOfArm(name, state.seed, (run) => of(run, state.name))).filter(Boolean);
    const original = of(arms[0], state.name);
    box.replaceChildren(
      version("Original", original.versions.find((item) => item.n_q == null), original, players),
      ...arms.flatMap((run) => {
        const utterance = of(run, state.name), found = utterance.versions.find((item) => item.n_q === state.n_q);
        return found ? [version(armSwatch(run.name), found, utterance, players, [plural(state.n_q, STEP), run.seed == null ? "" : `seed ${run.seed}`].filter(Boolean).join(", "))] : [];
      }));
  }
  const controls = [
    names.length > 1 && picker("Utterance", names.map((name) => [name, shortName(name)]), state.name, (name) => { state.name = name; draw(); }),
    levels.length > 1 && picker("Levels", levels.map((n_q) => [n_q, plural(n_q, "level")]), state.n_q, (n_q) => { state.n_q = Number(n_q); draw(); }),
    seedPicker(heard, state, draw),
  ].filter(Boolean);
  draw();
  return section("Listen side by side", controls.length ? controls : null, box);
}


function start() {
  const several = RUNS.length > 1;
  const header = document.getElementById("top"), main = document.getElementById("main");
  const shownRun = el("div", { id: "run", "aria-live": "polite" });
  function choose(index) {
    const run = RUNS[index];
    const title = several && el("section", {}, el("h2", { id: "run-name" }, run.label), lede(run), facts(run));
    shownRun.replaceChildren(...[title, headline(run), speech(run), samples(run), written(run), codebooks(run), quality(run), next(run), curves(run), balance(run), details(run)].filter(Boolean));
  }
  header.append(el("p", { class: "eyebrow" }, several ? "kdlight, comparison" : `kdlight, ${RUNS[0].version}`),
    el("h1", {}, several ? contest() : RUNS[0].name));
  if (several) header.append(...opening());
  else header.append(...[lede(RUNS[0]), facts(RUNS[0])].filter(Boolean));
  if (several) main.append(...[verdicts(), samplesOfArms(), speechOfArms(), methods(), qualityOfArms(), reach(), sideBySide(choose)].filter(Boolean));
  main.append(shownRun);
  choose(0);
  document.getElementById("foot").append(el("p", {}, "Written by kdlight. This file holds all its data and fetches nothing."));
}

start();

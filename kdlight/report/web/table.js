
/** Rows as they are read: the student's fewest steps first, the teacher last and in full first. */
function inOrder(rows) {
  const rank = (row) => ({ student: 0, teacher: 2 })[row.model] ?? 1;
  return [...rows].sort((a, b) => rank(a) - rank(b) || a.model.localeCompare(b.model)
    || (a.model === "teacher" ? -1 : 1) * ((a.steps ?? 0) - (b.steps ?? 0) || (a.values.nfe ?? 0) - (b.values.nfe ?? 0)));
}

/** The floor of a figure over some rows; the lowest and the highest where they were measured apart. */
function floorText(rows, column) {
  const values = rows.map((row) => row.values[`${column.key}_floor`]).filter((value) => value != null).sort((a, b) => a - b);
  return [...new Set([values[0], values.at(-1)].map((value) => shown(value, column, false)))].join("–");
}

/** The figures that matter most, then all of them with what each means. */
function headline(run) {
  const models = [...new Set(run.rows.map((row) => row.model))];
  const title = models.length ? capital([models.slice(0, -1).join(", "), models.at(-1)].filter(Boolean).join(" and ")) : "Results";
  if (!run.rows.length) return section(title, null, el("p", { class: "note" }, "This run has written no summary yet."));
  const rows = inOrder(run.rows);
  const columns = COLUMNS.filter((column) => run.rows.some((row) => column.key in row.values && (column.key !== "non_finite" || row.values.non_finite)));
  const few = shortRows(rows);
  const notes = ["Bold is the best of a column; an arrow says which way is better."];
  if (few.length < rows.length) notes.push(`${plural(rows.length - few.length, "row")} of the teacher at other ${STEP}s are among all figures.`);
  if (columns.some((column) => column.floor)) notes.push("The floor is the same figure for as many real samples: no model can be expected to do better.");
  return section(title, null, shortTable(title, few, shortColumns(columns)),
    el("p", { class: "note" }, notes.join(" ")), allFigures(rows, columns));
}

const isCost = (column) => ["ms_per_image", "speed_up", "kbps"].includes(column.key);

/** The figures that matter most: what a sample costs, and five of quality. */
function shortColumns(columns) {
  const chosen = columns.some((column) => column.short) ? columns.filter((column) => column.short) : columns;
  const quality = chosen.filter((column) => !isCost(column)).slice(0, 5);
  return chosen.filter((column) => isCost(column) || quality.includes(column));
}

/** All rows but those of the teacher's curve: the teacher stands there in full and at the student's steps. */
function shortRows(rows) {
  const full = rows.find((row) => row.model === "teacher");
  const steps = new Set(rows.filter((row) => row.model !== "teacher").map((row) => row.steps));
  return steps.size ? rows.filter((row) => row.model !== "teacher" || row === full || steps.has(row.steps)) : rows;
}

function shortTable(title, rows, columns) {
  const quality = columns.filter((column) => !isCost(column));
  // A phone has room for two figures of quality beside the costs.
  const place = (column) => (quality.indexOf(column) > 1 ? "roomy" : null);
  const best = columns.map((column) => bestText(rows.map((row) => row.values[column.key]), column));
  const row = (item) => el("tr", { class: item.model },
    el("td", {}, swatch(modelColour(item.model), capital(item.model), item.model === "teacher"), " ", item.steps == null ? "" : el("span", { class: "steps" }, stepsText(item.steps)),
      el("small", {}, [item.algorithm, item.values.nfe == null ? "" : `${wholeOr(item.values.nfe)} NFE`].filter(Boolean).join(", "))),
    columns.map((column, index) => {
      const value = item.values[column.key], text = shown(value, column, column.unit === "x");
      return el("td", { class: [place(column), value != null && shown(value, column) === best[index] && "best"].filter(Boolean).join(" ") || null }, text);
    }));
  const floor = columns.some((column) => column.floor) && el("tr", { class: "reference" }, el("td", {}, "Floor", el("small", {}, "real samples")),
    columns.map((column) => el("td", { class: place(column) }, column.floor ? floorText(rows, column) : "")));
  const head = el("tr", {}, el("th", { scope: "col" }, `Model and ${STEP}s`), columns.map((column) => el("th", { scope: "col", class: place(column), title: column.word }, headingText(column))));
  return fitting(title, labelled(el("table", { id: "headline" }, el("thead", {}, head), el("tbody", {}, rows.map(row), floor || []))));
}

/** One row a figure, with its word; one column a model and number of steps. */
function allFigures(rows, columns) {
  const floors = columns.some((column) => column.floor);
  const row = (column) => {
    const best = bestText(rows.map((item) => item.values[column.key]), column);
    return el("tr", {}, el("td", {}, el("span", {}, headingText(column)), el("small", {}, column.word)),
      rows.map((item) => {
        const value = item.values[column.key];
        return el("td", { class: value != null && shown(value, column) === best ? "best" : null }, shown(value, column, column.unit === "x"));
      }), floors && el("td", { class: "floor" }, column.floor ? floorText(rows, column) : ""));
  };
  const head = el("tr", {}, el("th", { scope: "col" }, "Figure"),
    rows.map((item) => el("th", { scope: "col" }, capital(item.model), item.steps != null && el("small", {}, stepsText(item.steps)), item.algorithm && el("small", {}, item.algorithm))), floors && el("th", { scope: "col" }, "Floor"));
  const table = el("table", { id: "figures" }, el("thead", {}, head), el("tbody", {}, columns.map(row)));
  for (const line of table.tBodies[0].rows)
    [...line.cells].slice(1).forEach((cell, index) => { cell.dataset.label = rows[index] ? `${capital(rows[index].model)}${rows[index].steps == null ? "" : `, ${stepsText(rows[index].steps)}`}` : "Floor"; });
  return el("details", {}, el("summary", {}, `All ${columns.length} figures, and what they mean`), fitting("All figures", table));
}


const CALL_SHADES = 8;

/** One sample: each token on the ground of the call that revealed it, those after `call` as masks. */
function writtenText(row, call, last) {
  return el("pre", { class: "written" }, row.pieces.map((piece, index) => {
    const when = row.revealed_at[index];
    if (when > call) return el("span", { class: "mask" }, piece === "\n" ? "▒\n" : "▒".repeat(Math.max(1, [...piece].length)));
    const shade = when === 0 ? "given" : `call${Math.min(CALL_SHADES - 1, Math.floor(((when - 1) / Math.max(last, 1)) * CALL_SHADES))}`;
    return el("span", { class: shade, title: when === 0 ? "given" : `call ${when}` }, piece);
  }));
}

/** What a model wrote in one way, with a slider over its network calls. */
function writing(walk, id) {
  const last = Math.max(1, ...walk.rows.flatMap((row) => row.revealed_at));
  const texts = el("div", {}), says = el("output", { for: id });
  const show = (call) => {
    texts.replaceChildren(...walk.rows.map((row) => writtenText(row, call, last)));
    says.textContent = `after call ${call.toLocaleString("en")} of ${last.toLocaleString("en")}`;
    slider?.setAttribute("aria-valuetext", says.textContent);
  };
  const title = `${capital(walk.model.replaceAll("_", " "))}, ${walk.algorithm.replaceAll("_", " ")}, ${plural(walk.steps, "step")}`;
  const slider = last < 2 ? null : el("input", {
    type: "range", id, min: 0, max: last, step: 1, "aria-label": `${title}: choose a call`,
    oninput: (event) => show(Number(event.target.value)),
  });
  if (slider) slider.value = last;
  show(last);
  return el("figure", { class: "writing" }, el("div", { class: "row" }, el("h3", {}, title), says), texts, slider);
}

/** Text, or tokens, of every way in which a run was sampled, and the order in which it came. */
function written(run) {
  if (!run.walks.length) return null;
  const note = el("p", { class: "note" }, "The ground of a token says in which call it was revealed, from the first (strong) to the last (none). The slider goes back to the masks; ∎ ends a text.");
  const first = run.walks.slice(0, 2).map((walk, index) => writing(walk, `walk-${index}`));
  const rest = run.walks.slice(2).map((walk, index) => writing(walk, `walk-${index + 2}`));
  return section("What it writes", null, note, first, rest.length ? el("details", {}, el("summary", {}, `${plural(rest.length, "other way")} of sampling`), rest) : null);
}

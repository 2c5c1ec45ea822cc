
const MEL = (frequency) => Math.log10(1 + frequency / 700);

/** One sentence: what a codec's levels give and cost. */
function ledeOfCodec(run) {
  const all = run.rows.filter((row) => "kbps" in row.values).sort((a, b) => b.steps - a.steps)[0];
  const bold = (text) => el("b", {}, text);
  const keys = ["stoi", "wer", "log_mel_l1", "si_sdr"].filter((key) => key in all.values).slice(0, 2);
  const figures = keys.map((key, index) => {
    const [name, unit] = columnOf(key).label.split(", ");
    return [index ? " and " : "", `${name} of `, bold(shown(all.values[key], columnOf(key)) + (unit ? ` ${unit}` : ""))];
  });
  const speed = all.values.rtf_encode + all.values.rtf_decode;
  return el("p", { class: "lede" }, `${capital(all.model)}: `, bold(plural(all.steps, "level")), " at ", bold(`${short(all.values.kbps)} kbit/s`),
    figures.length ? [" give ", figures] : "",
    speed > 0 ? ["; one thread encodes and decodes ", bold(`${short(1 / speed)} times`), " as fast as speech."] : ".");
}

/** A spectrogram with its axes; rows of the picture are even on the mel scale. */
function spectrogram(version, utterance, label) {
  const place = (node, side, share) => { node.style[side] = `${100 * share}%`; return node; };
  const top = utterance.sample_rate / 2;
  const frequencies = [0, 500, 1000, 2000, 4000, 8000, 16000].filter((value) => value <= top * 1.001);
  const times = linearTicks(0, utterance.seconds, 8);
  return el("div", { class: "spectrogram" },
    el("img", { src: version.picture, alt: `Spectrogram of ${label}, ${short(utterance.seconds)} s, 0 to ${short(top / 1000)} kHz` }),
    frequencies.map((value) => place(el("span", { class: "hertz", "aria-hidden": "true" }, value === top || value === 8000 ? `${tickText(value / 1000)} kHz` : tickText(value / 1000)), "bottom", MEL(value) / MEL(top))),
    times.map((value, index) => place(el("span", { class: "second", "aria-hidden": "true" }, index === times.length - 1 ? `${tickText(value)} s` : tickText(value)), "left", value / utterance.seconds)));
}

/** A name in a tree of files without the folders above its last. */
const shortName = (name) => name.split("/").slice(-2).join("/");

/** What became of an utterance: to look at, to listen to, and its figures. */
function version(label, found, utterance, players, small = "") {
  const name = typeof label === "string" ? label : label.textContent;
  const player = el("audio", {
    controls: true, preload: "metadata", src: found.audio, "aria-label": `${name} of ${utterance.name}`,
    onplay: () => players.forEach((other) => other !== player && other.pause()),
  });
  players.push(player);
  const figures = COLUMNS.filter((column) => column.key in found.figures && column.better).slice(0, 6);
  return el("div", { class: "version" },
    el("div", {}, el("b", {}, label), small && el("small", {}, small),
      figures.length > 0 && el("dl", {}, figures.map((column) => el("div", { title: column.word }, el("dt", {}, `${column.label}${column.unit === "%" ? " %" : ""}`), el("dd", {}, shown(found.figures[column.key], column, false)))))),
    el("div", {}, spectrogram(found, utterance, name), player));
}

/** Utterances to listen to: the original and what each number of levels leaves of it. */
function speech(run) {
  if (!run.utterances.length) return null;
  const box = el("div", { class: "versions" }), says = el("p", { class: "note" });
  function draw(index) {
    const utterance = run.utterances[index], players = [];
    says.replaceChildren(...[utterance.speaker && `Speaker ${utterance.speaker}. `, utterance.transcript && el("q", {}, utterance.transcript)].filter(Boolean));
    const rate = (n_q) => run.rows.find((row) => row.steps === n_q && "kbps" in row.values)?.values.kbps;
    box.replaceChildren(...utterance.versions.map((found) => {
      const kbps = found.n_q == null ? null : rate(found.n_q);
      return version(capital(found.label) || (found.n_q == null ? "Original" : plural(found.n_q, "level")), found, utterance, players, kbps == null ? "" : `${short(kbps)} kbit/s`);
    }));
  }
  draw(0);
  const control = run.utterances.length > 1 && picker("Utterance", run.utterances.map((utterance, index) => [index, shortName(utterance.name)]), 0, (index) => draw(Number(index)));
  return section("Listen", control, says, box,
    el("p", { class: "note" }, "All spectrograms of an utterance have one scale, 80 dB from black to bright, on a mel axis. One player stops the others. Figures are of the whole utterance."));
}

/** How much of each level's codebook the held-out utterances use. */
function codebooks(run) {
  const row = run.rows.filter((item) => item.levels.usage).sort((a, b) => b.levels.usage.length - a.levels.usage.length)[0];
  if (!row) return null;
  const { usage, perplexity, entropy } = row.levels;
  const bar = (share) => {
    const plot = svg("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    plot.append(svg("rect", { class: "empty", width: 100, height: 10 }), svg("rect", { class: "full", width: 100 * share, height: 10 }));
    return plot;
  };
  const head = [["Level"], ["Codes used", "left"], ["%"], perplexity && ["Perplexity"], entropy && ["Entropy, bits"]].filter(Boolean)
    .map(([text, side]) => el("th", { scope: "col", class: side }, text));
  const body = usage.map((share, index) => el("tr", {}, el("td", {}, index + 1), el("td", { class: "left wide k-student" }, bar(share)),
    el("td", {}, (100 * share).toFixed(1)), perplexity && el("td", {}, short(perplexity[index])), entropy && el("td", {}, entropy[index].toFixed(2))));
  return section("Codebooks", null, fitting("Codebooks", labelled(el("table", { id: "codebooks" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)))),
    el("p", { class: "note" }, "Share of each level’s codes that the held-out utterances use at all, and the number of codes that, used evenly, would carry as much. With few frames for each code both come out too low."));
}

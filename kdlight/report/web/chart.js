
function linearTicks(low, high, wanted) {
  const raw = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) ticks.push(index * step);
  return ticks;
}

function logTicks(low, high, wanted) {
  const decades = Math.log10(high / low);
  const factors = decades > 3 ? [1] : decades > 2 ? [1, 3] : [1, 2, 5];
  let ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) ticks.push(value);
    }
  if (ticks.length < 3) return linearTicks(low, high, Math.min(wanted, 4));
  const stride = Math.ceil(ticks.length / Math.max(2, wanted));
  return ticks.filter((_, index) => index % stride === 0);
}

const SHAPES = ["circle", "square", "diamond", "triangle"];

/** A mark of one of SHAPES around (x, y). */
function shapeAt(shape, x, y, radius, attributes = {}) {
  if (shape === "circle") return svg("circle", { class: "mark", cx: x, cy: y, r: radius, ...attributes });
  const corners = {
    square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
    diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
    triangle: [[0, -1.25], [1.2, 0.95], [-1.2, 0.95]],
  }[shape];
  const points = corners.map(([dx, dy]) => `${(x + dx * radius).toFixed(1)},${(y + dy * radius).toFixed(1)}`).join(" ");
  return svg("polygon", { class: "mark", points, ...attributes });
}

/** An axis: where a value falls between two pixels, and where its ticks are. */
function axis(values, from, to, log, wanted, pad) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log) {
    const room = Math.max((high / low) ** pad, low === high ? 1.5 : 1);
    low /= room; high *= room;
    const place = (value) => from + (Math.log(value / low) / Math.log(high / low)) * (to - from);
    return { place, ticks: logTicks(low, high, wanted) };
  }
  const room = high > low ? (high - low) * pad : Math.abs(high) * 0.1 || 1;
  low = low >= 0 ? Math.max(0, low - room) : low - room;
  high += room;
  return { place: (value) => from + ((value - low) / (high - low)) * (to - from), ticks: linearTicks(low, high, wanted) };
}

/**
 * Writes the tags of marks, then the names of floor lines, each at the first of its places that no
 * mark and no other label takes.
 */
function writeLabels(tags, floors, marks, frame) {
  const taken = marks.map(({ x, y, half }) => ({ left: x - half, right: x + half, top: y - half, bottom: y + half }));
  const write = (label, places, attributes) => {
    const wide = label.text.length * 7;
    const boxes = places.map(([x, y, anchor]) => {
      const left = x - { start: 0, middle: wide / 2, end: wide }[anchor];
      return { x, y, anchor, left, right: left + wide, top: y - 10, bottom: y + 3 };
    });
    const inside = (box) => box.left >= frame.left - 4 && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom;
    const free = (box) => taken.every((other) => box.right < other.left || box.left > other.right || box.bottom < other.top || box.top > other.bottom);
    const box = boxes.find((item) => inside(item) && free(item)) ?? boxes.find(free) ?? boxes[0];
    taken.push(box);
    label.group.append(svg("text", { ...attributes, x: box.x, y: box.y, "text-anchor": box.anchor }, label.text));
  };
  for (const tag of tags) {
    const { x, y } = tag, above = [x, y - 11, "middle"], below = [x, y + 20, "middle"];
    write(tag, [...(tag.up ? [above, below] : [below, above]), [x + 11, y + 4, "start"], [x - 11, y + 4, "end"], [x, y - 24, "middle"], [x, y + 33, "middle"]], { class: "name" });
  }
  for (const floor of floors) {
    const middle = (frame.left + frame.right) / 2;
    write(floor, [floor.y - 5, floor.y + 14].flatMap((y) => [[frame.left + 4, y, "start"], [frame.right - 16, y, "end"], [middle, y, "middle"]]), { class: "floor-name" });
  }
}

/**
 * A chart that redraws with its width, with a readout under pointer, touch and arrow keys.
 *
 * options: {label, height, xLog, yLog, xLabel, yLabel, xTicks, floors: [{value, text}],
 *   series: [{name, colour, faded, points: [{x, y, low, high, text, tag}], marks, hollow, shape, lane}],
 *   lanes: series of lane 0 to lanes - 1 stand beside one another at one x, with whiskers for ranges;
 *   snap: "x" reads all series at one x; "point" reads the nearest point}
 * Returns {node, update(options)}.
 */
function chart(options) {
  const box = el("div", { class: "chart", tabindex: "0", role: "img" });
  const readout = el("output", { class: "readout" });
  let current = options, stops = [], position = -1, plot = null, cursor = null;

  function draw() {
    const { xLog, yLog } = current;
    const usable = (point) => (!xLog || point.x > 0) && (!yLog || point.y > 0);
    const series = current.series.map((item) => ({ ...item, points: item.points.filter(usable) })).filter((item) => item.points.length);
    box.replaceChildren();
    box.setAttribute("aria-label", current.label);
    stops = []; position = -1; readout.textContent = "";
    if (!series.length) {
      box.append(el("p", { class: "note" }, yLog ? "Nothing above zero to show on a log axis." : "Nothing was logged yet."));
      return;
    }
    const width = Math.max(260, box.clientWidth), height = current.height;
    const edge = { left: 50, right: 14, top: 32, bottom: 40 };
    const all = series.flatMap((item) => item.points);
    const ys = all.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]).filter((value) => !yLog || value > 0);
    const floors = (current.floors ?? []).filter((floor) => !yLog || floor.value > 0);
    ys.push(...floors.map((floor) => floor.value));
    const x = axis(all.map((point) => point.x), edge.left, width - edge.right, xLog, width / 90, current.snap === "x" ? 0 : 0.09);
    // Lanes stand as far apart as the room to the next x, and to the frame, allows.
    const lanes = current.lanes ?? 1;
    const stands = [...new Set(series.filter((item) => item.lane != null).flatMap((item) => item.points.map((point) => x.place(point.x))))].sort((a, b) => a - b);
    const gaps = stands.slice(1).map((stand, index) => stand - stands[index]);
    const pitch = Math.min(15, (0.86 * Math.min(...gaps, Infinity)) / lanes, (1.9 * Math.min(stands[0] - edge.left, width - edge.right - stands.at(-1))) / lanes);
    const across = (item, point) => x.place(point.x) + (item.lane == null ? 0 : (item.lane - (lanes - 1) / 2) * pitch);
    const radius = pitch < 11 ? Math.max(3.5, pitch * 0.5) : 5.5;
    const y = axis(ys, height - edge.bottom, edge.top, yLog, 6, 0.07);
    const bottom = height - edge.bottom;
    plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
    for (const tick of y.ticks) {
      plot.append(svg("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y.place(tick), y2: y.place(tick) }));
      plot.append(svg("text", { x: edge.left - 8, y: y.place(tick) + 4, "text-anchor": "end" }, tickText(tick)));
    }
    let taken = -Infinity;
    for (const tick of current.xTicks ?? x.ticks) {
      // Points have means of calls there: 15.7725.
      const label = tickText(tick < 1 ? tick : Number(tick.toFixed(1)));
      const here = x.place(tick), room = 5 + label.length * 4;
      plot.append(svg("line", { class: "axis", x1: here, x2: here, y1: bottom, y2: bottom + 4 }));
      if (here - room < taken) continue;
      plot.append(svg("text", { x: Math.min(here, width - room + 4), y: bottom + 18, "text-anchor": "middle" }, label));
      taken = here + room;
    }
    plot.append(svg("line", { class: "axis", x1: edge.left, x2: width - edge.right, y1: bottom, y2: bottom }));
    plot.append(svg("text", { x: width - edge.right, y: height - 4, "text-anchor": "end" }, current.xLabel));
    plot.append(svg("text", { x: 0, y: 11 }, current.yLabel));
    for (const floor of floors) plot.append(svg("line", { class: "floor", x1: edge.left, x2: width - edge.right, y1: y.place(floor.value), y2: y.place(floor.value) }));
    const marks = [], tags = [];
    for (const item of series) {
      const group = svg("g", { class: `${item.colour}${item.faded ? " faded" : ""}${radius < 5 && item.lane != null ? " small" : ""}` });
      const at = (value) => y.place(yLog ? Math.max(value, Math.min(...ys)) : value).toFixed(1);
      const ranged = item.points.filter((point) => point.high > point.low);
      if (item.lane != null) {
        for (const point of ranged) group.append(svg("line", { class: "whisker", x1: across(item, point), x2: across(item, point), y1: at(point.low), y2: at(point.high) }));
      } else if (ranged.length) {
        const upper = item.points.map((point) => `${x.place(point.x).toFixed(1)},${at(point.high)}`);
        const lower = item.points.map((point) => `${x.place(point.x).toFixed(1)},${at(point.low)}`).reverse();
        group.append(svg("polygon", { class: "band", points: [...upper, ...lower].join(" ") }));
      }
      const path = item.points.map((point) => `${across(item, point).toFixed(1)},${at(point.y)}`).join(" ");
      if (item.points.length > 1) group.append(svg("polyline", { class: `line${item.marks ? " thin" : ""}${item.lane == null ? "" : " link"}`, points: path }));
      for (const point of item.points) {
        const stop = { px: across(item, point), py: y.place(point.y), point, item };
        stops.push(stop);
        if (!item.marks && item.points.length > 1) continue;
        group.append(shapeAt(item.shape ?? "circle", stop.px, stop.py, item.lane == null ? 5.5 : radius, { class: `mark${item.hollow ? " hollow" : ""}` }));
        marks.push({ x: stop.px, y: stop.py, half: radius + 2 });
        if (point.tag) tags.push({ group, text: point.tag, x: stop.px, y: stop.py, up: item.hollow });
      }
      plot.append(group);
    }
    const frame = { left: edge.left, right: width, top: 16, bottom };
    writeLabels(tags, floors.map((floor) => ({ group: plot, text: floor.text, y: y.place(floor.value) })), marks, frame);
    cursor = svg("g");
    plot.append(cursor);
    box.append(plot);
    stops.sort((a, b) => a.px - b.px || a.py - b.py);
    if (current.snap === "x") stops = stops.filter((stop, index) => index === 0 || stop.px - stops[index - 1].px > 0.01 || stop.item !== stops[index - 1].item);
  }

  function show(index) {
    position = Math.max(0, Math.min(stops.length - 1, index));
    const here = stops[position];
    cursor.replaceChildren();
    if (current.snap !== "x") {
      cursor.append(svg("circle", { cx: here.px, cy: here.py, r: 10, fill: "none", class: "cursor" }));
      readout.textContent = here.point.text;
      return;
    }
    cursor.append(svg("line", { class: "cursor", x1: here.px, x2: here.px, y1: 32, y2: current.height - 40 }));
    const parts = [];
    for (const item of new Set(stops.map((stop) => stop.item))) {
      const nearest = stops.filter((stop) => stop.item === item).reduce((a, b) => (Math.abs(a.px - here.px) <= Math.abs(b.px - here.px) ? a : b));
      const dot = svg("circle", { class: "mark", cx: nearest.px, cy: nearest.py, r: 4.5 });
      const group = svg("g", { class: item.colour });
      group.append(dot);
      cursor.append(group);
      parts.push(nearest.point.text);
    }
    const shown = parts.slice(0, 6).join("   ·   ") + (parts.length > 6 ? "   ·   …" : "");
    readout.textContent = `${current.xLabel} ${Math.round(here.point.x).toLocaleString("en")}:   ${shown}`;
  }

  function hide() {
    position = -1;
    cursor?.replaceChildren();
    readout.textContent = "";
  }

  box.addEventListener("pointermove", (event) => {
    if (!stops.length) return;
    const bounds = plot.getBoundingClientRect();
    const px = event.clientX - bounds.left, py = event.clientY - bounds.top;
    const far = (stop) => (current.snap === "x" ? Math.abs(stop.px - px) : Math.hypot(stop.px - px, stop.py - py));
    show(stops.reduce((best, stop, index) => (far(stop) < far(stops[best]) ? index : best), 0));
  });
  box.addEventListener("pointerleave", hide);
  box.addEventListener("blur", hide);
  box.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move || !stops.length) return;
    event.preventDefault();
    show(position + move);
  });
  let seen = 0;
  new ResizeObserver(() => {
    if (box.clientWidth !== seen) { seen = box.clientWidth; draw(); }
  }).observe(box);
  return { node: el("div", {}, box, readout), update(next) { current = next; draw(); } };
}

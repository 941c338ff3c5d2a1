// Intervals drawn into a line of text: a dot, its interval, and what it is measured against.

const WIDE = 200;
const TALL = 16;
const MOST_HALVES = 12; // half widths of an interval that fit beside each other

/** A scale from numbers to the width of a drawing. */
function scaleOf(low, high) {
  const span = high > low ? high - low : 1;
  return value => Math.min(Math.max((value - low) / span, 0), 1) * (WIDE - 8) + 4;
}

/** The middle one of numbers, 0 without any. */
const median = numbers => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

/** Bounds around the means of the best settings, as many of the better half as leave intervals to be seen. */
function boundsOf(ranked) {
  const best = ranked.filter(one => known(one.mean)).sort((a, b) => better * (b.mean - a.mean));
  if (!best.length) return [0, 1];
  const usual = last =>
    median(
      best
        .slice(0, last + 1)
        .filter(one => known(one.low))
        .map(one => (one.high - one.low) / 2),
    );
  const span = last => Math.abs(best[last].mean - best[0].mean);
  let last = best.length < 8 ? best.length - 1 : Math.min(Math.floor(best.length / 2), LISTED);
  while (last > 4 && usual(last) > 0 && span(last) > MOST_HALVES * usual(last)) last -= 1;
  const room = 1.3 * usual(last) || 0.1 * span(last) || 0.01 * Math.abs(best[0].mean) || 1;
  const [low, high] = [best[0].mean, best[last].mean].sort((a, b) => a - b);
  return [low - room, high + room];
}

/** A dot with its interval; what lies outside the bounds ends in an arrow. */
function intervalDrawing({ mean, low, high }, [from, to], behind = []) {
  const x = scaleOf(from, to);
  const parts = [...behind];
  if (known(low) && known(high)) {
    parts.push(drawn("line", { x1: x(low), x2: x(high), y1: TALL / 2, y2: TALL / 2, class: "whisker" }));
    if (low < from) parts.push(arrow(0, 1));
    if (high > to) parts.push(arrow(WIDE, -1));
  }
  if (known(mean) && mean >= from && mean <= to)
    parts.push(drawn("circle", { cx: x(mean), cy: TALL / 2, r: 3.5, class: "dot" }));
  const size = { viewBox: `0 0 ${WIDE} ${TALL}`, width: WIDE, height: TALL };
  return drawn("svg", { ...size, "aria-hidden": "true", focusable: "false" }, ...parts);
}

function arrow(tip, way) {
  const back = tip + 6 * way;
  return drawn("path", { d: `M${tip} ${TALL / 2}L${back} 4L${back} ${TALL - 4}Z`, class: "beyond" });
}

/** Draws the difference of each verdict of a key on one scale: zero, the margin, the interval. */
function drawVerdicts() {
  for (const group of document.querySelectorAll(".verdicts")) {
    const hosts = [...group.querySelectorAll(".interval")];
    const items = hosts.map(host => ({
      mean: Number(host.dataset.mean),
      low: Number(host.dataset.low),
      high: Number(host.dataset.high),
      margin: Number(host.dataset.margin),
    }));
    const reach = items.map(item => Math.max(Math.abs(item.low), Math.abs(item.high), item.margin));
    reach.sort((a, b) => a - b);
    const most = Math.min(reach.at(-1), 4 * (reach.find(Boolean) ?? 1)) * 1.1 || 1; // a small difference must be seen
    const bounds = [-most, most];
    hosts.forEach((host, place) =>
      host.append(intervalDrawing(items[place], bounds, zeroAndMargin(items[place], bounds))),
    );
  }
}

function zeroAndMargin({ margin }, bounds) {
  const x = scaleOf(...bounds);
  const zero = drawn("line", { x1: x(0), x2: x(0), y1: 0, y2: TALL, class: "zero" });
  const from = x(-margin);
  return [drawn("rect", { x: from, width: x(margin) - from, y: 1, height: TALL - 2, class: "margin" }), zero];
}

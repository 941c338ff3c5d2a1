// Charts of lines: curves with their bands, rates, signal through depth.

const TIPS = 12; // lines of a tooltip
const tight = { min: "dataMin", max: "dataMax" };
const COUNTS = ["6", "12", "24", "all"]; // settings drawn at a time

/** A line with points [x, y]. */
const line = (name, style, data, options = {}) => ({
  type: "line",
  name,
  data,
  showSymbol: false,
  symbol: style.symbol,
  symbolSize: 7,
  color: style.colour,
  z: 3,
  lineStyle: { color: style.colour, type: style.dash, width: 2 },
  emphasis: { focus: "series", lineStyle: { width: 4 } },
  blur: { lineStyle: { opacity: 0.15 } },
  ...options,
});

/** The band of a line: one polygon over points [x, low, high]. */
function band(name, style, data) {
  const ends = api => {
    const at = side => data.map(row => api.coord([row[0], row[side]]));
    return [...at(2), ...at(1).reverse()];
  };
  return {
    type: "custom",
    name,
    data,
    encode: { x: 0, y: [1, 2], tooltip: [] },
    clip: true,
    silent: true,
    z: 1,
    emphasis: { focus: "series" },
    blur: { itemStyle: { opacity: 0.03 } },
    renderItem: (params, api) =>
      params.dataIndexInside
        ? null
        : {
            type: "polygon",
            shape: { points: ends(api) },
            style: { fill: style.colour, opacity: 0.16 },
          },
  };
}

/** A tooltip with the lines at one place, the highest first. */
function tipAt(name, shown) {
  return points => {
    const lines = points.filter(point => point.seriesType === "line" && known(point.value[1]));
    lines.sort((a, b) => b.value[1] - a.value[1]);
    const more = lines.length > TIPS ? `… ${lines.length - TIPS}` : null;
    const texts = lines.slice(0, TIPS).map(point => `${clipped(point.seriesName, 60)}: ${shown(point)}`);
    const at = lines.length ? placeOf(lines[0]) : "";
    return tip(`${name} ${at}`, ...texts, more);
  };
}

/** Where on the axis across a point is: its number, or the name of its category. */
const placeOf = point =>
  point.axisType === "xAxis.category" ? point.axisValueLabel : number(point.value[0]);

/** A chart of lines over numbers, or null without any. */
function linesChart({ series, entries, x, y, name, shown, height = 380, table, note = "" }) {
  if (!series.length) return null;
  const pointer = { type: "line", triggerEmphasis: false, lineStyle: { color: colour("muted") } };
  return {
    height,
    note,
    legend: entries,
    numbers: () => table,
    option: {
      tooltip: { trigger: "axis", axisPointer: pointer, formatter: tipAt(name, shown) },
      xAxis: { ...x, axisPointer: { triggerEmphasis: false } },
      yAxis: y,
      series,
    },
  };
}

/** The series of a curve that are drawn: the best of those shown. */
function chosenCurve(choices) {
  const curve = content.curves[Number(choices.tag ?? 0)];
  const shown = curve.series.filter(one => isShown(one.ranking)).sort((a, b) => a.ranking - b.ranking);
  const most = choices.count === "all" ? Infinity : Number(choices.count ?? COUNTS[0]);
  return { tag: curve.tag, all: shown, drawn: shown.slice(0, most) };
}

kinds.curves = (place, choices) => {
  const { tag, all, drawn: lines } = chosenCurve(choices);
  const positive = lines.flatMap(one => one.mean).filter(value => known(value) && value > 0);
  const least = positive.reduce((a, b) => Math.min(a, b), Infinity); // a band's end that no logarithm can show
  const log = Boolean(choices.log) && positive.length > 0;
  const [lowest, highest] = reachOf(lines, log ? least / 2 : -Infinity);
  const clip = value => Math.min(Math.max(value, lowest), highest);
  const points = one =>
    one.epochs.map((epoch, at) => [
      epoch,
      known(one.mean[at]) && (!log || one.mean[at] > 0) ? one.mean[at] : null,
    ]);
  const limits = one =>
    one.epochs
      .map((epoch, at) => [epoch, one.low[at], one.high[at]])
      .filter(row => known(row[1]) && known(row[2]))
      .map(([epoch, low, high]) => [epoch, clip(low), clip(high)]);
  const styles = new Map(lines.map(one => [one, lineStyle(one.ranking)]));
  const name = one => settings[one.ranking].name;
  const cut = lines.some(
    one =>
      one.low.some(value => known(value) && value < lowest) ||
      one.high.some(value => known(value) && value > highest),
  );
  const bands = lines.map(one => [one, limits(one)]).filter(([, rows]) => rows.length > 1);
  return linesChart({
    series: [
      ...bands.map(([one, rows]) => band(name(one), styles.get(one), rows)),
      ...lines.map(one =>
        line(name(one), styles.get(one), points(one), { showSymbol: one.epochs.length === 1 }),
      ),
    ],
    entries: lines.map(one => ({
      name: name(one),
      short: shortName(one.ranking, 60),
      style: styles.get(one),
    })),
    x: valueAxis(word("epoch"), { minInterval: 1, ...tight }),
    y: valueAxis(tag, { type: log ? "log" : "value", nameGap: 50 }),
    name: word("epoch"),
    shown: point => number(point.value[1]),
    table: curveNumbers(all),
    note: cut ? word("bands_cut") : "",
  });
};

/** How far bands are drawn: as far beyond the means as these reach, since few runs make very wide ones. */
function reachOf(lines, least) {
  const means = lines.flatMap(one => one.mean).filter(value => known(value) && value > least);
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const span = high - low || Math.abs(high) || 1;
  return [Math.max(low - span, least), high + span];
}

/** The last point of each curve. */
function curveNumbers(series) {
  const heads = [word("setting"), word("epoch"), word("mean"), word("low"), word("high"), word("n")];
  const last = one => one.epochs.length - 1;
  const rows = series.map(one => [
    settings[one.ranking].name,
    ...["epochs", "mean", "low", "high", "n"].map(column => number(one[column][last(one)])),
  ]);
  return { heads, rows };
}

/** Whether values differ so much that a linear axis would show the largest alone. */
function spread(values, most) {
  const positive = values.filter(value => known(value) && value > 0);
  return (
    positive.length > 0 &&
    positive.reduce((a, b) => Math.max(a, b)) > most * positive.reduce((a, b) => Math.min(a, b))
  );
}

/** The means of the curves that are drawn at first. */
const firstMeans = () => chosenCurve({}).drawn.flatMap(one => one.mean);

controls.curves = figure => [
  ...(content.curves.length > 1
    ? [
        choice(
          figure,
          "tag",
          word("tag"),
          content.curves.map((one, at) => [String(at), one.tag]),
        ),
      ]
    : []),
  choice(
    figure,
    "count",
    word("how_many"),
    COUNTS.map(count => [count, count === "all" ? word("all_of_them") : count]),
  ),
  choice(figure, "log", word("log_scale"), spread(firstMeans(), 100)),
];

/** The settings of a rate that are shown, and its name. */
function rateOf(one) {
  const places = (one.rankings ?? [one.ranking]).filter(isShown);
  const more = places.length > 1 ? ` (+${places.length - 1})` : "";
  const group = one.name && one.name !== "lr" ? ` ${one.name}` : "";
  return {
    ...one,
    places,
    name: places.length ? settings[places[0]].name + more + group : "",
    short: places.length ? shortName(places[0], 50) + more + group : "",
  };
}

kinds.rates = (place, choices) => {
  const all = content.rates.map(rateOf).filter(one => one.places.length);
  const lines = choices.count === "all" ? all : all.slice(0, Number(choices.count ?? COUNTS[1]));
  const log = Boolean(choices.log);
  const points = one => one.steps.map((step, at) => [step, log && !(one.lr[at] > 0) ? null : one.lr[at]]);
  const styles = lines.map(one => lineStyle(one.places[0]));
  const extremes = one => [one.name, number(Math.max(...one.lr)), number(one.lr[0]), number(one.lr.at(-1))];
  return linesChart({
    series: lines.map((one, at) => line(one.name, styles[at], points(one))),
    entries: lines.map((one, at) => ({ name: one.name, short: one.short, style: styles[at] })),
    x: valueAxis(word("step"), { minInterval: 1, ...tight }),
    y: valueAxis(word("rate"), { type: log ? "log" : "value", nameGap: 50 }),
    name: word("step"),
    shown: point => number(point.value[1]),
    height: 320,
    table: {
      heads: [word("setting"), word("highest"), word("first"), word("last")],
      rows: all.map(extremes),
    },
  });
};

controls.rates = figure => [
  choice(
    figure,
    "count",
    word("how_many_rates"),
    COUNTS.slice(1).map(count => [count, count === "all" ? word("all_of_them") : count]),
  ),
  choice(
    figure,
    "log",
    word("log_scale"),
    spread(
      content.rates.map(one => Math.max(...one.lr)),
      30,
    ),
  ),
];

/** What a start looks like at each layer, one line an initialisation. */
function depthChart(what) {
  const names = content.depth.map(one => one.name);
  const layers = content.depth.reduce(
    (longest, one) => (one.layers.length > longest.length ? one.layers : longest),
    [],
  );
  const values = content.depth.flatMap(one => one[what]).filter(known);
  if (!values.length) return null;
  const log = values.every(value => value >= 0) && values.some(value => value > 0);
  const points = one =>
    layers.map((_, at) => [at, known(one[what][at]) && (!log || one[what][at] > 0) ? one[what][at] : null]);
  const styles = names.map((_, at) => lineStyle(at));
  const layerAxis = axis({
    type: "category",
    name: word("layer"),
    data: layers.map(name => clipped(name, 18)),
    splitLine: { show: false },
  });
  return linesChart({
    series: content.depth.map((one, at) => line(names[at], styles[at], points(one), { showSymbol: true })),
    entries: names.map((name, at) => ({ name, style: { ...styles[at], marked: true } })),
    x: layerAxis,
    y: valueAxis("", { type: log ? "log" : "value" }),
    name: word("layer"),
    height: 320,
    shown: point => number(point.value[1]),
    table: {
      heads: [word("setting"), ...layers],
      rows: content.depth.map(one => [one.name, ...layers.map((_, at) => number(one[what][at]))]),
    },
  });
}

kinds.depth_std = () => depthChart("std");
kinds.depth_gradient = () => depthChart("gradient");

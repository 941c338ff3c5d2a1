// Charts of two settings together: heat maps, and where runs begin to fail.

/** Worst and best of values; far worse ones count as the worst of the better three quarters. */
function worstAndBest(values) {
  const sorted = values.filter(known).sort((a, b) => better * (a - b));
  if (!sorted.length) return [0, 1];
  const best = sorted.at(-1);
  const usual = sorted[Math.floor(sorted.length * 0.25)];
  const far = sorted.length >= 8 && Math.abs(sorted[0] - best) > 3 * Math.abs(usual - best) && usual !== best;
  return [far ? usual : sorted[0], best];
}

/** How good a value is between worst (0) and best (1). */
const goodness = (value, [worst, best]) =>
  worst === best ? 1 : Math.min(Math.max((value - worst) / (best - worst), 0), 1);

const shade = ([worst, best], text) => ({
  type: "continuous",
  min: Math.min(worst, best),
  max: Math.max(worst, best),
  orient: "horizontal",
  left: "center",
  bottom: 0,
  itemWidth: 12,
  itemHeight: 120,
  text,
  textStyle: { color: colour("text") },
});

/** The key from worse to better below a chart of the metric. */
function metricShade(range, values, dimension, colours = ramp()) {
  const [low, high] = [...range].sort((a, b) => a - b);
  const beyond = values.some(value => known(value) && better * (value - range[0]) < 0);
  const worse = word(beyond ? "worse_or_more" : "worse_end");
  const end = value => `${measured(value)} ${value === range[1] ? word("better_end") : worse}`;
  const upwards = better > 0 ? colours : [...colours].reverse();
  return {
    ...shade(range, [end(high), end(low)]),
    dimension,
    inRange: { color: upwards },
    worse_first: better > 0,
  };
}

/** Category axes of a map whose labels find room. */
function mapAxes(map, wide) {
  const letters = texts => Math.max(...texts.map(text => Math.min(text.length, 16)));
  const across = (wide - 70 - 7 * letters(map.y)) / map.x.length;
  const long = letters(map.x) * 7 + 6 > across;
  const labels = texts => texts.map(text => clipped(text, 16));
  const shared = { type: "category", splitLine: { show: false }, axisTick: { show: false } };
  const words = {
    color: colour("text"),
    interval: map.x.length > 30 ? "auto" : 0,
    hideOverlap: map.x.length > 30,
  };
  return {
    across,
    xAxis: axis({
      ...shared,
      data: labels(map.x),
      name: clipped(map.x_key, 40),
      nameGap: long ? 70 : 28,
      axisLabel: { ...words, rotate: long ? 45 : 0 },
    }),
    yAxis: axis({
      ...shared,
      data: labels(map.y),
      name: clipped(map.y_key, 30),
      nameGap: 60,
      axisLabel: { ...words, interval: map.y.length > 30 ? "auto" : 0 },
    }),
  };
}

/** A map's boundary as lines between cells: [x, y, across, up] from the lower left corner of cell x, y. */
function failingEdges({ boundary, x, y }) {
  const beyond = new Set((boundary ?? []).map(String));
  const apart = (column, row) =>
    column >= 0 && row >= 0 && column < x.length && row < y.length && !beyond.has(`${column},${row}`);
  const lines = [];
  for (const [column, row] of boundary ?? []) {
    if (apart(column - 1, row)) lines.push([column, row, 0, 1]);
    if (apart(column + 1, row)) lines.push([column + 1, row, 0, 1]);
    if (apart(column, row - 1)) lines.push([column, row, 1, 0]);
    if (apart(column, row + 1)) lines.push([column, row + 1, 1, 0]);
  }
  return lines;
}

/** The line between settings that fail and those that do not. */
const boundaryLine = edges => ({
  type: "custom",
  data: edges,
  silent: true,
  z: 5,
  encode: { x: 0, y: 1, tooltip: [] },
  tooltip: { show: false },
  renderItem: (params, api) => {
    const [x, y, across, up] = edges[params.dataIndex];
    const [w, h] = api.size([1, 1]);
    const [cx, cy] = api.coord([0, 0]); // the middle of the first cell
    const [x1, y1] = [cx + (x - 0.5) * w, cy - (y - 0.5) * h];
    const shape = { x1, y1, x2: x1 + across * w, y2: y1 - up * h };
    return { type: "line", shape, style: { stroke: colour("boundary"), lineWidth: 4, lineCap: "round" } };
  },
});

/** Cells of which no run has a value. */
const lostCells = (cells, label) => ({
  type: "custom",
  data: cells.map(cell => [cell[0], cell[1]]),
  z: 2,
  encode: { x: 0, y: 1, tooltip: [] },
  renderItem: (params, api) => {
    const [, , , n, failed] = cells[params.dataIndex];
    const [cx, cy] = api.coord([api.value(0), api.value(1)]);
    const [w, h] = api.size([1, 1]);
    const box = {
      type: "rect",
      shape: { x: cx - w / 2 + 1, y: cy - h / 2 + 1, width: w - 2, height: h - 2 },
      style: { fill: colour("lost") },
    };
    const text = {
      type: "text",
      style: {
        text: label ? `✕ ${failed}/${n}` : "✕",
        x: cx,
        y: cy,
        align: "center",
        verticalAlign: "middle",
        fill: colour("bad"),
        fontSize: 11,
      },
    };
    return { type: "group", children: [box, text] };
  },
});

function cellTip(map, [x, y, mean, n, failed]) {
  const values = [`${map.x_key} = ${map.x[x]}`, `${map.y_key} = ${map.y[y]}`];
  return tip(
    ...values,
    `${content.metric.tag}: ${measured(mean)}`,
    `${word("n")}: ${n}`,
    failed ? `${word("failed_runs")}: ${failed}` : null,
  );
}

const mapHeight = map => Math.min(Math.max(map.y.length * 30, 90), 480) + 170;

function mapNumbers(map) {
  const heads = [map.x_key, map.y_key, word("mean"), word("n"), word("failed_runs")];
  return {
    heads,
    rows: map.cells.map(([x, y, mean, n, failed]) => [
      map.x[x],
      map.y[y],
      measured(mean),
      String(n),
      String(failed),
    ]),
    numeric: heads.slice(2),
  };
}

const channels = text =>
  text
    .match(/[\d.]+/g)
    .slice(0, 3)
    .map(Number);

/** Relative luminance of red, green, blue up to 255 (WCAG 2). */
function luminance(rgb) {
  const [r, g, b] = rgb.map(part =>
    part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** The colours of a key from worse to better. */
const shadesOf = key =>
  (key.worse_first ? key.inRange.color : [...key.inRange.color].reverse()).map(channels);

/** Black or white, whichever can be read on a shade between worse (0) and better (1). */
function readableOn(shades, good) {
  const at = Math.min(good * (shades.length - 1), shades.length - 1.000001);
  const [from, to] = [shades[Math.floor(at)], shades[Math.floor(at) + 1]];
  const light = luminance(from.map((part, channel) => part + (at % 1) * (to[channel] - part)));
  return light > 0.179 ? "#000" : "#fff";
}

/** A chart of cells: their colours, their labels, what is lost, the boundary. */
function mapChart(map, wide, { value, range, key, label }) {
  const { across, ...axes } = mapAxes(map, wide);
  const valued = map.cells.filter(cell => known(value(cell)));
  const lost = map.cells.filter(cell => !known(value(cell)) && cell[4] > 0);
  const shades = shadesOf(key);
  const longest = Math.max(...map.cells.map(cell => (known(value(cell)) ? label(cell).length : 6)));
  const labelled = longest * 6.2 + 4 < across && map.y.length <= 16;
  const data = valued.map(cell => ({
    value: [cell[0], cell[1], value(cell)],
    label: { color: readableOn(shades, goodness(value(cell), range)) },
  }));
  const heat = {
    type: "heatmap",
    data,
    z: 1,
    label: { show: labelled, fontSize: 11, formatter: ({ dataIndex }) => label(valued[dataIndex]) },
    itemStyle: { borderColor: colour("bg"), borderWidth: across > 6 && map.y.length <= 60 ? 1 : 0 },
    emphasis: { itemStyle: { borderColor: colour("text") } },
  };
  const formatter = ({ seriesIndex, dataIndex }) => cellTip(map, (seriesIndex ? lost : valued)[dataIndex]);
  return {
    height: mapHeight(map),
    numbers: () => mapNumbers(map),
    option: {
      ...axes,
      visualMap: { ...key, seriesIndex: 0 },
      tooltip: { formatter },
      grid: { bottom: 44, top: 12 },
      series: [heat, lostCells(lost, labelled), boundaryLine(failingEdges(map))],
    },
  };
}

kinds.heatmap = (place, choices, wide) => {
  const map = content.heatmaps[place];
  const means = map.cells.map(cell => cell[2]);
  const range = worstAndBest(means);
  const label = ([, , mean, , failed]) =>
    measured(Number(mean.toPrecision(3))) + (failed ? ` ✕${failed}` : "");
  return mapChart(map, wide, { value: cell => cell[2], range, key: metricShade(range, means, 2), label });
};

/** The map of the two settings that decide whether runs fail, by the share that does. */
kinds.boundary = (place, choices, wide) => {
  const map = content.heatmaps[place];
  const colours = ["bad0", "bad1", "bad2"].map(colour);
  const key = {
    ...shade([0, 1], [percent(1), percent(0)]),
    dimension: 2,
    inRange: { color: colours },
    worse_first: true,
  };
  const share = ([, , , n, failed]) => (n ? failed / n : null);
  const label = ([, , , n, failed]) => (failed ? `${failed}/${n}` : "");
  return mapChart(map, wide, { value: share, range: [0, 1], key, label });
};

// Charts of bars, a row a setting: effects, sources of noise, failures; and the lines that are intervals.

const MOST_ROWS = 25; // of a chart; the others stand in its numbers
const rowsHeight = n => 90 + 26 * Math.max(n, 2);

/** Lines from low to high: data [x, y, low, high], across or upwards. */
const whiskers = (data, across, stroke, name) => ({
  type: "custom",
  name,
  data,
  silent: true,
  z: 4,
  tooltip: { show: false },
  encode: across ? { x: [2, 3], y: 1, tooltip: [] } : { x: 0, y: [2, 3], tooltip: [] },
  renderItem: (params, api) => {
    const end = side => api.coord(across ? [api.value(side), api.value(1)] : [api.value(0), api.value(side)]);
    const [[x1, y1], [x2, y2]] = [end(2), end(3)];
    return { type: "line", shape: { x1, y1, x2, y2 }, style: { stroke, lineWidth: 2 } };
  },
});

const shareAxis = name =>
  valueAxis(name, {
    min: 0,
    scale: false,
    axisLabel: { color: colour("text"), hideOverlap: true, formatter: share => percent(share) },
  });

const knobs = effect => effect.knobs.join(" × ");

/** Bars of shares, a row each: {name, share, low, high, said}. */
function sharesChart(rows, name, wide, { fill = colour("bar"), noise = null, table }) {
  const shown = rows.slice(0, MOST_ROWS);
  const limits = shown
    .map((row, at) => [row.share, at, row.low, row.high])
    .filter(row => known(row[2]) && known(row[3]));
  const noisy = {
    symbol: "none",
    silent: true,
    data: [{ xAxis: noise }],
    lineStyle: { color: colour("muted"), type: "dashed", width: 2 },
    label: { formatter: `${word("noise")} ${percent(noise)}`, color: colour("text"), position: "start" },
  };
  const bars = {
    type: "bar",
    data: shown.map(row => row.share),
    itemStyle: { color: fill },
    barMaxWidth: 16,
    markLine: known(noise) ? noisy : undefined,
  };
  const labels = {
    type: "scatter",
    symbolSize: 0,
    silent: true,
    itemStyle: { opacity: 1 },
    data: shown.map((row, at) => [Math.max(row.share ?? 0, row.high ?? 0), at]),
    tooltip: { show: false },
    label: {
      show: true,
      position: "right",
      color: colour("text"),
      formatter: ({ dataIndex }) => shown[dataIndex].said,
    },
  };
  return {
    height: rowsHeight(shown.length),
    numbers: () => table,
    option: {
      yAxis: nameAxis(
        shown.map(row => row.name),
        wide,
      ),
      xAxis: shareAxis(name),
      grid: { right: 56, top: known(noise) ? 28 : 8 },
      tooltip: { formatter: ({ dataIndex }) => tip(rows[dataIndex].name, rows[dataIndex].tip) },
      series: [bars, whiskers(limits, true, colour("text")), labels],
    },
  };
}

function effectsChart(effects, name, wide, noise) {
  if (!effects.length) return null;
  const limits = one =>
    known(one.low) && known(one.high) ? ` [${percent(one.low)}, ${percent(one.high)}]` : "";
  const rows = effects.map(one => ({
    ...one,
    name: knobs(one),
    said: percent(one.share),
    tip: `${percent(one.share, 1)}${limits(one)}${known(one.p) ? `, p ${number(one.p)}` : ""}`,
  }));
  const heads = [word("setting"), word("share"), word("low"), word("high"), word("p_value")];
  const cells = one => [
    knobs(one),
    percent(one.share, 1),
    percent(one.low, 1),
    percent(one.high, 1),
    number(one.p),
  ];
  const noisy = known(noise) ? [[word("noise"), percent(noise, 1), "–", "–", "–"]] : [];
  return sharesChart(rows, name, wide, { noise, table: { heads, rows: [...effects.map(cells), ...noisy] } });
}

kinds.effects = (place, choices, wide) => {
  const { value, noise, scale } = content.effects;
  return effectsChart(value, word(scale === "rank" ? "share_of_rank" : "share_of_variance"), wide, noise);
};
kinds.failing = (place, choices, wide) =>
  effectsChart(content.effects.failing, word("share_of_failing"), wide, null);

kinds.sources = (place, choices, wide) => {
  const { shares, levels } = content.sources;
  const rows = Object.entries(shares).map(([name, share]) => ({
    name,
    share,
    said: percent(share),
    tip: percent(share, 1),
  }));
  const heads = [word("source"), word("share"), word("levels")];
  const table = {
    heads,
    rows: rows.map(row => [row.name, percent(row.share, 1), String(levels?.[row.name] ?? "–")]),
  };
  return sharesChart(rows, word("share_of_variance"), wide, { table });
};

kinds.failures = (place, choices, wide) => {
  const rows = content.failures.by.map(({ key, value, ended_badly: bad, n }) => ({
    name: `${key} = ${value}`,
    share: n ? bad / n : null,
    said: `${bad}/${n}`,
    tip: word("of_runs", { bad, n }),
  }));
  const heads = [word("setting"), word("ended_badly"), word("n")];
  const table = {
    heads,
    rows: content.failures.by.map(one => [
      `${one.key} = ${one.value}`,
      String(one.ended_badly),
      String(one.n),
    ]),
  };
  return sharesChart(rows, word("share"), wide, { fill: colour("bad-bar"), table });
};

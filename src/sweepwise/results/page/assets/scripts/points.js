// Charts of points: when early stopping hit, value against cost, the replay of early stopping.

const ring = stroke => ({
  symbolSize: 12,
  itemStyle: { color: "transparent", borderColor: stroke, borderWidth: 2 },
});

kinds.stopping = (place, choices, wide) => {
  const all = content.stopping.filter(one => isShown(one.ranking));
  if (!all.length) return null;
  const rows = all.slice(0, MOST_ROWS);
  const name = one => settings[one.ranking].name;
  const points = list =>
    rows.flatMap((row, at) =>
      [list(row)]
        .flat()
        .filter(known)
        .map(epoch => [epoch, at]),
    );
  const scatter = (key, list, options) => ({
    type: "scatter",
    name: word(key),
    data: points(list),
    z: 3,
    ...options,
  });
  const series = [
    scatter("max_epochs", row => row.max_epochs, {
      symbol: "rect",
      symbolSize: [2, 18],
      color: colour("muted"),
      z: 1,
    }),
    scatter("best", row => row.best, { symbolSize: 7, color: colour("good") }),
    scatter("ended", row => row.stopped.filter((_, run) => !row.early[run]), {
      ...ring(colour("edge")),
      z: 2,
    }),
    scatter("stopped", row => row.stopped.filter((_, run) => row.early[run]), ring(colour("accent"))),
  ];
  const heads = [word("setting"), word("stopped"), word("ended"), word("best"), word("max_epochs")];
  const ends = (one, early) => list(one.stopped.filter((_, run) => one.early[run] === early));
  const list = values => [values].flat().filter(known).join(", ");
  return {
    height: rowsHeight(rows.length),
    numbers: () => ({
      heads,
      rows: all.map(one => [
        name(one),
        ends(one, true),
        ends(one, false),
        list(one.best),
        number(one.max_epochs),
      ]),
    }),
    note: all.length > rows.length ? word("not_drawn", { n: all.length - rows.length }) : "",
    option: {
      yAxis: nameAxis(
        rows.map(one => `${one.ranking + 1}: ${shortName(one.ranking, rowLetters(wide) - 5)}`),
        wide,
      ),
      xAxis: valueAxis(word("epoch"), { min: 0, scale: false, minInterval: 1 }),
      series,
      tooltip: {
        formatter: ({ seriesName, value }) =>
          tip(name(rows[value[1]]), `${seriesName}: ${word("epoch")} ${value[0]}`),
      },
    },
  };
};

kinds.cost = () => {
  const all = content.cost.by_setting.filter(one => isShown(one.ranking) && known(one.seconds));
  const valued = all.filter(one => known(settings[one.ranking].mean) && one.seconds > 0);
  if (!valued.length) return null;
  const name = one => settings[one.ranking].name;
  const many = valued.length > 60;
  const limits = valued
    .map(one => [
      one.seconds,
      settings[one.ranking].mean,
      settings[one.ranking].low,
      settings[one.ranking].high,
    ])
    .filter(row => known(row[2]));
  const seconds = valued.map(one => one.seconds);
  const log = Math.max(...seconds) / Math.min(...seconds) > 30;
  return {
    height: 360,
    numbers: () => ({
      heads: [word("setting"), word("time"), content.metric.tag],
      rows: all.map(one => [name(one), duration(one.seconds), withInterval(settings[one.ranking])]),
    }),
    option: {
      xAxis: valueAxis(word("seconds"), { type: log ? "log" : "value" }),
      yAxis: metricAxis({ nameGap: 56 }),
      tooltip: {
        formatter: ({ dataIndex }) =>
          tip(
            name(valued[dataIndex]),
            withInterval(settings[valued[dataIndex].ranking]),
            duration(valued[dataIndex].seconds),
          ),
      },
      series: [
        {
          type: "scatter",
          data: valued.map(one => [one.seconds, settings[one.ranking].mean]),
          symbolSize: many ? 6 : 10,
          z: 5,
          itemStyle: { color: colour("accent"), opacity: many ? 0.6 : 1 },
        },
        whiskers(many ? [] : limits, false, colour("muted")),
      ],
    },
  };
};

/** Rows of the replay of one metric. */
const replayed = metric => content.replay.rows.filter(row => row.metric === metric);

kinds.replay = () => {
  const metrics = [...new Set(content.replay.rows.map(row => row.metric))];
  const series = metrics.flatMap((metric, at) => {
    const style = lineStyle(at);
    const rows = replayed(metric).filter(row => known(row.saved_share) && known(row.lost));
    const both = rows
      .filter(row => known(row.lost_low) && known(row.lost_high))
      .map(row => [row.saved_share, row.lost, row.lost_low, row.lost_high]);
    const point = row => ({
      value: [row.saved_share, row.lost],
      row,
      itemStyle: row.censored
        ? { color: "transparent", borderColor: style.colour, borderWidth: 2 }
        : { color: style.colour },
    });
    return [
      { type: "scatter", name: metric, data: rows.map(point), symbol: style.symbol, symbolSize: 10, z: 5 },
      whiskers(both, false, style.colour, metric),
    ];
  });
  const told = row =>
    tip(
      row.metric,
      `${word("patience_epochs")} ${row.patience}, ${word("min_delta")} ${number(row.min_delta)}`,
      `${word("saved")}: ${percent(row.saved_share)}`,
      `${word("lost")}: ${measured(row.lost)}`,
      `${word("censored")}: ${row.censored}/${row.n}`,
    );
  return {
    height: 360,
    numbers: replayNumbers,
    legend: metrics.map((name, at) => ({ name, style: { ...lineStyle(at), dash: null } })),
    option: {
      xAxis: shareAxis(word("saved")),
      yAxis: valueAxis(word("lost"), {
        nameGap: 56,
        axisLabel: { color: colour("text"), formatter: value => measured(value) },
      }),
      series,
      tooltip: { formatter: ({ data }) => told(data.row) },
    },
  };
};

function replayNumbers() {
  const keys = ["metric", "patience_epochs", "min_delta", "saved", "lost", "censored"];
  const span = (low, high, shown) => (known(low) && known(high) ? ` [${shown(low)}, ${shown(high)}]` : "");
  const rows = content.replay.rows.map(row => [
    row.metric,
    String(row.patience),
    number(row.min_delta),
    percent(row.saved_share) + span(row.saved_low, row.saved_high, percent),
    measured(row.lost) + span(row.lost_low, row.lost_high, measured),
    `${row.censored}/${row.n}`,
  ]);
  return { heads: keys.map(key => word(key)), rows };
}

/** How often successive halving would have kept the winner. */
function drawHalving() {
  const table = document.getElementById("halving");
  if (!table) return;
  const heads = ["rungs", "eta", "kept_winner", "kept_in_draws", "n", "saved"].map(key => word(key));
  const rows = content.replay.halving.map(one => [
    [one.rungs].flat().join(", "),
    number(one.eta),
    percent(one.kept_winner),
    percent(one.kept_in_draws),
    number(one.runs),
    percent(one.saved_share),
  ]);
  table.replaceChildren(...tableOf(heads, rows).children);
}

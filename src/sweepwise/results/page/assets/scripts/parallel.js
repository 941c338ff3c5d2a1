// Parallel coordinates: all settings at once, a line each.

function parallelAxes(wide) {
  const upright = wide >= 560;
  const room = upright ? Math.max(Math.floor(wide / (content.parallel.axes.length + 1) / 7), 6) : 40;
  const words = { color: colour("text"), backgroundColor: colour("panel"), padding: [1, 3], borderRadius: 3 };
  const shared = {
    nameTextStyle: {
      color: colour("text"),
      fontWeight: "bold",
      align: upright ? "center" : "left",
      verticalAlign: "bottom",
      padding: upright ? 0 : [0, 0, 6, 0],
    },
    nameLocation: upright ? "end" : "start",
    nameGap: upright ? 14 : 0,
    axisLabel: words,
    axisLine: { lineStyle: { color: colour("muted") } },
    areaSelectStyle: { borderColor: colour("accent"), color: colour("accent") },
  };
  const axes = content.parallel.axes.map(({ key, values, log }, dim) => ({
    ...shared,
    dim,
    name: clipped(key, room),
    ...(values
      ? {
          type: "category",
          data: values.map(String),
          axisLabel: {
            ...shared.axisLabel,
            interval: 0,
            formatter: text =>
              clipped(text, upright ? room : Math.max(Math.floor(wide / values.length / 8), 3)),
          },
        }
      : {
          type: log ? "log" : "value",
          scale: true,
          axisLabel: { ...shared.axisLabel, formatter: value => number(value) },
        }),
  }));
  const metric = {
    ...shared,
    dim: axes.length,
    name: clipped(content.metric.tag, room),
    type: "value",
    scale: true,
  };
  return {
    upright,
    axes: [...axes, { ...metric, axisLabel: { ...shared.axisLabel, formatter: value => measured(value) } }],
  };
}

kinds.parallel = (place, choices, wide) => {
  const lines = content.parallel.lines.filter(
    one => isShown(one.ranking) && known(settings[one.ranking].mean),
  );
  if (!lines.length) return null;
  lines.sort((a, b) => b.ranking - a.ranking); // the best are drawn last, so on top
  const mean = one => settings[one.ranking].mean;
  const range = worstAndBest(lines.map(mean));
  const key = metricShade(range, lines.map(mean), content.parallel.axes.length, ramp().slice(1));
  const { upright, axes } = parallelAxes(wide);
  const data = lines.map(one => ({
    value: [...one.values, mean(one)],
    name: settings[one.ranking].name,
    lineStyle: { width: one.ranking === 0 ? 4 : 1.5 },
  }));
  const heads = [word("setting"), content.metric.tag];
  return {
    height: upright ? 420 : 100 + 84 * axes.length,
    numbers: () => ({
      heads,
      rows: [...lines]
        .reverse()
        .map(one => [settings[one.ranking].name, withInterval(settings[one.ranking])]),
    }),
    option: {
      parallel: {
        layout: upright ? "horizontal" : "vertical",
        left: upright ? 60 : 24,
        right: upright ? 60 : 24,
        top: upright ? 40 : 36,
        bottom: 76,
      },
      parallelAxis: axes,
      visualMap: key,
      tooltip: {
        formatter: ({ dataIndex }) =>
          tip(settings[lines[dataIndex].ranking].name, withInterval(settings[lines[dataIndex].ranking])),
      },
      series: {
        type: "parallel",
        data,
        smooth: false,
        lineStyle: { opacity: lines.length > 200 ? 0.25 : 0.75 },
        emphasis: { lineStyle: { width: 4, opacity: 1 } },
        inactiveOpacity: 0.06,
      },
    },
  };
};

// Charts: each is drawn when it comes into view, and again when settings are hidden or words and colours change.

const PRINTED_WIDTH = 680; // pixels that fit on A4 and on Letter
const MOST_NUMBERS = 200; // rows of a chart's table
const dashes = ["solid", "dashed", "dotted"];
const symbols = ["circle", "rect", "triangle", "diamond"];
const kinds = {}; // name of a chart -> (place, choices) => what it shows, or null for nothing
const drawings = new Map(); // figure -> its drawing

const probe = element("span", { class: "unseen", "aria-hidden": "true" });

/** A colour of the styles, as it is in the colours chosen. */
function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

/** How a line is told from others: colour, dash and symbol, the same in every chart. */
const lineStyle = place => ({
  colour: colour(`series${place % 8}`),
  dash: dashes[place % dashes.length],
  symbol: symbols[place % symbols.length],
});

/** Shades from worse to better. */
const ramp = () => ["ramp0", "ramp1", "ramp2", "ramp3"].map(colour);

/** Lines of a tooltip; they are texts, whatever they contain. */
const tip = (...lines) =>
  lines.filter(line => line !== null).map((line, at) => element("div", { class: at ? null : "first" }, line));

/** What all charts have in common. */
function common(label) {
  const text = {
    color: colour("text"),
    fontFamily: getComputedStyle(document.body).fontFamily,
    fontSize: 12,
  };
  return {
    animation: false,
    textStyle: text,
    backgroundColor: "transparent",
    aria: { enabled: true, label: { enabled: true, description: label } },
    tooltip: {
      confine: true,
      backgroundColor: colour("panel"),
      borderColor: colour("line"),
      textStyle: text,
      extraCssText: "max-width:min(26rem,90%);white-space:normal;overflow-wrap:anywhere;font-size:12px",
      transitionDuration: 0,
    },
    grid: { left: 8, right: 20, top: 28, bottom: 8, outerBoundsMode: "same", outerBoundsContain: "all" },
  };
}

/** An axis with its lines and words in the page's colours. */
function axis(options) {
  return {
    nameLocation: "middle",
    nameGap: 26,
    nameTextStyle: { color: colour("muted") },
    axisLine: { show: true, lineStyle: { color: colour("muted") } },
    axisLabel: { color: colour("text"), hideOverlap: true },
    splitLine: { lineStyle: { color: colour("line") } },
    minorSplitLine: { show: false },
    ...options,
  };
}

const valueAxis = (name, options = {}) =>
  axis({
    type: "value",
    name,
    scale: true,
    axisLabel: { color: colour("text"), hideOverlap: true, formatter: value => number(value) },
    ...options,
  });

/** The axis of the sweep's metric. */
const metricAxis = (options = {}) =>
  valueAxis(content.metric.tag, {
    axisLabel: {
      color: colour("text"),
      hideOverlap: true,
      formatter: value => (content.metric.percent ? percent(value, 1) : number(value)),
    },
    ...options,
  });

/** Letters of a row's name that find room in a chart of some width. */
const rowLetters = wide => (wide < 500 ? 24 : 46);

/** The names of rows beside a chart, clipped to what the screen can spare. */
const nameAxis = (names, wide) =>
  axis({
    type: "category",
    data: names.map(name => clipped(name, rowLetters(wide))),
    inverse: true,
    axisLabel: { color: colour("text"), interval: 0 },
    axisTick: { show: false },
    splitLine: { show: false },
  });

/** Draws a chart as things stand now. */
function draw(figure) {
  const drawing = drawings.get(figure);
  const plot = figure.querySelector(".plot");
  const wide = document.documentElement.classList.contains("printing")
    ? Math.min(
        PRINTED_WIDTH,
        figure.parentElement.classList.contains("grid") ? PRINTED_WIDTH / 2 - 8 : PRINTED_WIDTH,
      )
    : plot.clientWidth;
  if (!wide) return;
  const made = kinds[figure.dataset.chart](Number(figure.dataset.place ?? 0), drawing.choices, wide);
  drawing.seen = true;
  drawing.wide = wide;
  figure.classList.toggle("empty", !made);
  if (!made) return nothing(plot, drawing);
  if (!drawing.chart) plot.replaceChildren();
  plot.style.height = `${made.height}px`;
  drawing.chart ??= echarts.init(plot, null, { renderer: "svg", width: wide, height: made.height });
  drawing.chart.resize({ width: wide, height: made.height });
  const label = word("chart_of", { what: titleOf(figure) });
  const { tooltip = {}, grid = {}, ...option } = made.option;
  const shared = common(label);
  drawing.chart.setOption(
    { ...shared, ...option, tooltip: { ...shared.tooltip, ...tooltip }, grid: { ...shared.grid, ...grid } },
    true,
  );
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", label);
  legend(figure, drawing, made.legend ?? []);
  figure.querySelector(".note").textContent = made.note ?? "";
  figure.dataset.drawn = "true";
}

function nothing(plot, drawing) {
  drawing.chart?.dispose();
  drawing.chart = null;
  plot.style.height = "";
  plot.replaceChildren(word("empty_chart"));
  plot.removeAttribute("role");
  plot.removeAttribute("aria-label");
  plot.parentElement.querySelector(".legend").replaceChildren();
}

function titleOf(figure) {
  const section = figure.closest("section").querySelector("h2").innerText;
  const heading = figure.querySelector(".heading")?.innerText;
  return heading ? `${section}, ${heading}` : section;
}

/** Buttons that name the lines of a chart; pressed, they keep a line in front. */
function legend(figure, drawing, entries) {
  const stress = (name, on) =>
    drawing.chart.dispatchAction({ type: on ? "highlight" : "downplay", seriesName: name });
  const buttons = entries.map(({ name, short, style }) => {
    const button = element(
      "button",
      {
        type: "button",
        "aria-pressed": "false",
        title: name,
        onmouseenter: () => stress(name, true),
        onfocus: () => stress(name, true),
        onmouseleave: () => release(),
        onblur: () => release(),
        onclick: () => press(),
      },
      swatch(style),
      short ?? clipped(name, 60),
    );
    const release = () => button.getAttribute("aria-pressed") === "true" || stress(name, false);
    const press = () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      for (const other of buttons) other.setAttribute("aria-pressed", String(pressed && other === button));
      for (const entry of entries) stress(entry.name, false);
      if (pressed) stress(name, true); // last, as to release a line brings all others back
    };
    return button;
  });
  figure.querySelector(".legend").replaceChildren(...buttons);
}

const strokes = { solid: "none", dashed: "6 4", dotted: "2 3" };
const marks = {
  circle: "M14 3a4 4 0 1 0 .01 0Z",
  rect: "M10 3h8v8h-8Z",
  triangle: "M14 2l5 9h-10Z",
  diamond: "M14 2l5 5l-5 5l-5 -5Z",
};

function swatch({ colour: stroke, dash, symbol, marked }) {
  const line = drawn("path", {
    d: "M0 7H28",
    stroke,
    "stroke-width": 2.5,
    "stroke-dasharray": strokes[dash],
    fill: "none",
  });
  const parts = dash ? [line] : [];
  if (marked || !dash) parts.push(drawn("path", { d: marks[symbol], fill: stroke }));
  return drawn("svg", { viewBox: "0 0 28 14", width: 28, height: 14, "aria-hidden": "true" }, ...parts);
}

/** The table of a chart, made when it is opened. */
function numbers(figure) {
  const details = figure.querySelector(".numbers");
  const drawing = drawings.get(figure);
  const made = kinds[figure.dataset.chart](Number(figure.dataset.place ?? 0), drawing.choices, PRINTED_WIDTH);
  details.querySelectorAll(":scope > :not(summary)").forEach(old => old.remove());
  if (!made || !details.open) return;
  const { heads, rows, numeric } = made.numbers();
  details.append(
    scrolling(
      word("scroll", { what: titleOf(figure) }),
      tableOf(heads, rows.slice(0, MOST_NUMBERS), numeric),
    ),
  );
  if (rows.length > MOST_NUMBERS) {
    details.append(
      element("p", { class: "hint" }, word("numbers_cut", { n: MOST_NUMBERS, all: rows.length })),
    );
  }
}

/** A choice above a chart, of a list [value, text] or on or off at first; the chart is drawn again with it. */
function choice(figure, name, label, options) {
  const drawing = drawings.get(figure);
  const change = value => {
    drawing.choices[name] = value;
    draw(figure);
    numbers(figure);
  };
  if (typeof options === "boolean") {
    drawing.choices[name] ??= options;
    const box = element("input", { type: "checkbox", onchange: event => change(event.target.checked) });
    box.checked = drawing.choices[name];
    return element("label", {}, box, ` ${label}`);
  }
  const list = element(
    "select",
    { autocomplete: "off", onchange: event => change(event.target.value) },
    ...options.map(([value, text]) => element("option", { value }, text)),
  );
  list.value = drawing.choices[name] ?? options[0][0];
  return element("label", {}, `${label} `, list);
}

const controls = {}; // name of a chart -> figure => its choices

function drawControls(figure) {
  figure.querySelector(".controls").replaceChildren(...(controls[figure.dataset.chart]?.(figure) ?? []));
}

/** Draws again what has been in view; what has not waits until it is. */
function redraw() {
  for (const [figure, drawing] of drawings) {
    drawControls(figure);
    if (drawing.seen) draw(figure);
    numbers(figure);
  }
}

function startCharts() {
  const look = new IntersectionObserver(
    entries => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        look.unobserve(target);
        if (!drawings.get(target).seen) draw(target);
      }
    },
    { rootMargin: "300px" },
  );
  const fit = new ResizeObserver(entries => {
    for (const { target } of entries) {
      const figure = target.closest("figure");
      const drawing = drawings.get(figure);
      if (drawing.seen && !root.classList.contains("printing") && drawing.wide !== target.clientWidth)
        draw(figure);
    }
  });
  for (const figure of document.querySelectorAll("figure.chart")) {
    drawings.set(figure, { choices: {}, seen: false, chart: null, wide: 0 });
    drawControls(figure);
    const details = figure.querySelector(".numbers");
    details.addEventListener("toggle", () => numbers(figure));
    look.observe(figure);
    fit.observe(figure.querySelector(".plot"));
  }
  settingsShown.addEventListener("change", redraw);
}

// What is on the page: its content, its words in the language chosen, numbers as they are printed, and elements.

const read = id => JSON.parse(document.getElementById(id).textContent);
const content = read("content");
const texts = read("texts");
const root = document.documentElement;
const settings = content.ranking;
const languages = { en: "en", zh: "zh-Hans" };
const state = { language: root.lang.startsWith("zh") ? "zh" : "en", hidden: new Set() };
const settingsShown = new EventTarget(); // fires "change" when settings are hidden or shown

/** A text of the interface, with {names} filled in. */
function word(key, values = {}) {
  const text = Object.hasOwn(texts, key) ? texts[key][state.language] : key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

/** A sentence of the content in the language chosen. */
const said = sentence => sentence[state.language];

/** 1 where higher values of the metric are better, -1 where lower ones are. */
const better = content.metric.better === "lower" ? -1 : 1;

const known = value => typeof value === "number" && Number.isFinite(value);

/** Decimals with which an interval has two digits of its half width; without one, four of the value. */
function decimals(half, value) {
  const size = known(half) && half > 0 ? half : Math.abs(value) / 100;
  return size > 0 ? Math.min(Math.max(1 - Math.floor(Math.log10(size)), 0), 12) : 4;
}

/** A number as it is printed: four digits, or as many decimals as its interval deserves. */
function number(value, half = null) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  if (half === null && Number.isInteger(value) && size < 1e6) return String(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-4)) return value.toExponential(2).replace(/\.?0+e/, "e");
  return half === null ? String(Number(value.toPrecision(4))) : value.toFixed(decimals(half, value));
}

/** A value of the sweep's metric. */
function measured(value, half = null) {
  if (!content.metric.percent || !known(value)) return number(value, half);
  return percent(value, half === null ? 2 : Math.min(decimals(100 * half, 100 * value), 6));
}

function percent(share, places = 0) {
  if (!known(share)) return "–";
  return `${(100 * share).toFixed(places)}${state.language === "zh" ? "" : " "}%`;
}

/** Mean and interval of a setting, or of anything that has mean, low and high. */
function withInterval({ mean, low, high }) {
  if (!known(low) || !known(high)) return measured(mean);
  const half = (high - low) / 2;
  return `${measured(mean, half)} [${measured(low, half)}, ${measured(high, half)}]`;
}

function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds >= 5400) return word("hours", { n: number(Number((seconds / 3600).toPrecision(3))) });
  if (seconds >= 90) return word("minutes", { n: number(Number((seconds / 60).toPrecision(3))) });
  return word("short_seconds", { n: number(Number(seconds.toPrecision(2))) });
}

/** A long name with its middle left out: both ends tell settings apart. */
function clipped(text, most) {
  const line = String(text).replace(/\s+/g, " ");
  if (line.length <= most) return line;
  const end = Math.floor((most - 1) / 2);
  return `${line.slice(0, most - 1 - end)}…${line.slice(line.length - end)}`;
}

const leaf = key => key.slice(key.lastIndexOf(".") + 1);
const nameForms = [
  one => one.name,
  one => content.keys.map((key, at) => `${leaf(key)}=${one.setting[at]}`).join(", "),
  one => one.setting.join(", "),
];
const formFor = new Map(); // letters that there are -> the fullest form in which every name has room

/** A setting in few letters: whole, or its keys without their groups, or only its values, clipped. */
function shortName(place, most) {
  if (!formFor.has(most)) {
    const fits = form => settings.every(one => form(one).length <= most);
    formFor.set(most, nameForms.find(fits) ?? nameForms.at(-1));
  }
  return clipped(formFor.get(most)(settings[place]), most);
}

/** The text at a place of a column whose texts share their words: {separator, words, rows}. */
const textAt = ({ separator, words, rows }, place) => rows[place].map(at => words[at]).join(separator);

const isShown = place => !state.hidden.has(place);

function hide(places, hidden) {
  for (const place of places) hidden ? state.hidden.add(place) : state.hidden.delete(place);
  settingsShown.dispatchEvent(new Event("change"));
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null));
  return made;
}

/** An element; strings among its children become text, never markup. */
const element = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

const drawn = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** A table of texts; columns whose heads stand in `numeric` are set to the right. */
function tableOf(heads, rows, numeric = heads.slice(1)) {
  const sided = place => (numeric.includes(heads[place]) ? "number" : "long");
  const head = heads.map((text, place) => element("th", { scope: "col", class: sided(place) }, text));
  const lines = rows.map(row =>
    element("tr", {}, ...row.map((cell, place) => element("td", { class: sided(place) }, cell))),
  );
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...lines),
  );
}

/** A box that scrolls sideways, by keyboard too. */
const scrolling = (label, ...children) =>
  element("div", { class: "scrolling", tabindex: "0", role: "region", "aria-label": label }, ...children);

/** Tells those who cannot see it what has happened. */
function announce(text) {
  document.getElementById("said").textContent = text;
}

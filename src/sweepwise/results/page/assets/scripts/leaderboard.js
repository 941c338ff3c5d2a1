// The leaderboard: a table of settings that sorts, filters, hides, and opens.

const LISTED = 100; // rows at first: a table of thousands takes a browser seconds
const MOST_LETTERS = 60; // of a value in a cell
const board = { sort: "rank", down: false, filter: "", hidden: false, all: false, open: new Set() };
const numericTexts = /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/;

/** The columns: key, heading, what is sorted by, what stands in the cell. */
function boardColumns() {
  const interval = word("interval", { percent: number(100 * content.confidence) });
  const keys = content.keys.map((key, at) => ({
    key: `key ${at}`,
    head: key,
    by: place => sortable(settings[place].setting[at]),
    cell: place => keyCell(String(settings[place].setting[at])),
  }));
  const value = (name, head, cell) => ({
    key: name,
    head,
    numeric: true,
    by: place => settings[place][name],
    cell: place => element("td", { class: "number" }, cell(settings[place])),
  });
  const anyFailed = settings.some(one => one.failed);
  return [
    ...keys,
    value("mean", word("mean"), one => measured(one.mean, known(one.low) ? (one.high - one.low) / 2 : null)),
    {
      key: "interval",
      head: interval,
      cell: place => element("td", { class: "number" }, intervalText(settings[place])),
    },
    { key: "drawn", head: word("drawn"), left: true, cell: drawnCell },
    value("n", word("n"), one => String(one.n)),
    ...(anyFailed ? [value("failed", word("failed_runs"), one => String(one.failed))] : []),
  ];
}

/** A key that may break where its words end. */
const breakable = text =>
  text.split(/(?<=[._/])/).flatMap((part, at) => (at ? [element("wbr"), part] : [part]));

/** A value of a key; a very long one stands whole in its title and above the runs of its row. */
const keyCell = text =>
  element(
    "td",
    { class: "key", title: text.length > MOST_LETTERS ? text : null },
    clipped(text, MOST_LETTERS),
  );

function intervalText({ low, high }) {
  if (!known(low) || !known(high)) return "–";
  const half = (high - low) / 2;
  return `[${measured(low, half)}, ${measured(high, half)}]`;
}

let boardBounds = null;

function drawnCell(place) {
  boardBounds ??= boundsOf(settings);
  return element("td", { class: "drawn" }, intervalDrawing(settings[place], boardBounds));
}

const sortable = shown => (numericTexts.test(shown) ? Number(shown) : String(shown));

/** Numbers before texts; what is unknown comes last either way. */
function compared(a, b, down) {
  const missing = value => value === null || value === undefined;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  if (typeof a !== typeof b) return (typeof a === "number" ? -1 : 1) * (down ? -1 : 1);
  const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  return down ? -order : order;
}

/** Whether a setting has all words of the filter in its name or its values. */
function passes(place) {
  const one = settings[place];
  const whole = `${one.name} ${one.setting.join(" ")}`.toLowerCase();
  return board.filter
    .toLowerCase()
    .split(/\s+/)
    .every(part => whole.includes(part));
}

/** The places of the settings that are listed, in order. */
function boardPlaces() {
  const places = settings
    .map((_, place) => place)
    .filter(place => passes(place) && (board.hidden || isShown(place)));
  if (board.sort === "rank") return board.down ? places.reverse() : places;
  const { by } = boardColumns().find(column => column.key === board.sort);
  return places.sort((a, b) => compared(by(a), by(b), board.down) || a - b);
}

function boardHead(columns) {
  const heads = [{ key: "rank", head: word("rank"), by: true, numeric: true }, ...columns].map(
    ({ key, head, by, numeric, left }) => {
      if (!by) return element("th", { scope: "col", class: left ? null : "number" }, head);
      const button = element(
        "button",
        { type: "button", class: "sort", onclick: () => sortBy(key) },
        ...breakable(clipped(head, MOST_LETTERS)),
      );
      return element("th", { scope: "col", "data-sort": key, class: numeric ? "number" : null }, button);
    },
  );
  const row = element("tr", {}, element("th", { scope: "col" }, word("show")), ...heads);
  document.querySelector("#settings thead").replaceChildren(row);
}

function sortBy(key) {
  board.down = board.sort === key && !board.down;
  board.sort = key;
  listBoard();
}

function boardRow(place, columns) {
  const one = settings[place];
  const open = board.open.has(place);
  const box = element("input", {
    type: "checkbox",
    "aria-label": word("show_setting", { name: one.name }),
    onchange: () => hideRow(place),
  });
  box.checked = isShown(place);
  const opener = element(
    "button",
    {
      type: "button",
      class: "opener",
      "aria-expanded": String(open),
      "aria-label": `${place + 1}: ${word("runs_of", { name: one.name })}`,
    },
    String(place + 1),
  );
  return element(
    "tr",
    { class: isShown(place) ? "setting" : "setting off", "data-place": place },
    element("td", {}, box),
    element("th", { scope: "row", class: "number" }, opener),
    ...columns.map(column => column.cell(place)),
  );
}

/** What opens below a row, as wide as the box that the table scrolls in. */
function openedRow(place, columns) {
  const inside = scrolling(word("runs_of", { name: settings[place].name }), runsTable(settings[place]));
  return element(
    "tr",
    { class: "opened", "data-of": place },
    element("td", { colspan: columns.length + 2 }, inside),
  );
}

function listBoard() {
  const columns = boardColumns();
  const places = boardPlaces();
  const listed = board.all ? places : places.slice(0, LISTED);
  const rows = listed.flatMap(place => [
    boardRow(place, columns),
    ...(board.open.has(place) ? [openedRow(place, columns)] : []),
  ]);
  if (!rows.length)
    rows.push(element("tr", {}, element("td", { colspan: columns.length + 2 }, word("none_left"))));
  document.querySelector("#settings tbody").replaceChildren(...rows);
  for (const head of document.querySelectorAll("#settings th[data-sort]")) {
    const sorted = head.dataset.sort === board.sort;
    if (sorted) head.setAttribute("aria-sort", board.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  const more = document.getElementById("more");
  more.hidden = listed.length === places.length;
  more.textContent = word("list_more", { n: places.length });
  standing(places.length);
}

function standing(listed) {
  const text = word("standing", { listed, all: settings.length, hidden: state.hidden.size });
  document.getElementById("standing").textContent = text;
  document.getElementById("show-all").hidden = !state.hidden.size;
  document.getElementById("hide-others").hidden = !board.filter;
}

/** Opens or closes the runs of a setting. */
function toggleRow(row) {
  const place = Number(row.dataset.place);
  const open = !board.open.delete(place);
  if (open) {
    board.open.add(place);
    row.after(openedRow(place, boardColumns()));
  } else {
    row.nextElementSibling.remove();
  }
  row.querySelector(".opener").setAttribute("aria-expanded", String(open));
}

/** Hides or shows a setting; the keyboard goes on at the row that took its place. */
function hideRow(place) {
  const rows = [...document.querySelectorAll("#settings tr.setting")];
  const at = rows.findIndex(row => Number(row.dataset.place) === place);
  hide([place], isShown(place));
  const left = [...document.querySelectorAll("#settings tr.setting")];
  left[Math.min(at, left.length - 1)]?.querySelector("input").focus();
}

function boardControls() {
  const search = element("input", {
    type: "search",
    placeholder: word("filter_hint"),
    autocomplete: "off",
    value: board.filter,
    oninput: event => {
      board.filter = event.target.value.trim();
      listBoard();
    },
  });
  const listing = element("input", {
    type: "checkbox",
    onchange: event => {
      board.hidden = event.target.checked;
      listBoard();
    },
  });
  listing.checked = board.hidden;
  const others = () =>
    hide(
      settings.map((_, place) => place).filter(place => !passes(place)),
      true,
    );
  document
    .getElementById("leaderboard-controls")
    .replaceChildren(
      element("label", {}, `${word("filter")} `, search),
      element("label", {}, listing, ` ${word("list_hidden")}`),
      element("button", { type: "button", id: "hide-others", onclick: others }, word("hide_others")),
      element(
        "button",
        { type: "button", id: "show-all", onclick: () => hide(settings.keys(), false) },
        word("show_all"),
      ),
      element("span", { id: "standing", role: "status" }),
    );
}

/** Builds all of it, in the language chosen. */
function drawBoard() {
  if (!settings.length) return;
  boardControls();
  boardHead(boardColumns());
  listBoard();
}

function startBoard() {
  if (!settings.length) return;
  drawBoard();
  settingsShown.addEventListener("change", listBoard);
  document.getElementById("more").addEventListener("click", () => {
    board.all = true;
    listBoard();
  });
  document.querySelector("#settings tbody").addEventListener("click", event => {
    const row = event.target.closest("tr.setting");
    const other = event.target.closest("input, button:not(.opener), a");
    if (row && !other && !String(getSelection())) toggleRow(row);
  });
}

// The runs of a setting: what opens below a row of the leaderboard.

const MOST_RUNS = 200; // drawn at once of a setting

/** The columns of runs: key of the heading, what stands in the cell. */
function runColumns() {
  const runs = content.runs;
  const of = (name, shown) => place => shown(runs[name][place]);
  const text = value => (value === null || value === undefined ? "–" : [value].flat().join(", "));
  return [
    ["replicate", of("replicate", text)],
    ["value", of("value", value => measured(value))],
    ["status", of("status", word)],
    ["best_epoch", of("best_epoch", text)],
    ["epochs", of("epochs", text)],
    ["time", of("seconds", duration)],
    ["folder", place => element("code", {}, textAt(runs.folder, place))],
    ["command", place => commandCell(textAt(runs.command, place))],
  ];
}

/** A command with the button that copies it. */
function commandCell(command) {
  if (!command) return "–";
  const label = word("copy_what", { command });
  const button = element(
    "button",
    { type: "button", class: "copy", "data-copy": command, "aria-label": label },
    word("copy"),
  );
  return element("div", { class: "command" }, button, element("code", {}, command));
}

function runsTable(ranked) {
  const columns = runColumns();
  const numeric = ["value", "best_epoch", "epochs", "time"];
  const cells = place =>
    columns.map(([key, cell]) =>
      element("td", { class: numeric.includes(key) ? "number" : "long" }, cell(place)),
    );
  const rows = ranked.runs.slice(0, MOST_RUNS).map(place => element("tr", {}, ...cells(place)));
  const heads = columns.map(([key]) =>
    element("th", { scope: "col", class: numeric.includes(key) ? "number" : null }, word(key)),
  );
  return element(
    "table",
    { class: "runs" },
    element("caption", {}, word("runs_of", { name: ranked.name })),
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...rows),
  );
}

/** Copies what the pressed button names, and says so. */
async function copy(button) {
  const done = await copied(button.dataset.copy);
  announce(word(done ? "copied" : "not_copied"));
  button.classList.toggle("done", done);
  setTimeout(() => button.classList.remove("done"), 2000);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedBySelection(text); // where a page from a file may not write to the clipboard
  }
}

function copiedBySelection(text) {
  const field = element("textarea", { class: "unseen", "aria-hidden": "true" });
  field.value = text;
  const before = document.activeElement;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}

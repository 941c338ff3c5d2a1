// The start: language and colours, printing, copying, and all that the other files draw.

/** What the template cannot write in the language chosen: attributes, options of lists, sentences with numbers. */
function wordsInPlace() {
  for (const one of document.querySelectorAll("[data-word]")) one.textContent = word(one.dataset.word);
  for (const one of document.querySelectorAll("[data-label]")) one.setAttribute("aria-label", labelOf(one));
  for (const one of document.querySelectorAll(".copy"))
    one.setAttribute("aria-label", word("copy_what", { command: one.dataset.copy }));
  bestSaid();
  costSaid();
  drawHalving();
}

/** A landmark's name; a box that scrolls has another one than its section. */
function labelOf(landmark) {
  const what = word(landmark.dataset.label);
  return landmark.classList.contains("scrolling") ? word("scroll", { what }) : what;
}

function bestSaid() {
  const place = document.getElementById("best");
  if (!place) return;
  const [best] = settings;
  place.textContent = [
    word("best_seen", { name: best.name, value: withInterval(best) }),
    said(content.expected),
  ]
    .filter(Boolean)
    .join(state.language === "zh" ? "；" : "; ");
}

function costSaid() {
  const place = document.getElementById("cost-said");
  if (!place) return;
  const { runs, epochs, seconds } = content.cost;
  place.textContent = word("cost_said", { runs, epochs, time: duration(seconds) });
}

function speak(language) {
  state.language = language;
  root.lang = languages[language];
  wordsInPlace();
  drawBoard();
  redraw();
}

function paint(theme) {
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  redraw();
}

/** Everything is drawn, light and as wide as paper. */
function beforePrint() {
  root.classList.add("printing");
  root.dataset.theme = "light";
  for (const figure of drawings.keys()) draw(figure);
}

function afterPrint() {
  root.classList.remove("printing");
  paint(document.getElementById("theme").value);
}

function start() {
  drawVerdicts();
  startBoard();
  for (const figure of document.querySelectorAll("[data-chart=replay]"))
    figure.querySelector(".numbers").open = true;
  startCharts();
  wordsInPlace();
  document.getElementById("language").addEventListener("change", event => speak(event.target.value));
  document.getElementById("theme").addEventListener("change", event => paint(event.target.value));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.getElementById("print").addEventListener("click", () => print());
  addEventListener("beforeprint", beforePrint);
  addEventListener("afterprint", afterPrint);
  document.addEventListener("click", event => {
    const button = event.target.closest(".copy");
    if (button) copy(button);
  });
}

start();

"""What a person sees of runs in TensorBoard, read off the page itself."""

import contextlib
import json
import re
import urllib.request

import numpy as np
import pytest
from playwright.sync_api import TimeoutError, expect

pytestmark = pytest.mark.browser

INITS = ["kaiming", "xavier"]

expect.set_options(timeout=30_000)  # milliseconds, as all other waits have by default


def show(page, site, tab):
    page.goto(f"{site.url}#{tab}")


def filter_tags(page, *tags):
    """Shows only the cards of these tags in the Time Series tab."""
    field = page.get_by_role("combobox", name="Filter tags (regex)")
    field.fill(f"^({'|'.join(tags)})$")
    field.press("Escape")  # closes the proposals, which cover the cards


def wait_for_colours(canvas, number):
    """Waits until a chart's lines are drawn in as many colours, each on some of its pixels."""
    canvas.page.wait_for_function(
        """([canvas, number]) => {
            const context = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
            context.drawImage(canvas, 0, 0);
            const data = context.getImageData(0, 0, canvas.width, canvas.height).data, pixels = {};
            for (let i = 0; i < data.length; i += 4) {
                const colour = data.slice(i, i + 3).join();
                if (data[i + 3] == 255) pixels[colour] = (pixels[colour] || 0) + 1;
            }
            return Object.values(pixels).filter(count => count >= 50).length == number;
        }""",
        arg=[canvas.element_handle(), number],
    )


def table(page):
    """The rows of the HParams table, each by column."""
    grid = page.locator("vaadin-grid").first
    grid.get_by_text("Trial ID").wait_for()
    page.locator("vaadin-grid-cell-content", has_text="main/init=").first.wait_for()
    header, *rows = grid.evaluate(
        """grid => [...grid.shadowRoot.querySelectorAll('tr')].map(row => [...row.children].map(cell =>
            [...cell.querySelectorAll('slot')].flatMap(slot => slot.assignedElements())
                .map(content => content.innerText.trim()).join('')))"""
    )
    return [dict(zip(header, row, strict=False)) for row in rows if row[0]]


def open_category(page, name):
    """The part of a dashboard that holds one family of tags, unfolded."""
    category = page.locator("tf-category-paginated-view").filter(has=page.locator(f"[title='{name}']"))
    heading = category.locator("button.heading")
    heading.wait_for()
    if category.locator("iron-collapse").first.get_attribute("aria-hidden") == "true":
        heading.click()
    return category


def click_until(shape, appears):
    """Clicks a shape of the graph, again while the graph is being laid out, which forgets a click."""
    for _ in range(14):
        shape.dispatch_event("click")
        with contextlib.suppress(TimeoutError):
            return appears.wait_for(timeout=2_000)
    shape.dispatch_event("click")
    return appears.wait_for(timeout=2_000)


def opened(page):
    """The tags of the cards that the Time Series tab unfolds by itself, in their order."""
    page.locator("card-view [title]").first.wait_for()
    return page.locator("card-view .tag").evaluate_all("tags => tags.map(tag => tag.title)")


def test_losses_and_metrics_come_first(page, pair):
    show(page, pair, "timeseries")
    page.locator("[title='Val/loss']").first.wait_for()
    names = ["accuracy", "batch_loss", "loss", "penalty"]
    assert opened(page) == [*(f"Train/{name}" for name in names), "Val/accuracy", "Val/loss"]


def test_time_series(page, pair):
    tags = {"lr/lr": "lr/lr", "Train/loss": "train/loss", "Val/loss": "val/loss"}
    show(page, pair, "timeseries")
    filter_tags(page, *tags)
    for tag, key in tags.items():
        card = page.locator("card-view").filter(has=page.locator(f"[title='{tag}']"))
        curves = len({last[key] for last in pair.runs.values()})  # those of lr/lr are one
        wait_for_colours(card.locator("line-chart canvas").first, 2 * curves)  # as it is, and smoothed
        for name, last in pair.runs.items():
            row = card.locator("tb-data-table-content-row").filter(has_text=name)
            row.get_by_text(f"{round(last[key], 4):g}", exact=True).first.wait_for()
    listed = page.locator("runs-data-table")
    for name in pair.runs:
        listed.get_by_text(name).wait_for()


@pytest.mark.parametrize("family", ["weights", "gradients", "activations"])
def test_histograms(page, pair, family):
    show(page, pair, "histograms")
    cards = open_category(page, family).locator("tf-histogram-loader")
    for layer in ("linear0", "linear1", "output"):
        suffixes = [""] if family == "activations" else [".weight", ".bias"]
        wanted = cards.filter(has_text=re.compile(rf"tag: {family}/{layer}({'|'.join(suffixes)})\s"))
        expect(wanted).to_have_count(len(suffixes) * len(pair.runs))
    for card in cards.all():
        card.scroll_into_view_if_needed()
        card.locator("vz-histogram-timeseries path[d*='L']").first.wait_for(state="attached")


def test_text(page, pair):
    show(page, pair, "text")
    texts = page.locator("tf-text-loader")
    for init in INITS:
        texts.filter(has_text=f"torch.nn.init.{init}_normal_").first.wait_for()
        texts.filter(has_text="run/overrides").get_by_text(f"init={init}", exact=True).wait_for()
    for known in ("cpu_capability", '"threads": 1', '"torch": '):
        expect(texts.filter(has_text="run/environment").filter(has_text=known)).to_have_count(len(pair.runs))


def test_graph(page, pair):
    show(page, pair, "graphs")
    scene = page.locator("tf-graph-scene svg#svg")
    for layer in ("input", "flatten", "linear0", "relu0", "linear1", "output"):
        scene.locator(f"g.node.op[data-name='{layer}'] ellipse").first.wait_for()
    expect(scene.locator("g.edge path.edgeline")).to_have_count(8)  # nine nodes in a row
    card = page.locator("tf-node-info").filter(has_text="linear0")
    click_until(
        scene.locator("g.node.op[data-name='linear0'] ellipse").first,
        card.get_by_text("Linear(in_features=64").first,
    )


def test_images(page, pair):
    show(page, pair, "images")
    for family, tag in {"confusion": "confusion/matrix", "inputs": "inputs/examples"}.items():
        cards = open_category(page, family).locator("tf-image-loader").filter(has_text=f"tag: {tag}")
        expect(cards).to_have_count(len(pair.runs))
        for card in cards.all():
            image = card.locator("img").first
            image.wait_for()
            page.wait_for_function(
                "image => image.complete && image.naturalWidth > 200", arg=image.element_handle()
            )


def test_pr_curves(page, pair):
    show(page, pair, "pr_curves")
    cards = open_category(page, "pr").locator("tf-pr-curve-card")
    for label in range(10):
        card = cards.filter(has_text=re.compile(rf"tag: pr/class_{label}\b"))
        card.wait_for()
        card.scroll_into_view_if_needed()
        card.locator("svg path.line[d*='L']").nth(len(pair.runs) - 1).wait_for(state="attached")


def test_the_counts_of_the_confusion_matrix(page, pair):
    show(page, pair, "text")
    texts = page.locator("tf-text-loader").filter(has_text="confusion/counts")
    expect(texts).to_have_count(len(pair.runs))
    for text in texts.all():
        cells = text.locator("table tbody td")
        expect(cells).to_have_count(10 * 11)
        counts = map(int, cells.all_inner_texts())
        assert sum(counts) - sum(range(10)) == 360  # the validation part of digits


def test_custom_scalars(page, pair):
    show(page, pair, "custom_scalars")
    cards = page.locator("tf-custom-scalar-multi-line-chart-card")
    for metric in ("loss", "accuracy"):
        card = cards.filter(has_text=f"Train/{metric}")
        lines = card.locator(".match-list-entry")
        expect(lines).to_have_count(2 * len(pair.runs))
        assert sorted(
            re.search(r"(\S+) \((.+)\)", line).groups() for line in lines.all_text_contents()
        ) == sorted((f"{part}/{metric}", run) for part in ("Train", "Val") for run in pair.runs)
        drawn = card.locator("svg path.line[d*='L']")
        drawn.nth(2 * len(pair.runs) - 1).wait_for(state="attached")
    expect(cards.filter(has_text="lr/lr")).to_have_count(1)


def test_hparams(page, pair):
    show(page, pair, "hparams")
    rows = table(page)
    assert sorted(row["Trial ID"] for row in rows) == sorted(pair.runs)
    assert sorted(row["init"] for row in rows) == INITS
    page.get_by_text("optimizer.lr", exact=True).first.wait_for()  # a box to tick: five columns are shown
    for row in rows:
        ended = json.loads((pair.folder / row["Trial ID"] / "record.json").read_text())
        best = {f"best/{key}": value for key, value in ended["best"]["metrics"].items()}
        last = {"last/val/loss": ended["last"]["val/loss"]}
        assert {name: float(row[name]) for name in row if "/" in name} == pytest.approx(best | last, rel=1e-3)
        assert len(best) == 4


def test_no_run_is_made_up(page, pair):
    """Of the runs that TensorBoard counts each is one that was trained."""
    with urllib.request.urlopen(f"{pair.url}data/runs") as answer:
        assert sorted(json.load(answer)) == sorted(pair.runs)
    show(page, pair, "timeseries")
    for name in pair.runs:
        page.locator("runs-data-table").get_by_text(name).wait_for()
    expect(page.locator("runs-data-table tb-data-table-content-row")).to_have_count(len(pair.runs))


def test_a_sweep_shows_all_its_runs(page, sweep):
    assert len(sweep.runs) == 4
    show(page, sweep, "timeseries")
    for name in sweep.runs:
        page.locator("runs-data-table").get_by_text(name).wait_for()


def test_hparams_of_a_sweep(page, sweep):
    show(page, sweep, "hparams")
    swept = sorted((row["init"], float(row["seed.value"])) for row in table(page))
    assert swept == [(init, seed) for init in INITS for seed in (0, 1)]


def means(site, tag):
    """The means of the last values of the runs of each setting, by the name of the mean run."""
    found = {}
    for name, last in site.runs.items():
        setting = re.search(r"init=[a-z]+", name)[0]
        found.setdefault(f"main/_mean/{setting}", []).append(last[tag])
    return {name: np.mean(values) for name, values in found.items()}


def test_mean_runs_lie_over_the_runs(page, sweep):
    show(page, sweep, "timeseries")
    filter_tags(page, "Val/loss")
    card = page.locator("card-view").filter(has=page.locator("[title='Val/loss']"))
    for name, mean in means(sweep, "val/loss").items():
        page.locator("runs-data-table").get_by_text(name).wait_for()
        row = card.locator("tb-data-table-content-row").filter(has_text=name)
        row.get_by_text(f"{mean:.4f}".rstrip("0"), exact=True).first.wait_for()


def test_the_intervals_are_folded_and_come_last(page, sweep):
    show(page, sweep, "timeseries")
    page.get_by_text("whiskers", exact=True).wait_for()
    heads = page.locator("metrics-card-group-toolbar").all()
    assert "whiskers" in heads[-1].inner_text()
    expect(page.locator("[title^='whiskers/']")).to_have_count(0)


def test_a_band_is_shaded_for_each_setting(page, sweep):
    show(page, sweep, "custom_scalars")
    cards = page.locator("tf-custom-scalar-margin-chart-card")
    expect(cards).to_have_count(4)
    for metric in ("val/loss", "val/accuracy", "train/loss", "train/accuracy"):
        card = cards.filter(has_text=metric)
        card.scroll_into_view_if_needed()
        expect(card.locator("svg path.area[d*='L']")).to_have_count(2)
        card.locator("svg path.line[d*='L']").nth(1).wait_for(state="attached")


def test_what_a_mean_run_is_of(page, sweep):
    show(page, sweep, "text")
    texts = page.locator("tf-text-loader").filter(has_text="run/mean")
    expect(texts).to_have_count(2)
    for init in INITS:
        texts.filter(has_text=f"Mean of 2 runs of init={init}").wait_for()


def asked(site, what, **query):
    request = urllib.request.Request(f"{site.url}data/plugin/hparams/{what}", json.dumps(query).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_every_run_of_500_has_its_settings_results_and_status(many):
    statuses = ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN", "STATUS_RUNNING"]
    rows = asked(many, "session_groups", allowedStatuses=statuses, startIndex=0, sliceSize=1000)
    columns = asked(many, "experiment")
    groups = rows["sessionGroups"]
    assert {row["name"] for row in groups} == set(many.runs) and len(groups) == 500
    named = {info["name"] for info in columns["hparamInfos"]}
    assert named == {key for row in groups for key in row["hparams"]}
    first = {info["name"] for info in columns["hparamInfos"] if info["differs"]}
    given = {"init", "scheduler", "optimizer.lr", "seed.value"}
    assert given < first and len(first) == 5
    assert len({tuple(row["hparams"][key] for key in sorted(given)) for row in groups}) == 500
    tags = [info["name"]["tag"] for info in columns["metricInfos"]]
    best = [f"best/{part}/{name}" for part in ("val", "test") for name in ("loss", "accuracy")]
    assert tags == [*best, "Val/loss", "Val/accuracy", "Train/loss"]
    for row in groups:
        found = {value["name"]["tag"]: value["value"] for value in row["metricValues"]}
        wanted = many.runs[row["name"]]
        assert found["Val/loss"] == pytest.approx(wanted["val/loss"])
        assert found["best/val/loss"] == pytest.approx(wanted["val/loss"] / 3)
    failed = [row for row in groups if row["sessions"][0]["status"] == "STATUS_FAILURE"]
    assert len(failed) == 10


def test_the_table_of_500_runs(page, many):
    show(page, many, "hparams")
    rows = table(page)
    shown = set(rows[0])
    assert {"init", "scheduler", "optimizer.lr", "seed.value", "best/val/loss", "best/test/loss"} <= shown
    page.get_by_text("Number of matching session groups: 500").wait_for()


def test_a_link_opens_custom_scalars_on_means(page, many):
    show(page, many, "custom_scalars&regexInput=_mean/init.xavier")
    card = page.locator("tf-custom-scalar-margin-chart-card").filter(has_text="val/loss")
    expect(card.get_by_text("Matches (20)")).to_have_count(1)


def test_the_means_of_more_runs_than_tensorboard_selects(page, many):
    show(page, many, "custom_scalars")
    field = page.get_by_label("Write a regex to filter runs").first
    field.fill("_mean/init=(xavier|kaiming)__.*lr=0.1")
    card = page.locator("tf-custom-scalar-margin-chart-card").filter(has_text="val/loss")
    expect(card.get_by_text("Matches (8)")).to_have_count(1)

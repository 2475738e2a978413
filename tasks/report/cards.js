// Cards: everything that is said of one source.

const MOST_LISTED = 40;
const SAID = { recropped: "re-cropped", reprompted: "re-prompted", varied: "augmented otherwise", replaced: "other content" };
const CHIPS = ["added", "replaced", "renamed", "recropped", "reprompted", "varied", "validation"];

// One card: everything about a source.
async function card(source) {
  const { grids, picture, complete } = await openSource(source);
  const panels = make("div", { class: "panels" });
  for (const group of grouped(grids)) panels.append(panel(group, picture, source));
  if (!grids.length && facts.width[source] > 0) panels.append(bare(source, picture, complete));
  for (const [kind, scale, reason] of facts.without[source] ?? []) {
    panels.append(make("figure", { class: kind }, make("figcaption", {}, make("b", {}, gridName(kind, scale)), " ", make("span", { class: "why" }, `no tiles: ${clean(reason)}`))));
  }
  const notes = (facts.notes[source] ?? []).map((note) => make("p", { class: isBad(source) ? "why" : "quiet" }, make("bdi", {}, clean(note))));
  const dropped = grids.flatMap((grid) => grid.tiles.filter((tile) => tile.reason !== null).map((tile) => [grid, tile]));
  return make("article", { class: "source" }, heading(source), ...notes,
    make("div", { class: "body" }, panels, prompts(source)), dropped.length ? droppedList(dropped) : null);
}

const hasMark = (source, name) => {
  const option = byId("mark").querySelector(`[data-name="${name}"]`);
  return option !== null && (facts.marks[source] & Number(option.value)) !== 0;
};
const isBad = (source) => hasMark(source, "rejected") || hasMark(source, "unused");

function heading(source) {
  const parts = [];
  if (facts.width[source] > 0) parts.push(`${count(facts.width[source])}×${count(facts.height[source])}`);
  if (facts.format[source]) parts.push(facts.format[source]);
  parts.push(facts.concepts[facts.concept[source]], plural(facts.samples[source], "sample"));
  if (facts.factor[source] > 1.005) parts.push(`enlarged up to ${facts.factor[source].toFixed(2)}×`);
  const chips = CHIPS.filter((name) => hasMark(source, name));
  return make("header", {}, make("h3", { title: clean(facts.path[source]) }, shownPath(source)),
    make("span", { class: "quiet" }, make("bdi", {}, clean(parts.filter(Boolean).join(" · ")))),
    ...chips.map((name) => make("span", { class: "chip" }, SAID[name] ?? name)));
}

// The path below the folder that all sources share, its name standing out.
function shownPath(source) {
  const path = clean(facts.path[source].slice(facts.folder.length));
  const at = path.lastIndexOf("/") + 1;
  return make("bdi", {}, make("span", { class: "quiet" }, path.slice(0, at)), path.slice(at));
}

const gridName = (kind, scale) => (kind === "full" ? "full image" : kind === "detail" ? `detail ×${scale}` : kind);

// Grids that differ only in their phase take turns, so they share a panel.
function grouped(grids) {
  const groups = new Map();
  for (const grid of grids) {
    const key = [grid.kind, grid.scale, grid.resolution, grid.canvasWidth, grid.canvasHeight, grid.width].join();
    groups.set(key, [...(groups.get(key) ?? []), grid]);
  }
  return [...groups.values()];
}

function panel(group, picture, source) {
  const figure = make("figure", { class: group[0].kind });
  const show = (grid) => {
    const dropped = grid.tiles.filter((tile) => tile.reason !== null).length;
    const kept = grid.tiles.length - dropped;
    const name = gridName(grid.kind, grid.scale);
    const label = `${name} of ${clean(facts.path[source])}: ${grid.kind === "full" ? `used part, ${grid.bucket}` : `${kept} tiles kept, ${dropped} dropped`}`;
    const svg = drawGrid(grid, picture, label);
    explain(svg, grid, () => enlarge(source));
    const caption = make("figcaption", {}, make("b", {}, name), " ",
      make("span", { class: "quiet" }, grid.kind === "full" ? `→ ${grid.bucket}` : `${grid.bucket} of ${count(grid.canvasWidth)}×${count(grid.canvasHeight)}`));
    if (grid.kind !== "full") caption.append(" ", make("span", { class: "kept" }, `${count(kept)} kept`));
    if (dropped) caption.append(" ", make("span", { class: "gone" }, `${count(dropped)} dropped`));
    if (group.length > 1) caption.append(make("br"), phaseChoice(group, grid, show));
    figure.replaceChildren(svg, caption);
  };
  show(group[0]);
  return figure;
}

function phaseChoice(group, grid, show) {
  const select = make("select", { "aria-label": "grid" });
  group.forEach((one, number) => select.append(make("option", { value: number }, `grid ${one.phase + 1} of ${one.phases}`)));
  select.value = group.indexOf(grid);
  select.addEventListener("change", () => {
    const figure = select.closest("figure");
    show(group[Number(select.value)]);
    figure.querySelector("select").focus();
  });
  return select;
}

// A source without grids: its picture alone.
function bare(source, picture, complete) {
  const grid = { kind: "none", canvasWidth: facts.width[source], canvasHeight: facts.height[source], tiles: [] };
  const why = complete ? (picture ? "" : "no picture") : "its tile grids had no room in this page";
  return make("figure", {}, drawGrid(grid, picture, `picture of ${clean(facts.path[source])}`), make("figcaption", { class: "quiet" }, why));
}

function prompts(source) {
  const box = make("div", { class: "prompts" });
  const { uses } = facts;
  for (let at = facts.firstUse[source]; at < facts.firstUse[source + 1];) {
    const set = uses.set[at];
    const chips = make("div", {});
    for (; at < facts.firstUse[source + 1] && uses.set[at] === set; at += 1) {
      const text = `${count(uses.samples[at])} ${facts.kinds[uses.kind[at]]} · ${uses.origin[at]}`;
      chips.append(make("span", { class: uses.origin[at] === "none" ? "chip bad" : "chip" }, text), " ");
    }
    const texts = facts.sets[set].filter(Boolean);
    const list = texts.slice(0, 8).map((text) => make("li", {}, make("bdi", {}, clean(text))));
    if (texts.length > 8) list.push(make("li", { class: "quiet" }, `and ${texts.length - 8} more`));
    box.append(chips, texts.length ? make("ul", {}, ...list) : make("p", { class: "why" }, "empty prompt"));
  }
  if (facts.hidden[source]) box.append(make("p", { class: "quiet" }, `and ${plural(facts.hidden[source], "more set")} of prompts`));
  return box;
}

function droppedList(dropped) {
  const box = make("details", {}, make("summary", {}, `${plural(dropped.length, "dropped tile")}, with numbers`));
  box.addEventListener("toggle", () => {
    if (box.children.length > 1) return;
    const list = dropped.slice(0, MOST_LISTED).map(([grid, tile]) =>
      make("li", {}, `${gridName(grid.kind, grid.scale)} at ${tile.left}, ${tile.top}: ${clean(tile.reason)} (${measuresOf(tile) || "not measured"})`));
    if (dropped.length > MOST_LISTED) list.push(make("li", { class: "quiet" }, `and ${count(dropped.length - MOST_LISTED)} more`));
    box.append(make("ul", {}, ...list));
  });
  return box;
}

// The list of sources: unpack what is shown, search, filter, sort, turn pages.

const PER_PAGE = { cards: 20, gallery: 60 };
const byId = (id) => document.getElementById(id);
const unpacked = new Map();
let facts = null;
let found = [];
let page = 0;
let turn = 0;

// A packed data block as its JSON value.
async function unpack(id) {
  const text = byId(id).textContent;
  if (!text) return null;
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : slowBytes(atob(text));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function slowBytes(text) {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes;
}

// The grids and pictures of the part of the sources that a source is in.
function partOf(source) {
  const number = Math.floor(source / facts.partSources);
  if (!unpacked.has(number)) {
    const pictures = byId(`pictures-${number}`).textContent.split(" ");
    unpacked.set(number, unpack(`grids-${number}`).then((grids) => ({ grids, pictures })));
  }
  return unpacked.get(number);
}

// The grids of a source with their tiles, and its picture.
async function openSource(source) {
  const { grids: part, pictures } = await partOf(source);
  const at = source % facts.partSources;
  const grids = [];
  for (let number = part?.grids[at]; part && number < part.grids[at + 1]; number += 1) {
    grids.push({
      kind: facts.kinds[part.kind[number]],
      scale: facts.scales[part.scale[number]],
      resolution: part.resolution[number],
      phase: part.phase[number],
      phases: part.phases[number],
      canvasWidth: part.canvas_width[number],
      canvasHeight: part.canvas_height[number],
      width: part.width[number],
      height: part.height[number],
      bucket: `${part.bucket_width[number]}×${part.bucket_height[number]}`,
      tiles: tilesOf(part, part.tiles[number], part.tiles[number + 1]),
    });
  }
  return { grids, picture: pictures[at] || "", complete: part !== null };
}

function tilesOf(part, start, end) {
  let first = 0;
  if (part.values) {
    part.firsts ??= part.variations.reduce((all, number) => (all.push(all.at(-1) + number), all), [0]);
    first = part.firsts;
  }
  const tiles = [];
  for (let number = start; number < end; number += 1) {
    const own = part.prompts[number];
    const places = part.values ? part.values.slice(first[number], first[number + 1]) : [];
    tiles.push({
      left: part.left[number],
      top: part.top[number],
      std: part.std[number],
      edge: part.edge[number],
      reason: part.reason[number] < 0 ? null : part.reasons[part.reason[number]],
      own: own === -1 ? "" : own < 0 ? "(not in this page)" : facts.sets[own].join(" | ") || "(empty)",
      variations: part.variations[number],
      values: places.some((place) => place >= 0) ? places.map((place) => sayValues(part.texts[place])) : [],
    });
  }
  return tiles;
}

// A source in the gallery: its picture with its first tiles; the card opens on a click.
async function exhibit(source) {
  const { grids, picture } = await openSource(source);
  const path = clean(facts.path[source]);
  const plain = { kind: "none", canvasWidth: Math.max(1, facts.width[source]), canvasHeight: Math.max(1, facts.height[source]), tiles: [] };
  const grid = grids.find((one) => one.kind !== "full") ?? grids[0] ?? plain;
  const button = make("button", { type: "button", title: path }, drawGrid(grid, picture, ""), make("span", {}, make("bdi", {}, path.split("/").at(-1))));
  button.addEventListener("click", () => enlarge(source));
  return button;
}

async function enlarge(source) {
  const dialog = byId("dialog");
  if (dialog.open) return;
  const close = make("button", { type: "button", class: "close", "aria-label": "close" }, "×");
  close.addEventListener("click", () => dialog.close());
  const shown = await card(source);
  document.body.append(byId("tip"));
  dialog.replaceChildren(shown, close);
  dialog.showModal();
}

// What is searched of a source: its path and all its prompts.
function searched(source) {
  facts.searched ??= [];
  if (facts.searched[source] === undefined) {
    const sets = new Set(facts.uses.set.slice(facts.firstUse[source], facts.firstUse[source + 1]));
    const texts = [...sets].flatMap((set) => facts.sets[set]);
    facts.searched[source] = [facts.path[source], ...texts].join("\n").toLowerCase();
  }
  return facts.searched[source];
}

const pixels = (source) => facts.width[source] * facts.height[source];
const aspect = (source) => (facts.height[source] > 0 ? facts.width[source] / facts.height[source] : 1);
const ORDERS = {
  path: null,
  dropped: (one, other) => facts.dropped[other] - facts.dropped[one],
  samples: (one, other) => facts.samples[other] - facts.samples[one],
  large: (one, other) => pixels(other) - pixels(one),
  small: (one, other) => pixels(one) - pixels(other),
  wide: (one, other) => aspect(other) - aspect(one),
  tall: (one, other) => aspect(one) - aspect(other),
};

function refresh() {
  const words = byId("query").value.toLowerCase().split(/\s+/).filter(Boolean);
  const concept = byId("concept").value;
  const kind = byId("kind").value ? 1 << facts.kinds.indexOf(byId("kind").value) : 0;
  const mark = Number(byId("mark").value);
  found = facts.path.map((_, source) => source).filter((source) =>
    (concept === "" || facts.concept[source] === Number(concept))
    && (!kind || facts.sampleKinds[source] & kind)
    && (!mark || facts.marks[source] & mark)
    && words.every((word) => searched(source).includes(word)));
  const order = ORDERS[byId("sort").value];
  if (order) found.sort(order);
  page = 0;
  return show();
}

async function show() {
  const mine = ++turn;
  const view = byId("view").value;
  const size = PER_PAGE[view];
  const list = byId("list");
  list.setAttribute("aria-busy", "true");
  const shown = found.slice(page * size, (page + 1) * size);
  const elements = await Promise.all(shown.map(view === "cards" ? card : exhibit));
  if (mine !== turn) return;
  list.className = view === "gallery" ? "gallery" : "";
  list.replaceChildren(...elements);
  list.setAttribute("aria-busy", "false");
  const all = facts.path.length;
  byId("count").textContent = (found.length === all ? "" : `${count(found.length)} of `) + plural(all, "source");
  if (!found.length) list.append(make("p", { class: "quiet" }, "Nothing matches."));
  showPages(Math.ceil(found.length / size));
}

function showPages(number) {
  const bar = byId("pages");
  bar.hidden = number < 2;
  const button = (text, label, to) => {
    const element = make("button", { type: "button", "aria-label": label, "data-to": to }, text);
    element.disabled = to < 0 || to >= number || to === page;
    element.addEventListener("click", () => turnTo(to));
    return element;
  };
  const input = make("input", { type: "number", min: 1, max: number, value: page + 1, "aria-label": "page" });
  input.addEventListener("change", () => turnTo(Math.min(number, Math.max(1, Math.round(Number(input.value) || 1))) - 1));
  bar.replaceChildren(button("«", "first page", 0), button("‹ previous", "previous page", page - 1), input,
    make("span", { class: "quiet" }, `of ${count(number)}`), button("next ›", "next page", page + 1), button("»", "last page", number - 1));
}

async function turnTo(wanted) {
  const last = Math.ceil(found.length / PER_PAGE[byId("view").value]) - 1;
  if (wanted < 0 || wanted > last || wanted === page) return;
  page = wanted;
  await show();
  byId("sources").scrollIntoView({ block: "start" });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  if (event.key === "/") {
    event.preventDefault();
    byId("query").focus();
  }
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) turnTo(page + step);
}

function sharedFolder(paths) {
  let folder = paths.length ? paths[0].slice(0, paths[0].lastIndexOf("/") + 1) : "";
  for (const path of paths) {
    while (!path.startsWith(folder)) folder = folder.slice(0, folder.lastIndexOf("/", folder.length - 2) + 1);
  }
  return folder;
}

async function start() {
  if (typeof DecompressionStream === "undefined") {
    byId("list").append(make("p", { class: "note" }, "This browser is too old to show the sources: one of 2023 or later can."));
    return;
  }
  facts = await unpack("facts");
  facts.firstUse = new Uint32Array(facts.path.length + 1);
  for (const source of facts.uses.source) facts.firstUse[source + 1] += 1;
  for (let at = 0; at < facts.path.length; at += 1) facts.firstUse[at + 1] += facts.firstUse[at];
  facts.concepts.forEach((name, number) => byId("concept").append(make("option", { value: number }, clean(name || "(rejected files)", 80))));
  facts.folder = sharedFolder(facts.path);
  byId("folder").textContent = facts.folder && `in ${clean(facts.folder)}`;
  byId("tools").hidden = false;
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  let waiting = 0;
  byId("query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 120);
  });
  for (const id of ["concept", "kind", "mark", "sort", "view"]) byId(id).addEventListener("change", refresh);
  document.addEventListener("keydown", onKey);
  byId("dialog").addEventListener("click", (event) => { if (event.target === byId("dialog")) byId("dialog").close(); });
  await refresh();
  // Two frames later the first page is on the screen.
  requestAnimationFrame(() => requestAnimationFrame(() => {
    document.documentElement.dataset.readyMs = Math.round(performance.now());
  }));
}

start();

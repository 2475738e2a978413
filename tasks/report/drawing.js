"use strict";
// Drawing: one picture with a tile grid over it, and what is said of the tile that is pointed at.

const SVG = "http://www.w3.org/2000/svg";
const MOST_DRAWN = 5000;
const MOST_VALUES = 4;
// Control characters, and those that turn the direction of what follows.
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

const count = (number) => number.toLocaleString("en-US");
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
const clean = (text, limit = 600) => {
  const shown = text.replace(CONTROL, "\ufffd");
  return shown.length <= limit ? shown : `${shown.slice(0, limit)}… (${count(shown.length)} characters)`;
};

// An element with attributes and children; texts are only ever set as text.
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function draw(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

const pictureUrl = (data) => `data:image/${data.startsWith("/9j/") ? "jpeg" : "webp"};base64,${data}`;

function outline(tiles, width, height) {
  return tiles.map((tile) => `M${tile.left} ${tile.top}h${width}v${height}h${-width}z`).join("");
}

// The picture of a grid. `grid`: kind, canvasWidth, canvasHeight, width, height and tiles.
function drawGrid(grid, picture, label) {
  const box = `0 0 ${grid.canvasWidth} ${grid.canvasHeight}`;
  const svg = draw("svg", { class: "tiles", viewBox: box, role: "img", "aria-label": label }, document.createDocumentFragment());
  if (picture) {
    const size = { width: grid.canvasWidth, height: grid.canvasHeight };
    draw("image", { href: pictureUrl(picture), preserveAspectRatio: "none", ...size }, svg);
  }
  const dropped = grid.tiles.filter((tile) => tile.reason !== null);
  const kept = grid.tiles.filter((tile) => tile.reason === null);
  const own = kept.filter((tile) => tile.own && grid.kind !== "full");
  const layers = [[grid.kind === "full" ? "f" : "k", kept], ["d", dropped], ["o", own]];
  for (const [name, tiles] of layers) {
    if (tiles.length) draw("path", { class: name, d: outline(tiles.slice(0, MOST_DRAWN), grid.width, grid.height) }, svg);
  }
  return svg;
}

// Makes a grid answer to the pointer and the keyboard; a click or Enter calls `open`.
function explain(svg, grid, open) {
  let current = -1;
  let frame = null;
  const show = (number, x, y) => {
    if (number < 0) return hide();
    const tile = grid.tiles[number];
    if (!frame) frame = draw("rect", { class: "at", width: grid.width, height: grid.height }, svg);
    frame.setAttribute("x", tile.left);
    frame.setAttribute("y", tile.top);
    current = number;
    placeTip(svg, describeTile(grid, tile), x, y);
  };
  const hide = () => {
    frame?.remove();
    frame = null;
    document.getElementById("tip").hidden = true;
  };
  const showAtTile = (number) => {
    const tile = grid.tiles[number];
    const box = svg.getBoundingClientRect();
    const scale = box.width / grid.canvasWidth;
    show(number, box.left + (tile.left + grid.width / 2) * scale, box.top + (tile.top + grid.height / 2) * scale);
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * grid.canvasWidth;
    const y = ((event.clientY - box.top) / box.height) * grid.canvasHeight;
    show(nearest(grid, x, y), event.clientX, event.clientY);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("click", () => { hide(); open(); });
  if (!grid.tiles.length) return;
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("aria-describedby", "tip");
  svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) showAtTile(Math.max(current, 0)); });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (event.key === "Enter") open();
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const number = grid.tiles.length;
    showAtTile((Math.max(current, 0) + step + number) % number);
  });
}

// Of the tiles that hold a point, the one whose centre is nearest: neighbours overlap.
function nearest(grid, x, y) {
  let best = -1;
  let least = Infinity;
  grid.tiles.forEach((tile, number) => {
    if (x < tile.left || y < tile.top || x > tile.left + grid.width || y > tile.top + grid.height) return;
    const distance = Math.hypot(x - tile.left - grid.width / 2, y - tile.top - grid.height / 2);
    if (distance < least) [best, least] = [number, distance];
  });
  return best;
}

function placeTip(svg, lines, x, y) {
  const tip = document.getElementById("tip");
  // An open dialog lies above everything outside of it.
  (svg.closest("dialog") ?? document.body).append(tip);
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 16, innerWidth - width - 8))}px`;
  tip.style.top = `${y + height + 28 > innerHeight ? Math.max(8, y - height - 16) : y + 18}px`;
}

// What is said of one tile: its verdict, place and measures, augmentation, and a prompt of its own.
function describeTile(grid, tile) {
  const verdict = tile.reason === null
    ? make("p", { class: "kept" }, grid.kind === "full" ? "full image" : "kept")
    : make("p", { class: "gone" }, `dropped: ${clean(tile.reason)}`);
  const place = `${grid.width}×${grid.height} at ${tile.left}, ${tile.top} of ${grid.canvasWidth}×${grid.canvasHeight}`;
  const lines = [verdict, make("p", { class: "quiet" }, place)];
  const measures = measuresOf(tile);
  if (measures) lines.push(make("p", {}, measures));
  if (tile.variations > 1 && !tile.values.length) lines.push(make("p", {}, plural(tile.variations, "variation")));
  tile.values.slice(0, MOST_VALUES).forEach((values, number) => {
    const name = tile.variations > 1 ? `variation ${number + 1}: ` : "";
    lines.push(make("p", {}, `${name}${values}`));
  });
  if (tile.values.length > MOST_VALUES) lines.push(make("p", { class: "quiet" }, `and ${tile.values.length - MOST_VALUES} more`));
  if (tile.own) lines.push(make("p", {}, "own prompt: ", make("bdi", {}, clean(tile.own, 300))));
  return lines;
}

function measuresOf(tile) {
  if (tile.std < 0) return "";
  const edges = tile.edge < 0 ? "" : `, edges ${(tile.edge / 100).toFixed(2)} %`;
  return `luma std ${(tile.std / 10000).toFixed(4)}${edges}`;
}

// Augmentation values as a person says them: {"flip":true,"rotate":-3.2} is "mirrored, turned by -3.2°".
function sayValues(text) {
  if (!text) return "as it is";
  const words = {
    flip: (value) => (value ? "mirrored" : ""),
    rotate: (value) => `turned by ${value}°`,
    hue: (value) => `hue by ${value}`,
  };
  const said = Object.entries(JSON.parse(text)).map(([name, value]) =>
    words[name] ? words[name](value) : `${clean(name)} ×${clean(String(value))}`);
  return said.filter(Boolean).join(", ") || "as it is";
}

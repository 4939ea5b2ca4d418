// The page: what is shown and what a touch changes. Whatever comes from the run is put in as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const decode = readDecoder(data);
const [height, width, channels = 1] = data.shape;
const dims = data.partitions.flatMap((partition) => partition.dims);
const means = rowsOf(read(data.mean, Float32Array), dims.length);
const deviations = data.std && rowsOf(read(data.std, Float32Array), dims.length);
const images = data.images && rowsOf(read(data.images, Uint8Array), height * width * channels);
const byId = (id) => document.getElementById(id);
const VALUES = Array.from({ length: 2 * data.reach + 1 }, (_, i) => i - data.reach);
const ALL_SWAPS = 5; // partitions of which every combination is drawn; of more, those with one partition of the other image

function rowsOf(values, length) {
  return Array.from({ length: values.length / length }, (_, i) => values.subarray(i * length, (i + 1) * length));
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const signed = (value, digits = 2) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(digits);

// Values of an image, in 0 .. scale, onto a canvas.
function paint(canvas, values, scale) {
  [canvas.height, canvas.width] = [height, width];
  const picture = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let colour = 0; colour < 3; colour++) {
      picture.data[4 * i + colour] = (values[channels * i + (colour % channels)] * 255) / scale;
    }
    picture.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

const paintSample = (canvas, i) => (images ? paint(canvas, images[i], 255) : paint(canvas, decode(means[i]), 1));

// Jobs one after the other, with time for touches between them; new ones of a name replace what is left of the old.
const turns = {};
async function inTurn(name, jobs) {
  const turn = (turns[name] = (turns[name] ?? 0) + 1);
  for (const job of jobs) {
    await new Promise((resolve) => setTimeout(resolve));
    if (turns[name] !== turn) return;
    job();
  }
}

function say(text) {
  byId("status").textContent = text;
}

const named = (partition) =>
  make("span", { className: "name" }, accented(make("span", { className: "swatch" }), partition), partition.name);

function accented(element, partition) {
  element.style.setProperty("--accent", partition.colour);
  return element;
}

// Latent: one code, a slider for each of its dimensions.

let sample = 0;
let code = new Float32Array(dims.length);
let touched = data.kl ? data.kl.indexOf(Math.max(...data.kl)) : dims[0];
let frame = 0;
const sliders = [];
const partitionOf = (dim) => data.partitions.find((partition) => partition.dims.includes(dim));

function makeSlider(dim, partition) {
  const input = make("input", { type: "range", id: `z${dim}`, min: -data.reach, max: data.reach, step: 0.05 });
  const value = make("output");
  const band = make("span", { className: "band" });
  const kl = data.kl ? make("small", {}, `${data.kl[dim].toFixed(2)} nats`) : "";
  input.addEventListener("input", () => move(dim, input.valueAsNumber));
  input.addEventListener("focus", () => touch(dim));
  sliders[dim] = { input, value, band };
  const label = make("label", { htmlFor: input.id }, `z${dim} `, kl);
  return accented(make("div", { className: "slider" }, label, make("div", { className: "track" }, band, input), value), partition);
}

function makePartition(partition) {
  const dead = partition.dims.filter((dim) => data.kl && data.kl[dim] < data.dead);
  const row = (dim) => makeSlider(dim, partition);
  const group = make("fieldset", {}, make("legend", {}, named(partition)));
  group.append(...partition.dims.filter((dim) => !dead.includes(dim)).map(row));
  if (dead.length) {
    const summary = make("summary", {}, `${dead.length} dead (KL below ${data.dead} nats)`);
    group.append(make("details", {}, summary, ...dead.map(row)));
  }
  return accented(group, partition);
}

function showSlider(dim) {
  const { input, value, band } = sliders[dim];
  input.value = code[dim];
  value.textContent = signed(code[dim]);
  input.setAttribute("aria-valuetext", value.textContent);
  band.hidden = !deviations || sample === null;
  if (band.hidden) return;
  const [from, to] = [-1, 1].map((side) => {
    const end = means[sample][dim] + side * deviations[sample][dim];
    return (Math.min(Math.max(end / data.reach, -1), 1) + 1) / 2;
  });
  band.style.setProperty("--from", from);
  band.style.setProperty("--to", to);
}

function show() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    paint(byId("decoded"), decode(code), 1);
  });
}

function start(next, words) {
  code = Float32Array.from(next);
  sliders.forEach((_, dim) => showSlider(dim));
  byId("of-original").hidden = !images || sample === null;
  byId("of-bands").hidden = !deviations || sample === null;
  if (images && sample !== null) paint(byId("original"), images[sample], 255);
  show();
  drawStrip();
  say(words);
}

function move(dim, value) {
  code[dim] = value;
  showSlider(dim);
  show();
  touch(dim);
  markStrip();
  say(`${partitionOf(dim).name} z${dim}: ${signed(value)}`);
}

function touch(dim) {
  if (dim === touched) return;
  touched = dim;
  drawStrip();
}

function drawStrip() {
  const partition = partitionOf(touched);
  byId("touched").replaceChildren(named(partition), ` z${touched} from ${signed(-data.reach, 0)} to ${data.reach}`);
  accented(byId("strip"), partition);
  const draw = (value, i) => () => {
    const moved = Float32Array.from(code);
    moved[touched] = value;
    paint(byId("strip").children[i].firstChild, decode(moved), 1);
  };
  markStrip();
  inTurn("strip", VALUES.map(draw));
}

function markStrip() {
  VALUES.forEach((value, i) => {
    byId("strip").children[i].setAttribute("aria-pressed", Math.round(code[touched]) === value);
  });
}

// A pair of draws from the standard normal (Box, Muller 1958), one of them used.
const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

function pick(i) {
  if (swapping()) {
    sides[side()] = i;
    drawSwap();
    return;
  }
  start(means[(sample = i)], `Sample ${data.names[i]}`);
}

// Swap: every partition's code from one of two samples.

const sides = { A: 0, B: Math.min(1, means.length - 1) };
const swapping = () => byId("view-swap").checked;
const side = () => (byId("side-B").checked ? "B" : "A");
const count = data.partitions.length;
const combinations = // bit p set: partition p is taken from B
  count <= ALL_SWAPS ? [...Array(1 << count).keys()] : [0, ...data.partitions.map((_, p) => 2 ** p), 2 ** count - 1];
const taken = (combination, p) => (Math.floor(combination / 2 ** p) % 2 ? "B" : "A");

function mixed(combination) {
  const result = new Float32Array(dims.length);
  data.partitions.forEach((partition, p) => {
    for (const dim of partition.dims) result[dim] = means[sides[taken(combination, p)]][dim];
  });
  return result;
}

const boxes = data.partitions.map((partition) => make("input", { type: "checkbox", onchange: showMix }));
const chosen = () => boxes.reduce((sum, box, p) => sum + (box.checked ? 2 ** p : 0), 0);

function makeCombination(combination) {
  const words = data.partitions.map((partition, p) =>
    make("span", {}, named(partition), make("b", {}, ` ${taken(combination, p)}`)),
  );
  return make(
    "button",
    {
      type: "button",
      onclick: () => {
        boxes.forEach((box, p) => (box.checked = taken(combination, p) === "B"));
        showMix();
      },
    },
    make("canvas"),
    make("span", { className: "words" }, ...words),
  );
}

function showMix() {
  paint(byId("mixed"), decode(mixed(chosen())), 1);
  combinations.forEach((combination, i) => {
    byId("combinations").children[i].setAttribute("aria-pressed", combination === chosen());
  });
  const from = data.partitions.map((partition, p) => `${partition.name} of ${taken(chosen(), p)}`);
  byId("of-mixed").textContent = `Decoded: ${from.join(", ")}`;
}

function drawSwap() {
  for (const name of ["A", "B"]) paintSample(byId(name), sides[name]);
  say(`A is sample ${data.names[sides.A]}, B is sample ${data.names[sides.B]}`);
  showMix();
  const draw = (combination, i) => () =>
    paint(byId("combinations").children[i].firstChild, decode(mixed(combination)), 1);
  inTurn("combinations", combinations.map(draw));
}

// Both views, and the samples that they share.

const radios = data.names.map((name, i) =>
  make("input", { type: "radio", name: "sample", ariaLabel: name, title: name, onchange: () => pick(i) }),
);

function markSample() {
  const marked = swapping() ? sides[side()] : sample;
  radios.forEach((radio, i) => (radio.checked = i === marked));
}

function showView() {
  for (const part of document.querySelectorAll("[data-view]")) part.hidden = (part.dataset.view === "swap") !== swapping();
  markSample();
  if (swapping()) drawSwap();
}

byId("samples").append(...radios.map((radio) => make("label", {}, radio, make("canvas"))));
byId("partitions").append(...data.partitions.map(makePartition));
byId("strip").append(
  ...VALUES.map((value) =>
    make("button", { type: "button", onclick: () => move(touched, value) }, make("canvas"), signed(value, 0)),
  ),
);
byId("boxes").append(...boxes.map((box, p) => make("label", {}, box, named(data.partitions[p]))));
byId("of-combinations").textContent = count <= ALL_SWAPS ? "All combinations" : "One partition of B at a time, or all";
byId("combinations").append(...combinations.map(makeCombination));
byId("combinations").style.setProperty("--columns", Math.min(2 ** Math.ceil(count / 2), 4));
let last = 0; // the sample that `reset` goes back to
byId("reset").onclick = () => {
  pick(sample ?? last);
  markSample();
};
byId("random").onclick = () => {
  [last, sample] = [sample ?? last, null];
  start(code.map(normal), "A code drawn from the prior");
  markSample();
};
for (const id of ["view-latent", "view-swap"]) byId(id).onchange = showView;
for (const name of ["A", "B"]) byId(`side-${name}`).onchange = markSample;
inTurn("samples", radios.map((radio, i) => () => paintSample(radio.nextSibling, i)));
start(means[sample], `Sample ${data.names[sample]}`);
showView();

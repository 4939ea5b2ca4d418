"use strict";
// The decoder: codes to pictures, layer by layer as `standalone.py` writes them, channels last throughout.

// Numbers of a kind of array from base64.
function read(text, Kind) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Kind(bytes.buffer);
}

// A layer with its weights (taps, inputs, outputs) as float32: each output has a scale of its own.
function readLayer({ taps, relu, kind, ...stored }) {
  const bias = read(stored.bias, Float32Array);
  const scale = read(stored.scale, Float32Array);
  const weight = Float32Array.from(read(stored.weight, kind === "int16" ? Int16Array : Float32Array));
  for (let i = 0; i < weight.length; i++) weight[i] *= scale[i % scale.length];
  return { taps, relu, bias, weight, inputs: weight.length / taps / bias.length, outputs: bias.length };
}

// Add inputs (from `from` on) times a tap's weights to outputs (from `to` on). After a ReLU about half of the inputs are 0.
function addProduct({ weight, inputs, outputs }, tap, x, from, y, to) {
  let at = tap * inputs * outputs;
  for (let i = 0; i < inputs; i++, at += outputs) {
    const value = x[from + i];
    if (value !== 0) for (let o = 0; o < outputs; o++) y[to + o] += value * weight[at + o];
  }
}

// A transposed convolution of 4x4, stride 2, padding 1: (height, width, inputs) to twice the height and width.
function enlarge(layer, x, height, width, y) {
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      for (let tap = 0; tap < 16; tap++) {
        const below = 2 * row - 1 + (tap >> 2);
        const right = 2 * column - 1 + (tap & 3);
        if (below < 0 || right < 0 || below >= 2 * height || right >= 2 * width) continue;
        addProduct(layer, tap, x, (row * width + column) * layer.inputs, y, (below * 2 * width + right) * layer.outputs);
      }
    }
  }
}

// The function from a code to an image's values in 0 .. 1, Float32Array (H, W[, 3]).
function readDecoder({ shape, layers: stored }) {
  const layers = stored.map(readLayer);
  const halvings = layers.filter(({ taps }) => taps === 16).length;
  return (code) => {
    let x = code;
    let [height, width] = shape.map((size) => size >> halvings);
    for (const layer of layers) {
      const grows = layer.taps === 16;
      const y = new Float32Array(layer.outputs * (grows ? 4 * height * width : 1));
      for (let i = 0; i < y.length; i += layer.outputs) y.set(layer.bias, i);
      if (grows) {
        enlarge(layer, x, height, width, y);
        [height, width] = [2 * height, 2 * width];
      } else addProduct(layer, 0, x, 0, y, 0);
      x = layer.relu ? y.map((value) => Math.max(value, 0)) : y;
    }
    return x.map((logit) => 1 / (1 + Math.exp(-logit)));
  };
}

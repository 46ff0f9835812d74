import * as ort from "onnxruntime-web/wasm";
import { Tokenizer } from "@huggingface/tokenizers";

ort.env.wasm.numThreads = 1;

// Opens a model from the bytes of its file. ONNX Runtime for JavaScript does not read an ONNX file's metadata, and with
// all optimisations it refuses int8 encoders: "Scale and Zero-point must be a scalar".
export async function openModel(bytes) {
  const metadata = readMetadata(bytes);
  const spec = JSON.parse(metadata.spec);
  if (!spec.spec_version?.startsWith("1.")) {
    throw new Error(`the model's metadata are of another version: ${spec.spec_version}`);
  }
  const session = await ort.InferenceSession.create(bytes, { graphOptimizationLevel: "basic" });
  const encoderFiles = JSON.parse(metadata.encoder_files ?? "{}");
  return { session, labels: JSON.parse(metadata.labels), spec, encoderFiles };
}

// An ONNX file is a protobuf message; its field 14 holds the metadata, a pair of key (1) and value (2) each.
function readMetadata(bytes) {
  const text = new TextDecoder();
  const metadata = {};
  for (const [number, property] of fields(bytes)) {
    if (number !== 14) continue;
    const { 1: key, 2: value } = Object.fromEntries(fields(property));
    metadata[text.decode(key)] = text.decode(value);
  }
  return metadata;
}

function* fields(bytes) {
  let at = 0;
  const varint = () => {
    for (let value = 0, factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    if (key % 8 === 0) varint();
    else if (key % 8 === 1) at += 8;
    else if (key % 8 === 5) at += 4;
    else {
      const size = varint();
      yield [Math.floor(key / 8), bytes.subarray(at, at + size)];
      at += size;
    }
  }
}

// Runs a model on inputs (name -> data and dims), or on null: nothing to classify, which is unknown.
export async function predict({ session, labels, spec }, inputs) {
  const rejected = {
    label: spec.unknown,
    classifier_output: { ...Object.fromEntries(labels.map((label) => [label, 0])), [spec.unknown]: 1 },
    label_set: [],
  };
  if (inputs === null) return rejected;
  const feeds = {};
  for (const { name, dtype } of spec.inputs) {
    feeds[name] = new ort.Tensor(dtype, inputs[name].data, inputs[name].dims);
  }
  const { label, probabilities, accepted } = await session.run(feeds);
  if (!accepted.data[0]) return rejected;
  const total = probabilities.data.reduce((sum, value) => sum + value, 0);
  const scores = Object.fromEntries(labels.map((name, k) => [name, probabilities.data[k] / total]));
  const ranked = labels.filter((name) => scores[name] > 0).sort((a, b) => scores[b] - scores[a]);
  return {
    label: labels[Number(label.data[0])],
    classifier_output: { ...scores, [spec.unknown]: 0 },
    label_set: ranked.filter((name, rank) => rank === 0 || scores[name] >= spec.set_threshold),
  };
}

// Sound: samples from -1 to 1 of one channel (Float32Array), and their rate in Hz.
export function soundInputs({ spec: { preparation } }, samples, rate) {
  if (rate !== preparation.sample_rate) {
    throw new Error(`the sound has ${rate} Hz, but the model takes ${preparation.sample_rate} Hz: resample it first`);
  }
  const seconds = samples.length / rate;
  if (seconds < preparation.shortest_seconds || seconds > preparation.longest_seconds) {
    throw new Error(`the sound lasts ${seconds} s`);
  }
  const mean = samples.reduce((sum, value) => sum + value, 0) / samples.length;
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value - mean)), 1e-6);
  if (20 * Math.log10(peak) < preparation.silent_below_db) return null;
  const wave = loudest(samples, Math.round(preparation.window_seconds * rate), Math.round(preparation.window_step_seconds * rate));
  return { wave: { data: wave, dims: [wave.length] } };
}

function loudest(samples, size, step) {
  if (samples.length <= size) return samples;
  const energy = new Float64Array(samples.length + 1);
  samples.forEach((value, k) => (energy[k + 1] = energy[k] + value * value));
  let best = 0;
  for (let start = 0; start + size <= samples.length; start += step) {
    if (energy[start + size] - energy[start] > energy[best + size] - energy[best]) best = start;
  }
  return samples.slice(best, best + size);
}

// Speech: a transcript.
export function speechInputs({ spec, encoderFiles }, transcript) {
  const text = transcript.normalize("NFC").split(/\s+/u).filter(Boolean).join(" ");
  const characters = Array.from(text).slice(0, spec.preparation.longest_characters);
  if (!characters.some((character) => /[\p{L}\p{N}]/u.test(character))) return null;
  const points = Int32Array.from(characters, (character) => character.codePointAt(0));
  const inputs = {
    points: { data: points, dims: [points.length] },
    confidence: { data: Float32Array.of(-1), dims: [1] }, // or the speech recogniser's, from 0 to 1
  };
  for (const [encoder, files] of Object.entries(encoderFiles)) {
    const ids = tokenise(JSON.parse(files["tokenizer.json"]), characters.join(""));
    inputs[`${encoder}_ids`] = { data: BigInt64Array.from(ids, BigInt), dims: [1, ids.length] };
    inputs[`${encoder}_mask`] = { data: new BigInt64Array(ids.length).fill(1n), dims: [1, ids.length] };
  }
  return inputs;
}

// The package neither cuts long texts nor takes the ids of start and end from tokenizer.json.
function tokenise(description, text) {
  const { single, special_tokens: special } = description.post_processor;
  const room = description.truncation.max_length - single.filter((part) => part.SpecialToken).length;
  const ids = new Tokenizer(description, {}).encode(text, { add_special_tokens: false }).ids.slice(0, room);
  return single.flatMap((part) => (part.SpecialToken ? special[part.SpecialToken.id].ids : ids));
}

// Gestures: frames, an array of numbers each.
export function gestureInputs({ spec: { preparation } }, frames) {
  const width = preparation.numbers_per_frame;
  if (frames.some((frame) => frame.length !== width)) throw new Error(`the model takes ${width} numbers a frame`);
  const data = Float32Array.from(frames.flat());
  if (preparation.missing_point !== null && data.every((value) => value === 0)) return null;
  if (frames.length < preparation.shortest_frames) return null;
  return { sequence: { data, dims: [frames.length, width] } };
}

// Images: pixels as a canvas gives them (getImageData), red, green, blue and opacity, from 0 to 255.
export function imageInputs({ spec }, pixels, width, height) {
  const { side, views, centre_aspect: aspect, region, black_below: black, uniform_below: uniform } = spec.preparation;
  const left = region ? Math.trunc(region.x * width) : 0;
  const top = region ? Math.trunc(region.y * height) : 0;
  const wide = region ? Math.max(Math.round((region.x + region.width) * width) - left, 1) : width;
  const tall = region ? Math.max(Math.round((region.y + region.height) * height) - top, 1) : height;
  const short = Math.min(wide, tall);
  const [middleWide, middleTall] = [wide, tall].map((length) => Math.min(length, Math.trunc(short * aspect)));
  const parts = {
    centre: [Math.floor((wide - middleWide) / 2), Math.floor((tall - middleTall) / 2), middleWide, middleTall],
    start: [0, 0, short, short],
    end: [wide - short, tall - short, short, short],
  };
  const different = [...new Set(views.map((view) => String(parts[view])))].map((part) => part.split(",").map(Number));
  const images = different.map(([x, y, w, h]) => resize(pixels, width, [left + x, top + y, w, h], side));
  const ranges = images.flatMap((image) => [0, 1, 2].map((colour) => percentiles(image, colour)));
  if (ranges.every(([, high]) => high < black) || ranges.every(([low, high]) => high - low < uniform)) return null;
  const [{ name, shape }] = spec.inputs;
  if (shape.length === 3) return { [name]: { data: images[images.length >> 1], dims: shape } };
  const data = new Uint8Array(images.flatMap((image) => Array.from(image)));
  return { [name]: { data, dims: [images.length, side, side, 3] } };
}

function resize(pixels, width, [left, top, wide, tall], side) {
  const shrinks = Math.min(wide, tall) > side;
  const [columns, rows] = [wide, tall].map((length) => (shrinks ? areaWeights : linearWeights)(length, side));
  return Uint8Array.from({ length: side * side * 3 }, (_, place) => {
    const [row, column] = [rows[Math.floor(place / (side * 3))], columns[Math.floor(place / 3) % side]];
    const value = (y, x) => pixels[((top + y) * width + left + x) * 4 + (place % 3)];
    const across = (y) => column.reduce((sum, [x, weight]) => sum + weight * value(y, x), 0);
    if (shrinks) return Math.round(row.reduce((sum, [y, weight]) => sum + weight * across(y), 0));
    return (row.reduce((sum, [y, weight]) => sum + ((weight * (across(y) >> 4)) >> 16), 0) + 2) >> 2; // as OpenCV
  });
}

// For each of `side` places along `length` pixels: the pixels that it covers, and their share of it.
function areaWeights(length, side) {
  const scale = length / side;
  return Array.from({ length: side }, (_, k) => {
    const [first, end] = [Math.floor(k * scale), Math.min(Math.ceil((k + 1) * scale), length)];
    const overlap = (i) => (Math.min(i + 1, (k + 1) * scale) - Math.max(i, k * scale)) / scale;
    return Array.from({ length: end - first }, (_, i) => [first + i, overlap(first + i)]);
  });
}

// For each place: the two pixels that it lies between, and their weights in 2048ths.
function linearWeights(length, side) {
  return Array.from({ length: side }, (_, k) => {
    const place = Math.fround(((k + 0.5) * length) / side - 0.5);
    const first = Math.floor(place);
    return [first, first + 1].map((pixel, far) => [
      Math.min(Math.max(pixel, 0), length - 1),
      Math.round((far ? place - first : 1 - (place - first)) * 2048),
    ]);
  });
}

function percentiles(image, colour) {
  const values = image.filter((_, place) => place % 3 === colour).sort();
  return [0.01, 0.99].map((share) => {
    const place = share * (values.length - 1);
    const below = values[Math.floor(place)];
    return below + (values[Math.ceil(place)] - below) * (place % 1);
  });
}

// The page that tries a model: sound from the microphone or a file, speech from the keyboard.
import { openModel, predict, soundInputs, speechInputs } from "./model.mjs";

const element = (id) => document.getElementById(id);
const bytes = new Uint8Array(await (await fetch("model.onnx")).arrayBuffer());
const model = await openModel(bytes);
const rate = model.spec.preparation.sample_rate;

// Classifies samples (Float32Array, -1 to 1, one channel at the model's rate) or a transcript, and shows the prediction.
export async function classify(input) {
  const inputs = rate ? soundInputs(model, input, rate) : speechInputs(model, input);
  const prediction = await predict(model, inputs);
  show(prediction, inputs === null);
  return prediction;
}

function show({ label, classifier_output: scores, label_set: labelSet }, empty) {
  const unknown = label === model.spec.unknown;
  element("answer").replaceChildren(isolated(label));
  element("answer").className = unknown ? "unknown" : "";
  if (unknown) {
    element("note").textContent = empty
      ? "There is nothing to classify: silence, or no word."
      : "The model does not recognise this as any of its labels.";
  } else {
    const others = labelSet.slice(1).flatMap((other) => [", ", isolated(other)]).slice(1);
    element("note").replaceChildren(...(others.length ? ["It may also be: ", ...others, "."] : []));
  }
  element("scores").hidden = false;
  const rows = Object.entries(scores).map(([name, score]) => {
    const percent = `${Math.round(100 * score)} %`;
    const meter = Object.assign(document.createElement("meter"), { min: 0, max: 1, value: score, textContent: percent });
    meter.setAttribute("aria-label", name);
    const cells = [isolated(name), meter, percent].map((content, column) => {
      const cell = document.createElement(column ? "td" : "th");
      if (!column) cell.scope = "row";
      cell.append(content);
      return cell;
    });
    const row = document.createElement("tr");
    row.append(...cells);
    return row;
  });
  element("scores").tBodies[0].replaceChildren(...rows);
}

// A label keeps its own direction of writing, whatever surrounds it.
function isolated(text) {
  return Object.assign(document.createElement("bdi"), { textContent: text });
}

function complain(error) {
  element("answer").replaceChildren("No prediction");
  element("answer").className = "unknown";
  element("note").textContent = error.message;
  element("scores").hidden = true;
}

let recording = null; // the audio context, the microphone's stream and the blocks heard so far

async function startRecording() {
  const plain = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
  const context = new AudioContext();
  await context.audioWorklet.addModule("recorder.mjs");
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
  const blocks = [];
  recorder.port.onmessage = ({ data }) => blocks.push(data);
  context.createMediaStreamSource(stream).connect(recorder);
  const most = setTimeout(() => stopRecording().catch(complain), 1000 * model.spec.preparation.longest_seconds - 500);
  recording = { stream, context, blocks, most };
  element("record").textContent = "Stop";
  element("record").setAttribute("aria-pressed", "true");
  element("recording").textContent = "Recording";
}

async function stopRecording() {
  const { stream, context, blocks, most } = recording;
  recording = null;
  clearTimeout(most);
  stream.getTracks().forEach((track) => track.stop());
  await context.close();
  element("record").textContent = "Record";
  element("record").setAttribute("aria-pressed", "false");
  element("recording").textContent = "";
  const samples = new Float32Array(blocks.reduce((count, block) => count + block.length, 0));
  blocks.reduce((at, block) => (samples.set(block, at), at + block.length), 0);
  await classify(await resampled(samples, context.sampleRate));
}

async function resampled(samples, from) {
  if (from === rate || !samples.length) return samples;
  const context = new OfflineAudioContext(1, Math.ceil((samples.length * rate) / from), rate);
  const buffer = context.createBuffer(1, samples.length, from);
  buffer.copyToChannel(samples, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

async function samplesOf(file) {
  const decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, k) => decoded.getChannelData(k));
  return channels[0].map((_, k) => channels.reduce((sum, channel) => sum + channel[k], 0) / channels.length);
}

element("record").addEventListener("click", () => (recording ? stopRecording() : startRecording()).catch(complain));
element("file").addEventListener("change", ({ target: { files } }) => {
  if (files.length) samplesOf(files[0]).then(classify).catch(complain);
});
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  classify(element("transcript").value).catch(complain);
});
element(rate ? "sound" : "speech").hidden = false;
element("loading").hidden = true;

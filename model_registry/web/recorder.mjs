// Passes on what the microphone hears, a block of samples of the first channel at a time.
registerProcessor(
  "recorder",
  class extends AudioWorkletProcessor {
    process([[samples]]) {
      if (samples) this.port.postMessage(samples.slice());
      return true;
    }
  },
);

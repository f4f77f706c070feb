// Who speaks all the time: the sound of fake devices beeps now and then.

/** Runs in the page, so it refers to nothing outside of itself: what it gets of a microphone is a tone. */
export function speakAloud() {
  const { mediaDevices } = navigator;
  const ask = mediaDevices.getUserMedia.bind(mediaDevices);
  mediaDevices.getUserMedia = async (constraints = {}) => {
    const stream = await ask(constraints);
    if (!constraints.audio) return stream;
    const context = new AudioContext();
    // Before the page was touched it plays nothing.
    for (const touched of ['pointerdown', 'keydown']) addEventListener(touched, () => void context.resume());
    const tone = context.createOscillator();
    const volume = context.createGain();
    volume.gain.value = 0.3;
    const out = context.createMediaStreamDestination();
    tone.connect(volume).connect(out);
    tone.start();
    return new MediaStream([...out.stream.getAudioTracks(), ...stream.getVideoTracks()]);
  };
}

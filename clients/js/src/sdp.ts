// The little that is changed in, or read from, session descriptions.

/** Where Chromium begins to estimate, in kbit/s. Its own 300 makes a new picture start at 180p and take seconds to grow. */
export const START_BITRATE_KBPS = 1000;

/** Codecs that carry pictures themselves. */
const PICTURES = /^a=rtpmap:(\d+) (?:VP8|VP9|H264|AV1|H265)\//i;

/**
 * Tells the browser that takes this as the remote description to start sending video at `kbps`.
 * `x-google-start-bitrate` is read by Chromium and passed over by the others.
 */
export function withStartBitrate(sdp: string, kbps = START_BITRATE_KBPS): string {
  const parameter = `x-google-start-bitrate=${kbps}`;
  const lines = sdp.split('\r\n');
  const out: string[] = [];
  const described = new Set(lines.map((line) => /^a=fmtp:(\d+) /.exec(line)?.[1]).filter((type) => type !== undefined));
  const pictures = new Set(lines.map((line) => PICTURES.exec(line)?.[1]).filter((type) => type !== undefined));
  for (const line of lines) {
    const format = /^a=fmtp:(\d+) /.exec(line)?.[1];
    const mapped = PICTURES.exec(line)?.[1];
    if (format !== undefined && pictures.has(format) && !line.includes('x-google-start-bitrate')) out.push(`${line};${parameter}`);
    else out.push(line);
    if (mapped !== undefined && !described.has(mapped)) out.push(`a=fmtp:${mapped} ${parameter}`);
  }
  return out.join('\r\n');
}

/** The `<username> <sess-id>` of `o=`: the same for the life of one peer connection (RFC 8829 §5.2.1). */
export function sessionOf(sdp: string): string | undefined {
  return /^o=(\S+ \S+) /m.exec(sdp)?.[1];
}

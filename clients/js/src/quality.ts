// How good the call is, from what the browser counts.

import type { Level } from './wire.ts';

/** Counters of one moment, added up over all connections. */
export interface Counters {
  received: number;
  lost: number;
  bytesReceived: number;
  bytesSent: number;
  /** Loss of what we send, 0 to 1, as the worst of the receivers reports it. */
  sentLoss: number;
  /** Round trip in milliseconds, the longest of the connections. */
  rttMs: number | undefined;
}

export interface Quality {
  level: Level;
  /** 0 to 100: the worse of the two directions. */
  packetLossPercent: number;
  rttMs?: number;
  /** Bits per second, both directions. */
  bitrate: number;
}

/** Below these it is good, below those fair. */
const GOOD = { loss: 2, rttMs: 200 };
const FAIR = { loss: 8, rttMs: 450 };
/** Fewer packets than this say nothing about loss. */
const FEW_PACKETS = 20;

type Report = { forEach(visit: (stat: Stat) => void): void };

/** Tells quality from time to time, each since the last time. */
export class QualityMeter {
  #before: { at: number; counters: Counters; epoch: number } | undefined;

  /** What the connections count at `atMs`, while the call is on the route of `epoch`. */
  observe(reports: Iterable<unknown>, epoch: number, atMs: number): Quality {
    const counters = count(reports as Iterable<Report>);
    // Other connections have counters of their own.
    const before = this.#before?.epoch === epoch ? this.#before : undefined;
    this.#before = { at: atMs, counters, epoch };
    return judge(before?.counters, counters, before ? atMs - before.at : 0);
  }
}

type Stat = { type: string; [field: string]: unknown };

export function count(reports: Iterable<Report>): Counters {
  const counters: Counters = { received: 0, lost: 0, bytesReceived: 0, bytesSent: 0, sentLoss: 0, rttMs: undefined };
  const number = (value: unknown) => (typeof value === 'number' && Number.isFinite(value) ? value : 0);
  for (const report of reports) {
    report.forEach((stat) => {
      if (stat.type === 'inbound-rtp') {
        counters.received += number(stat.packetsReceived);
        counters.lost += number(stat.packetsLost);
        counters.bytesReceived += number(stat.bytesReceived);
      } else if (stat.type === 'outbound-rtp') {
        counters.bytesSent += number(stat.bytesSent);
      } else if (stat.type === 'remote-inbound-rtp') {
        counters.sentLoss = Math.max(counters.sentLoss, number(stat.fractionLost));
      } else if (stat.type === 'candidate-pair' && stat.nominated === true && stat.state === 'succeeded') {
        const rtt = number(stat.currentRoundTripTime) * 1000;
        if (rtt > 0) counters.rttMs = Math.max(counters.rttMs ?? 0, rtt);
      }
    });
  }
  return counters;
}

/** What happened between two moments. When connections came or went, counters may have fallen: that part says nothing. */
export function judge(before: Counters | undefined, now: Counters, elapsedMs: number): Quality {
  const grown = (field: 'received' | 'lost' | 'bytesReceived' | 'bytesSent') => Math.max(0, now[field] - (before?.[field] ?? now[field]));
  const [received, lost] = [grown('received'), grown('lost')];
  const receivedLoss = received + lost < FEW_PACKETS ? 0 : (100 * lost) / (received + lost);
  const packetLossPercent = Math.min(100, Math.round(Math.max(receivedLoss, now.sentLoss * 100) * 10) / 10);
  const rttMs = now.rttMs === undefined ? undefined : Math.round(now.rttMs);
  const isWithin = (limit: typeof GOOD) => packetLossPercent < limit.loss && (rttMs ?? 0) < limit.rttMs;
  return {
    level: isWithin(GOOD) ? 'good' : isWithin(FAIR) ? 'fair' : 'poor',
    packetLossPercent,
    ...(rttMs === undefined ? {} : { rttMs }),
    bitrate: elapsedMs > 0 ? Math.round(((grown('bytesReceived') + grown('bytesSent')) * 8000) / elapsedMs) : 0,
  };
}

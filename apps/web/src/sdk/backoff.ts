// Exponential backoff with full jitter: the whole delay is random, so that clients of a restarted gateway
// do not come back in step.

export interface BackoffOptions {
  baseMs: number;
  capMs: number;
}

/** Half a second at first, so that a blip is over before a person notices; half a minute at most. */
export const RECONNECT: BackoffOptions = { baseMs: 500, capMs: 30_000 };

/** A delay between 0 and `min(cap, base · 2^attempt)`; `attempt` counts from 0. */
export function fullJitter(
  attempt: number,
  random: () => number,
  options: BackoffOptions = RECONNECT,
): number {
  const ceiling = Math.min(options.capMs, options.baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(random() * ceiling);
}

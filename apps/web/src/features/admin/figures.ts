// Numbers as they stand in the overview, in the reader's own language.

import { StackError } from '../../sdk';

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat(undefined, { notation: 'compact', maximumFractionDigits: 1 });

/** "1,204", "1.2M". */
export function count(value: number): string {
  return value < 100_000 ? whole.format(value) : compact.format(value);
}

/** "0.4/s", "1.2K/s". */
export function perSecond(value: number): string {
  return `${value < 1000 ? short.format(value) : compact.format(value)}/s`;
}

/** "0.8 ms", "1.2 s". */
export function milliseconds(value: number): string {
  return value < 1000 ? `${short.format(value)} ms` : `${short.format(value / 1000)} s`;
}

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];

/** "512 bytes", "1.5 MiB". */
export function bytes(value: number): string {
  let unit = 0;
  let rest = value;
  while (rest >= 1024 && unit < UNITS.length - 1) {
    rest /= 1024;
    unit++;
  }
  return `${short.format(rest)} ${UNITS[unit]}`;
}

/** The top of a scale: the next of 1, 2 and 5 times a power of ten, or of two where bytes are counted. */
export function top(highest: number, least: number): number {
  const wanted = Math.max(highest, least);
  if (least >= 1024) return 2 ** Math.ceil(Math.log2(wanted));
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 5, 10].find((step) => step * power >= wanted) ?? 10;
  return step * power;
}

/** What is not older than this: a gateway whose clock was set back has samples of before. */
export function within<T extends { at: number }>(samples: readonly T[], from: number): T[] {
  return samples.filter((sample) => sample.at >= from);
}

/** Whether asking again is no use. */
export function isOver(error: unknown): boolean {
  return error instanceof StackError && (error.code === 'forbidden' || error.code === 'unauthenticated');
}

/** Why there are no figures, in a sentence. */
export function why(error: unknown): string {
  if (isOver(error)) return 'Only administrators see this.';
  if (error instanceof StackError && error.code === 'rate_limited')
    return 'The gateway was asked too often; it goes on by itself in a moment.';
  return 'The gateway does not answer.';
}

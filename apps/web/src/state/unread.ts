// What counts as unread in one room: the numbers of the events that do. Live, these are messages by others; where
// only the length of what was missed is known, every event of it counts.

import type { LogEvent } from '../sdk';

/** More are not told apart ("99+"), and so not kept. */
const MOST = 100;

export type Unread = readonly number[];

/** Every event after `from`, up to and including `to`. */
export function unreadBetween(from: number, to: number): Unread {
  const count = Math.min(MOST, Math.max(0, to - from));
  return Array.from({ length: count }, (_, i) => to - count + 1 + i);
}

export function withMissed(unread: Unread, from: number, to: number): Unread {
  return to > from ? [...unread, ...unreadBetween(from, to)].slice(-MOST) : unread;
}

/** What is left once everything up to `seq` was read. */
export function readUpTo(unread: Unread, seq: number): Unread {
  return unread.length > 0 && (unread[0] as number) <= seq ? unread.filter((one) => one > seq) : unread;
}

/** A live event: what others say counts, until they take it back. */
export function withEvent(unread: Unread, event: LogEvent, ownId: string): Unread {
  if (event.type === 'message' && event.payload.sender !== ownId) {
    return [...unread, event.payload.seq].slice(-MOST);
  }
  if (event.type === 'redacted') {
    const gone = event.payload.targets ?? [event.payload.target_seq];
    return unread.some((one) => gone.includes(one)) ? unread.filter((one) => !gone.includes(one)) : unread;
  }
  return unread;
}

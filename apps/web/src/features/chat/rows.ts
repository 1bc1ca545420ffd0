// Turns a timeline into rows: days, the "new" line, who starts a group, and what stands alone.

import type { PendingMessage, TimelineMessage, TimelineNote, TimelineState } from '../../sdk';
import { sameDay } from '../../lib/format';

export type Row =
  | { kind: 'day'; key: string; ts: number }
  | { kind: 'new'; key: string }
  | { kind: 'note'; key: string; note: TimelineNote }
  | { kind: 'message'; key: string; message: TimelineMessage; grouped: boolean }
  | { kind: 'pending'; key: string; pending: PendingMessage; grouped: boolean };

/** Messages of one person this close together share one header. */
const GROUP_MS = 5 * 60_000;

interface Last {
  sender: string;
  ts: number;
}

export function buildRows(state: TimelineState, dividerAfter: number | null, ownId: string): Row[] {
  const rows: Row[] = [];
  let last: Last | null = null;
  let day: number | null = null;
  let divided = dividerAfter === null;
  const startDay = (ts: number) => {
    if (day !== null && sameDay(day, ts)) return;
    rows.push({ kind: 'day', key: `day-${ts}`, ts });
    day = ts;
    last = null;
  };
  const grouped = (sender: string, ts: number, replyTo: number | null) =>
    last !== null && last.sender === sender && ts - last.ts < GROUP_MS && replyTo === null;

  for (const item of state.items) {
    startDay(item.ts);
    if (!divided && dividerAfter !== null && item.seq > dividerAfter) {
      rows.push({ kind: 'new', key: 'new' });
      divided = true;
      last = null;
    }
    if (item.kind === 'note') {
      rows.push({ kind: 'note', key: `n${item.seq}`, note: item });
      last = null;
      continue;
    }
    const own = item.sender === ownId && item.key !== null;
    rows.push({
      kind: 'message',
      // A message keeps its row while it goes from pending to placed, so that nothing flickers.
      key: own ? `k${item.key}` : `m${item.seq}`,
      message: item,
      grouped: grouped(item.sender, item.ts, item.replyTo),
    });
    last = { sender: item.sender, ts: item.ts };
  }
  for (const pending of state.pending) {
    startDay(pending.createdAt);
    rows.push({
      kind: 'pending',
      key: `k${pending.key}`,
      pending,
      grouped: grouped(ownId, pending.createdAt, pending.replyTo),
    });
    last = { sender: ownId, ts: pending.createdAt };
  }
  return rows;
}

// Where days, groups and the "new" line begin.

import { expect, it } from 'vitest';
import type { TimelineMessage, TimelineState } from '../../sdk';
import { buildRows } from './rows';

const noon = new Date(2026, 4, 4, 12).getTime();
const MINUTE = 60_000;

function message(
  seq: number,
  sender: string,
  minutes: number,
  replyTo: number | null = null,
): TimelineMessage {
  return {
    kind: 'message',
    seq,
    ts: noon + minutes * MINUTE,
    sender,
    body: '',
    key: null,
    replyTo,
    editedAt: null,
    redacted: false,
    reactions: [],
  };
}

function state(items: TimelineMessage[]): TimelineState {
  return { items, pending: [], oldest: 1, newest: items.length, hasOlder: false };
}

function outline(items: TimelineMessage[], dividerAfter: number | null = null): string[] {
  return buildRows(state(items), dividerAfter, 'me').map((row) =>
    row.kind === 'message' ? `${row.grouped ? '+' : ''}${row.message.seq}` : row.kind,
  );
}

it('groups what one person says in a short time', () => {
  const items = [
    message(1, 'a', 0),
    message(2, 'a', 2),
    message(3, 'b', 3),
    message(4, 'a', 4),
    message(5, 'a', 10),
  ];
  expect(outline(items)).toEqual(['day', '1', '+2', '3', '4', '5']);
});

it('lets a reply stand with its own header', () => {
  expect(outline([message(1, 'a', 0), message(2, 'a', 1, 1)])).toEqual(['day', '1', '2']);
});

it('starts a group anew on a new day and under the line', () => {
  const items = [
    message(1, 'a', 0),
    message(2, 'a', 1),
    message(3, 'a', 24 * 60),
    message(4, 'a', 24 * 60 + 1),
  ];
  expect(outline(items, 1)).toEqual(['day', '1', 'new', '2', 'day', '3', '+4']);
});

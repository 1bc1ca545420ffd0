// A room's log folded into what is shown, in whatever order its parts arrive.

import { beforeEach, describe, expect, it } from 'vitest';
import { type LogEvent, StackError, Timeline, type TimelineMessage } from '../index';

let timeline: Timeline;

const base = (seq: number, sender = 'u2') => ({ room: 'general', seq, ts: seq * 1000, sender });
const message = (seq: number, more: object = {}): LogEvent => ({
  type: 'message',
  payload: { ...base(seq), body: `m${seq}`, ...more },
});
const edited = (seq: number, target_seq: number, body: string): LogEvent => ({
  type: 'edited',
  payload: { ...base(seq), target_seq, body },
});
const redacted = (seq: number, target_seq: number): LogEvent => ({
  type: 'redacted',
  payload: { ...base(seq), target_seq },
});
const reacted = (
  seq: number,
  target_seq: number,
  emoji: string,
  sender: string,
  remove = false,
): LogEvent => ({
  type: 'reacted',
  payload: { ...base(seq, sender), target_seq, emoji, remove },
});

function shown(seq: number): TimelineMessage {
  const found = timeline.message(seq);
  if (found === null) throw new Error(`message ${seq} is not shown`);
  return found;
}

beforeEach(() => {
  timeline = new Timeline('me');
});

describe('folding', () => {
  it('shows the newest edit', () => {
    for (const event of [message(1), edited(2, 1, 'b'), edited(3, 1, 'c')]) timeline.add(event);
    expect(shown(1)).toMatchObject({ body: 'c', editedAt: 3000 });
    expect(timeline.snapshot().items).toHaveLength(1);
  });

  it('is the same when the amendments are known before their message', () => {
    const events = [
      message(1, { reply_to: 9 }),
      edited(2, 1, 'b'),
      reacted(3, 1, '👍', 'u2'),
      reacted(4, 1, '👍', 'u3'),
      reacted(5, 1, '👍', 'u2', true),
      reacted(6, 1, '🎉', 'u2'),
      edited(7, 1, 'c'),
    ];
    const orders = [events, [...events].reverse(), [3, 6, 0, 4, 2, 1, 5].map((i) => events[i] as LogEvent)];
    for (const order of orders) {
      timeline = new Timeline('me');
      for (const event of order) timeline.add(event);
      expect(shown(1)).toMatchObject({
        body: 'c',
        replyTo: 9,
        reactions: [
          { emoji: '👍', users: ['u3'] },
          { emoji: '🎉', users: ['u2'] },
        ],
      });
    }
  });

  it('takes away all that somebody has said when it is erased', () => {
    const events: LogEvent[] = [
      message(1),
      message(2, { sender: 'u3' }),
      edited(3, 1, 'b'),
      reacted(4, 2, '👍', 'u2'),
      reacted(5, 2, '👍', 'u3'),
      { type: 'redacted', payload: { ...base(6), target_seq: 1, targets: [1, 3, 4] } },
    ];
    const stripped: LogEvent[] = [
      { type: 'message', payload: { ...base(1), redacted: true } },
      message(2, { sender: 'u3' }),
      { type: 'reacted', payload: { ...base(4), target_seq: 2 } },
      ...events.slice(4),
    ];
    for (const order of [events, [...events].reverse(), stripped]) {
      timeline = new Timeline('me');
      for (const event of order) timeline.add(event);
      expect(shown(1)).toMatchObject({ redacted: true, body: '', editedAt: null });
      expect(shown(2)).toMatchObject({ body: 'm2', reactions: [{ emoji: '👍', users: ['u3'] }] });
    }
  });

  it('leaves a tombstone of a redacted message, live and in history', () => {
    timeline.add(message(1));
    timeline.add(reacted(2, 1, '👍', 'u3'));
    timeline.add(redacted(3, 1));
    timeline.add(edited(4, 1, 'back'));
    timeline.add({ type: 'message', payload: { ...base(5), redacted: true } });
    for (const seq of [1, 5]) {
      expect(shown(seq)).toMatchObject({ redacted: true, body: '', reactions: [], editedAt: null });
    }
  });

  it('keeps the identity of messages that did not change', () => {
    timeline.addPage([message(1), message(2)], 1);
    const before = timeline.snapshot();
    timeline.add(edited(3, 2, 'x'));
    const after = timeline.snapshot();
    expect(after).not.toBe(before);
    expect(after.items[0]).toBe(before.items[0]);
    expect(after.items[1]).not.toBe(before.items[1]);
    expect(timeline.snapshot()).toBe(after);
  });

  it('applies a newer amendment to a message of an older page', () => {
    timeline.addPage([message(11), edited(12, 3, 'late')], 1);
    expect(timeline.snapshot()).toMatchObject({ oldest: 11, hasOlder: true });
    timeline.addPage([message(3), message(4)], 1);
    expect(shown(3).body).toBe('late');
    expect(timeline.snapshot().items.map((item) => item.seq)).toEqual([3, 4, 11]);
  });

  it('knows the beginning of the log', () => {
    timeline.addPage([message(5)], 5);
    expect(timeline.snapshot().hasOlder).toBe(false);
  });

  it('can be trimmed and loaded again without losing an edit', () => {
    const events = [...Array.from({ length: 10 }, (_, i) => message(i + 1)), edited(11, 2, 'kept')];
    for (const event of events) timeline.add(event);
    timeline.trim(4);
    expect(timeline.snapshot()).toMatchObject({ oldest: 7, hasOlder: true });
    expect(timeline.snapshot().items).toHaveLength(4);
    timeline.addPage(events.slice(0, 6), 1);
    expect(timeline.snapshot().items).toHaveLength(10);
    expect(shown(2).body).toBe('kept');
  });

  it('drops what the log no longer has', () => {
    timeline.addPage([message(1), message(2), message(3)], 1);
    timeline.forgetUntil(2);
    expect(timeline.snapshot()).toMatchObject({ oldest: 3, hasOlder: false });
    expect(timeline.snapshot().items.map((item) => item.seq)).toEqual([3]);
  });
});

describe('own messages', () => {
  const pending = { key: 'k1', body: 'hi', replyTo: null, createdAt: 1 };
  const own = message(8, { sender: 'me', key: 'k1', body: 'hi' });

  it('settle when ok comes before the event', () => {
    timeline.addPending(pending);
    timeline.settle('k1', { room: 'general', seq: 8, ts: 8000 });
    expect(timeline.snapshot().pending).toMatchObject([{ status: 'sent', seq: 8 }]);
    timeline.add(own);
    expect(timeline.snapshot()).toMatchObject({ pending: [], items: [{ seq: 8 }] });
  });

  it('settle when the event comes before ok', () => {
    timeline.addPending(pending);
    timeline.add(own);
    expect(timeline.snapshot()).toMatchObject({ pending: [], items: [{ seq: 8 }] });
    timeline.settle('k1', { room: 'general', seq: 8, ts: 8000 });
    expect(timeline.snapshot()).toMatchObject({ pending: [], items: [{ seq: 8 }] });
  });

  it("do not settle on another person's message with the same key", () => {
    timeline.addPending(pending);
    timeline.add(message(8, { sender: 'u2', key: 'k1' }));
    expect(timeline.snapshot().pending).toHaveLength(1);
  });

  it('fail, are tried again, and can be discarded', () => {
    timeline.addPending(pending);
    timeline.fail('k1', new StackError('payload_too_large', 'too long'));
    expect(timeline.snapshot().pending).toMatchObject([
      { status: 'failed', error: { code: 'payload_too_large' } },
    ]);
    timeline.addPending(pending);
    expect(timeline.snapshot().pending).toMatchObject([{ status: 'sending', error: null }]);
    timeline.fail('k1', new StackError('forbidden', 'no'));
    timeline.discard('k1');
    expect(timeline.snapshot().pending).toEqual([]);
  });

  it('survive a reload of the log', () => {
    timeline.addPending(pending);
    timeline.clear();
    expect(timeline.snapshot()).toMatchObject({ items: [], pending: [{ key: 'k1' }] });
  });
});

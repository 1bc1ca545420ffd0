// Sending: every message gets exactly one place, in the order it was written, whatever happens on the way.

import { beforeEach, expect, it } from 'vitest';
import { createClient, type RealtimeClient } from '../index';
import { FakeWorld, settle } from './fakes';

let world: FakeWorld;
let realtime: RealtimeClient;

async function reconnect(): Promise<void> {
  await world.socket.end(1006);
  await world.advance(30_000);
  await world.socket.open();
}

function bodies(): unknown[] {
  return world.socket.of('send').map((frame) => frame.payload.body);
}

async function acknowledge(seq: number): Promise<void> {
  await world.socket.push('ok', { room: 'general', seq, ts: seq }, world.socket.last('send').id);
}

async function refuse(code: string, more: object): Promise<void> {
  await world.socket.push('error', { code, message: code, ...more }, world.socket.last('send').id);
}

beforeEach(async () => {
  world = new FakeWorld();
  realtime = createClient({ origin: 'http://chat.test', env: world.env }).realtime;
  realtime.start();
  await settle();
});

it('holds messages until there is a connection and resolves with their place', async () => {
  const sending = realtime.send('general', 'hello', { reply_to: 3 });
  expect(world.socket.of('send')).toHaveLength(0);
  await world.socket.open();
  expect(world.socket.last('send').payload).toEqual({
    room: 'general',
    body: 'hello',
    key: sending.key,
    reply_to: 3,
  });
  await acknowledge(7);
  await expect(sending.receipt).resolves.toEqual({ room: 'general', seq: 7, ts: 7 });
  expect(realtime.unsent).toBe(0);
});

it('repeats with the same key after a lost connection', async () => {
  await world.socket.open();
  const sending = realtime.send('general', 'hello');
  const first = world.socket.last('send').payload;
  await reconnect();
  expect(world.socket.last('send').payload).toEqual(first);
  await acknowledge(1);
  await expect(sending.receipt).resolves.toMatchObject({ seq: 1 });
});

it('repeats with the same key when no answer comes', async () => {
  await world.socket.open();
  const sending = realtime.send('general', 'hello');
  await world.advance(12_000);
  const keys = world.socket.of('send').map((frame) => frame.payload.key);
  expect(keys).toEqual([sending.key, sending.key]);
});

it('sends one room in order, also past a refusal for the moment', async () => {
  await world.socket.open();
  realtime.send('general', 'one');
  realtime.send('general', 'two');
  realtime.send('other', 'elsewhere');
  expect(bodies()).toEqual(['one', 'elsewhere']);
  const one = world.socket.of('send')[0];
  const busy = { code: 'rate_limited', message: '', retryable: true, retry_after_ms: 5_000 };
  await world.socket.push('error', busy, one?.id);
  await world.advance(4_900);
  expect(bodies()).toEqual(['one', 'elsewhere']);
  await world.advance(500);
  expect(bodies()).toEqual(['one', 'elsewhere', 'one']);
  await acknowledge(1);
  expect(bodies()).toEqual(['one', 'elsewhere', 'one', 'two']);
});

it('gives up on a message that is refused for good and goes on with the next', async () => {
  await world.socket.open();
  const bad = realtime.send('general', 'bad');
  const refused = expect(bad.receipt).rejects.toMatchObject({ code: 'payload_too_large' });
  realtime.send('general', 'good');
  await refuse('payload_too_large', { retryable: false });
  await refused;
  expect(bodies()).toEqual(['bad', 'good']);
});

it('sends nothing new to a draining gateway', async () => {
  await world.socket.open();
  await world.socket.push('drain', { reconnect_in_ms: 1_000 });
  realtime.send('general', 'hello');
  expect(bodies()).toEqual([]);
  await world.advance(1_000);
  await world.socket.open();
  expect(bodies()).toEqual(['hello']);
});

it('rejects what is left when the client is stopped', async () => {
  const rejected = expect(realtime.send('general', 'late').receipt).rejects.toMatchObject({ code: 'closed' });
  realtime.stop();
  await rejected;
});

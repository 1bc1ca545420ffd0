// The connection as a program sees it: states, resume, order, and what is done about loss.

import { beforeEach, describe, expect, it } from 'vitest';
import { createClient, type LogEvent, type RealtimeClient } from '../index';
import { FakeWorld, settle } from './fakes';

let world: FakeWorld;
let realtime: RealtimeClient;
let delivered: number[];

function message(seq: number, room = 'general'): LogEvent['payload'] {
  return { room, seq, ts: seq, sender: 'u2', body: `m${seq}` } as LogEvent['payload'];
}

async function connect(): Promise<void> {
  realtime.start();
  await settle();
  await world.socket.open();
}

beforeEach(() => {
  world = new FakeWorld();
  realtime = createClient({ origin: 'https://chat.test', env: world.env }).realtime;
  delivered = [];
  realtime.on('event', (event) => delivered.push(event.payload.seq));
});

describe('connection state', () => {
  it('is open only after the gateway has answered on the socket', async () => {
    world.silent.add('ping');
    await connect();
    expect(world.socket.url).toBe('wss://chat.test/ws');
    expect(world.socket.protocol).toBe('stack.v1.json');
    expect(realtime.state.status).toBe('connecting');
    await world.socket.push('ok', { ts: 1 }, world.socket.last('ping').id);
    expect(realtime.state.status).toBe('open');
  });

  it('backs off with full jitter, longer each time, up to the cap', async () => {
    realtime.start();
    await settle();
    const delays: number[] = [];
    for (let attempt = 0; attempt < 8; attempt++) {
      await world.socket.end(1006);
      const { state } = realtime;
      if (state.status !== 'reconnecting') throw new Error(state.status);
      delays.push(state.at - world.now);
      await world.advance(state.at - world.now);
    }
    expect(delays).toEqual([250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
    expect(world.sockets).toHaveLength(9);
  });

  it('starts the backoff over only after a connection that lasted', async () => {
    await connect();
    await world.socket.end(1006);
    await world.advance(250);
    await world.socket.open();
    await world.socket.end(1006);
    expect(realtime.state).toMatchObject({ status: 'reconnecting', attempt: 1 });
    await world.advance(500);
    await world.socket.open();
    await world.advance(6_000);
    await world.socket.end(1006);
    expect(realtime.state).toMatchObject({ status: 'reconnecting', attempt: 0 });
  });

  it('comes back after exactly the delay a draining gateway names', async () => {
    await connect();
    await world.socket.push('drain', { reconnect_in_ms: 3_000 });
    expect(realtime.state).toEqual({
      status: 'reconnecting',
      at: world.now + 3_000,
      attempt: 0,
      reason: 'drain',
    });
    await world.advance(1_000);
    await world.socket.end(1001);
    await world.advance(1_999);
    expect(world.sockets).toHaveLength(1);
    await world.advance(1);
    expect(world.sockets).toHaveLength(2);
  });

  it('says offline without network and tries at once when it returns', async () => {
    await connect();
    world.online = false;
    await world.socket.end(1006);
    expect(realtime.state.status).toBe('offline');
    await world.surroundings('online');
    expect(world.sockets).toHaveLength(2);
    await world.socket.open();
    expect(realtime.state.status).toBe('open');
  });

  it('finds a dead connection when the device reports a change, and does not wait for its close', async () => {
    await connect();
    world.silent.add('ping');
    await world.surroundings('offline');
    await world.advance(4_000);
    expect(realtime.state.status).toBe('offline');
    expect(world.sockets[0]?.closedWith).toBe(3000);
  });

  it('asks a quiet connection whether it lives and replaces it when it does not answer', async () => {
    await connect();
    await world.advance(26_000);
    expect(realtime.state.status).toBe('open');
    expect(world.socket.of('ping')).toHaveLength(2);
    world.silent.add('ping');
    await world.advance(36_000);
    expect(world.sockets.length).toBeGreaterThan(1);
  });

  it('refreshes after 4001 and reconnects at once', async () => {
    world.handler = () => ({ status: 200, body: { access_token: 't2', expires_in_s: 600 } });
    await connect();
    await world.socket.end(4001);
    expect(world.calls.map((call) => call.path)).toEqual(['https://chat.test/api/v1/auth/refresh']);
    expect(world.sockets).toHaveLength(2);
  });

  it('refreshes when the credentials are refused after the upgrade', async () => {
    world.handler = () => ({ status: 200, body: { access_token: 't2', expires_in_s: 600 } });
    world.silent.add('ping');
    await connect();
    await world.socket.push('error', { code: 'token_expired', message: 'expired', retryable: false });
    await world.socket.end(4001);
    expect(world.calls).toHaveLength(1);
    expect(world.sockets).toHaveLength(2);
  });

  it('refreshes when the upgrade carried no credentials at all', async () => {
    world.handler = () => ({ status: 200, body: { access_token: 't2', expires_in_s: 600 } });
    world.silent.add('ping');
    await connect();
    const refusal = { code: 'unauthenticated', message: 'sign in first', retryable: false };
    await world.socket.push('error', refusal, world.socket.last('ping').id);
    expect(world.calls).toHaveLength(1);
    expect(world.sockets).toHaveLength(2);
  });

  it('does not hammer a gateway that refuses fresh credentials', async () => {
    world.handler = () => ({ status: 200, body: { access_token: 't2', expires_in_s: 600 } });
    world.silent.add('ping');
    await connect();
    await world.socket.end(4001);
    await world.socket.open();
    await world.socket.end(4001);
    expect(world.sockets).toHaveLength(2);
    expect(realtime.state.status).toBe('reconnecting');
  });

  it('ends as signed out when the refresh is refused, and when the session is revoked', async () => {
    world.handler = () => ({ status: 401, body: { code: 'token_reused' } });
    await connect();
    await world.socket.end(4001);
    expect(realtime.state).toEqual({ status: 'closed', reason: 'signed_out' });

    realtime.start();
    await settle();
    await world.socket.open();
    await world.socket.push('session', { state: 'revoked' });
    await world.socket.end(4001);
    expect(realtime.state).toEqual({ status: 'closed', reason: 'signed_out' });
    expect(world.calls).toHaveLength(1);
  });

  it('keeps trying when the refresh fails for want of a network', async () => {
    world.handler = () => Promise.reject(new TypeError('failed to fetch'));
    await connect();
    await world.socket.end(4001);
    expect(realtime.state.status).toBe('reconnecting');
    world.handler = () => ({ status: 200, body: { access_token: 't2', expires_in_s: 600 } });
    await world.advance(10_000);
    expect(world.sockets).toHaveLength(2);
  });

  it('rejects what was asked on a lost connection and what is asked without one', async () => {
    await connect();
    const edit = realtime.edit('general', 1, 'x');
    const settled = expect(edit).rejects.toMatchObject({ code: 'connection_lost', retryable: true });
    await world.socket.end(1006);
    await settled;
    await expect(realtime.edit('general', 1, 'x')).rejects.toMatchObject({ code: 'connection_lost' });
  });

  it('gives up on a request without an answer', async () => {
    await connect();
    const settled = expect(realtime.edit('general', 1, 'x')).rejects.toMatchObject({ code: 'timeout' });
    await world.advance(10_000);
    await settled;
  });
});

describe('keeping the session', () => {
  it('renews before the end and extends the socket with the new token', async () => {
    world.shared.set('stack.refreshed', JSON.stringify({ at: world.now, expiresAt: world.now + 600_000 }));
    world.handler = () => ({ status: 200, body: { access_token: 'fresh', expires_in_s: 600 } });
    await connect();
    await world.advance(450_000);
    expect(world.socket.of('auth')).toHaveLength(0);
    await world.advance(60_000);
    expect(world.socket.last('auth').payload).toEqual({ token: 'fresh' });
    expect(world.sockets).toHaveLength(1);
    await world.advance(600_000);
    expect(world.socket.of('auth')).toHaveLength(2);
  });

  it('renews when the gateway says that the session is expiring', async () => {
    world.handler = () => ({ status: 200, body: { access_token: 'fresh', expires_in_s: 600 } });
    await connect();
    await world.socket.push('session', { state: 'expiring', expires_at: world.now + 30_000 });
    expect(world.socket.last('auth').payload).toEqual({ token: 'fresh' });
  });

  it('renews credentials that are known to be over before it presents them', async () => {
    world.shared.set('stack.refreshed', JSON.stringify({ at: 0, expiresAt: world.now - 1 }));
    world.handler = () => ({ status: 200, body: { access_token: 'fresh', expires_in_s: 600 } });
    realtime.start();
    expect(world.sockets).toHaveLength(0);
    await settle();
    expect(world.calls).toHaveLength(1);
    expect(world.sockets).toHaveLength(1);
  });
});

describe('following rooms', () => {
  it('delivers in order, once, and resumes from the cursor after a reconnect', async () => {
    realtime.subscribe('general', { after: 3 });
    await connect();
    expect(world.socket.last('subscribe').payload).toEqual({ room: 'general', after: 3 });
    for (const seq of [4, 5, 5, 4]) await world.socket.push('message', message(seq));
    await world.socket.end(1006);
    await world.advance(250);
    await world.socket.open();
    expect(world.socket.last('subscribe').payload).toEqual({ room: 'general', after: 5 });
    for (const seq of [5, 6]) await world.socket.push('message', message(seq));
    expect(delivered).toEqual([4, 5, 6]);
  });

  it('asks again from the cursor when a number is missing, and hands on nothing later meanwhile', async () => {
    realtime.subscribe('general', { after: 0 });
    await connect();
    await world.socket.push('message', message(1));
    world.silent.add('subscribe');
    await world.socket.push('message', message(3));
    await world.socket.push('message', message(4));
    expect(delivered).toEqual([1]);
    expect(world.socket.of('subscribe')).toHaveLength(2);
    expect(world.socket.last('subscribe').payload).toEqual({ room: 'general', after: 1 });
    await world.socket.push('ok', { room: 'general', head: 4 }, world.socket.last('subscribe').id);
    for (const seq of [2, 3, 4]) await world.socket.push('message', message(seq));
    expect(delivered).toEqual([1, 2, 3, 4]);
  });

  it('does not ask in a tight loop for what never comes', async () => {
    realtime.subscribe('general', { after: 0 });
    await connect();
    for (let i = 0; i < 20; i++) await world.socket.push('message', message(9));
    expect(world.socket.of('subscribe')).toHaveLength(2);
    await world.advance(5_000);
    expect(world.socket.of('subscribe')).toHaveLength(3);
  });

  it('moves past a gap and tells of it', async () => {
    const gaps: number[] = [];
    realtime.on('gap', (gap) => gaps.push(gap.to));
    realtime.subscribe('general', { after: 0 });
    await connect();
    await world.socket.push('gap', { room: 'general', from: 1, to: 100, reason: 'retention' });
    await world.socket.push('message', message(101));
    expect(gaps).toEqual([100]);
    expect(delivered).toEqual([101]);
  });

  it('takes the head as its cursor when it starts live', async () => {
    world.head = 40;
    realtime.subscribe('general');
    await connect();
    expect(world.socket.last('subscribe').payload).toEqual({ room: 'general' });
    await world.socket.end(1006);
    await world.advance(250);
    await world.socket.open();
    expect(world.socket.last('subscribe').payload).toEqual({ room: 'general', after: 40 });
  });

  it('starts at the head again when it need not resume, until it is asked to', async () => {
    world.head = 40;
    realtime.subscribe('general', { resume: false });
    await connect();
    await world.socket.end(1006);
    await world.advance(250);
    await world.socket.open();
    expect(world.socket.last('subscribe').payload).toEqual({ room: 'general' });
    realtime.subscribe('general', { after: 38 });
    expect(world.socket.last('subscribe').payload).toEqual({ room: 'general', after: 38 });
    await settle();
    for (const seq of [39, 40]) await world.socket.push('message', message(seq));
    expect(delivered).toEqual([39, 40]);
  });

  it('stops following what it was taken out of', async () => {
    const ended: string[] = [];
    realtime.on('ended', (end) => ended.push(end.reason));
    realtime.subscribe('general', { after: 0 });
    await connect();
    await world.socket.push('unsubscribed', { room: 'general', reason: 'banned' });
    await world.socket.push('message', message(1));
    await world.socket.end(1006);
    await world.advance(250);
    await world.socket.open();
    expect(ended).toEqual(['banned']);
    expect(delivered).toEqual([]);
    expect(world.socket.of('subscribe')).toHaveLength(0);
  });

  it('repeats a subscription that was refused for the moment only', async () => {
    world.silent.add('subscribe');
    realtime.subscribe('general', { after: 0 });
    await connect();
    const busy = { code: 'rate_limited', message: 'slow down', retryable: true, retry_after_ms: 2_000 };
    await world.socket.push('error', busy, world.socket.last('subscribe').id);
    await world.advance(1_999);
    expect(world.socket.of('subscribe')).toHaveLength(1);
    await world.advance(1_000);
    expect(world.socket.of('subscribe')).toHaveLength(2);
  });

  it('starts over when the log ends before the cursor', async () => {
    const resets: string[] = [];
    realtime.on('reset', ({ room }) => resets.push(room));
    world.silent.add('subscribe');
    realtime.subscribe('general', { after: 900 });
    await connect();
    const beyond = {
      code: 'invalid_field',
      message: 'after is beyond head',
      retryable: false,
      field: 'after',
    };
    await world.socket.push('error', beyond, world.socket.last('subscribe').id);
    expect(world.socket.last('subscribe').payload).toEqual({ room: 'general' });
    expect(resets).toEqual(['general']);
  });
});

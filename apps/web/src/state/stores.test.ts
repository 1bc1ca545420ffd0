// The stores behind the room list, presence and typing.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Api, LogEvent, PresenceSnapshot, Room } from '../sdk';
import { PresenceBook, TypingBook } from './presence';
import { joinableRooms, joinedRooms, type ListedRoom, Rooms, unreadOf } from './rooms';

function room(id: string, change: Partial<Room> = {}): Room {
  return {
    id,
    title: id,
    settings: {
      public: true,
      history: 'members',
      retention_days: 0,
      retention_messages: 0,
      max_message_bytes: 0,
      slow_mode_s: 0,
      messages_per_10s: 0,
      allow_guests: false,
    },
    role: 'member',
    first: 1,
    head: 10,
    read_seq: 10,
    created_at: 0,
    ...change,
  };
}

describe('rooms', () => {
  let listed: Room[];
  let rooms: Rooms;

  beforeEach(async () => {
    listed = [room('b'), room('A'), room('c', { role: null, head: 5, read_seq: 0 })];
    rooms = new Rooms({ rooms: async () => listed } as unknown as Api, 'me');
    await rooms.load();
  });

  it('tells one’s own rooms from those one could join, by title', () => {
    expect(joinedRooms(rooms.state.get()).map(({ id }) => id)).toEqual(['A', 'b']);
    expect(joinableRooms(rooms.state.get()).map(({ id }) => id)).toEqual(['c']);
  });

  const unread = (id: string) => unreadOf(rooms.get(id) as ListedRoom);
  const event = (seq: number, type = 'message', sender = 'them', rest = {}) =>
    rooms.event({ type, payload: { room: 'b', seq, ts: 0, sender, ...rest } } as unknown as LogEvent);
  const follow = (head: number, read_seq: number, cursor = head) =>
    rooms.subscribed({ room: 'b', head, first: 1, role: 'member', read_seq }, cursor);

  it('counts all that came before it looked, in one’s own rooms only', async () => {
    listed = [room('n', { read_seq: 6 }), room('x', { role: null, read_seq: 0 }), room('l', { head: 900 })];
    await rooms.load();
    expect(['n', 'x', 'l'].map(unread)).toEqual([4, 0, 100]);
    rooms.read('n', 8);
    rooms.read('n', 7);
    expect(unread('n')).toBe(2);
    rooms.read('n', 10);
    expect(unread('n')).toBe(0);
  });

  it('counts messages of others only, once it looks', () => {
    follow(10, 10);
    event(11);
    event(12, 'reacted', 'them', { target_seq: 11 });
    event(13, 'message', 'me');
    event(14, 'member');
    event(15);
    event(15);
    expect(unread('b')).toBe(2);
    event(16, 'redacted', 'them', { target_seq: 15 });
    expect(unread('b')).toBe(1);
    event(17);
    event(18, 'redacted', 'them', { target_seq: 11, targets: [11, 17] });
    expect(unread('b')).toBe(0);
    event(19);
    rooms.read('b', 11);
    expect(rooms.get('b')).toMatchObject({ head: 19, read_seq: 11, unread: [19] });
  });

  it('leaves it to live events what a newer list stands for', async () => {
    follow(10, 10);
    listed = [room('b', { head: 12 })];
    await rooms.load();
    expect(unread('b')).toBe(0);
    event(11, 'reacted', 'them', { target_seq: 1 });
    event(12);
    expect(unread('b')).toBe(1);
  });

  it('counts everything that was missed while nobody told', async () => {
    follow(10, 10);
    rooms.disconnected();
    listed = [room('b', { head: 12 })];
    await rooms.load();
    expect(unread('b')).toBe(2);
    follow(13, 11);
    expect(unread('b')).toBe(2);
    // What is delivered after the cursor is counted when it comes.
    follow(20, 11, 13);
    expect(unread('b')).toBe(2);
  });

  it('tells which rooms the caller was put into, but not the ones they made or left', async () => {
    let answer = (_: Room[]) => {};
    const asked = new Rooms(
      { rooms: () => new Promise<Room[]>((done) => (answer = done)) } as unknown as Api,
      'me',
    );
    const load = async (list: Room[], meanwhile = () => {}) => {
      const loading = asked.load();
      meanwhile();
      answer(list);
      return (await loading).map(({ id }) => id);
    };
    expect(await load([room('a'), room('door', { role: null })])).toEqual([]);
    expect(await load([room('a'), room('door'), room('new')])).toEqual(['door', 'new']);
    const meanwhile = () => {
      asked.put(room('made'));
      asked.remove('a');
    };
    expect(await load([room('a'), room('new')], meanwhile)).toEqual([]);
    expect([...asked.state.get().byId.keys()]).toEqual(['new', 'made']);
  });

  it('takes the answer to the latest question', async () => {
    const answers: ((list: Room[]) => void)[] = [];
    const api = { rooms: () => new Promise<Room[]>((done) => answers.push(done)) } as unknown as Api;
    const asked = new Rooms(api, 'me');
    const both = [asked.load(), asked.load()];
    answers[1]?.([room('new')]);
    answers[0]?.([room('old')]);
    await Promise.all(both);
    expect([...asked.state.get().byId.keys()]).toEqual(['new']);
  });

  it('is not set back by a list that is older than live events', async () => {
    rooms.advance('b', 20);
    rooms.read('b', 19);
    listed = [room('b', { title: 'renamed' })];
    await rooms.load();
    expect(rooms.get('b')).toMatchObject({ title: 'renamed', head: 20, read_seq: 19 });
    expect(rooms.get('A')).toBeNull();
  });

  it('keeps what it has when loading fails later', async () => {
    const api = { rooms: () => Promise.reject(new Error('down')) } as unknown as Api;
    const failing = new Rooms(api, 'me');
    await expect(failing.load()).rejects.toThrow('down');
    expect(failing.state.get().status).toBe('failed');
    failing.put(room('b'));
    expect(failing.get('b')).not.toBeNull();
  });
});

describe('presence', () => {
  const snapshot = (version: number, status: 'online' | 'away'): PresenceSnapshot => ({
    users: [{ user_id: 'u1', status }],
    count: 1,
    version,
  });
  const delta = (version: number, status: 'online' | 'away' | 'busy') => ({
    room: 'r',
    user_id: 'u1',
    status,
    version,
  });

  it('takes deltas in the order of their versions, whatever order they come in', async () => {
    const book = new PresenceBook({ presence: async () => snapshot(5, 'online') } as unknown as Api);
    await book.load('r');
    const status = () => book.rooms.get().get('r')?.users.get('u1')?.status;
    book.delta(delta(7, 'away'));
    book.delta(delta(6, 'busy'));
    expect(status()).toBe('away');
    await book.load('r');
    expect(status()).toBe('away');
  });
});

describe('typing', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('ends when it is said, when the message comes, and by itself', () => {
    const book = new TypingBook();
    const typing = () => book.rooms.get().get('r') ?? [];
    const heard = (user_id: string, on = true) => book.heard({ room: 'r', user_id, on });
    for (const user of ['a', 'b', 'c']) heard(user);
    heard('a', false);
    book.stopped('r', 'b');
    expect(typing()).toEqual(['c']);
    vi.advanceTimersByTime(4_000);
    heard('c');
    vi.advanceTimersByTime(4_000);
    expect(typing()).toEqual(['c']);
    vi.advanceTimersByTime(4_000);
    expect(typing()).toEqual([]);
  });
});

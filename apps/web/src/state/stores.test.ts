// The stores behind the room list, presence and typing.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Api, PresenceSnapshot, Room } from '../sdk';
import { PresenceBook, TypingBook } from './presence';
import { joinableRooms, joinedRooms, Rooms, unreadOf } from './rooms';

function room(id: string, change: Partial<Room> = {}): Room {
  return {
    id,
    title: id,
    settings: {
      public: true,
      history: 'members',
      retention_days: 0,
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
    rooms = new Rooms({ rooms: async () => listed } as unknown as Api);
    await rooms.load();
  });

  it('tells one’s own rooms from those one could join, by title', () => {
    expect(joinedRooms(rooms.state.get()).map(({ id }) => id)).toEqual(['A', 'b']);
    expect(joinableRooms(rooms.state.get()).map(({ id }) => id)).toEqual(['c']);
  });

  it('counts what came after the read cursor, in one’s own rooms only', () => {
    rooms.advance('b', 13);
    rooms.advance('b', 12);
    const unread = () => ['b', 'c'].map((id) => unreadOf(rooms.get(id) as Room));
    expect(unread()).toEqual([3, 0]);
    rooms.read('b', 12);
    rooms.read('b', 11);
    expect(unread()).toEqual([1, 0]);
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
    const failing = new Rooms({ rooms: () => Promise.reject(new Error('down')) } as unknown as Api);
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

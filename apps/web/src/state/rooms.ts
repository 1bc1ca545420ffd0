// The rooms the caller sees, with heads, read cursors and what is unread kept up to date by live events.

import type { Api, LogEvent, Room, SubscribedPayload } from '../sdk';
import { Store, withEntry } from './store';
import { readUpTo, type Unread, unreadBetween, withEvent, withMissed } from './unread';

/** A room and what is new in it. `head` is the newest event that is accounted for in `unread`. */
export interface ListedRoom extends Room {
  unread: Unread;
}

export interface RoomsState {
  status: 'loading' | 'ready' | 'failed';
  byId: ReadonlyMap<string, ListedRoom>;
}

/** How much in a room the caller has not read. */
export function unreadOf(room: ListedRoom): number {
  return room.role === null ? 0 : room.unread.length;
}

function byTitle(a: Room, b: Room): number {
  return a.title.localeCompare(b.title, undefined, { sensitivity: 'base', numeric: true });
}

/** The rooms the caller is in, by title. */
export function joinedRooms(state: RoomsState): ListedRoom[] {
  return [...state.byId.values()].filter((room) => room.role !== null).sort(byTitle);
}

/** Public rooms the caller could join, by title. */
export function joinableRooms(state: RoomsState): ListedRoom[] {
  return [...state.byId.values()].filter((room) => room.role === null).sort(byTitle);
}

export class Rooms {
  readonly state = new Store<RoomsState>({ status: 'loading', byId: new Map() });
  readonly #api: Api;
  readonly #ownId: string;
  /** Rooms whose every event is told to us; a list is never newer than those events. */
  readonly #live = new Set<string>();
  /** When a room was last put or removed by itself, counted in steps of `#clock`. */
  readonly #touched = new Map<string, number>();
  #clock = 0;
  #loadedAt = 0;

  constructor(api: Api, ownId: string) {
    this.#api = api;
    this.#ownId = ownId;
  }

  get(id: string): ListedRoom | null {
    return this.state.get().byId.get(id) ?? null;
  }

  /**
   * Loads all rooms and returns those the caller was put into meanwhile. What is known from elsewhere since the
   * question was asked is not set back.
   */
  async load(): Promise<ListedRoom[]> {
    const asked = ++this.#clock;
    try {
      const rooms = await this.#api.rooms();
      // A later question was answered earlier.
      if (asked < this.#loadedAt) return [];
      this.#loadedAt = asked;
      return this.#replace(rooms, asked);
    } catch (error) {
      if (this.state.get().status === 'loading')
        this.state.update((state) => ({ ...state, status: 'failed' }));
      throw error;
    }
  }

  #replace(rooms: readonly Room[], asked: number): ListedRoom[] {
    const { status, byId: before } = this.state.get();
    const untouched = (id: string) => (this.#touched.get(id) ?? 0) < asked;
    const listed = rooms.filter(({ id }) => untouched(id)).map((room) => this.#newest(room));
    const kept = [...before.values()].filter(({ id }) => !untouched(id));
    this.state.set({ status: 'ready', byId: new Map([...listed, ...kept].map((room) => [room.id, room])) });
    if (status !== 'ready') return [];
    return listed.filter(({ id, role }) => role !== null && (before.get(id)?.role ?? null) === null);
  }

  /** Loads one room again, or for the first time. */
  async reload(id: string): Promise<Room> {
    const room = await this.#api.room(id);
    this.put(room);
    return room;
  }

  put(room: Room): void {
    this.#touched.set(room.id, ++this.#clock);
    this.#set(room.id, this.#newest(room));
  }

  remove(id: string): void {
    this.#touched.set(id, ++this.#clock);
    this.#live.delete(id);
    this.#set(id, undefined);
  }

  /** The caller is no longer a member of a room that they still see. */
  left(id: string): void {
    const room = this.get(id);
    this.#live.delete(id);
    if (room !== null) this.put({ ...room, role: null });
  }

  /** Without a connection, what happens is told by nobody but the next list or subscription. */
  disconnected(): void {
    this.#live.clear();
  }

  /** @param cursor after which events are delivered; what lies between it and our head was missed */
  subscribed(answer: SubscribedPayload, cursor: number): void {
    const { first, role, read_seq } = answer;
    this.#live.add(answer.room);
    this.#change(answer.room, (room) => ({
      ...room,
      first,
      // Who merely reads along follows as a guest, which does not make the room one of theirs.
      role: room.role === null && role === 'guest' ? null : role,
      head: Math.max(room.head, cursor),
      read_seq: Math.max(room.read_seq, read_seq),
      unread: readUpTo(withMissed(room.unread, room.head, cursor), read_seq),
    }));
  }

  event(event: LogEvent): void {
    const { room: id, seq } = event.payload;
    this.#change(id, (room) => {
      if (seq <= room.head) return room;
      const unread = seq > room.read_seq ? withEvent(room.unread, event, this.#ownId) : room.unread;
      return { ...room, head: seq, unread };
    });
  }

  /** Events up to `seq` cannot be had any more, or were seen already. */
  advance(id: string, seq: number): void {
    this.#change(id, (room) => (seq > room.head ? { ...room, head: seq } : room));
  }

  read(id: string, seq: number): void {
    this.#change(id, (room) =>
      seq > room.read_seq ? { ...room, read_seq: seq, unread: readUpTo(room.unread, seq) } : room,
    );
  }

  #newest(room: Room): ListedRoom {
    const known = this.get(room.id);
    // Who comes in has read nothing yet, whatever was counted while they only looked at the door.
    if (known === null || (known.role === null && room.role !== null)) {
      const head = Math.max(room.head, known?.head ?? 0);
      // What is no longer kept cannot be read any more.
      return { ...room, head, unread: unreadBetween(Math.max(room.read_seq, room.first - 1), head) };
    }
    const head = this.#live.has(room.id) ? known.head : Math.max(room.head, known.head);
    const read_seq = Math.max(room.read_seq, known.read_seq);
    return {
      ...room,
      head,
      read_seq,
      unread: readUpTo(withMissed(known.unread, known.head, head), read_seq),
    };
  }

  #change(id: string, change: (room: ListedRoom) => ListedRoom): void {
    const room = this.get(id);
    if (room === null) return;
    const changed = change(room);
    if (changed !== room) this.#set(id, changed);
  }

  #set(id: string, room: ListedRoom | undefined): void {
    this.state.update((state) => ({ ...state, byId: withEntry(state.byId, id, room) }));
  }
}

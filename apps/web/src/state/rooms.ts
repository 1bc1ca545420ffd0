// The rooms the caller sees, with heads and read cursors kept up to date by live events.

import type { Api, Room, SubscribedPayload } from '../sdk';
import { Store, withEntry } from './store';

export interface RoomsState {
  status: 'loading' | 'ready' | 'failed';
  byId: ReadonlyMap<string, Room>;
}

/** Events after the caller's read cursor. */
export function unreadOf(room: Room): number {
  return room.role === null ? 0 : Math.max(0, room.head - room.read_seq);
}

function byTitle(a: Room, b: Room): number {
  return a.title.localeCompare(b.title, undefined, { sensitivity: 'base', numeric: true });
}

/** The rooms the caller is in, by title. */
export function joinedRooms(state: RoomsState): Room[] {
  return [...state.byId.values()].filter((room) => room.role !== null).sort(byTitle);
}

/** Public rooms the caller could join, by title. */
export function joinableRooms(state: RoomsState): Room[] {
  return [...state.byId.values()].filter((room) => room.role === null).sort(byTitle);
}

export class Rooms {
  readonly state = new Store<RoomsState>({ status: 'loading', byId: new Map() });
  readonly #api: Api;

  constructor(api: Api) {
    this.#api = api;
  }

  get(id: string): Room | null {
    return this.state.get().byId.get(id) ?? null;
  }

  /** Loads all rooms. What live events have told meanwhile is not set back. */
  async load(): Promise<void> {
    try {
      const rooms = await this.#api.rooms();
      const byId = new Map(rooms.map((room) => [room.id, this.#newest(room)]));
      this.state.set({ status: 'ready', byId });
    } catch (error) {
      if (this.state.get().status === 'loading')
        this.state.update((state) => ({ ...state, status: 'failed' }));
      throw error;
    }
  }

  /** Loads one room again, or for the first time. */
  async reload(id: string): Promise<Room> {
    const room = await this.#api.room(id);
    this.put(room);
    return room;
  }

  put(room: Room): void {
    this.state.update((state) => ({ ...state, byId: withEntry(state.byId, room.id, this.#newest(room)) }));
  }

  remove(id: string): void {
    this.state.update((state) => ({ ...state, byId: withEntry(state.byId, id, undefined) }));
  }

  subscribed(answer: SubscribedPayload): void {
    const { head, first, role, read_seq } = answer;
    this.#change(answer.room, (room) => ({
      ...room,
      first,
      // Who merely reads along follows as a guest, which does not make the room one of theirs.
      role: room.role === null && role === 'guest' ? null : role,
      head: Math.max(room.head, head),
      read_seq: Math.max(room.read_seq, read_seq),
    }));
  }

  advance(id: string, seq: number): void {
    this.#change(id, (room) => (seq > room.head ? { ...room, head: seq } : room));
  }

  read(id: string, seq: number): void {
    this.#change(id, (room) => (seq > room.read_seq ? { ...room, read_seq: seq } : room));
  }

  #newest(room: Room): Room {
    const known = this.get(room.id);
    if (known === null) return room;
    return {
      ...room,
      head: Math.max(room.head, known.head),
      read_seq: Math.max(room.read_seq, known.read_seq),
    };
  }

  #change(id: string, change: (room: Room) => Room): void {
    const room = this.get(id);
    if (room === null) return;
    const changed = change(room);
    if (changed === room) return;
    this.state.update((state) => ({ ...state, byId: withEntry(state.byId, id, changed) }));
  }
}

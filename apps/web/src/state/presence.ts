// Who is here: a snapshot per room, then deltas, told apart by version. And who is typing right now.

import type { Api, PresencePayload, PresenceStatus, TypingPayload } from '../sdk';
import { Store, withEntry } from './store';

export interface Presence {
  status: PresenceStatus;
  text: string | null;
  /** When they were seen to go; only of those who went while we looked on. */
  goneAt?: number;
}

interface RoomPresence {
  version: number;
  users: ReadonlyMap<string, Presence>;
}

export class PresenceBook {
  readonly rooms = new Store<ReadonlyMap<string, RoomPresence>>(new Map());
  readonly #api: Api;

  constructor(api: Api) {
    this.#api = api;
  }

  async load(room: string): Promise<void> {
    const snapshot = await this.#api.presence(room);
    const users = new Map(
      snapshot.users.map((user) => [user.user_id, { status: user.status, text: user.text ?? null }]),
    );
    // A delta that overtook the snapshot is newer than it.
    if ((this.rooms.get().get(room)?.version ?? -1) > snapshot.version) return;
    this.rooms.update((rooms) => withEntry(rooms, room, { version: snapshot.version, users }));
  }

  delta(frame: PresencePayload): void {
    const known = this.rooms.get().get(frame.room);
    if (known !== undefined && frame.version < known.version) return;
    const users = withEntry(known?.users ?? new Map(), frame.user_id, {
      status: frame.status,
      text: frame.text ?? null,
      ...(frame.status === 'offline' ? { goneAt: Date.now() } : {}),
    });
    this.rooms.update((rooms) => withEntry(rooms, frame.room, { version: frame.version, users }));
  }
}

/** Typing is told again every few seconds while it lasts; without that, it is over. */
const TYPING_MS = 6_000;

export class TypingBook {
  readonly rooms = new Store<ReadonlyMap<string, readonly string[]>>(new Map());
  readonly #timers = new Map<string, ReturnType<typeof setTimeout>>();

  heard(frame: TypingPayload): void {
    const id = `${frame.room} ${frame.user_id}`;
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    if (frame.on)
      this.#timers.set(
        id,
        setTimeout(() => this.stopped(frame.room, frame.user_id), TYPING_MS),
      );
    this.#set(frame.room, frame.user_id, frame.on);
  }

  /** They have sent what they typed, or are gone. */
  stopped(room: string, user: string): void {
    this.#set(room, user, false);
  }

  clear(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.rooms.set(new Map());
  }

  #set(room: string, user: string, on: boolean): void {
    const before = this.rooms.get().get(room) ?? [];
    if (before.includes(user) === on) return;
    const after = on ? [...before, user] : before.filter((other) => other !== user);
    this.rooms.update((rooms) => withEntry(rooms, room, after.length === 0 ? undefined : after));
  }
}

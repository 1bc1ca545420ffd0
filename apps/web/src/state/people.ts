// Names behind user ids, and who is a member where.

import { type Api, type Ban, type Member, type RoomRole, StackError, type User } from '../sdk';
import { Store, withEntry } from './store';

const RANK: Record<RoomRole, number> = { owner: 0, moderator: 1, member: 2, guest: 3 };

/** Owners first, then by name. */
export function byRank(a: Member, b: Member): number {
  return RANK[a.role] - RANK[b.role] || a.user.display_name.localeCompare(b.user.display_name);
}

export class People {
  readonly users = new Store<ReadonlyMap<string, User>>(new Map());
  readonly members = new Store<ReadonlyMap<string, readonly Member[]>>(new Map());
  /** Only of rooms where the caller may see them, and once somebody asked. */
  readonly bans = new Store<ReadonlyMap<string, readonly Ban[]>>(new Map());
  /** Who may only read, likewise. */
  readonly mutes = new Store<ReadonlyMap<string, readonly Ban[]>>(new Map());
  readonly #api: Api;
  readonly #asked = new Set<string>();

  constructor(api: Api, me: User) {
    this.#api = api;
    this.put([me]);
  }

  put(users: readonly User[]): void {
    const changed = users.filter((user) => {
      const known = this.users.get().get(user.id);
      return known?.display_name !== user.display_name || known?.username !== user.username;
    });
    if (changed.length === 0) return;
    this.users.update((map) => new Map([...map, ...changed.map((user) => [user.id, user] as const)]));
  }

  async loadMembers(room: string): Promise<void> {
    const members = await this.#api.members(room);
    this.put(members.map((member) => member.user));
    this.members.update((map) => withEntry(map, room, members.sort(byRank)));
  }

  /** Loads the bans of a room; who may no longer see them forgets them. */
  loadBans(room: string): Promise<void> {
    return this.#load(this.bans, room, this.#api.bans(room));
  }

  /** Loads the mutes of a room likewise. */
  loadMutes(room: string): Promise<void> {
    return this.#load(this.mutes, room, this.#api.mutes(room));
  }

  async #load(store: Store<ReadonlyMap<string, readonly Ban[]>>, room: string, loading: Promise<Ban[]>) {
    try {
      const list = await loading;
      store.update((map) => withEntry(map, room, list));
    } catch (error) {
      if (error instanceof StackError && !error.retryable)
        store.update((map) => withEntry(map, room, undefined));
      throw error;
    }
  }

  /** The person of this username, however it was typed, or null. */
  async find(typed: string): Promise<User | null> {
    try {
      const user = await this.#api.userByName(typed.trim().replace(/^@/, '').toLowerCase());
      if (user !== null) this.put([user]);
      return user;
    } catch (error) {
      // What cannot be a username is nobody's.
      if (error instanceof StackError && error.code === 'invalid_field') return null;
      throw error;
    }
  }

  /** Loads a user nobody has told us of, such as an author who left. Asked once; a failure leaves them nameless. */
  need(id: string): void {
    if (this.#asked.has(id) || this.users.get().has(id)) return;
    this.#asked.add(id);
    this.#api.user(id).then(
      (user) => this.put([user]),
      (error: { retryable?: boolean }) => {
        if (error.retryable === true) this.#asked.delete(id);
      },
    );
  }
}

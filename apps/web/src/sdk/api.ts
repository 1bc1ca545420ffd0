// The gateway's HTTP routes about rooms and people as typed calls. Signing in is auth-api.ts, administering admin-api.ts.

import type { HttpClient } from './http';
import type {
  Ban,
  HistoryPage,
  Member,
  PresenceSnapshot,
  Room,
  RoomRole,
  RoomSettings,
  ServerInfo,
  User,
} from './types';

export interface HistoryQuery {
  after?: number;
  before?: number;
  after_ts?: number;
  limit?: number;
}

/** Why, and until when. */
export interface Limits {
  reason?: string;
  expires_at?: number;
}

const seg = encodeURIComponent;

export class Api {
  readonly #http: HttpClient;

  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** The gateway's version and limits; needs no session. */
  serverInfo(): Promise<ServerInfo> {
    return this.#http.request('GET', '/version', { root: true, refresh: false });
  }

  me(): Promise<User> {
    return this.#http.request('GET', '/me');
  }

  updateMe(body: { display_name?: string; settings?: Record<string, unknown> }): Promise<User> {
    return this.#http.request('PATCH', '/me', { body });
  }

  user(id: string): Promise<User> {
    return this.#http.request('GET', `/users/${seg(id)}`);
  }

  /** The user of exactly this name, or null; there is no list to search in. */
  async userByName(username: string): Promise<User | null> {
    const query = { username };
    const { users } = await this.#http.request<{ users: User[] }>('GET', '/users', { query });
    return users[0] ?? null;
  }

  /** Every room the caller sees: their own and public ones (`role: null`). */
  async rooms(): Promise<Room[]> {
    return (await this.#http.request<{ rooms: Room[] }>('GET', '/rooms')).rooms;
  }

  room(id: string): Promise<Room> {
    return this.#http.request('GET', `/rooms/${seg(id)}`);
  }

  createRoom(body: { id?: string; title: string; settings?: Partial<RoomSettings> }): Promise<Room> {
    return this.#http.request('POST', '/rooms', { body });
  }

  updateRoom(id: string, body: { title?: string; settings?: Partial<RoomSettings> }): Promise<Room> {
    return this.#http.request('PATCH', `/rooms/${seg(id)}`, { body });
  }

  deleteRoom(id: string): Promise<void> {
    return this.#http.request('DELETE', `/rooms/${seg(id)}`);
  }

  async members(room: string): Promise<Member[]> {
    return (await this.#http.request<{ members: Member[] }>('GET', `/rooms/${seg(room)}/members`)).members;
  }

  /** Sets somebody's role; as oneself with `member` it joins a public room. */
  putMember(room: string, user: string, role: RoomRole): Promise<void> {
    return this.#http.request('PUT', `/rooms/${seg(room)}/members/${seg(user)}`, { body: { role } });
  }

  /** Removes somebody; as oneself it leaves. */
  deleteMember(room: string, user: string): Promise<void> {
    return this.#http.request('DELETE', `/rooms/${seg(room)}/members/${seg(user)}`);
  }

  /** The bans that hold, oldest first; for moderators and owners. */
  async bans(room: string): Promise<Ban[]> {
    return (await this.#http.request<{ bans: Ban[] }>('GET', `/rooms/${seg(room)}/bans`)).bans;
  }

  /** Removes somebody and keeps them out, until `expires_at` if there is one. */
  ban(room: string, user: string, limits: Limits = {}): Promise<Ban> {
    return this.#http.request('PUT', `/rooms/${seg(room)}/bans/${seg(user)}`, { body: limits });
  }

  /** Lifts a ban; they may come back, and are not brought back. */
  unban(room: string, user: string): Promise<void> {
    return this.#http.request('DELETE', `/rooms/${seg(room)}/bans/${seg(user)}`);
  }

  /** Who may read and not speak, oldest first; for moderators and owners. */
  async mutes(room: string): Promise<Ban[]> {
    return (await this.#http.request<{ mutes: Ban[] }>('GET', `/rooms/${seg(room)}/mutes`)).mutes;
  }

  mute(room: string, user: string, limits: Limits = {}): Promise<Ban> {
    return this.#http.request('PUT', `/rooms/${seg(room)}/mutes/${seg(user)}`, { body: limits });
  }

  unmute(room: string, user: string): Promise<void> {
    return this.#http.request('DELETE', `/rooms/${seg(room)}/mutes/${seg(user)}`);
  }

  /** A page of the log; without a cursor the newest. */
  messages(room: string, query: HistoryQuery = {}, signal?: AbortSignal): Promise<HistoryPage> {
    return this.#http.request('GET', `/rooms/${seg(room)}/messages`, {
      query: { ...query },
      ...(signal ? { signal } : {}),
    });
  }

  presence(room: string): Promise<PresenceSnapshot> {
    return this.#http.request('GET', `/rooms/${seg(room)}/presence`);
  }
}

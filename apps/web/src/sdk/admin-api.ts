// The gateway's routes for administrators.

import type { HttpClient } from './http';
import type {
  AdminUser,
  ApiKey,
  ApiScope,
  AuditPage,
  AuditQuery,
  Invite,
  MessageTrace,
  NewInvite,
  ServerStats,
  User,
} from './types';

export interface NewUser {
  username: string;
  display_name?: string;
  email?: string;
  role?: User['role'];
}

export interface NewApiKey {
  name: string;
  scopes: ApiScope[];
  expires_at?: number;
  bot?: { username: string; display_name?: string };
  user_id?: string;
}

const seg = encodeURIComponent;

export class AdminApi {
  readonly #http: HttpClient;

  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** What the gateway does now, and did in the last ten minutes. */
  stats(): Promise<ServerStats> {
    return this.#http.request('GET', '/admin/stats');
  }

  /** Where a message is: how it went out, to whom, and who has read it. It goes on record. */
  trace(room: string, seq: number, user?: string): Promise<MessageTrace> {
    const query = user === undefined ? {} : { user };
    return this.#http.request('GET', `/admin/rooms/${seg(room)}/messages/${seq}/trace`, { query });
  }

  /** A page of all accounts, by id; `q` finds a part of a name or address. */
  async users(query: { after?: string; limit?: number; q?: string }): Promise<AdminUser[]> {
    return (await this.#http.request<{ users: AdminUser[] }>('GET', '/admin/users', { query: { ...query } }))
      .users;
  }

  /** Makes an account; the link, told this once, lets its owner set a password. */
  createUser(body: NewUser): Promise<{ user: AdminUser; url: string; expires_at: number }> {
    return this.#http.request('POST', '/admin/users', { body });
  }

  updateUser(id: string, body: { disabled?: boolean; role?: User['role'] }): Promise<void> {
    return this.#http.request('PATCH', `/admin/users/${seg(id)}`, { body });
  }

  /** A single-use link with which somebody sets a new password. */
  recoveryLink(id: string, reset_second_factor: boolean): Promise<{ url: string; expires_at: number }> {
    const body = { reset_second_factor };
    return this.#http.request('POST', `/admin/users/${seg(id)}/recovery`, { body });
  }

  /** Has everything erased that somebody has said, for good. It is carried out after this. */
  eraseMessages(id: string): Promise<void> {
    return this.#http.request('POST', `/admin/users/${seg(id)}/erasure`, { body: {} });
  }

  async invites(): Promise<Invite[]> {
    return (await this.#http.request<{ invites: Invite[] }>('GET', '/invites')).invites;
  }

  /** The link is told this once. */
  createInvite(body: NewInvite): Promise<Invite & { url: string }> {
    return this.#http.request('POST', '/invites', { body });
  }

  revokeInvite(id: string): Promise<void> {
    return this.#http.request('DELETE', `/invites/${seg(id)}`);
  }

  async apiKeys(): Promise<ApiKey[]> {
    return (await this.#http.request<{ api_keys: ApiKey[] }>('GET', '/api-keys')).api_keys;
  }

  /** The key is told this once. */
  createApiKey(body: NewApiKey): Promise<{ id: string; key: string; user: User }> {
    return this.#http.request('POST', '/api-keys', { body });
  }

  revokeApiKey(id: string): Promise<void> {
    return this.#http.request('DELETE', `/api-keys/${seg(id)}`);
  }

  /** A page of the audit log, newest first; `next` leads to the one before it. */
  audit(query: AuditQuery): Promise<AuditPage> {
    return this.#http.request('GET', '/admin/audit', { query: { ...query } });
  }

  /** Where a browser downloads the log as JSON lines. */
  readonly auditExportUrl = '/api/v1/admin/audit/export';
}

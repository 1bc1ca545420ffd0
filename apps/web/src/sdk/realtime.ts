// The realtime half of the SDK: one object that stays connected, follows rooms and delivers messages.

import { Connection, type ConnectionOptions, type ConnectionState } from './connection';
import { Emitter } from './emitter';
import type { Environment } from './environment';
import type { TokenRefresher } from './refresh';
import { Outbox, type Sending, type SendOptions } from './outbox';
import { Reauth } from './reauth';
import { type EndReason, type SubscribeOptions, Subscriptions } from './subscriptions';
import {
  type Frame,
  type GapPayload,
  isLogEvent,
  type LogEvent,
  type PresencePayload,
  type PresenceStatus,
  type ReadPayload,
  type RoomRole,
  type SendReceipt,
  type SubscribedPayload,
  type TypingPayload,
} from './types';

export interface RealtimeEvents {
  /** What the connection is doing, for showing it. */
  state: ConnectionState;
  /** An event of a followed room: in order, exactly once. */
  event: LogEvent;
  /** Events of a followed room that cannot be had any more. */
  gap: GapPayload;
  /** A room is being followed (again); tells its head and the caller's read cursor. */
  subscribed: SubscribedPayload;
  /** The log of a room no longer holds what was delivered; load it anew. */
  reset: { room: string };
  /** A room is no longer followed. */
  ended: { room: string; reason: EndReason };
  typing: TypingPayload;
  presence: PresencePayload;
  read: ReadPayload;
}

export interface RealtimeOptions {
  /** For example `wss://chat.example.org/ws`. */
  url: string;
  env: Environment;
  refresher: TokenRefresher;
}

export class RealtimeClient extends Emitter<RealtimeEvents> {
  readonly #connection: Connection;
  readonly #subscriptions: Subscriptions;
  readonly #outbox: Outbox;
  readonly #reauth: Reauth;

  constructor(options: RealtimeOptions) {
    super();
    const { env, refresher } = options;
    const connection: ConnectionOptions = {
      url: options.url,
      env,
      renew: (since) => refresher.renewSince(since),
      credentialsEndAt: () => refresher.expiresAt(),
    };
    this.#connection = new Connection(connection);
    this.#subscriptions = new Subscriptions(env, {
      request: (type, payload) => this.#connection.request(type, payload),
      deliver: (event) => this.emit('event', event),
      gap: (gap) => this.emit('gap', gap),
      subscribed: (answer) => this.emit('subscribed', answer),
      reset: (room) => this.emit('reset', { room }),
      ended: (room, reason) => this.emit('ended', { room, reason }),
    });
    this.#outbox = new Outbox(env, (payload) => this.#connection.request('send', payload));
    this.#reauth = new Reauth({
      env,
      renewToken: () => refresher.renewToken(),
      authenticate: (token) => this.#connection.request('auth', { token }),
      signedOut: () => this.#connection.stop('signed_out'),
    });
    this.#connection.on('open', () => {
      this.#subscriptions.opened();
      this.#outbox.opened();
      this.#reauth.opened(refresher.expiresAt());
    });
    this.#connection.on('lost', () => {
      this.#subscriptions.lost();
      this.#outbox.lost();
      this.#reauth.lost();
    });
    this.#connection.on('expiring', () => void this.#reauth.run());
    this.#connection.on('frame', (frame) => this.#frame(frame));
    this.#connection.on('state', (state) => {
      // A draining gateway takes nothing new; what is written now goes to its successor.
      if (state.status === 'reconnecting' && state.reason === 'drain') this.#outbox.lost();
      this.emit('state', state);
    });
  }

  get state(): ConnectionState {
    return this.#connection.state;
  }

  /** Connects and stays connected until `stop`. */
  start(): void {
    this.#connection.start();
  }

  /** Disconnects for good; messages that have no place yet are rejected with `closed`. */
  stop(): void {
    this.#connection.stop();
    this.#subscriptions.clear();
    this.#outbox.close();
  }

  /** Tries to reconnect at once instead of at the planned time. */
  retryNow(): void {
    this.#connection.retryNow();
  }

  /** Follows a room across reconnects. */
  subscribe(room: string, options?: SubscribeOptions): void {
    this.#subscriptions.add(room, options);
  }

  unsubscribe(room: string): void {
    this.#subscriptions.remove(room);
  }

  isSubscribed(room: string): boolean {
    return this.#subscriptions.has(room);
  }

  /** The last `seq` of a room that was handed on, or null before the first answer. */
  cursor(room: string): number | null {
    return this.#subscriptions.cursor(room);
  }

  /** Takes over a message and sends it, now or as soon as there is a connection, exactly once. */
  send(room: string, body: string, options?: SendOptions): Sending {
    return this.#outbox.send(room, body, options);
  }

  /** How many messages have no place in a log yet. */
  get unsent(): number {
    return this.#outbox.size;
  }

  edit(room: string, seq: number, body: string): Promise<SendReceipt> {
    return this.#ask('edit', { room, seq, body });
  }

  redact(room: string, seq: number, reason?: string): Promise<SendReceipt> {
    return this.#ask('redact', { room, seq, ...(reason === undefined ? {} : { reason }) });
  }

  react(room: string, seq: number, emoji: string, remove = false): Promise<SendReceipt> {
    return this.#ask('react', { room, seq, emoji, ...(remove ? { remove } : {}) });
  }

  join(room: string): Promise<{ room: string; role: RoomRole }> {
    return this.#ask('join', { room });
  }

  leave(room: string): Promise<void> {
    return this.#ask('leave', { room });
  }

  /** Moves the caller's read cursor; lost without a connection, so it is told again after one. */
  markRead(room: string, seq: number): void {
    this.#connection.notify('read', { room, seq });
  }

  typing(room: string, on: boolean): void {
    this.#connection.notify('typing', { room, on });
  }

  setPresence(status: Exclude<PresenceStatus, 'offline'>, text?: string): void {
    this.#connection.notify('presence', { status, ...(text === undefined ? {} : { text }) });
  }

  #ask<T>(type: string, payload: object): Promise<T> {
    return this.#connection.request(type, payload) as Promise<T>;
  }

  #frame(frame: Frame): void {
    const payload: unknown = frame.payload;
    if (isLogEvent(frame)) this.#subscriptions.event(frame);
    else if (frame.type === 'gap') this.#subscriptions.gap(payload as GapPayload);
    else if (frame.type === 'unsubscribed') {
      const { room, reason } = payload as { room: string; reason: EndReason };
      this.#subscriptions.unsubscribed(room, reason);
    } else if (frame.type === 'typing') this.emit('typing', payload as TypingPayload);
    else if (frame.type === 'presence') this.emit('presence', payload as PresencePayload);
    else if (frame.type === 'read') this.emit('read', payload as ReadPayload);
  }
}

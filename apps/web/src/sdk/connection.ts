// One lasting connection over many sockets: opens, proves, watches and replaces the WebSocket.
//
// Invariants: at most one socket is listened to; the state is `open` only after the gateway has answered a
// request on it (an upgrade alone proves nothing, since refused credentials are told after it); every way a
// socket can end leads to exactly one of: a planned reconnect, or `closed`.

import { fullJitter } from './backoff';
import { Emitter } from './emitter';
import type { Environment, SocketLike, SurroundingsEvent, Timer } from './environment';
import { isSignedOut, needsRefresh, StackError } from './errors';
import { PendingRequests } from './requests';
import type { Frame } from './types';

export const SUBPROTOCOL = 'stack.v1.json';

/** Why a connection ended for good. */
export type ClosedReason = 'stopped' | 'signed_out' | 'forbidden';

/** What the connection is doing. `at` is when the next attempt starts (Unix ms). */
export type ConnectionState =
  | { status: 'idle' }
  | { status: 'connecting' }
  | { status: 'open' }
  | { status: 'reconnecting'; at: number; attempt: number; reason: 'lost' | 'drain' | 'limited' }
  | { status: 'offline'; at: number }
  | { status: 'closed'; reason: ClosedReason };

export interface ConnectionEvents {
  state: ConnectionState;
  /** The gateway has answered on a new socket. */
  open: undefined;
  /** The socket is gone; requests on it have been rejected. */
  lost: undefined;
  /** Any frame that is neither an answer nor connection control. */
  frame: Frame;
  /** The access token ends soon. */
  expiring: { expiresAt: number | null };
}

export interface ConnectionOptions {
  url: string;
  env: Environment;
  /** Renews the credentials the next socket will present, unless they are newer than `since` already. */
  renew(since: number): Promise<unknown>;
  /** When the credentials end, if known: then they are renewed before they are presented. */
  credentialsEndAt(): number | null;
}

export const REQUEST_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 15_000;
/** Quiet for this long, the connection is asked whether it lives; the gateway pings at about the same pace. */
const QUIET_MS = 25_000;
/** A probe somebody waits for (the page came back into view, the network changed) has less patience. */
const URGENT_PROBE_MS = 4_000;
/** A socket that lived shorter than this does not reset the backoff, or a flapping gateway would be hammered. */
const STABLE_MS = 5_000;
const LIMITED_DELAY_MS = 10_000;
const RENEWAL_PAUSE_MS = 10_000;
const GOING_AWAY = 3000;

export class Connection extends Emitter<ConnectionEvents> {
  readonly #options: ConnectionOptions;
  readonly #env: Environment;
  readonly #requests: PendingRequests;
  #state: ConnectionState = { status: 'idle' };
  #socket: SocketLike | null = null;
  #attempt = 0;
  #openedAt: number | null = null;
  #lastReceivedAt = 0;
  #drainUntil: number | null = null;
  #renewFirst = false;
  #renewedAt = Number.NEGATIVE_INFINITY;
  #presentedAt: number | null = null;
  #revoked = false;
  #connectTimer: Timer = null;
  #retryTimer: Timer = null;
  #quietTimer: Timer = null;
  #unwatch: (() => void) | null = null;

  constructor(options: ConnectionOptions) {
    super();
    this.#options = options;
    this.#env = options.env;
    this.#requests = new PendingRequests(options.env);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Whether requests can be made now. A draining gateway still answers, but should be asked for nothing new. */
  get ready(): boolean {
    return this.#openedAt !== null && this.#drainUntil === null;
  }

  /** Connects and stays connected until `stop`. */
  start(): void {
    if (this.#unwatch !== null) return;
    this.#unwatch = this.#env.onSurroundings((event) => this.#surroundingsChanged(event));
    this.#attempt = 0;
    this.#revoked = false;
    this.#renewFirst = false;
    void this.#connect();
  }

  /** Ends the connection for good. */
  stop(reason: ClosedReason = 'stopped'): void {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#env.clearTimeout(this.#retryTimer);
    this.#drop(1000);
    this.#set({ status: 'closed', reason });
  }

  /** Tries at once instead of at the planned time. */
  retryNow(): void {
    if (this.#state.status !== 'reconnecting' && this.#state.status !== 'offline') return;
    if (this.#socket !== null) return;
    this.#attempt = 0;
    void this.#connect();
  }

  /** Sends a request and promises its `ok` payload. Rejects when there is no open socket. */
  request(type: string, payload: object, timeoutMs = REQUEST_TIMEOUT_MS): Promise<Record<string, unknown>> {
    if (this.#openedAt === null) {
      return Promise.reject(new StackError('connection_lost', 'There is no connection right now.'));
    }
    return this.#ask(type, payload, timeoutMs);
  }

  /** Sends a frame nobody answers; without a connection it is simply lost. */
  notify(type: string, payload: object): void {
    if (this.ready) this.#socket?.send(JSON.stringify({ type, payload }));
  }

  #ask(type: string, payload: object, timeoutMs: number): Promise<Record<string, unknown>> {
    const { id, answer } = this.#requests.open(timeoutMs);
    this.#socket?.send(JSON.stringify({ type, id, payload }));
    return answer;
  }

  async #connect(): Promise<void> {
    this.#env.clearTimeout(this.#retryTimer);
    this.#drop(GOING_AWAY);
    // While the device says it has no network the attempts go on, since a gateway on this machine or in
    // this house can be reached all the same, but they are not worth announcing.
    if (this.#state.status !== 'offline' || this.#env.isOnline()) this.#set({ status: 'connecting' });
    const endsAt = this.#options.credentialsEndAt();
    if (endsAt !== null && endsAt <= this.#env.now()) this.#renewFirst = true;
    if (this.#renewFirst && !(await this.#renewCredentials())) return;
    if (this.#unwatch === null || this.#socket !== null) return;
    this.#presentedAt = this.#env.now();
    this.#listen(this.#env.createSocket(this.#options.url, SUBPROTOCOL));
  }

  /** Whether to go on connecting. */
  async #renewCredentials(): Promise<boolean> {
    const started = this.#state;
    this.#renewedAt = this.#env.now();
    try {
      await this.#options.renew(this.#presentedAt ?? this.#renewedAt);
      this.#renewFirst = false;
      return true;
    } catch (error) {
      // Stopped, or restarted by the surroundings, while waiting: whoever did that goes on.
      if (this.#unwatch === null || this.#state !== started) return false;
      if (isSignedOut(error)) this.stop('signed_out');
      else this.#plan('lost', error instanceof StackError ? (error.retryAfterMs ?? 0) : 0);
      return false;
    }
  }

  #listen(socket: SocketLike): void {
    this.#socket = socket;
    this.#connectTimer = this.#env.setTimeout(() => this.#lost(1006), CONNECT_TIMEOUT_MS);
    socket.onopen = () => this.#prove(socket);
    socket.onmessage = (event) => this.#received(event.data);
    socket.onclose = (event) => this.#lost(event.code);
    socket.onerror = null;
  }

  #prove(socket: SocketLike): void {
    this.#ask('ping', {}, REQUEST_TIMEOUT_MS).then(
      () => {
        if (this.#socket !== socket) return;
        this.#env.clearTimeout(this.#connectTimer);
        this.#openedAt = this.#env.now();
        this.#watchQuiet();
        this.#set({ status: 'open' });
        this.emit('open', undefined);
      },
      (error: StackError) => {
        if (this.#socket !== socket || error.code === 'connection_lost') return;
        this.#lost(needsRefresh(error.code) ? 4001 : 1006);
      },
    );
  }

  #noteRefusal(code: string): void {
    if (needsRefresh(code)) this.#renewFirst = true;
  }

  #received(data: unknown): void {
    this.#lastReceivedAt = this.#env.now();
    const frame = parseFrame(data);
    if (frame === null) return;
    if (frame.type === 'ok' || frame.type === 'error') {
      if (frame.id !== undefined) this.#requests.settle(frame.id, frame.type === 'ok', frame.payload);
      else if (frame.type === 'error') this.#noteRefusal(String(frame.payload.code));
    } else if (frame.type === 'drain') {
      this.#drain(Number(frame.payload.reconnect_in_ms) || 0);
    } else if (frame.type === 'session') {
      this.#session(frame.payload);
    } else {
      this.emit('frame', frame);
    }
  }

  #session(payload: Record<string, unknown>): void {
    if (payload.state === 'revoked') this.#revoked = true;
    else if (payload.state === 'expiring') {
      this.emit('expiring', {
        expiresAt: typeof payload.expires_at === 'number' ? payload.expires_at : null,
      });
    }
  }

  #drain(delayMs: number): void {
    this.#drainUntil = this.#env.now() + delayMs;
    this.#set({ status: 'reconnecting', at: this.#drainUntil, attempt: 0, reason: 'drain' });
    this.#env.clearTimeout(this.#retryTimer);
    this.#retryTimer = this.#env.setTimeout(() => this.#lost(1001), delayMs);
  }

  #lost(code: number): void {
    const now = this.#env.now();
    if (this.#openedAt !== null && now - this.#openedAt >= STABLE_MS) this.#attempt = 0;
    const drainUntil = this.#drainUntil;
    this.#drop(GOING_AWAY);
    if (code === 4001 && this.#revoked) return this.stop('signed_out');
    if (code === 4003) return this.stop('forbidden');
    if (drainUntil !== null) return this.#planAt(drainUntil, 'drain');
    if (code === 4001 || code === 1008) {
      this.#renewFirst = true;
      // The first refusal is the ordinary end of a token; a second one right after it is not.
      if (now - this.#renewedAt > RENEWAL_PAUSE_MS) return void this.#connect();
    }
    if (code === 4008 || code === 4029) return this.#plan('limited', LIMITED_DELAY_MS);
    this.#plan('lost', 0);
  }

  #plan(reason: 'lost' | 'limited', atLeastMs: number): void {
    this.#planAt(this.#env.now() + atLeastMs + fullJitter(this.#attempt, () => this.#env.random()), reason);
  }

  #planAt(at: number, reason: 'lost' | 'limited' | 'drain'): void {
    const attempt = this.#attempt++;
    this.#env.clearTimeout(this.#retryTimer);
    this.#retryTimer = this.#env.setTimeout(() => void this.#connect(), Math.max(0, at - this.#env.now()));
    this.#set(
      this.#env.isOnline() ? { status: 'reconnecting', at, attempt, reason } : { status: 'offline', at },
    );
  }

  /** Lets go of the socket without waiting for it: a dead one may take minutes to say so. */
  #drop(code: number): void {
    const socket = this.#socket;
    const hadSocket = socket !== null;
    this.#socket = null;
    this.#openedAt = null;
    this.#drainUntil = null;
    this.#env.clearTimeout(this.#connectTimer);
    this.#env.clearTimeout(this.#quietTimer);
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      socket.close(code);
    }
    this.#requests.failAll();
    if (hadSocket) this.emit('lost', undefined);
  }

  #watchQuiet(): void {
    const quietFor = this.#env.now() - this.#lastReceivedAt;
    this.#quietTimer = this.#env.setTimeout(
      () => {
        if (this.#env.now() - this.#lastReceivedAt >= QUIET_MS) this.#probe(REQUEST_TIMEOUT_MS);
        this.#watchQuiet();
      },
      Math.max(1_000, QUIET_MS - quietFor),
    );
  }

  #probe(timeoutMs: number): void {
    const socket = this.#socket;
    this.#ask('ping', {}, timeoutMs).catch((error: StackError) => {
      if (error.code === 'timeout' && this.#socket === socket) this.#lost(1006);
    });
  }

  #surroundingsChanged(event: SurroundingsEvent): void {
    if (event === 'hidden') return;
    if (this.#openedAt !== null) this.#probe(URGENT_PROBE_MS);
    else if (event !== 'offline') this.retryNow();
    else if (this.#state.status === 'reconnecting') this.#set({ status: 'offline', at: this.#state.at });
  }

  #set(state: ConnectionState): void {
    this.#state = state;
    this.emit('state', state);
  }
}

function parseFrame(data: unknown): Frame | null {
  if (typeof data !== 'string') return null;
  try {
    const frame = JSON.parse(data) as Partial<Frame> | null;
    if (frame === null || typeof frame !== 'object' || typeof frame.type !== 'string') return null;
    return { ...frame, type: frame.type, payload: frame.payload ?? {} };
  } catch {
    return null;
  }
}

// Rooms the client follows, each with the last `seq` it handed on.
//
// Invariants: per room, events are handed on in `seq` order and never twice; what is missing is asked for
// again from the cursor before anything later is handed on; after a reconnect a room goes on where it was.

import { fullJitter } from './backoff';
import type { Environment, Timer } from './environment';
import { StackError } from './errors';
import type { GapPayload, LogEvent, SubscribedPayload } from './types';

export interface SubscribeOptions {
  /** Deliver everything after this `seq`. Left out: only what happens from now on. */
  after?: number;
  /**
   * Whether nothing may be missed (default). Off, the room is followed live only: after a reconnect it
   * starts again at the head, which is enough for a counter and spares the transfer.
   */
  resume?: boolean;
}

/** Why a room is no longer followed; beyond the gateway's own reasons, that it refused the subscription. */
export type EndReason =
  | 'removed'
  | 'banned'
  | 'private'
  | 'deleted'
  | 'left'
  | 'not_found'
  | 'forbidden'
  | 'refused';

export interface SubscriptionSink {
  request(type: string, payload: object): Promise<Record<string, unknown>>;
  deliver(event: LogEvent): void;
  gap(gap: GapPayload): void;
  subscribed(answer: SubscribedPayload): void;
  /** The log no longer reaches the cursor (an older file was restored): what was shown is to be loaded anew. */
  reset(room: string): void;
  ended(room: string, reason: EndReason): void;
}

interface Subscription {
  room: string;
  resume: boolean;
  cursor: number | null;
  pending: boolean;
  /** Answers to earlier subscribes of the same room are told apart by this. */
  generation: number;
  failures: number;
  timer: Timer;
}

export class Subscriptions {
  readonly #env: Environment;
  readonly #sink: SubscriptionSink;
  readonly #rooms = new Map<string, Subscription>();
  #open = false;

  constructor(env: Environment, sink: SubscriptionSink) {
    this.#env = env;
    this.#sink = sink;
  }

  /** Follows a room; again with `after`, it moves the cursor there. */
  add(room: string, options: SubscribeOptions = {}): void {
    const resume = options.resume ?? true;
    const known = this.#rooms.get(room);
    if (known !== undefined && options.after === undefined && known.resume === resume) return;
    const subscription: Subscription = known ?? {
      room,
      resume,
      cursor: null,
      pending: false,
      generation: 0,
      failures: 0,
      timer: null,
    };
    subscription.resume = resume;
    if (options.after !== undefined) subscription.cursor = options.after;
    this.#rooms.set(room, subscription);
    if (this.#open) this.#subscribe(subscription);
  }

  /** Stops following a room. */
  remove(room: string): void {
    if (!this.#forget(room) || !this.#open) return;
    this.#sink.request('unsubscribe', { room }).catch(() => {});
  }

  has(room: string): boolean {
    return this.#rooms.has(room);
  }

  /** The last `seq` handed on, or null before the first answer. */
  cursor(room: string): number | null {
    return this.#rooms.get(room)?.cursor ?? null;
  }

  /** A new socket knows of no subscription: make them all again. */
  opened(): void {
    this.#open = true;
    for (const subscription of this.#rooms.values()) this.#subscribe(subscription);
  }

  lost(): void {
    this.#open = false;
    for (const subscription of this.#rooms.values()) {
      subscription.generation++;
      subscription.pending = false;
      this.#env.clearTimeout(subscription.timer);
    }
  }

  clear(): void {
    for (const room of [...this.#rooms.keys()]) this.#forget(room);
  }

  event(event: LogEvent): void {
    const subscription = this.#rooms.get(event.payload.room);
    if (subscription === undefined) return;
    const { cursor } = subscription;
    const { seq } = event.payload;
    if (cursor !== null && seq <= cursor) return;
    if (cursor !== null && seq > cursor + 1 && subscription.resume) return this.#hole(subscription);
    subscription.cursor = seq;
    subscription.failures = 0;
    this.#sink.deliver(event);
  }

  gap(gap: GapPayload): void {
    const subscription = this.#rooms.get(gap.room);
    if (subscription === undefined) return;
    const cursor = subscription.cursor ?? gap.from - 1;
    if (gap.to <= cursor) return;
    if (gap.from > cursor + 1 && subscription.resume) return this.#hole(subscription);
    subscription.cursor = gap.to;
    this.#sink.gap(gap);
  }

  unsubscribed(room: string, reason: EndReason): void {
    if (this.#forget(room)) this.#sink.ended(room, reason);
  }

  #forget(room: string): boolean {
    const subscription = this.#rooms.get(room);
    if (subscription === undefined) return false;
    subscription.generation++;
    this.#env.clearTimeout(subscription.timer);
    return this.#rooms.delete(room);
  }

  /** Something is missing. Unless it is already being asked for, ask for everything after the cursor. */
  #hole(subscription: Subscription): void {
    if (subscription.pending) return;
    if (subscription.failures === 0) {
      subscription.failures = 1;
      this.#subscribe(subscription);
    } else {
      this.#later(subscription, 0);
    }
  }

  #later(subscription: Subscription, atLeastMs: number): void {
    subscription.pending = true;
    const delay = atLeastMs + fullJitter(subscription.failures++, () => this.#env.random());
    this.#env.clearTimeout(subscription.timer);
    subscription.timer = this.#env.setTimeout(() => this.#subscribe(subscription), delay);
  }

  #subscribe(subscription: Subscription): void {
    const { room } = subscription;
    const generation = ++subscription.generation;
    this.#env.clearTimeout(subscription.timer);
    if (!subscription.resume) subscription.cursor = null;
    subscription.pending = true;
    const after = subscription.cursor === null ? {} : { after: subscription.cursor };
    this.#sink.request('subscribe', { room, ...after }).then(
      (payload) => {
        if (subscription.generation !== generation) return;
        const answer = payload as unknown as SubscribedPayload;
        subscription.pending = false;
        subscription.cursor ??= answer.head;
        this.#sink.subscribed(answer);
      },
      (error: unknown) => {
        if (subscription.generation === generation) this.#refused(subscription, error);
      },
    );
  }

  #refused(subscription: Subscription, error: unknown): void {
    const { room } = subscription;
    subscription.pending = false;
    if (!(error instanceof StackError) || error.code === 'connection_lost') return;
    if (error.retryable) return this.#later(subscription, error.retryAfterMs ?? 0);
    if (error.code === 'invalid_field' && subscription.cursor !== null) {
      subscription.cursor = null;
      this.#subscribe(subscription);
      this.#sink.reset(room);
      return;
    }
    const reason = error.code === 'not_found' || error.code === 'forbidden' ? error.code : 'refused';
    this.unsubscribed(room, reason);
  }
}

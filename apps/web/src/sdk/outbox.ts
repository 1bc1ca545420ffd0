// Messages on their way. Each has a key of its own and is repeated with that key until the gateway has
// given it a place or refused it for good, so that it ends up in the log exactly once.
//
// Invariant: per room one message is under way at a time, so that a repeat cannot overtake its successor.

import { fullJitter } from './backoff';
import type { Environment, Timer } from './environment';
import { StackError } from './errors';
import type { SendReceipt } from './types';

export interface SendOptions {
  data?: unknown;
  reply_to?: number;
  /** Repeat a message that failed by giving its key again; left out, a fresh one is made. */
  key?: string;
}

/** A message taken over by the outbox. `receipt` rejects only when the gateway refuses for good. */
export interface Sending {
  key: string;
  receipt: Promise<SendReceipt>;
}

interface Item {
  key: string;
  payload: Record<string, unknown>;
  resolve(receipt: SendReceipt): void;
  reject(error: StackError): void;
}

interface Queue {
  items: Item[];
  busy: boolean;
  failures: number;
  timer: Timer;
}

export class Outbox {
  readonly #env: Environment;
  readonly #request: (payload: object) => Promise<Record<string, unknown>>;
  readonly #queues = new Map<string, Queue>();
  #open = false;

  constructor(env: Environment, request: (payload: object) => Promise<Record<string, unknown>>) {
    this.#env = env;
    this.#request = request;
  }

  send(room: string, body: string, options: SendOptions = {}): Sending {
    const key = options.key ?? this.#env.uniqueKey();
    const payload: Record<string, unknown> = { room, body, key };
    if (options.data !== undefined) payload.data = options.data;
    if (options.reply_to !== undefined) payload.reply_to = options.reply_to;
    const receipt = new Promise<SendReceipt>((resolve, reject) => {
      this.#queue(room).items.push({ key, payload, resolve, reject });
    });
    this.#pump(room);
    return { key, receipt };
  }

  /** How many messages have no place yet. */
  get size(): number {
    let size = 0;
    for (const queue of this.#queues.values()) size += queue.items.length;
    return size;
  }

  opened(): void {
    this.#open = true;
    for (const room of this.#queues.keys()) this.#pump(room);
  }

  lost(): void {
    this.#open = false;
    for (const queue of this.#queues.values()) {
      this.#env.clearTimeout(queue.timer);
      queue.failures = 0;
      queue.busy = false;
    }
  }

  /** Nothing will be sent any more. */
  close(): void {
    this.lost();
    const error = new StackError('closed', 'The client was closed before the message was sent.');
    for (const queue of this.#queues.values()) for (const item of queue.items) item.reject(error);
    this.#queues.clear();
  }

  #queue(room: string): Queue {
    let queue = this.#queues.get(room);
    if (queue === undefined) {
      queue = { items: [], busy: false, failures: 0, timer: null };
      this.#queues.set(room, queue);
    }
    return queue;
  }

  #pump(room: string): void {
    const queue = this.#queue(room);
    const item = queue.items[0];
    if (item === undefined || queue.busy || !this.#open) return;
    queue.busy = true;
    this.#request(item.payload).then(
      (answer) => this.#finish(room, queue, item, () => item.resolve(answer as unknown as SendReceipt)),
      (error: StackError) => {
        // The next connection repeats it; `lost` has already been told.
        if (error.code === 'connection_lost') return;
        if (error.retryable) this.#repeatLater(room, queue, error.retryAfterMs ?? 0);
        else this.#finish(room, queue, item, () => item.reject(error));
      },
    );
  }

  #finish(room: string, queue: Queue, item: Item, settle: () => void): void {
    if (queue.items[0] !== item) return;
    queue.items.shift();
    queue.busy = false;
    queue.failures = 0;
    settle();
    this.#pump(room);
  }

  #repeatLater(room: string, queue: Queue, atLeastMs: number): void {
    const delay = atLeastMs + fullJitter(queue.failures++, () => this.#env.random());
    queue.timer = this.#env.setTimeout(() => {
      queue.busy = false;
      this.#pump(room);
    }, delay);
  }
}

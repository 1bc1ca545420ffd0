// Requests on the socket that wait for their answer: ids, time-outs, and the end of the connection.

import type { Environment, Timer } from './environment';
import { errorFromFrame, StackError } from './errors';

interface Waiting {
  resolve(payload: Record<string, unknown>): void;
  reject(error: StackError): void;
  timer: Timer;
}

export class PendingRequests {
  readonly #env: Environment;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;

  constructor(env: Environment) {
    this.#env = env;
  }

  /** Takes a fresh id and promises the payload of the answer that will carry it. */
  open(timeoutMs: number): { id: number; answer: Promise<Record<string, unknown>> } {
    const id = this.#nextId++;
    const answer = new Promise<Record<string, unknown>>((resolve, reject) => {
      const timer = this.#env.setTimeout(() => {
        this.#waiting.delete(id);
        reject(new StackError('timeout', 'The server did not answer in time.'));
      }, timeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
    });
    return { id, answer };
  }

  /** Settles the request an `ok` or `error` answers; an unknown id (too late) is ignored. */
  settle(id: number, ok: boolean, payload: Record<string, unknown>): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    this.#env.clearTimeout(waiting.timer);
    if (ok) waiting.resolve(payload);
    else waiting.reject(errorFromFrame(payload));
  }

  /** The connection is gone: nobody will answer what was asked on it. */
  failAll(): void {
    const lost = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const waiting of lost) {
      this.#env.clearTimeout(waiting.timer);
      waiting.reject(new StackError('connection_lost', 'The connection was lost.'));
    }
  }
}

// A world for the SDK's tests: a clock that is moved by hand, a gateway of a few lines behind fake sockets,
// and chance that always says one half.

import type { Environment, SocketLike, SurroundingsEvent } from '../environment';
import type { Frame } from '../types';

interface FakeTimer {
  at: number;
  run(): void;
}

/** Lets everything that is already resolved run its course. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve();
}

export class FakeSocket implements SocketLike {
  readyState = 0;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  readonly sent: Frame[] = [];
  closedWith: number | undefined;
  constructor(
    readonly url: string,
    readonly protocol: string,
    private readonly answer: (socket: FakeSocket, frame: Frame) => void,
  ) {}

  send(data: string): void {
    const frame = JSON.parse(data) as Frame;
    this.sent.push(frame);
    this.answer(this, frame);
  }

  close(code?: number): void {
    this.closedWith = code;
  }

  /** The upgrade went through. */
  async open(): Promise<void> {
    this.readyState = 1;
    this.onopen?.(undefined as never);
    await settle();
  }

  /** A frame from the gateway. */
  async push(type: string, payload: object, id?: number): Promise<void> {
    this.onmessage?.({ data: JSON.stringify(id === undefined ? { type, payload } : { type, id, payload }) });
    await settle();
  }

  /** The gateway, or the network, ends the connection. */
  async end(code: number): Promise<void> {
    this.onclose?.({ code, reason: '' });
    await settle();
  }

  of(type: string): Frame[] {
    return this.sent.filter((frame) => frame.type === type);
  }

  last(type: string): Frame {
    const frame = this.of(type).at(-1);
    if (frame === undefined) throw new Error(`no ${type} was sent`);
    return frame;
  }
}

export interface FakeAnswer {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

export class FakeWorld {
  now = 1_000_000;
  online = true;
  cookies = new Map<string, string>();
  readonly shared = new Map<string, string>();
  readonly sockets: FakeSocket[] = [];
  readonly calls: { method: string; path: string; init: RequestInit }[] = [];
  /** Frame types that get no automatic answer. */
  readonly silent = new Set<string>();
  readonly #timers = new Map<number, FakeTimer>();
  readonly #watchers = new Set<(event: SurroundingsEvent) => void>();
  readonly #locks = new Map<string, Promise<unknown>>();
  #nextTimer = 1;
  #nextKey = 1;
  head = 0;

  /** What the fake HTTP server answers. */
  handler: (method: string, path: string) => FakeAnswer | Promise<FakeAnswer> = () => ({ status: 404 });

  readonly env: Environment = {
    fetch: async (input, init) => {
      const method = init.method ?? 'GET';
      this.calls.push({ method, path: input, init });
      const answer = await this.handler(method, input);
      const text = answer.body === undefined ? null : JSON.stringify(answer.body);
      return new Response(text, { status: answer.status, headers: answer.headers ?? {} });
    },
    createSocket: (url, protocol) => {
      const socket = new FakeSocket(url, protocol, (from, frame) => this.#answer(from, frame));
      this.sockets.push(socket);
      return socket;
    },
    now: () => this.now,
    setTimeout: (run, ms) => {
      const id = this.#nextTimer++;
      this.#timers.set(id, { at: this.now + ms, run });
      return id;
    },
    clearTimeout: (timer) => {
      this.#timers.delete(timer as number);
    },
    random: () => 0.5,
    uniqueKey: () => `key-${this.#nextKey++}`,
    isOnline: () => this.online,
    onSurroundings: (listener) => {
      this.#watchers.add(listener);
      return () => this.#watchers.delete(listener);
    },
    withLock: <T>(name: string, task: () => Promise<T>) => {
      const before = this.#locks.get(name) ?? Promise.resolve();
      const run = before.then(task, task);
      this.#locks.set(name, run);
      return run;
    },
    cookie: (name) => this.cookies.get(name) ?? null,
    shared: {
      get: (key) => this.shared.get(key) ?? null,
      set: (key, value) => void this.shared.set(key, value),
    },
  };

  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (socket === undefined) throw new Error('no socket was opened');
    return socket;
  }

  /** Moves the clock and runs what falls due, in order. */
  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers]
        .filter(([, timer]) => timer.at <= end)
        .sort(([, a], [, b]) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due[0]);
      this.now = Math.max(this.now, due[1].at);
      due[1].run();
    }
    this.now = end;
    await settle();
  }

  async surroundings(event: SurroundingsEvent): Promise<void> {
    if (event === 'online') this.online = true;
    if (event === 'offline') this.online = false;
    for (const watcher of [...this.#watchers]) watcher(event);
    await settle();
  }

  #answer(socket: FakeSocket, frame: Frame): void {
    if (this.silent.has(frame.type) || frame.id === undefined) return;
    const answers: Record<string, object> = {
      ping: { ts: this.now },
      subscribe: { room: frame.payload.room, head: this.head, first: 1, role: 'member', read_seq: 0 },
      unsubscribe: {},
      auth: { user_id: 'u1', session_id: 's1', expires_at: this.now + 600_000 },
    };
    const payload = answers[frame.type];
    if (payload !== undefined) void socket.push('ok', payload, frame.id);
  }
}

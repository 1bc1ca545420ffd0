// Everything the SDK takes from its surroundings, in one object, so that tests bring their own clock,
// network and chance, and programs outside a browser can supply what is missing there.

/** The part of a WebSocket that is used. */
export interface SocketLike {
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

export type Timer = unknown;

/** What may change about the device: its network, and whether somebody looks at the page. */
export type SurroundingsEvent = 'online' | 'offline' | 'visible' | 'hidden';

export interface Environment {
  fetch(input: string, init: RequestInit): Promise<Response>;
  createSocket(url: string, protocol: string): SocketLike;
  now(): number;
  setTimeout(run: () => void, ms: number): Timer;
  clearTimeout(timer: Timer): void;
  random(): number;
  /** A key no other client will pick: at least 128 random bits, at most 64 characters. */
  uniqueKey(): string;
  isOnline(): boolean;
  /** Reports changes until the returned function is called. */
  onSurroundings(listener: (event: SurroundingsEvent) => void): () => void;
  /** Runs `task` while no other tab of this origin runs one under the same name. */
  withLock<T>(name: string, task: () => Promise<T>): Promise<T>;
  cookie(name: string): string | null;
  /** A small store that all tabs of this origin share. */
  shared: { get(key: string): string | null; set(key: string, value: string): void };
}

function readCookie(name: string): string | null {
  for (const part of document.cookie.split('; ')) {
    const at = part.indexOf('=');
    if (part.slice(0, at) === name) return decodeURIComponent(part.slice(at + 1));
  }
  return null;
}

function uniqueKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function onSurroundings(listener: (event: SurroundingsEvent) => void): () => void {
  const online = () => listener('online');
  const offline = () => listener('offline');
  const visibility = () => listener(document.visibilityState === 'visible' ? 'visible' : 'hidden');
  window.addEventListener('online', online);
  window.addEventListener('offline', offline);
  document.addEventListener('visibilitychange', visibility);
  return () => {
    window.removeEventListener('online', online);
    window.removeEventListener('offline', offline);
    document.removeEventListener('visibilitychange', visibility);
  };
}

/** The environment of a page. Web Locks exist in secure contexts only; elsewhere one tab does not know the others. */
export function browserEnvironment(): Environment {
  return {
    fetch: (input, init) => fetch(input, init),
    createSocket: (url, protocol) => new WebSocket(url, protocol) as unknown as SocketLike,
    now: () => Date.now(),
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
    random: () => Math.random(),
    uniqueKey,
    isOnline: () => navigator.onLine,
    onSurroundings,
    withLock: <T>(name: string, task: () => Promise<T>) =>
      navigator.locks ? (navigator.locks.request(name, task) as Promise<T>) : task(),
    cookie: readCookie,
    shared: {
      get: (key) => {
        try {
          return localStorage.getItem(key);
        } catch {
          return null;
        }
      },
      set: (key, value) => {
        try {
          localStorage.setItem(key, value);
        } catch {
          // Storage may be switched off; then tabs refresh one by one, which is slower but right.
        }
      },
    },
  };
}

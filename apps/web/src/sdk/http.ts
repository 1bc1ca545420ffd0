// The HTTP half of the SDK: JSON in and out, problems as typed errors, CSRF, and one silent refresh on 401.

import type { Environment } from './environment';
import { errorFromProblem, isSignedOut, needsReauthentication, needsRefresh, StackError } from './errors';
import { TokenRefresher } from './refresh';

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export interface RequestOptions {
  body?: unknown;
  query?: Record<string, string | number | undefined>;
  signal?: AbortSignal;
  /** The path stands outside `/api/v1`. */
  root?: boolean;
  /** Off for calls that make or end a session: a 401 there is an answer, not a reason to refresh. */
  refresh?: boolean;
}

export interface HttpOptions {
  /** Where the API stands, without a slash at the end. Empty for the page's own origin. */
  origin?: string;
  env: Environment;
  /** Called once the gateway has said that the session is over. */
  onSignedOut?: () => void;
  /** Asks the person to sign in once more; rejects if they would rather not. Without it such calls just fail. */
  reauthenticate?: () => Promise<void>;
}

const BASE = '/api/v1';

/** Longer than the gateway's own time-out, so that its answer is normally the one that is seen. */
const REQUEST_TIMEOUT_MS = 30_000;

export class HttpClient {
  readonly refresher: TokenRefresher;
  readonly #env: Environment;
  readonly #origin: string;
  readonly #onSignedOut: () => void;
  readonly #reauthenticate: (() => Promise<void>) | undefined;

  constructor(options: HttpOptions) {
    this.#env = options.env;
    this.#origin = options.origin ?? '';
    this.#onSignedOut = options.onSignedOut ?? (() => {});
    this.#reauthenticate = options.reauthenticate;
    this.refresher = new TokenRefresher(options.env, () =>
      this.request('POST', '/auth/refresh', { refresh: false }),
    );
  }

  /**
   * Calls `path` below `/api/v1` and returns the parsed answer (undefined for 204).
   * @throws {StackError} for every failure, also of the network.
   */
  async request<T>(method: Method, path: string, options: RequestOptions = {}): Promise<T> {
    try {
      return await this.#refreshed<T>(method, path, options);
    } catch (error) {
      if (this.#reauthenticate === undefined || !needsReauthentication(error)) throw error;
      await this.#reauthenticate();
      return this.#refreshed<T>(method, path, options);
    }
  }

  async #refreshed<T>(method: Method, path: string, options: RequestOptions): Promise<T> {
    const startedAt = this.#env.now();
    try {
      return await this.#once<T>(method, path, options);
    } catch (error) {
      if (options.refresh === false || !(error instanceof StackError) || !needsRefresh(error.code))
        throw error;
      await this.#renew(startedAt);
      return this.#once<T>(method, path, options);
    }
  }

  async #renew(startedAt: number): Promise<void> {
    try {
      await this.refresher.renewSince(startedAt);
    } catch (error) {
      if (isSignedOut(error)) this.#onSignedOut();
      throw error;
    }
  }

  async #once<T>(method: Method, path: string, options: RequestOptions): Promise<T> {
    const response = await this.#fetch(method, path, options);
    const text = await response.text().catch(() => '');
    const body = parse(text);
    if (!response.ok) throw errorFromProblem(response.status, body, response.headers.get('retry-after'));
    return body as T;
  }

  async #fetch(method: Method, path: string, options: RequestOptions): Promise<Response> {
    const headers: Record<string, string> = { accept: 'application/json' };
    const init: RequestInit = { method, headers, credentials: 'same-origin', cache: 'no-store' };
    if (options.body !== undefined) {
      headers['content-type'] = 'application/json';
      init.body = JSON.stringify(options.body);
    }
    // Sec-Fetch-Site speaks for us in browsers that send it; the token speaks in those that do not.
    const csrf = method === 'GET' ? null : this.#env.cookie('stack_csrf');
    if (csrf !== null) headers['x-csrf-token'] = csrf;
    const abort = new AbortController();
    const cancel = () => abort.abort();
    options.signal?.addEventListener('abort', cancel);
    const timer = this.#env.setTimeout(cancel, REQUEST_TIMEOUT_MS);
    try {
      return await this.#env.fetch(this.#url(path, options), { ...init, signal: abort.signal });
    } catch {
      throw new StackError('network', 'The server cannot be reached.');
    } finally {
      this.#env.clearTimeout(timer);
      options.signal?.removeEventListener('abort', cancel);
    }
  }

  #url(path: string, { query, root = false }: RequestOptions): string {
    const params = new URLSearchParams();
    for (const [name, value] of Object.entries(query ?? {})) {
      if (value !== undefined) params.set(name, String(value));
    }
    const search = params.toString();
    return `${this.#origin}${root ? '' : BASE}${path}${search === '' ? '' : `?${search}`}`;
  }
}

function parse(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

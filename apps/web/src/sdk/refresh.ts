// Renews the session's tokens: one request at a time in this tab, and one tab at a time in this browser.
// A refresh token may be spent once only, so two tabs that refresh side by side would look like a thief.

import type { Environment } from './environment';
import { StackError } from './errors';

/** A renewal made `at`. `accessToken` is null when another tab did the work and only the cookie is new. */
export interface Renewal {
  at: number;
  accessToken: string | null;
  expiresAt: number;
}

interface Mark {
  at: number;
  expiresAt: number;
}

const LOCK = 'stack.refresh';
const MARK = 'stack.refreshed';

export class TokenRefresher {
  readonly #env: Environment;
  readonly #post: () => Promise<{ access_token: string; expires_in_s: number }>;
  #inFlight: Promise<Renewal> | null = null;

  constructor(env: Environment, post: () => Promise<{ access_token: string; expires_in_s: number }>) {
    this.#env = env;
    this.#post = post;
  }

  /** When the newest access token any tab was given ends, or null if that is not known. */
  expiresAt(): number | null {
    return this.#mark()?.expiresAt ?? null;
  }

  /** Notes a token that came from signing in. */
  note(expiresInS: number): number {
    const at = this.#env.now();
    const expiresAt = at + expiresInS * 1000;
    this.#env.shared.set(MARK, JSON.stringify({ at, expiresAt } satisfies Mark));
    return expiresAt;
  }

  /**
   * Makes sure that the cookies are newer than `since`. Another tab's refresh counts.
   * @throws {StackError} what the gateway answered; `isSignedOut` tells whether the session is over.
   */
  async renewSince(since: number): Promise<Renewal> {
    for (;;) {
      this.#inFlight ??= this.#run(since).finally(() => {
        this.#inFlight = null;
      });
      const renewal = await this.#inFlight;
      // The run that was joined may have been content with an older renewal than this caller needs.
      if (renewal.accessToken !== null || renewal.at > since) return renewal;
    }
  }

  /** Gets a new access token itself, which a socket needs to be extended. */
  async renewToken(): Promise<{ accessToken: string; expiresAt: number }> {
    const { accessToken, expiresAt } = await this.renewSince(Number.POSITIVE_INFINITY);
    if (accessToken === null) throw new StackError('internal', 'the refresh answer carries no token');
    return { accessToken, expiresAt };
  }

  #run(since: number): Promise<Renewal> {
    return this.#env.withLock(LOCK, async () => {
      const mark = this.#mark();
      if (mark !== null && mark.at > since) return { ...mark, accessToken: null };
      const answer = await this.#post();
      const expiresAt = this.note(answer.expires_in_s);
      return { at: this.#env.now(), accessToken: answer.access_token, expiresAt };
    });
  }

  #mark(): Mark | null {
    const stored = this.#env.shared.get(MARK);
    if (stored === null) return null;
    try {
      const mark = JSON.parse(stored) as Partial<Mark>;
      return typeof mark.at === 'number' && typeof mark.expiresAt === 'number' ? (mark as Mark) : null;
    } catch {
      return null;
    }
  }
}

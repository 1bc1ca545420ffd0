// Keeps a socket alive across access tokens: before the token ends, a new one is fetched and shown to the
// gateway on the open socket, so that nobody sees a reconnect.

import { fullJitter } from './backoff';
import type { Environment, Timer } from './environment';
import { isSignedOut, type StackError } from './errors';

export interface ReauthOptions {
  env: Environment;
  renewToken(): Promise<{ accessToken: string; expiresAt: number }>;
  authenticate(token: string): Promise<Record<string, unknown>>;
  /** The session is over. */
  signedOut(): void;
}

/** Time enough for a few tries before the end of a token that lives ten minutes. */
const LEAD_MS = 90_000;
/** Tabs of one browser get their timers at the same moment; this spreads them. */
const SPREAD_MS = 20_000;

export class Reauth {
  readonly #options: ReauthOptions;
  #timer: Timer = null;
  #running = false;
  #failures = 0;
  #connected = false;

  constructor(options: ReauthOptions) {
    this.#options = options;
  }

  /** A socket is open, with credentials that end at `expiresAt` if that is known. */
  opened(expiresAt: number | null): void {
    this.#connected = true;
    this.#failures = 0;
    if (expiresAt !== null) this.#schedule(expiresAt);
  }

  lost(): void {
    this.#connected = false;
    this.#options.env.clearTimeout(this.#timer);
  }

  /** Renews at once. */
  async run(): Promise<void> {
    if (this.#running || !this.#connected) return;
    this.#running = true;
    this.#options.env.clearTimeout(this.#timer);
    try {
      const { accessToken, expiresAt } = await this.#options.renewToken();
      const answer = await this.#options.authenticate(accessToken);
      this.#failures = 0;
      this.#schedule(typeof answer.expires_at === 'number' ? answer.expires_at : expiresAt);
    } catch (error) {
      this.#failed(error as StackError);
    } finally {
      this.#running = false;
    }
  }

  #failed(error: StackError): void {
    // A token that is refused as another person's means that this browser has signed in as somebody else.
    if (isSignedOut(error) || error.code === 'forbidden') this.#options.signedOut();
    else if (this.#connected && error.retryable) {
      const { env } = this.#options;
      const delay = (error.retryAfterMs ?? 1_000) + fullJitter(this.#failures++, () => env.random());
      this.#timer = env.setTimeout(() => void this.run(), delay);
    }
  }

  #schedule(expiresAt: number): void {
    const { env } = this.#options;
    env.clearTimeout(this.#timer);
    if (!this.#connected) return;
    const left = expiresAt - env.now();
    const lead = Math.min(LEAD_MS + env.random() * SPREAD_MS, left / 2);
    this.#timer = env.setTimeout(() => void this.run(), Math.max(0, left - lead));
  }
}

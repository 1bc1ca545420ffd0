// Who is signed in on this device, and the chat that belongs to them.

import { type AuthApi, createClient, isSignedOut, type StackClient, type User } from '../sdk';
import { Chat } from './chat';
import { Reauthentication } from './reauthentication';
import { Store } from './store';

export type SessionState =
  | { status: 'loading' }
  | { status: 'unreachable' }
  /** `ended` tells that there was a session and it is over, which the sign-in page explains. */
  | { status: 'signed_out'; ended: boolean }
  | { status: 'signed_in'; chat: Chat };

export class Session {
  readonly state = new Store<SessionState>({ status: 'loading' });
  readonly reauthentication = new Reauthentication();
  #client: StackClient;

  constructor() {
    this.#client = this.#newClient();
  }

  get auth(): AuthApi {
    return this.#client.auth;
  }

  /** Finds out whether the cookies of this browser still stand for somebody. */
  async restore(): Promise<void> {
    this.state.set({ status: 'loading' });
    try {
      this.#enter(await this.#client.api.me());
    } catch (error) {
      this.state.set(isSignedOut(error) ? { status: 'signed_out', ended: false } : { status: 'unreachable' });
    }
  }

  /** Signs in, in whatever way `by` does it. */
  async enter(by: (auth: AuthApi) => Promise<User>): Promise<void> {
    const before = this.state.get();
    const user = await by(this.auth);
    // Autofill and a form may both come to an end; the first one has signed in.
    if (this.state.get() !== before) return;
    if (before.status === 'signed_in') {
      before.chat.stop();
      this.#client = this.#newClient();
    }
    this.#enter(user);
  }

  /** Signs out here. Without an answer from the gateway the session would go on, so that is an error. */
  async signOut(): Promise<void> {
    try {
      await this.auth.logout();
    } catch (error) {
      if (!isSignedOut(error)) throw error;
    }
    this.#leave(false);
  }

  #enter(user: User): void {
    const chat = new Chat(this.#client, user, () => this.#leave(true));
    this.state.set({ status: 'signed_in', chat });
    chat.start();
  }

  #leave(ended: boolean): void {
    const state = this.state.get();
    if (state.status !== 'signed_in') return;
    this.state.set({ status: 'signed_out', ended });
    this.reauthentication.cancel();
    state.chat.stop();
    this.#client = this.#newClient();
  }

  #newClient(): StackClient {
    return createClient({
      origin: location.origin,
      onSignedOut: () => this.#leave(true),
      reauthenticate: this.reauthentication.ask,
    });
  }
}

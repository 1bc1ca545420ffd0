// Who is signed in on this device, and the chat that belongs to them.

import { createClient, isSignedOut, type Registration, type StackClient, type User } from '../sdk';
import { Chat } from './chat';
import { Store } from './store';

export type SessionState =
  | { status: 'loading' }
  | { status: 'unreachable' }
  /** `ended` tells that there was a session and it is over, which the sign-in page explains. */
  | { status: 'signed_out'; ended: boolean }
  | { status: 'signed_in'; chat: Chat };

export class Session {
  readonly state = new Store<SessionState>({ status: 'loading' });
  #client: StackClient;

  constructor() {
    this.#client = this.#newClient();
  }

  get api(): StackClient['api'] {
    return this.#client.api;
  }

  /** Finds out whether the cookies of this browser still stand for somebody. */
  async restore(): Promise<void> {
    this.state.set({ status: 'loading' });
    try {
      this.#enter(await this.api.me());
    } catch (error) {
      this.state.set(isSignedOut(error) ? { status: 'signed_out', ended: false } : { status: 'unreachable' });
    }
  }

  async signIn(login: string, password: string): Promise<void> {
    this.#enter(await this.api.login(login, password));
  }

  async register(registration: Registration): Promise<void> {
    this.#enter(await this.api.register(registration));
  }

  /** Signs out here. Without an answer from the gateway the session would go on, so that is an error. */
  async signOut(): Promise<void> {
    try {
      await this.api.logout();
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
    state.chat.stop();
    this.#client = this.#newClient();
  }

  #newClient(): StackClient {
    return createClient({ origin: location.origin, onSignedOut: () => this.#leave(true) });
  }
}

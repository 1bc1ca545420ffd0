// The gateway's routes about who one is: accounts, ways of signing in, sessions, recovery, the first run.

import type { HttpClient } from './http';
import type {
  DeviceSession,
  InviteLook,
  LinkedAccount,
  Passkey,
  Provider,
  RegistrationInfo,
  SecondFactorState,
  SetupInfo,
  User,
} from './types';
import { askForPasskey, type CredentialJson, ceremonies, createPasskey } from './webauthn';
import { StackError } from './errors';

/** A new account without its way of signing in. `invite` where one is needed or had. */
export interface NewAccount {
  username: string;
  display_name?: string;
  email?: string;
  invite?: string;
}

export interface Registration extends NewAccount {
  password: string;
}

interface SignedIn {
  user: User;
  access_token: string;
  expires_in_s: number;
}

interface Begun {
  ceremony: string;
  publicKey: CredentialJson;
}

const seg = encodeURIComponent;

export class AuthApi {
  readonly #http: HttpClient;

  constructor(http: HttpClient) {
    this.#http = http;
  }

  /** Makes an account with a password and signs it in (cookies). */
  register(body: Registration): Promise<User> {
    return this.#signIn('/auth/register', body);
  }

  /**
   * Signs in with a username or an e-mail address (cookies).
   * @throws {StackError} `second_factor_required`, with the `ticket` that the second step needs
   */
  login(login: string, password: string): Promise<User> {
    return this.#signIn('/auth/login', { login, password });
  }

  /** The second step: six digits, or a recovery code. */
  secondFactor(ticket: string, code: string): Promise<User> {
    return this.#signIn('/auth/login/second-factor', { ticket, code });
  }

  /** Makes an account with a passkey and without a password, and signs it in. */
  async registerWithPasskey(account: NewAccount): Promise<User> {
    const made = await this.#create('/auth/passkeys/signup/begin', account, false);
    return this.#signIn('/auth/passkeys/signup/finish', made);
  }

  /** Signs in with a passkey that the person picks in a window of the browser. */
  async loginWithPasskey(): Promise<User> {
    const answer = await ceremonies.run(async (signal) => {
      const begun = await this.#begin('/auth/passkeys/login/begin', {}, { signal, refresh: false });
      return { ceremony: begun.ceremony, credential: await askForPasskey(begun.publicKey, signal) };
    });
    return this.#signIn('/auth/passkeys/login/finish', answer);
  }

  /**
   * Offers passkeys among the suggestions of the username field. Stays open until one is picked, `stop` says so, or
   * another request takes its place, which is a `cancelled`.
   */
  async loginByAutofill(stop: AbortSignal): Promise<User> {
    const answer = await ceremonies.run(async (replaced) => {
      const signal = AbortSignal.any([replaced, stop]);
      try {
        const body = { mediation: 'conditional' };
        const begun = await this.#begin('/auth/passkeys/login/begin', body, { signal, refresh: false });
        const credential = await askForPasskey(begun.publicKey, signal, 'conditional');
        return { ceremony: begun.ceremony, credential };
      } catch (error) {
        throw signal.aborted ? new StackError('cancelled', 'Passkeys are no longer offered.') : error;
      }
    });
    return this.#signIn('/auth/passkeys/login/finish', answer);
  }

  /** Ends this session; its sockets are closed by the gateway. */
  logout(): Promise<void> {
    return this.#http.request('POST', '/auth/logout');
  }

  /** How accounts are made here, and what a password must have. */
  registration(): Promise<RegistrationInfo> {
    return this.#http.request('GET', '/registration', { refresh: false });
  }

  async providers(): Promise<Provider[]> {
    return (await this.#http.request<{ providers: Provider[] }>('GET', '/auth/providers', { refresh: false }))
      .providers;
  }

  /** Where a browser goes to sign in at a provider. */
  providerUrl(provider: string, returnTo: string): string {
    const query = new URLSearchParams({ return_to: returnTo });
    return `/api/v1/auth/oauth/${seg(provider)}/start?${query}`;
  }

  /** The same with an invitation, which stands in no address. */
  async providerUrlFor(provider: string, return_to: string, invite: string): Promise<string> {
    const path = `/auth/oauth/${seg(provider)}/start`;
    const body = { return_to, invite };
    return (await this.#http.request<{ authorization_url: string }>('POST', path, { body, refresh: false }))
      .authorization_url;
  }

  inviteLook(invite: string): Promise<InviteLook> {
    return this.#http.request('POST', '/invites/look', { body: { invite }, refresh: false });
  }

  recoverLook(token: string): Promise<{ username: string; expires_at: number; min_chars: number }> {
    return this.#http.request('POST', '/auth/recover/look', { body: { token }, refresh: false });
  }

  /**
   * Sets a new password by a recovery link and signs in.
   * @throws {StackError} `second_factor_required` where the account has one, when the password is set already
   */
  recover(token: string, new_password: string): Promise<User> {
    return this.#signIn('/auth/recover', { token, new_password });
  }

  setup(): Promise<SetupInfo> {
    return this.#http.request('GET', '/setup', { refresh: false });
  }

  /** Makes the first administrator. */
  setupWithPassword(token: string, account: Registration): Promise<User> {
    return this.#signIn('/setup/password', { token, ...account });
  }

  async setupWithPasskey(token: string, account: NewAccount): Promise<User> {
    const made = await this.#create('/setup/passkey/begin', { token, ...account }, false);
    return this.#signIn('/setup/passkey/finish', { token, ...made });
  }

  // What follows is for who is signed in.

  /** Proves once more who one is. @throws {StackError} with `field` `code` where a code is needed too */
  reauthenticate(password: string, code?: string): Promise<void> {
    const body = code === undefined ? { password } : { password, code };
    return this.#http.request('POST', '/auth/reauthenticate', { body });
  }

  async reauthenticateWithPasskey(): Promise<void> {
    const answer = await ceremonies.run(async (signal) => {
      const begun = await this.#begin('/auth/passkeys/reauthenticate/begin', {}, { signal });
      return { ceremony: begun.ceremony, credential: await askForPasskey(begun.publicKey, signal) };
    });
    await this.#http.request('POST', '/auth/passkeys/reauthenticate/finish', { body: answer });
  }

  async passkeys(): Promise<Passkey[]> {
    return (await this.#http.request<{ passkeys: Passkey[] }>('GET', '/auth/passkeys')).passkeys;
  }

  async addPasskey(name?: string): Promise<Passkey> {
    const made = await this.#create('/auth/passkeys/register/begin', {}, true);
    const body = name === undefined ? made : { ...made, name };
    return this.#http.request('POST', '/auth/passkeys/register/finish', { body });
  }

  renamePasskey(id: string, name: string): Promise<Passkey> {
    return this.#http.request('PATCH', `/auth/passkeys/${seg(id)}`, { body: { name } });
  }

  removePasskey(id: string): Promise<void> {
    return this.#http.request('DELETE', `/auth/passkeys/${seg(id)}`);
  }

  totp(): Promise<SecondFactorState> {
    return this.#http.request('GET', '/auth/totp');
  }

  enrollTotp(): Promise<{ otpauth_uri: string; secret: string }> {
    return this.#http.request('POST', '/auth/totp/enroll', { body: {} });
  }

  /** Turns the second factor on; the recovery codes are told this once. */
  async confirmTotp(code: string): Promise<string[]> {
    const body = { code };
    return (await this.#http.request<{ recovery_codes: string[] }>('POST', '/auth/totp/confirm', { body }))
      .recovery_codes;
  }

  /** Turns it off; with a password, which must then be long enough to stand alone. */
  disableTotp(password?: string): Promise<void> {
    return this.#http.request('DELETE', '/auth/totp', { body: password === undefined ? {} : { password } });
  }

  /** New recovery codes; the old ones are void. */
  async newRecoveryCodes(): Promise<string[]> {
    return (
      await this.#http.request<{ recovery_codes: string[] }>('POST', '/auth/recovery-codes', { body: {} })
    ).recovery_codes;
  }

  /** Changes the password, or sets the first one, and ends the caller's other sessions. */
  changePassword(new_password: string, current_password?: string): Promise<void> {
    const body = current_password === undefined ? { new_password } : { current_password, new_password };
    return this.#http.request('POST', '/auth/password', { body });
  }

  async sessions(): Promise<DeviceSession[]> {
    return (await this.#http.request<{ sessions: DeviceSession[] }>('GET', '/auth/sessions')).sessions;
  }

  revokeSession(id: string): Promise<void> {
    return this.#http.request('DELETE', `/auth/sessions/${seg(id)}`);
  }

  revokeOtherSessions(): Promise<void> {
    return this.#http.request('DELETE', '/auth/sessions/others');
  }

  async links(): Promise<LinkedAccount[]> {
    return (await this.#http.request<{ links: LinkedAccount[] }>('GET', '/auth/links')).links;
  }

  /** Where a browser goes to link an account, or with `reauthenticate` to prove once more who one is. */
  async linkUrl(provider: string, return_to: string, reauthenticate = false): Promise<string> {
    const body = reauthenticate ? { return_to, reauthenticate } : { return_to };
    const path = `/auth/oauth/${seg(provider)}/link`;
    return (await this.#http.request<{ authorization_url: string }>('POST', path, { body }))
      .authorization_url;
  }

  unlink(id: string): Promise<void> {
    return this.#http.request('DELETE', `/auth/links/${seg(id)}`);
  }

  /** It begins outside the ceremony: the gateway may want to see another passkey first, a ceremony of its own. */
  async #create(path: string, body: object, refresh: boolean) {
    const { ceremony, publicKey } = await this.#begin(path, body, { refresh });
    const credential = await ceremonies.run((signal) => createPasskey(publicKey, signal));
    return { ceremony, credential };
  }

  #begin(path: string, body: object, options: { signal?: AbortSignal; refresh?: boolean }): Promise<Begun> {
    return this.#http.request<Begun>('POST', path, { body, ...options });
  }

  async #signIn(path: string, body: unknown): Promise<User> {
    const answer = await this.#http.request<SignedIn>('POST', path, { body, refresh: false });
    this.#http.refresher.note(answer.expires_in_s);
    return answer.user;
  }
}

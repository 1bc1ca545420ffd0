// The browser's side of passkeys: JSON in, JSON out, and never two requests at once. A browser refuses a second
// request while a conditional one (the offer among the autofill suggestions) is still open.

import { StackError } from './errors';

/** Options and answers as JSON, in the shape of the WebAuthn specification. */
export type CredentialJson = Record<string, unknown>;

export type PasskeyObstacle = 'ip_address' | 'insecure' | 'unsupported';

/** Why there can be no passkeys at this address in this browser, or null. */
export function passkeyObstacle(
  place: { hostname: string } = location,
  has: { secure: boolean; api: boolean } = {
    secure: window.isSecureContext,
    api: 'PublicKeyCredential' in window,
  },
): PasskeyObstacle | null {
  const { hostname } = place;
  if (/^\d+\.\d+\.\d+\.\d+$/.test(hostname) || hostname.startsWith('[')) return 'ip_address';
  if (!has.secure) return 'insecure';
  return has.api ? null : 'unsupported';
}

/** Whether passkeys can be offered among the suggestions of a field. */
export async function offersAutofill(): Promise<boolean> {
  if (passkeyObstacle() !== null) return false;
  try {
    return (await PublicKeyCredential.isConditionalMediationAvailable?.()) ?? false;
  } catch {
    return false;
  }
}

/** One request to the authenticator at a time; the newest one ends the one before it, and waits for its end. */
export class Ceremonies {
  #current: { abort: AbortController; over: Promise<unknown> } | null = null;

  async run<T>(ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    // Looked at again after each wait: another one may have begun meanwhile.
    while (this.#current !== null) await this.stop();
    const abort = new AbortController();
    const asked = ask(abort.signal);
    const current = { abort, over: asked.catch(() => {}) };
    this.#current = current;
    try {
      return await asked;
    } finally {
      if (this.#current === current) this.#current = null;
    }
  }

  /** Ends what is open; resolves once the browser has let go of it. */
  async stop(): Promise<void> {
    while (this.#current !== null) {
      const ending = this.#current;
      ending.abort.abort();
      await ending.over;
      if (this.#current === ending) this.#current = null;
    }
  }
}

/** The browser's requests are the page's, whoever makes them. */
export const ceremonies = new Ceremonies();

/**
 * Makes a passkey.
 * @throws {StackError} `cancelled` when the person or a newer request ended it; `conflict` when the device has one of
 *   this account already; `no_passkey` when the device cannot make one.
 */
export async function createPasskey(options: CredentialJson, signal: AbortSignal): Promise<CredentialJson> {
  try {
    const credential = await navigator.credentials.create({ publicKey: creationOptions(options), signal });
    return answerOf(credential);
  } catch (error) {
    throw told(error);
  }
}

/** Asks for a passkey: in a window of the browser, or among the suggestions of a field. */
export async function askForPasskey(
  options: CredentialJson,
  signal: AbortSignal,
  mediation?: 'conditional',
): Promise<CredentialJson> {
  try {
    const credential = await navigator.credentials.get({
      publicKey: requestOptions(options),
      signal,
      ...(mediation ? { mediation } : {}),
    });
    return answerOf(credential);
  } catch (error) {
    throw told(error);
  }
}

function told(error: unknown): StackError {
  if (error instanceof StackError) return error;
  const name = error instanceof Error ? error.name : '';
  if (name === 'InvalidStateError')
    return new StackError('conflict', 'This device has a passkey of this account already.');
  if (name === 'SecurityError')
    return new StackError('no_passkey', 'Passkeys of this server do not work at this address.');
  if (name === 'NotSupportedError' || name === 'ConstraintError')
    return new StackError('no_passkey', 'This device cannot keep a passkey that checks who you are.');
  return new StackError('cancelled', 'The passkey was not used.');
}

type Json = Record<string, unknown>;

function creationOptions(json: CredentialJson): PublicKeyCredentialCreationOptions {
  if (typeof PublicKeyCredential.parseCreationOptionsFromJSON === 'function')
    return PublicKeyCredential.parseCreationOptionsFromJSON(json as never);
  const user = json.user as Json;
  return {
    ...json,
    challenge: bytes(json.challenge),
    user: { ...user, id: bytes(user.id) },
    excludeCredentials: descriptors(json.excludeCredentials),
  } as PublicKeyCredentialCreationOptions;
}

function requestOptions(json: CredentialJson): PublicKeyCredentialRequestOptions {
  if (typeof PublicKeyCredential.parseRequestOptionsFromJSON === 'function')
    return PublicKeyCredential.parseRequestOptionsFromJSON(json as never);
  return {
    ...json,
    challenge: bytes(json.challenge),
    allowCredentials: descriptors(json.allowCredentials),
  } as PublicKeyCredentialRequestOptions;
}

function descriptors(list: unknown): PublicKeyCredentialDescriptor[] {
  if (!Array.isArray(list)) return [];
  return list.map((entry: Json) => ({ ...entry, id: bytes(entry.id) }) as PublicKeyCredentialDescriptor);
}

/** The answer as JSON; older browsers cannot write it themselves. */
export function answerOf(credential: unknown): CredentialJson {
  const answer = credential as PublicKeyCredential | null;
  if (answer === null) throw new StackError('cancelled', 'The passkey was not used.');
  if (typeof answer.toJSON === 'function') return answer.toJSON() as unknown as CredentialJson;
  const { response } = answer;
  const parts: Json = { clientDataJSON: base64url(response.clientDataJSON) };
  for (const part of ['attestationObject', 'authenticatorData', 'signature', 'userHandle'] as const) {
    const value = (response as unknown as Record<string, ArrayBuffer | null | undefined>)[part];
    if (value != null) parts[part] = base64url(value);
  }
  const attestation = response as Partial<AuthenticatorAttestationResponse>;
  if (attestation.getTransports) parts.transports = attestation.getTransports();
  return {
    id: answer.id,
    rawId: base64url(answer.rawId),
    type: answer.type,
    authenticatorAttachment: answer.authenticatorAttachment,
    response: parts,
    clientExtensionResults: answer.getClientExtensionResults(),
  };
}

export function base64url(data: ArrayBuffer): string {
  return btoa(String.fromCharCode(...new Uint8Array(data)))
    .replace(/\+/g, '-')
    .replace(/\//g, '_')
    .replace(/=+$/, '');
}

export function bytes(text: unknown): ArrayBuffer {
  const raw = atob(String(text).replace(/-/g, '+').replace(/_/g, '/'));
  return Uint8Array.from(raw, (letter) => letter.charCodeAt(0)).buffer;
}

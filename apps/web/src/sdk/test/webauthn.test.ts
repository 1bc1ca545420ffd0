// Passkeys: one request at a time, JSON both ways, and where they cannot be.

import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  answerOf,
  askForPasskey,
  base64url,
  bytes,
  Ceremonies,
  createPasskey,
  passkeyObstacle,
} from '../webauthn';

afterEach(() => {
  vi.unstubAllGlobals();
});

/** A browser that holds one request at a time and, as browsers do, lets go of an aborted one only later. */
class FakeBrowser {
  open = 0;
  refused = 0;

  ask(signal: AbortSignal, answer?: string): Promise<string> {
    if (this.open > 0) {
      this.refused++;
      return Promise.reject(new Error('a request is pending'));
    }
    this.open++;
    return new Promise<string>((done, fail) => {
      if (answer !== undefined) setTimeout(() => done(answer), 0);
      signal.addEventListener('abort', () => setTimeout(() => fail(new Error('aborted')), 5));
    }).finally(() => {
      this.open--;
    });
  }
}

describe('ceremonies', () => {
  it('end the open request, and wait for its end, before the next one', async () => {
    const browser = new FakeBrowser();
    const ceremonies = new Ceremonies();
    const offer = ceremonies.run((signal) => browser.ask(signal));
    const ended = expect(offer).rejects.toThrow('aborted');
    await expect(ceremonies.run((signal) => browser.ask(signal, 'picked'))).resolves.toBe('picked');
    await ended;
    expect(browser).toMatchObject({ open: 0, refused: 0 });
  });

  it('are never two, however many begin together; the last one stays', async () => {
    const browser = new FakeBrowser();
    const ceremonies = new Ceremonies();
    const all = [1, 2, 3, 4].map((n) =>
      ceremonies.run((signal) => browser.ask(signal, n === 4 ? 'last' : undefined)),
    );
    const ends = await Promise.allSettled(all);
    expect(ends.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected', 'fulfilled']);
    expect(browser.refused).toBe(0);
  });

  it('can be ended from outside', async () => {
    const browser = new FakeBrowser();
    const ceremonies = new Ceremonies();
    const offer = expect(ceremonies.run((signal) => browser.ask(signal))).rejects.toThrow('aborted');
    await ceremonies.stop();
    expect(browser.open).toBe(0);
    await offer;
  });
});

describe('where passkeys cannot be', () => {
  const has = { secure: true, api: true };
  it.each([
    ['127.0.0.1', has, 'ip_address'],
    ['[::1]', has, 'ip_address'],
    ['chat.example.org', { secure: false, api: true }, 'insecure'],
    ['chat.example.org', { secure: true, api: false }, 'unsupported'],
    ['localhost', has, null],
    ['1.example.org', has, null],
  ] as const)('%s', (hostname, has, obstacle) => {
    expect(passkeyObstacle({ hostname }, has)).toBe(obstacle);
  });
});

describe('a browser that cannot read and write JSON itself', () => {
  const buffer = (text: string) => new TextEncoder().encode(text).buffer;

  it('gets buffers, and its answer becomes JSON', async () => {
    const create = vi.fn(async (_: { publicKey: Record<string, unknown> }) => ({
      id: 'Y3JlZA',
      rawId: buffer('cred'),
      type: 'public-key',
      authenticatorAttachment: 'platform',
      response: {
        clientDataJSON: buffer('{}'),
        attestationObject: buffer('att'),
        getTransports: () => ['internal'],
      },
      getClientExtensionResults: () => ({ credProps: { rk: true } }),
    }));
    vi.stubGlobal('PublicKeyCredential', class {});
    vi.stubGlobal('navigator', { credentials: { create } });
    const options = {
      challenge: base64url(buffer('challenge')),
      user: { id: base64url(buffer('user')), name: 'ada', displayName: 'Ada' },
      excludeCredentials: [{ type: 'public-key', id: base64url(buffer('old')) }],
    };
    await expect(createPasskey(options, new AbortController().signal)).resolves.toEqual({
      id: 'Y3JlZA',
      rawId: 'Y3JlZA',
      type: 'public-key',
      authenticatorAttachment: 'platform',
      response: { clientDataJSON: 'e30', attestationObject: 'YXR0', transports: ['internal'] },
      clientExtensionResults: { credProps: { rk: true } },
    });
    const given = create.mock.calls[0]?.[0].publicKey as unknown as PublicKeyCredentialCreationOptions;
    expect(new TextDecoder().decode(given.challenge)).toBe('challenge');
    expect(new TextDecoder().decode(given.user.id)).toBe('user');
    expect(new TextDecoder().decode(given.excludeCredentials?.[0]?.id)).toBe('old');
  });

  it('says what went wrong in one way', async () => {
    vi.stubGlobal('PublicKeyCredential', class {});
    const get = vi.fn();
    vi.stubGlobal('navigator', { credentials: { get } });
    const ask = () => askForPasskey({ challenge: 'AA' }, new AbortController().signal);
    for (const [name, code] of [
      ['NotAllowedError', 'cancelled'],
      ['AbortError', 'cancelled'],
      ['InvalidStateError', 'conflict'],
      ['SecurityError', 'no_passkey'],
    ]) {
      get.mockRejectedValueOnce(new DOMException('no', name));
      await expect(ask()).rejects.toMatchObject({ code });
    }
    get.mockResolvedValueOnce(null);
    await expect(ask()).rejects.toMatchObject({ code: 'cancelled' });
  });
});

it('uses what the browser offers', () => {
  expect(answerOf({ toJSON: () => ({ id: 'x' }) })).toEqual({ id: 'x' });
});

it('keeps every byte through base64url', () => {
  const all = Uint8Array.from({ length: 256 }, (_, i) => i);
  const text = base64url(all.buffer);
  expect(text).toMatch(/^[A-Za-z0-9_-]+$/);
  expect(new Uint8Array(bytes(text))).toEqual(all);
});

// HTTP: typed errors, CSRF, and the refresh that nobody should notice.

import { beforeEach, describe, expect, it } from 'vitest';
import { HttpClient } from '../http';
import { FakeWorld } from './fakes';

let world: FakeWorld;
let http: HttpClient;
let signedOut: number;

/** A gateway whose access token is over until it is refreshed. */
function expiredUntilRefreshed(): void {
  let fresh = false;
  world.handler = async (_method, path) => {
    if (path.endsWith('/auth/refresh')) {
      await Promise.resolve();
      fresh = true;
      return { status: 200, body: { access_token: 't', expires_in_s: 600 } };
    }
    return fresh ? { status: 200, body: { ok: true } } : { status: 401, body: { code: 'token_expired' } };
  };
}

function refreshes(): number {
  return world.calls.filter((call) => call.path.endsWith('/auth/refresh')).length;
}

beforeEach(() => {
  world = new FakeWorld();
  signedOut = 0;
  http = new HttpClient({ env: world.env, onSignedOut: () => signedOut++ });
});

describe('errors', () => {
  it('carry what the problem says', async () => {
    world.handler = () => ({
      status: 422,
      body: { code: 'invalid_field', detail: 'username is taken', field: 'username', request_id: 'r1' },
    });
    await expect(http.request('POST', '/auth/register', { body: {} })).rejects.toMatchObject({
      code: 'invalid_field',
      message: 'username is taken',
      field: 'username',
      status: 422,
      requestId: 'r1',
      retryable: false,
    });
  });

  it('are judged by the status when the body is no problem, and know when to come back', async () => {
    world.handler = () => ({ status: 429, headers: { 'retry-after': '3' } });
    await expect(http.request('GET', '/me')).rejects.toMatchObject({
      code: 'rate_limited',
      retryable: true,
      retryAfterMs: 3_000,
    });
  });

  it('say network when there was no answer', async () => {
    world.handler = () => Promise.reject(new TypeError('failed to fetch'));
    await expect(http.request('GET', '/me')).rejects.toMatchObject({ code: 'network', retryable: true });
  });
});

it('sends the CSRF cookie back as a header, for unsafe methods', async () => {
  world.cookies.set('stack_csrf', 'c1');
  world.handler = () => ({ status: 204 });
  await http.request('POST', '/auth/logout');
  await http.request('GET', '/me');
  const headers = world.calls.map((call) => (call.init.headers as Record<string, string>)['x-csrf-token']);
  expect(headers).toEqual(['c1', undefined]);
});

describe('refresh', () => {
  it('happens once for many calls that fail together, and all of them succeed', async () => {
    expiredUntilRefreshed();
    const answers = await Promise.all(Array.from({ length: 10 }, () => http.request('GET', '/me')));
    expect(answers).toEqual(Array.from({ length: 10 }, () => ({ ok: true })));
    expect(refreshes()).toBe(1);
  });

  it('happens once for many tabs', async () => {
    expiredUntilRefreshed();
    const tabs = Array.from({ length: 5 }, () => new HttpClient({ env: world.env }));
    world.now += 1;
    const calls = tabs.map((tab) => tab.request('GET', '/me'));
    world.now += 1;
    await Promise.all(calls);
    expect(refreshes()).toBe(1);
  });

  it('is tried once only, and its refusal means signed out', async () => {
    world.handler = () => ({ status: 401, body: { code: 'unauthenticated' } });
    await expect(http.request('GET', '/me')).rejects.toMatchObject({ code: 'unauthenticated' });
    expect(refreshes()).toBe(1);
    expect(signedOut).toBe(1);
  });

  it('is not mistaken for signed out when the network fails', async () => {
    world.handler = (_method, path) =>
      path.endsWith('/auth/refresh')
        ? Promise.reject(new TypeError('failed to fetch'))
        : { status: 401, body: { code: 'token_expired' } };
    await expect(http.request('GET', '/me')).rejects.toMatchObject({ code: 'network' });
    expect(signedOut).toBe(0);
  });

  it('is no answer to a wrong password', async () => {
    world.handler = () => ({ status: 401, body: { code: 'invalid_credentials' } });
    await expect(http.request('POST', '/auth/password', { body: {} })).rejects.toMatchObject({
      code: 'invalid_credentials',
    });
    expect(refreshes()).toBe(0);
  });

  it('gives a token of its own to whoever needs one, also after another tab refreshed', async () => {
    expiredUntilRefreshed();
    await http.request('GET', '/me');
    await expect(http.refresher.renewToken()).resolves.toMatchObject({ accessToken: 't' });
    expect(refreshes()).toBe(2);
  });
});

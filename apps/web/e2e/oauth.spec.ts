// Signing in at an identity provider, in a real browser: the provider is another site, which decides what cookies the
// way back carries.

import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type Browser, expect, type Page, test } from '@playwright/test';
import { Gateway } from './support/gateway';
import { everybodyLeaves, Person } from './support/people';

const folder = resolve(dirname(fileURLToPath(import.meta.url)), '../../../tests/oidc');

/** Where the providers are, see `tests/oidc/provider.mjs`. */
interface Places {
  one: string;
  two: string;
  control: string;
}

let providers: ChildProcess;
let places: Places;
let gateway: Gateway;

async function tell(what: string, body: object): Promise<void> {
  const told = await fetch(`${places.control}/${what}`, { method: 'POST', body: JSON.stringify(body) });
  expect(told.ok).toBe(true);
}

/** The provider's settings, as an operator writes them. */
function settings(name: 'one' | 'two', title: string): Record<string, string> {
  const prefix = `STACK_AUTH_OAUTH_${name.toUpperCase()}`;
  return {
    [`${prefix}_ISSUER`]: places[name],
    [`${prefix}_CLIENT_ID`]: 'stack',
    [`${prefix}_CLIENT_SECRET`]: `secret of ${name}`,
    [`${prefix}_TITLE`]: title,
  };
}

test.beforeEach(async () => {
  providers = spawn('node', ['provider.mjs'], { cwd: folder, stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: providers.stdout as NodeJS.ReadableStream });
  const [line] = (await new Promise((done) => lines.once('line', (line) => done([line])))) as [string];
  places = JSON.parse(line);
  gateway = await Gateway.start({ env: { ...settings('one', 'Example'), ...settings('two', 'Other') } });
  for (const provider of ['one', 'two']) {
    const callbacks = [`${gateway.url}/api/v1/auth/oauth/${provider}/callback`];
    await tell('open', { provider, callbacks });
    await person(provider);
  }
});

test.afterEach(async ({ browser }) => {
  await everybodyLeaves(browser);
  await gateway.stop();
  providers.stdin?.end();
});

/** Who sits in front of the provider's screen. */
function person(provider: string, more: object = {}): Promise<void> {
  const ada = { sub: 'ada', name: 'Ada Lovelace', email: 'ada@example.org', email_verified: true };
  return tell('person', { provider, ...ada, ...more });
}

const account = (page: Page) => page.getByRole('button', { name: /account menu/ });

async function atSignIn(browser: Browser): Promise<Page> {
  const context = await browser.newContext({ baseURL: gateway.url });
  const page = await context.newPage();
  await page.goto('/signin');
  return page;
}

test('sign in at a provider, and again', async ({ browser }) => {
  const page = await atSignIn(browser);
  await page.getByRole('link', { name: /Example/ }).click();
  await expect(account(page)).toBeVisible();
  await expect(account(page)).toContainText('Ada Lovelace');
  await page.reload();
  await expect(account(page)).toBeVisible();

  const elsewhere = await atSignIn(browser);
  await elsewhere.getByRole('link', { name: /Example/ }).click();
  await expect(account(elsewhere)).toContainText('Ada Lovelace');
});

test('who says no there is told so here', async ({ browser }) => {
  await person('one', { deny: true });
  const page = await atSignIn(browser);
  await page.getByRole('link', { name: /Example/ }).click();
  await expect(page.getByText('You did not allow it there')).toBeVisible();
  await expect(page.getByRole('link', { name: /Example/ })).toBeVisible();
});

test('a provider that is down is told as that', async ({ browser }) => {
  await tell('down', { provider: 'one' });
  const page = await atSignIn(browser);
  await page.getByRole('link', { name: /Example/ }).click();
  await expect(page.getByText('The other service does not answer')).toBeVisible();
});

test('link an account, sign in by it, and unlink it', async ({ browser }) => {
  const { page } = await Person.register(browser, gateway.url, 'Grace Hopper');
  await page.goto('/settings/linked');
  await page.getByRole('button', { name: 'Link Example' }).click();
  await expect(page.getByRole('button', { name: 'Unlink Example' })).toBeVisible();
  await expect(page).toHaveURL(/\/settings\/linked$/);

  const elsewhere = await atSignIn(browser);
  await elsewhere.getByRole('link', { name: /Example/ }).click();
  await expect(account(elsewhere)).toContainText('Grace Hopper');

  // Somebody else cannot link the same account, and is told why.
  const { page: other } = await Person.register(browser, gateway.url, 'Alan Turing');
  await other.goto('/settings/linked');
  await other.getByRole('button', { name: 'Link Example' }).click();
  await expect(other.getByText('That account is linked to somebody else here.')).toBeVisible();

  await page.getByRole('button', { name: 'Unlink Example' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Unlink' }).click();
  await expect(page.getByRole('button', { name: 'Link Example' })).toBeVisible();
});

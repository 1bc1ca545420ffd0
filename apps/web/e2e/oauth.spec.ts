// Signing in through another service, by a real OpenID provider.

import { expect, test } from '@playwright/test';
import { accessible } from './support/check';
import { Gateway } from './support/gateway';
import { everybodyLeaves, Person, stranger } from './support/people';
import { Providers } from './support/provider';

let gateway: Gateway;
let providers: Providers;

test.beforeEach(async () => {
  providers = await Providers.start();
  gateway = await Gateway.start({ env: providers.env });
  await providers.open(gateway.url);
});

test.afterEach(async ({ browser }) => {
  await everybodyLeaves(browser);
  await gateway.stop();
  await providers.stop();
});

test('somebody new comes in by it, and somebody who says no is told so', async ({ browser }) => {
  const page = await stranger(browser, gateway.url);
  await providers.person({ sub: 'cleo', name: 'Cleo', deny: true });
  await page.goto('/signin');
  await page.getByRole('link', { name: 'Continue with Harbour ID' }).click();
  await expect(page.getByRole('alert')).toContainText('You did not allow it there');
  await expect(page).toHaveURL(/\/signin$/);
  await accessible(page, 'refused');

  await providers.person({ sub: 'cleo', name: 'Cleo', preferred_username: 'cleo' });
  await page.getByRole('link', { name: 'Continue with Harbour ID' }).click();
  await expect(page.getByRole('button', { name: /account menu/ })).toBeVisible();
  await page.goto('/settings/linked');
  await expect(page.getByRole('button', { name: 'Unlink Harbour ID' })).toBeVisible();
  await accessible(page, 'linked accounts');
  await page.getByRole('button', { name: 'Unlink Harbour ID' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Unlink' }).click();
  await expect(page.getByText('That is your last way in.')).toBeVisible();
});

test('an account is linked and unlinked in the settings', async ({ browser }) => {
  const { page } = await Person.register(browser, gateway.url, 'Ada');
  await providers.person({ sub: 'ada', name: 'Ada' });
  await page.goto('/settings/linked');
  await page.getByRole('button', { name: 'Link Harbour ID' }).click();
  await expect(page.getByRole('button', { name: 'Unlink Harbour ID' })).toBeVisible();
  await expect(page).toHaveURL(/\/settings\/linked$/);

  const ben = await Person.register(browser, gateway.url, 'Ben');
  await ben.page.goto('/settings/linked');
  await ben.page.getByRole('button', { name: 'Link Harbour ID' }).click();
  await expect(ben.page.getByText('That account is linked to somebody else here.')).toBeVisible();
  await expect(ben.page).toHaveURL(/\/settings\/linked$/);

  await page.getByRole('button', { name: 'Unlink Harbour ID' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Unlink' }).click();
  await expect(page.getByRole('button', { name: 'Link Harbour ID', exact: true })).toBeVisible();
});

test('an address that somebody has here already leads to their account first', async ({ browser }) => {
  const page = await stranger(browser, gateway.url);
  await page.goto('/favicon.svg');
  await page.evaluate(async () => {
    const body = { username: 'ada', password: 'four random words do', email: 'ada@harbour.example' };
    const headers = { 'content-type': 'application/json' };
    await fetch('/api/v1/auth/register', { method: 'POST', headers, body: JSON.stringify(body) });
    await fetch('/api/v1/auth/logout', { method: 'POST' });
  });
  await providers.person({ sub: 'ada', email: 'ada@harbour.example', email_verified: false });
  await page.goto('/');
  await page.getByRole('link', { name: 'Continue with Harbour ID' }).click();
  await expect(page.getByRole('alert')).toContainText('Sign in to it first');
});

// The first run: the link that the start printed makes the first administrator, once.

import { expect, test } from '@playwright/test';
import { Authenticator } from './support/authenticator';
import { accessible } from './support/check';
import { Gateway } from './support/gateway';
import { everybodyLeaves, PASSWORD, Person, stranger } from './support/people';

let gateway: Gateway;

test.beforeEach(async () => {
  gateway = await Gateway.start();
});

test.afterEach(async ({ browser }) => {
  await everybodyLeaves(browser);
  await gateway.stop();
});

test('the setup link makes the first administrator with a passkey, once', async ({ browser }) => {
  // Whoever comes before is no administrator for that.
  const early = await Person.register(browser, gateway.url, 'Early Bird');
  await early.page.goto('/admin');
  await expect(early.page.getByText('For administrators')).toBeVisible();

  const url = await gateway.setupUrl();
  const page = await stranger(browser, gateway.url);
  await Authenticator.plugInto(page);
  await page.goto(url);
  await expect(page).toHaveURL(/\/setup$/);
  await accessible(page, 'setup');
  await page.getByLabel('Your name').fill('Mara Lindqvist');
  await page.getByRole('button', { name: 'Sign up with a passkey' }).click();
  await expect(page.getByLabel('Username')).toBeFocused();
  await page.getByLabel('Username').fill('mara');
  await page.getByRole('button', { name: 'Sign up with a passkey' }).click();
  await page.getByRole('button', { name: /account menu/ }).click();
  await page.getByRole('menuitem', { name: 'Administration' }).click();
  await expect(page.getByTestId('user-mara')).toContainText('Admin');
  await expect(page.getByTestId('user-mara')).toContainText('1 passkey');
  await expect(page.getByTestId('user-earlybird')).not.toContainText('Admin');

  const late = await stranger(browser, gateway.url);
  await late.goto(url);
  await expect(late.getByRole('heading', { name: 'Already set up' })).toBeVisible();
});

test('at an address of numbers a password does, and the page says why', async ({ browser }) => {
  const url = (await gateway.setupUrl()).replace('localhost', '127.0.0.1');
  const page = await stranger(browser, gateway.url);
  await page.goto(url);
  await expect(page.getByText('Passkeys need a host name')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Sign up with a passkey' })).toHaveCount(0);
  await page.getByLabel('Username').fill('mara');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Create account' }).click();
  await page.getByRole('button', { name: /account menu/ }).click();
  await expect(page.getByRole('menuitem', { name: 'Administration' })).toBeVisible();
});

test('a wrong link is told, and without one the page says where it is', async ({ browser }) => {
  const page = await stranger(browser, gateway.url);
  await page.goto('/setup#not-the-token');
  await page.getByLabel('Username').fill('mallory');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Create account' }).click();
  await expect(page.getByRole('alert')).toContainText('This link is used up or too old.');
  await page.reload();
  await expect(page.getByText('stack-gateway setup-url')).toBeVisible();
});

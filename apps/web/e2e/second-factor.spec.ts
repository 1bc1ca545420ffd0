// The second factor from setting it up to losing the phone.

import { expect, type Page, test } from '@playwright/test';
import { accessible } from './support/check';
import { Gateway } from './support/gateway';
import { everybodyLeaves, PASSWORD, Person, stranger } from './support/people';
import { totp } from './support/totp';

let gateway: Gateway;

test.beforeEach(async () => {
  gateway = await Gateway.start();
});

test.afterEach(async ({ browser }) => {
  await everybodyLeaves(browser);
  await gateway.stop();
});

async function enterPassword(page: Page): Promise<void> {
  await page.goto('/settings/security');
  await page.getByLabel('Username or e-mail').fill('ada');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

test('set up by QR code, asked for at sign-in, replaced by a recovery code, turned off', async ({
  browser,
}) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const { page } = ada;
  await page.goto('/settings/security');
  await page.getByRole('button', { name: 'Set up' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByRole('img', { name: 'QR code with the key' })).toBeVisible();
  await accessible(page, 'enrolment');
  const secret = (await dialog.locator('code').textContent()) ?? '';
  await dialog.getByLabel('Code', { exact: true }).fill('000000');
  await dialog.getByRole('button', { name: 'Turn on' }).click();
  await expect(dialog.getByRole('alert')).toContainText('That code is not right');
  await dialog.getByLabel('Code', { exact: true }).fill(totp(secret));
  await dialog.getByRole('button', { name: 'Turn on' }).click();
  const codes = page.getByRole('list', { name: 'Recovery codes' }).getByRole('listitem');
  await expect(codes).toHaveCount(10);
  const [first] = await codes.allTextContents();
  await accessible(page, 'recovery codes');
  await page.getByRole('button', { name: 'I kept them' }).click();
  await expect(page.getByText('10 recovery codes are left.')).toBeVisible();

  const phone = await stranger(browser, gateway.url);
  await enterPassword(phone);
  await expect(phone.getByLabel('Code', { exact: true })).toBeFocused();
  await accessible(phone, 'second step');
  await phone.getByLabel('Code', { exact: true }).fill('123456');
  await phone.getByRole('button', { name: 'Go on' }).click();
  await expect(phone.getByRole('alert')).toContainText('That code is not right');
  // The code that turned it on is spent; the next one comes with the next half minute, which is within the leeway.
  await phone.getByLabel('Code', { exact: true }).fill(totp(secret, Date.now() + 30_000));
  await phone.getByRole('button', { name: 'Go on' }).click();
  await expect(phone.getByText('10 recovery codes are left.')).toBeVisible();

  const spare = await stranger(browser, gateway.url);
  await enterPassword(spare);
  await spare.getByRole('button', { name: 'Use a recovery code' }).click();
  await spare.getByLabel('Recovery code').fill(first ?? '');
  await spare.getByRole('button', { name: 'Go on' }).click();
  await expect(spare.getByText('9 recovery codes are left.')).toBeVisible();

  await spare.getByRole('button', { name: 'New recovery codes' }).click();
  await spare.getByRole('button', { name: 'Make new codes' }).click();
  await expect(spare.getByRole('list', { name: 'Recovery codes' }).getByRole('listitem')).toHaveCount(10);
  await spare.getByRole('button', { name: 'I kept them' }).click();
  await spare.getByRole('button', { name: 'Turn off' }).click();
  await spare.getByRole('dialog').getByLabel('Your password', { exact: true }).fill(PASSWORD);
  await spare.getByRole('dialog').getByRole('button', { name: 'Turn off' }).click();
  await expect(spare.getByRole('button', { name: 'Set up' })).toBeVisible();
});

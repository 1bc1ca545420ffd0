// Passkeys in a real browser against a real gateway, with an authenticator that the browser plays.

import { type Browser, expect, type Page, test } from '@playwright/test';
import { Authenticator } from './support/authenticator';
import { accessible } from './support/check';
import { Gateway } from './support/gateway';
import { everybodyLeaves, PASSWORD, Person } from './support/people';

let gateway: Gateway;

test.beforeEach(async () => {
  gateway = await Gateway.start();
});

test.afterEach(async ({ browser }) => {
  await everybodyLeaves(browser);
  await gateway.stop();
});

async function signUp(browser: Browser, name = 'Ada Lovelace'): Promise<[Page, Authenticator]> {
  const context = await browser.newContext({ baseURL: gateway.url });
  const page = await context.newPage();
  const authenticator = await Authenticator.plugInto(page);
  await page.goto('/register');
  await page.getByLabel('Your name').fill(name);
  await page.getByLabel('Username').fill(name.split(' ')[0]?.toLowerCase() ?? '');
  await page.getByRole('button', { name: 'Sign up with a passkey' }).click();
  await expect(account(page)).toBeVisible();
  return [page, authenticator];
}

const account = (page: Page) => page.getByRole('button', { name: /account menu/ });
const byButton = (page: Page) => page.getByRole('button', { name: 'Continue with a passkey' }).click();

/** Signs out with nobody at the authenticator, which would otherwise take the offer of the next page at once. */
async function signOut(page: Page, authenticator: Authenticator): Promise<void> {
  await authenticator.touched(false);
  await account(page).click();
  await page.getByRole('menuitem', { name: 'Sign out' }).click();
  await authenticator.offered();
}

/** The body with which the page began to ask for a passkey. */
async function begun(page: Page): Promise<{ mediation?: string }> {
  const request = await page.waitForRequest('**/auth/passkeys/login/begin');
  return request.postDataJSON();
}

test('sign up with a passkey, sign out, sign in by button and by autofill, chat', async ({ browser }) => {
  const [page, authenticator] = await signUp(browser);
  const [made] = await authenticator.credentials();
  expect(made?.isResidentCredential).toBe(true);
  expect(made?.rpId).toBe('localhost');

  const offered = begun(page);
  await signOut(page, authenticator);
  expect(await offered).toEqual({ mediation: 'conditional' });

  // The open offer has to go before the browser takes another request.
  const asked = begun(page);
  await authenticator.touched(true);
  await byButton(page);
  expect(await asked).toEqual({});
  await expect(account(page)).toBeVisible();

  await signOut(page, authenticator);
  await authenticator.touched(true);
  const again = begun(page);
  await page.reload();
  expect(await again).toEqual({ mediation: 'conditional' });
  await expect(account(page)).toBeVisible();

  await page.getByRole('button', { name: 'New room' }).first().click();
  await page.getByRole('dialog').getByLabel('Title').fill('Tides');
  await page.getByRole('button', { name: 'Create room' }).click();
  await page.getByRole('textbox', { name: 'Message Tides' }).fill('no password was needed');
  await page.keyboard.press('Enter');
  await expect(
    page.getByRole('log').getByRole('article').filter({ hasText: 'no password was needed' }),
  ).toHaveAttribute('data-seq');
});

test('the username field offers passkeys, and a broken-off request brings the offer back', async ({
  browser,
}) => {
  const [page, authenticator] = await signUp(browser);
  await signOut(page, authenticator);
  await expect(page.getByLabel('Username or e-mail')).toHaveAttribute('autocomplete', 'username webauthn');
  await page.evaluate(() => {
    const get = navigator.credentials.get.bind(navigator.credentials);
    let open = 0;
    const seen: string[] = [];
    Object.assign(window, { seen });
    navigator.credentials.get = async (options) => {
      const kind = options?.mediation ?? 'modal';
      seen.push(`${kind} with ${open} open`);
      open++;
      try {
        // Nobody answers the window; the person closes it.
        if (kind === 'modal') throw new DOMException('closed', 'NotAllowedError');
        return await get(options);
      } finally {
        open--;
      }
    };
  });
  await byButton(page);
  const seen = () => page.evaluate(() => (window as unknown as { seen: string[] }).seen);
  await expect.poll(seen).toEqual(['modal with 0 open', 'conditional with 0 open']);
  await expect(page.getByRole('alert').filter({ hasText: /./ })).toHaveCount(0);
});

test('several passkeys: added, named, removed; a removed one signs in no more', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const { page } = ada;
  const authenticator = await Authenticator.plugInto(page);
  await page.goto('/settings/security');
  await page.getByRole('button', { name: 'Add a passkey' }).click();
  await expect(page.getByTestId('passkey')).toHaveCount(1);
  await expect(page.getByTestId('passkey')).toContainText('Chrome on Linux');
  // The device has one of this account already, and says so.
  await page.getByRole('button', { name: 'Add a passkey' }).click();
  await expect(page.getByText('This device has a passkey of this account already.')).toBeVisible();

  await page.getByRole('button', { name: 'Rename Chrome on Linux' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('My laptop');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByTestId('passkey')).toContainText('My laptop');
  await accessible(page, 'passkeys');

  await page.getByRole('button', { name: 'Remove My laptop' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await expect(page.getByText('You have none yet.')).toBeVisible();

  await signOut(page, authenticator);
  await authenticator.touched(true);
  await byButton(page);
  await expect(page.getByRole('alert')).toContainText('That passkey does not sign you in here');
  await page.getByLabel('Username or e-mail').fill('ada');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(account(page)).toBeVisible();
});

test('the last way in stays', async ({ browser }) => {
  const [page] = await signUp(browser);
  await page.goto('/settings/security');
  await page.getByRole('button', { name: /^Remove / }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await expect(page.getByText('That is your last way in.')).toBeVisible();
  await expect(page.getByTestId('passkey')).toHaveCount(1);
});

test('a copied passkey is caught, and switched off', async ({ browser }) => {
  const [page, authenticator] = await signUp(browser);
  await page.goto('/settings/security');
  await page.getByLabel('New password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Change password' }).click();
  await expect(page.getByText('Your password was changed')).toBeVisible();
  const [copy] = await authenticator.credentials();
  if (copy === undefined) throw new Error('there is no passkey');
  for (let time = 0; time < 2; time++) {
    await signOut(page, authenticator);
    await authenticator.touched(true);
    await byButton(page);
    await expect(account(page)).toBeVisible();
  }
  expect((await authenticator.credentials())[0]?.signCount).toBeGreaterThan(copy.signCount);

  // Another device of the owner is signed in while the thief tries.
  const context = await browser.newContext({ baseURL: gateway.url });
  const owner = await context.newPage();
  await owner.goto('/settings/security');
  await owner.getByLabel('Username or e-mail').fill('ada');
  await owner.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await owner.getByRole('button', { name: 'Sign in' }).click();
  await expect(owner.getByTestId('passkey')).toHaveCount(1);

  await signOut(page, authenticator);
  await authenticator.clone(copy);
  await authenticator.touched(true);
  await byButton(page);
  await expect(page.getByRole('alert')).toContainText('That passkey does not sign you in here');
  await expect(owner.getByText('Your session has ended')).toBeVisible();

  await owner.getByLabel('Username or e-mail').fill('ada');
  await owner.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await owner.getByRole('button', { name: 'Sign in' }).click();
  await expect(owner.getByTestId('passkey')).toContainText('it may have been copied');
});

test('what changes how one signs in asks once more who it is, and then goes on', async ({ browser }) => {
  const [page, authenticator] = await signUp(browser);
  await page.goto('/settings/security');
  await expect(page.getByTestId('passkey')).toHaveCount(1);
  // As after ten minutes: the gateway wants a fresh sign-in, once.
  let old = true;
  await page.route('**/auth/totp/enroll', async (route) => {
    if (!old) return route.continue();
    old = false;
    const problem = { code: 'forbidden', status: 403, detail: 'sign in again', field: 'reauthenticate' };
    await route.fulfill({ status: 403, contentType: 'application/problem+json', json: problem });
  });
  await page.getByRole('button', { name: 'Set up' }).click();
  const question = page.getByRole('dialog', { name: 'Is it you?' });
  await expect(question).toBeVisible();
  await accessible(page, 'the question');
  await authenticator.touched(true);
  await question.getByRole('button', { name: 'Confirm with a passkey' }).click();
  await expect(question).toHaveCount(0);
  await expect(page.getByRole('img', { name: 'QR code with the key' })).toBeVisible();
});

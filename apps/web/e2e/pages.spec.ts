// The pages one by one: accounts, keyboard only, phone, and what axe finds.

import { devices, expect, type Page, test } from '@playwright/test';
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

async function signIn(page: Page, login: string, password = PASSWORD): Promise<void> {
  await page.getByLabel('Username or e-mail').fill(login);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

test("the server's words stand at the field they are about", async ({ browser }) => {
  await Person.register(browser, gateway.url, 'Ada');
  const page = await stranger(browser, gateway.url);
  await page.goto('/register');
  await page.getByLabel('Username').fill('grace');
  await page.getByLabel('Password', { exact: true }).fill('too short');
  await expect(page.getByText('6 more characters to go.')).toBeVisible();
  await page.getByRole('button', { name: 'Create account' }).click();
  await expect(page.getByLabel('Password', { exact: true })).toHaveAttribute('aria-invalid', 'true');
  await page.getByLabel('Username').fill('ada');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Create account' }).click();
  await expect(page.getByLabel('Username')).toHaveAttribute('aria-invalid', 'true');

  await page.getByRole('link', { name: 'Sign in' }).click();
  await signIn(page, 'ada', 'not the password');
  await expect(page.getByRole('alert')).toContainText('do not match');
});

test('a link to a room survives signing in, and signing out ends every tab', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  await ada.createRoom('Tide tables');
  const page = await stranger(browser, gateway.url);
  await page.goto('/r/tide-tables');
  await signIn(page, 'ada');
  await expect(page.getByRole('heading', { level: 1, name: 'Tide tables' })).toBeVisible();
  const second = await page.context().newPage();
  await second.goto('/r/tide-tables');
  await expect(second.getByRole('log')).toBeVisible();

  await page.getByRole('button', { name: /account menu/ }).click();
  await page.getByRole('menuitem', { name: 'Sign out' }).click();
  await expect(page.getByRole('button', { name: 'Sign in' })).toBeVisible();
  await expect(second.getByText('Your session has ended')).toBeVisible();
  await expect(ada.log).toBeVisible();
});

test('a device can be signed out from another', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const page = await stranger(browser, gateway.url);
  await page.goto('/');
  await signIn(page, 'ada');
  await expect(page.getByRole('button', { name: /account menu/ })).toBeVisible();
  await ada.page.goto('/settings/sessions');
  await ada.page.getByRole('button', { name: /^Sign out / }).click();
  await expect(page.getByText('Your session has ended')).toBeVisible();
  await expect(ada.page.getByRole('button', { name: /^Sign out / })).toHaveCount(0);
});

test('name and password can be changed', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  await ada.page.goto('/settings');
  await ada.page.getByLabel('Your name').fill('Ada King');
  await ada.page.getByRole('button', { name: 'Save' }).click();
  await expect(ada.accountButton).toContainText('Ada King');

  await ada.page.getByRole('link', { name: 'Security' }).click();
  await ada.page.getByLabel('Current password', { exact: true }).fill('wrong wrong wrong');
  await ada.page.getByLabel('New password', { exact: true }).fill('another four random words');
  await ada.page.getByRole('button', { name: 'Change password' }).click();
  await expect(ada.page.getByText('That is not your current password.')).toBeVisible();
  await ada.page.getByLabel('Current password', { exact: true }).fill(PASSWORD);
  await ada.page.getByRole('button', { name: 'Change password' }).click();
  await expect(ada.page.getByText('Your password was changed')).toBeVisible();
});

test('an owner changes and deletes a room, and a member leaves one', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const ben = await Person.register(browser, gateway.url, 'Ben');
  await ada.createRoom('Tides');
  await ben.joinRoom('Tides');
  const menu = async (person: Person, item: string) => {
    await person.page.getByRole('button', { name: 'Room menu' }).click();
    await person.page.getByRole('menuitem', { name: item }).click();
  };
  await menu(ada, 'Room settings');
  await ada.page.getByRole('dialog').getByLabel('Title').fill('Ebb and flow');
  await ada.page.getByRole('button', { name: 'Save' }).click();
  await expect(ben.page.getByRole('heading', { level: 1, name: 'Ebb and flow' })).toBeVisible();

  await menu(ben, 'Leave room');
  await ben.page.getByRole('button', { name: 'Leave room' }).click();
  await expect(ben.page.getByRole('link', { name: /^Ebb and flow/ })).toHaveCount(0);
  await ben.joinRoom('Ebb and flow');

  await menu(ada, 'Room settings');
  await ada.page.getByRole('button', { name: 'Delete room' }).click();
  await ada.page.getByRole('button', { name: 'Delete room' }).click();
  await expect(ben.page.getByText('Ebb and flow was deleted.')).toBeVisible();
});

test('everything can be done with the keyboard', async ({ browser }) => {
  const page = await stranger(browser, gateway.url);
  const keys = page.keyboard;
  await page.goto('/register');
  await expect(page.getByLabel('Your name')).toBeFocused();
  await keys.type('Ada');
  await keys.press('Tab');
  await keys.type('ada');
  await keys.press('Tab');
  await expect(page.getByRole('button', { name: 'Sign up with a passkey' })).toBeFocused();
  await keys.press('Tab');
  await keys.type(PASSWORD);
  await keys.press('Enter');
  await expect(page.getByRole('link', { name: 'Browse rooms' })).toBeVisible();

  await keys.press('Tab');
  await expect(page.getByRole('link', { name: 'Skip to content' })).toBeFocused();
  await keys.press('Tab');
  await keys.press('Tab');
  await expect(page.getByRole('button', { name: 'New room' }).first()).toBeFocused();
  await keys.press('Enter');
  await expect(page.getByLabel('Title')).toBeFocused();
  await keys.type('Keys only');
  await keys.press('Enter');

  const composer = page.getByRole('textbox', { name: 'Message Keys only' });
  await expect(composer).toBeFocused();
  await keys.type('first line');
  await keys.press('Shift+Enter');
  await keys.type('second line');
  await keys.press('Enter');
  const message = page.getByRole('log').getByRole('article').filter({ hasText: 'second line' });
  await expect(message).toContainText('first line');
  await expect(message).toHaveAttribute('data-seq');

  await keys.press('ArrowUp');
  const editor = page.getByRole('textbox', { name: 'Edit message' });
  await expect(editor).toBeFocused();
  await keys.press('Escape');
  await expect(editor).toHaveCount(0);
  await expect(composer).toBeFocused();

  await page.getByRole('log').focus();
  await keys.press('ArrowUp');
  await expect(message).toBeFocused();
  await keys.press('Tab');
  await expect(message.getByRole('button', { name: 'React with thumbs up' })).toBeFocused();
  await keys.press('Enter');
  await expect(message.getByRole('button', { name: /^thumbs up, 1/ })).toBeVisible();
  await message.focus();
  await keys.press('r');
  await expect(composer).toBeFocused();
  await keys.press('Escape');
  await expect(page.getByRole('button', { name: 'Cancel reply' })).toHaveCount(0);

  await page.getByRole('button', { name: 'Room menu' }).focus();
  await keys.press('Enter');
  await expect(page.getByRole('menuitem', { name: 'Add people' })).toBeFocused();
  await keys.press('ArrowDown');
  await expect(page.getByRole('menuitem', { name: 'Room settings' })).toBeFocused();
  await keys.press('ArrowDown');
  await expect(page.getByRole('menuitem', { name: 'Leave room' })).toBeFocused();
  await keys.press('Escape');
  await expect(page.getByRole('button', { name: 'Room menu' })).toBeFocused();
});

test('a phone shows one thing at a time', async ({ browser }) => {
  const { defaultBrowserType: _, ...phone } = devices['iPhone 13'];
  const ada = await Person.register(browser, gateway.url, 'Ada', phone);
  await ada.createRoom('Tides');
  await expect(ada.page.getByRole('navigation', { name: 'Your rooms' })).toBeHidden();
  await ada.say('from the phone');
  await expect(ada.message('from the phone')).toBeVisible();
  await ada.message('from the phone').tap();
  await ada.page.getByRole('button', { name: 'React with heart' }).tap();
  await expect(ada.message('from the phone').getByRole('button', { name: /^heart, 1/ })).toBeVisible();

  await ada.say('a long message that takes more than one line of a phone\n'.repeat(6));
  await expect(ada.message('a long message')).toHaveAttribute('data-seq');
  await ada.composer.press('ArrowUp');
  await expect(ada.page.getByRole('button', { name: 'Save' })).toBeInViewport({ ratio: 1 });
  await expect(ada.page.getByRole('button', { name: 'Jump to latest' })).toHaveCount(0);
  await ada.page.keyboard.press('Escape');

  await ada.page.getByRole('button', { name: 'Show members' }).tap();
  await expect(ada.member(ada)).toBeInViewport();
  await ada.page.getByRole('button', { name: 'Close members' }).tap();
  await ada.page.getByRole('link', { name: 'Back to rooms' }).tap();
  await expect(ada.page.getByRole('navigation', { name: 'Your rooms' })).toBeVisible();
  await expect(ada.composer).toHaveCount(0);
  await ada.page.getByRole('link', { name: 'Tides' }).tap();
  await expect(ada.composer).toBeVisible();
  await ada.page.goBack();
  await expect(ada.page.getByRole('navigation', { name: 'Your rooms' })).toBeVisible();
  const width = await ada.page.evaluate(() => document.documentElement.scrollWidth);
  expect(width).toBeLessThanOrEqual(390);
});

test('what people write stays text', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada <b>');
  await ada.createRoom('Tides <i>');
  await ada.say('<img src=x onerror="document.title=1"> https://a.example/?q=<script> javascript:alert(1)');
  await expect(ada.message('<img src=x')).toBeVisible();
  await expect(ada.log.locator('img, script')).toHaveCount(0);
  const links = ada.log.getByRole('link');
  await expect(links).toHaveCount(1);
  await expect(links).toHaveAttribute('rel', /noopener/);
});

for (const colorScheme of ['light', 'dark'] as const) {
  test(`axe finds nothing, ${colorScheme}`, async ({ browser }) => {
    const context = await browser.newContext({ baseURL: gateway.url, colorScheme, reducedMotion: 'reduce' });
    const page = await context.newPage();
    await page.goto('/');
    await expect(page.getByRole('button', { name: 'Sign in' })).toBeVisible();
    await accessible(page, 'sign in');
    const ben = await Person.register(browser, gateway.url, 'Ben');
    await ben.createRoom('Open door');
    const ada = await Person.register(browser, gateway.url, 'Ada', { colorScheme, reducedMotion: 'reduce' });
    await accessible(ada.page, 'home');
    await ada.page.goto('/browse');
    await expect(ada.page.getByText('Open door')).toBeVisible();
    await accessible(ada.page, 'browse');
    await ada.page.goto('/');
    await ada.page.getByRole('button', { name: 'New room' }).first().click();
    await accessible(ada.page, 'new room');
    await ada.page.keyboard.press('Escape');
    await ada.createRoom('Tides');
    await ada.say('see `code` and https://a.example, @ada');
    await expect(ada.log.locator('[data-seq]')).toHaveCount(1);
    await ada.log.locator('[data-seq]').hover();
    await ada.page.getByRole('button', { name: 'React with heart' }).click();
    await expect(ada.page.getByRole('button', { name: /^heart, 1/ })).toBeVisible();
    await accessible(ada.page, 'room');
    for (const path of [
      '/settings',
      '/settings/security',
      '/settings/sessions',
      '/settings/linked',
      '/nowhere',
    ]) {
      await ada.page.goto(path);
      await expect(ada.page.getByRole('heading', { level: 1 })).toBeVisible();
      await accessible(ada.page, path);
    }
  });
}

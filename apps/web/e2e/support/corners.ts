// The corners of the client that are looked at but not published: dialogs, menus, forms with errors, lost connections.

import { type Browser, type BrowserContextOptions, expect, type Page } from '@playwright/test';
import { Authenticator } from './authenticator';
import { Gateway } from './gateway';
import { PASSWORD, Person } from './people';
import { totp } from './totp';

export type Shot = (page: Page, name: string) => Promise<void>;

/** A room of the caller's alone, so that nothing said here shows in the other pictures. */
const ROOM = 'on-call';

export async function corners(page: Page, shot: Shot): Promise<void> {
  await managing(page, shot);
  await talking(page, shot);
  await page.goto('/settings/security');
  await page.getByLabel('Current password', { exact: true }).fill('not this one');
  await page.getByLabel('New password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Change password' }).click();
  await expect(page.getByText('That is not your current password.')).toBeVisible();
  await shot(page, 'password');
  await page.goto('/nowhere');
  await shot(page, 'nowhere');
  await page.goto('/r/no-such-room');
  await expect(page.getByText('This room is not open to you')).toBeVisible();
  await shot(page, 'no-room');
  await offline(page, shot);
  await page.context().close();
}

/** What only administrators see, and the dialogs behind it. */
export async function administration(page: Page, shot: Shot): Promise<void> {
  await page.goto('/admin/overview');
  await expect(page.getByTestId('figure-Messages')).toBeVisible();
  await shot(page, 'admin-overview');
  await page.goto('/admin');
  await expect(page.getByTestId('user-mara')).toBeVisible();
  await shot(page, 'admin-people');
  await page.getByRole('button', { name: 'Manage Jonas Albrecht' }).click();
  await shot(page, 'admin-menu');
  await page.getByRole('menuitem', { name: 'Recovery link' }).click();
  await shot(page, 'admin-recovery');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Add somebody' }).click();
  await shot(page, 'admin-add');
  await page.goto('/admin/invites');
  await page.getByRole('button', { name: 'New invite' }).click();
  await page.getByLabel('Note').fill('The new harbour crew');
  await shot(page, 'admin-invite');
  await page.getByRole('button', { name: 'Make link' }).click();
  await expect(page.getByRole('textbox', { name: 'Invite link' })).toBeVisible();
  await shot(page, 'admin-invite-link');
  const invite = await page.getByRole('textbox', { name: 'Invite link' }).inputValue();
  await page.getByRole('button', { name: 'Done' }).click();
  await shot(page, 'admin-invites');
  await page.goto('/admin/bans');
  await expect(page.getByText('Nobody is shut out.')).toBeVisible();
  await shot(page, 'admin-bans');
  await page.goto('/admin/keys');
  await page.getByRole('button', { name: 'New key' }).click();
  await page.getByLabel('Name', { exact: true }).fill('Tide bot');
  await shot(page, 'admin-key');
  await page.getByRole('button', { name: 'Make key' }).click();
  await expect(page.getByRole('textbox', { name: 'API key' })).toBeVisible();
  await shot(page, 'admin-key-made');
  await page.getByRole('button', { name: 'Done' }).click();
  await shot(page, 'admin-keys');
  await page.goto('/admin/audit');
  await expect(page.getByTestId('audit-entry').first()).toBeVisible();
  await shot(page, 'admin-audit');
  await page.context().clearCookies();
  await page.goto(invite);
  await expect(page.getByText('invites you')).toBeVisible();
  await shot(page, 'invite');
  await page.context().close();
}

/** How one signs in, with an authenticator in the browser. */
export async function security(page: Page, shot: Shot): Promise<void> {
  await Authenticator.plugInto(page);
  await page.goto('/settings/security');
  await page.getByRole('button', { name: 'Add a passkey' }).click();
  await expect(page.getByTestId('passkey')).toHaveCount(1);
  await expect(page.getByText('Your passkey was added.')).toHaveCount(0, { timeout: 10_000 });
  await shot(page, 'security');
  await page.getByRole('button', { name: 'Set up' }).click();
  await expect(page.getByRole('img', { name: 'QR code with the key' })).toBeVisible();
  await shot(page, 'totp');
  const secret = (await page.getByRole('dialog').locator('code').textContent()) ?? '';
  await page.getByLabel('Code', { exact: true }).fill(totp(secret));
  await page.getByRole('button', { name: 'Turn on' }).click();
  await expect(page.getByRole('button', { name: 'I kept them' })).toBeVisible();
  await shot(page, 'recovery-codes');
  await page.getByRole('button', { name: 'I kept them' }).click();
  await page.getByRole('button', { name: 'Turn off' }).click();
  await shot(page, 'totp-off');
  await page.getByRole('dialog').getByLabel('Your password', { exact: true }).fill(PASSWORD);
  await page.getByRole('dialog').getByRole('button', { name: 'Turn off' }).click();
  await expect(page.getByRole('button', { name: 'Set up' })).toBeVisible();
  await page.getByRole('button', { name: /^Remove / }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await expect(page.getByText('You have none yet.')).toBeVisible();
  await page.context().close();
}

/** A server that nobody has set up. */
export async function firstRun(browser: Browser, look: BrowserContextOptions, shot: Shot): Promise<void> {
  const gateway = await Gateway.start();
  const page = await browser.newPage({ ...look, baseURL: gateway.url });
  const url = await gateway.setupUrl();
  await page.goto(url);
  await expect(page.getByLabel('Username')).toBeVisible();
  await shot(page, 'setup');
  await page.goto(url.replace('localhost', '127.0.0.1'));
  await expect(page.getByText('Passkeys need a host name')).toBeVisible();
  await shot(page, 'setup-by-number');
  await page.reload();
  await expect(page.getByText('setup-url')).toBeVisible();
  await shot(page, 'setup-no-link');
  await page.context().close();
  await gateway.stop();
}

async function managing(page: Page, shot: Shot): Promise<void> {
  const user = async (name: string) =>
    page.evaluate(async (name) => {
      const answer = await fetch(`/api/v1/users?username=${name}`);
      return (await answer.json()).users[0].id as string;
    }, name);
  const put = (path: string, body: object) =>
    page.evaluate(
      async ([path, body]) => {
        const headers = { 'content-type': 'application/json' };
        await fetch(`/api/v1${path}`, { method: 'PUT', headers, body: JSON.stringify(body) });
      },
      [path, body] as const,
    );
  await page.goto(`/r/${ROOM}`);
  const [jonas, sam] = [await user('jonas'), await user('sam')];
  await put(`/rooms/${ROOM}/members/${await user('elena')}`, { role: 'guest' });
  await put(`/rooms/${ROOM}/members/${jonas}`, { role: 'moderator' });
  await put(`/rooms/${ROOM}/bans/${sam}`, { reason: 'Kept posting biscuit offers in the on-call room' });
  await page.goto(`/r/${ROOM}`);
  await expect(page.getByRole('log')).toContainText('banned');
  await page.getByRole('button', { name: 'Room menu' }).click();
  await shot(page, 'room-menu');
  await page.getByRole('menuitem', { name: 'Room settings' }).click();
  await shot(page, 'room-settings');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Room menu' }).click();
  await page.getByRole('menuitem', { name: 'Add people' }).click();
  await expect(page.getByRole('region', { name: 'Banned' })).toContainText('Sam');
  await shot(page, 'add-people');
  await page.getByRole('textbox', { name: 'Add people' }).fill('sam');
  await page.getByLabel('Role').selectOption('guest');
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  await expect(page.getByText('Lift the ban first')).toBeVisible();
  await shot(page, 'add-people-error');
  await page.keyboard.press('Escape');
  await page.getByTestId('member-jonas').hover();
  await page.getByRole('button', { name: 'Manage Jonas' }).click();
  await shot(page, 'member-menu');
  await page.getByRole('menuitem', { name: 'Ban from room' }).click();
  await shot(page, 'ban-dialog');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Close members' }).click();
}

async function talking(page: Page, shot: Shot): Promise<void> {
  const composer = page.getByRole('textbox', { name: /^Message / });
  await composer.fill('Rota: @jonas until Friday, then `elena`. https://wiki.lighthouse.example/rota');
  await composer.press('Enter');
  const message = page.getByRole('article').filter({ hasText: 'Rota' }).last();
  await expect(message).toHaveAttribute('data-seq');
  await page.getByRole('button', { name: /emoji/i }).last().click();
  await shot(page, 'emoji');
  await page.keyboard.press('Escape');
  await composer.press('ArrowUp');
  await expect(page.getByRole('textbox', { name: 'Edit message' })).toBeFocused();
  await shot(page, 'editing');
  await page.keyboard.press('Escape');
  await message.focus();
  await page.keyboard.press('r');
  await expect(page.getByRole('button', { name: 'Cancel reply' })).toBeVisible();
  await composer.fill('A longer answer,\nover several lines,\nto see how the field grows.');
  await shot(page, 'replying');
  await page.getByRole('button', { name: 'Cancel reply' }).click();
  await composer.fill('');
  await message.hover();
  await message.focus();
  await message.getByRole('button', { name: 'Delete' }).click();
  await shot(page, 'delete-dialog');
  await page.keyboard.press('Escape');
  await page.goto('/');
  await page.getByRole('button', { name: /account menu/ }).click();
  await shot(page, 'account-menu');
  await page.keyboard.press('Escape');
}

async function offline(page: Page, shot: Shot): Promise<void> {
  await page.goto(`/r/${ROOM}`);
  await expect(page.getByText('Rota').last()).toBeVisible();
  await page.context().setOffline(true);
  await expect(page.getByTestId('connection')).toBeVisible({ timeout: 20_000 });
  await page.getByRole('textbox', { name: /^Message / }).fill('Written under way');
  await page.keyboard.press('Enter');
  await shot(page, 'offline');
  await page.context().setOffline(false);
  await expect(page.getByTestId('connection')).toHaveCount(0);
}

/** The gateway of the other pictures stays: the team in them would not come back. */
export async function restarts(browser: Browser, look: BrowserContextOptions, shot: Shot): Promise<void> {
  const gateway = await Gateway.start();
  const ada = await Person.register(browser, gateway.url, 'Ada', { ...look, baseURL: gateway.url });
  await ada.createRoom('Night watch');
  await ada.say('All quiet.');
  await expect(ada.message('All quiet.')).toHaveAttribute('data-seq');
  await gateway.kill();
  await expect(ada.page.getByTestId('connection')).toContainText('Connection lost');
  await shot(ada.page, 'reconnecting');
  await ada.page.context().close();
  await gateway.stop();
}

/** Who has just come, and has nothing yet. */
export async function newcomersPages(page: Page, username: string, shot: Shot): Promise<void> {
  await page.goto('/');
  await page.getByLabel('Username or e-mail').fill('nobody');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('alert').filter({ hasText: 'do not match' })).toBeVisible();
  await shot(page, 'signin-error');
  await page.goto('/register');
  await page.getByLabel('Your name').fill('Ada Lovelace');
  await page.getByLabel('Username').fill(username);
  await page.getByLabel('Password', { exact: true }).fill('short');
  await page.getByRole('button', { name: 'Create account' }).click();
  await expect(page.getByLabel('Password', { exact: true })).toHaveAttribute('aria-invalid', 'true');
  await shot(page, 'register-error');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Create account' }).click();
  await expect(
    page.getByRole('link', { name: 'Browse rooms' }).or(page.getByText('Start with a room')).first(),
  ).toBeVisible();
  await shot(page, 'empty');
  await page.getByRole('button', { name: 'New room' }).first().click();
  await page.getByLabel('Title').fill('Night watch');
  await shot(page, 'new-room');
  await page.keyboard.press('Escape');
  await page.goto('/r/announcements');
  await expect(page.getByRole('button', { name: 'Join room' })).toBeVisible();
  await shot(page, 'door');
  await page.context().close();
}

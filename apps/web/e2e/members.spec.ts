// Bringing people in and keeping them out, and what those people see of it.

import { devices, expect, type Page, test } from '@playwright/test';
import { accessible } from './support/check';
import { Gateway } from './support/gateway';
import { Guest } from './support/guest';
import { everybodyLeaves, Person } from './support/people';

let gateway: Gateway;

test.beforeEach(async () => {
  gateway = await Gateway.start();
});

test.afterEach(async ({ browser }) => {
  await everybodyLeaves(browser);
  await gateway.stop();
});

const comeBack = (page: Page) => page.evaluate(() => window.dispatchEvent(new Event('focus')));

test('a private room is filled by username, with the keyboard alone', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const ben = await Person.register(browser, gateway.url, 'Ben Franklin');
  const cleo = await Guest.register(browser, gateway.url, 'cleo', 'Cleo');
  const { page } = ada;
  const keys = page.keyboard;
  await ada.createRoom('Founders', { open: false });

  await page.getByRole('button', { name: 'Room menu' }).focus();
  await keys.press('Enter');
  await expect(page.getByRole('menuitem', { name: 'Add people' })).toBeFocused();
  await keys.press('Enter');
  const form = page.getByRole('form', { name: 'Add people' });
  const field = form.getByRole('textbox', { name: 'Add people' });
  await expect(field).toBeFocused();
  await expect(form.getByRole('button', { name: 'Add', exact: true })).toBeInViewport({ ratio: 1 });
  const add = async (username: string) => {
    await field.press('ControlOrMeta+a');
    await keys.type(username);
    await keys.press('Enter');
  };
  for (const [username, error] of [
    ['nobody', 'Nobody here has this username.'],
    ['not a name', 'Nobody here has this username.'],
    ['ada', 'You are in the room already.'],
  ] as const) {
    await add(username);
    await expect(form.getByRole('alert').filter({ hasText: error })).toBeVisible();
    await expect(field).toHaveAttribute('aria-invalid', 'true');
    await expect(field).toBeFocused();
  }

  await add(' @BenFranklin');
  await expect(form.getByRole('status')).toHaveText('Ben Franklin was added.');
  await expect(field).toBeFocused();
  await expect(field).toHaveValue('');
  await expect(ada.member(ben)).toBeVisible();
  await add('benfranklin');
  await expect(form.getByText('Ben Franklin is in the room already.')).toBeVisible();
  await form.getByLabel('Role').selectOption('guest');
  await add('cleo');
  await expect(form.getByRole('status')).toContainText('Cleo was added as a guest.');
  await expect(page.getByTestId('member-cleo')).toContainText('Guest');
  await accessible(page, 'adding people');
  await keys.press('Escape');
  await expect(page.getByRole('button', { name: 'Add people' })).toBeFocused();

  // No frame tells Ben; his list is asked for again when he comes back to the page.
  await comeBack(ben.page);
  await expect(ben.page.getByText('Founders is now among your rooms.')).toBeVisible();
  await ben.page.getByRole('link', { name: /^Founders/ }).click();
  await expect(ben.log.getByText('Ada added Ben Franklin')).toBeVisible();
  await expect(ben.page.getByRole('button', { name: 'Add people' })).toHaveCount(0);
  await ben.say('thank you');
  await expect(ada.message('thank you')).toBeVisible();
  await cleo.page.context().close();
});

test('a moderator bans and forgives, and the banned stay out meanwhile', async ({ browser }) => {
  const owner = await Guest.register(browser, gateway.url, 'owner', 'Olga');
  await owner.api('POST', '/rooms', { id: 'tides', title: 'Tides', settings: { public: true } });
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const ben = await Person.register(browser, gateway.url, 'Ben');
  await ada.joinRoom('Tides');
  await ben.joinRoom('Tides');
  const { page } = ada;
  await expect(page.getByRole('button', { name: /^Manage/ })).toHaveCount(0);
  const { id } = await ada.me();
  await owner.api('PUT', `/rooms/tides/members/${id}`, { role: 'moderator' });

  const manage = page.getByRole('button', { name: 'Manage Ben' });
  await manage.focus();
  await page.keyboard.press('Enter');
  await expect(page.getByRole('menuitem')).toHaveText([
    'Make guest',
    'Mute in room',
    'Remove from room',
    'Ban from room',
  ]);
  await expect(page.getByRole('button', { name: 'Manage Olga' })).toHaveCount(0);
  await page.getByRole('menuitem', { name: 'Ban from room' }).click();
  const dialog = page.getByRole('dialog', { name: 'Ban Ben?' });
  await expect(dialog.getByLabel('Reason')).toBeFocused();
  await page.keyboard.type('too many puns');
  await page.keyboard.press('Enter');
  await expect(ben.page.getByText('You were banned from Tides.')).toBeVisible();
  await expect(ada.member(ben)).toHaveCount(0);
  await expect(ada.log.getByText('Ada banned Ben')).toBeVisible();
  const banned = page.getByRole('region', { name: 'Banned' });
  await expect(banned).toContainText('too many puns');
  await expect(page.getByRole('complementary', { name: 'Members' })).toBeFocused();

  await page.getByRole('button', { name: 'Add people' }).click();
  await page.keyboard.type('ben');
  await page.keyboard.press('Enter');
  await expect(page.getByText('Ben is banned here. Lift the ban first.')).toBeVisible();
  await accessible(page, 'bans');

  await banned.getByRole('button', { name: 'Lift the ban on Ben' }).click();
  await expect(banned).toHaveCount(0);
  await expect(ada.log.getByText('Ada lifted the ban on Ben')).toBeVisible();
  await page.getByRole('textbox', { name: 'Add people' }).press('Enter');
  await expect(ada.member(ben)).toBeVisible();
});

test('a phone manages members, and Esc closes one thing at a time', async ({ browser }) => {
  const { defaultBrowserType: _, ...phone } = devices['iPhone 13'];
  const ada = await Person.register(browser, gateway.url, 'Ada', phone);
  const ben = await Guest.register(browser, gateway.url, 'ben', 'Ben');
  const { page } = ada;
  await ada.createRoom('Tides');
  await ben.ask('join', { room: 'tides' });
  await page.getByRole('button', { name: 'Show members' }).tap();
  await page.getByRole('button', { name: 'Add people' }).tap();
  const add = page.getByRole('button', { name: 'Add', exact: true });
  await expect(add).toBeInViewport({ ratio: 1 });
  await page.keyboard.press('Escape');
  await expect(add).toHaveCount(0);
  await page.getByRole('button', { name: 'Manage Ben' }).tap();
  await page.getByRole('menuitem', { name: 'Remove from room' }).tap();
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await expect(page.getByTestId('member-ben')).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.getByTestId('member-ben')).toHaveCount(0);
});

test('who has gone was last seen then', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const ben = await Person.register(browser, gateway.url, 'Ben');
  await ada.createRoom('Tides');
  await ben.joinRoom('Tides');
  await expect(ada.member(ben)).toHaveAttribute('data-status', 'online');
  await expect(ada.member(ben)).not.toContainText('Last seen');
  await ben.page.context().close();
  await expect(ada.member(ben)).toContainText('Last seen just now');

  // The gateway writes it down every few minutes, and before it goes.
  await gateway.shutDown();
  await gateway.run();
  await ada.page.reload();
  await expect(ada.member(ben)).toContainText(/Last seen (just now|1 minute ago)/);
});

test('only what others say counts as unread', async ({ browser }) => {
  const writer = await Guest.register(browser, gateway.url, 'writer', 'Writer');
  await writer.api('POST', '/rooms', { id: 'one', title: 'One', settings: { public: true } });
  const { seq } = await writer.ask('send', { room: 'one', body: 'first' });
  const ada = await Person.register(browser, gateway.url, 'Ada');
  await ada.joinRoom('One');
  await expect(ada.message('first')).toBeVisible();
  await ada.createRoom('Two');
  const unread = ada.page.getByRole('link', { name: /^One/ }).getByTestId('unread');
  await expect(unread).toHaveCount(0);

  await writer.ask('react', { room: 'one', seq, emoji: '🎉' });
  await writer.ask('edit', { room: 'one', seq, body: 'the first' });
  const { seq: regretted } = await writer.ask('send', { room: 'one', body: 'second' });
  await writer.ask('send', { room: 'one', body: 'third' });
  await expect(unread).toContainText('2');
  await writer.ask('redact', { room: 'one', seq: regretted });
  await expect(unread).toContainText('1');
  await expect(ada.page).toHaveTitle(/^\(1\)/);
  await ada.page.getByRole('link', { name: /^One/ }).click();
  await expect(ada.message('third')).toBeVisible();
  await expect(unread).toHaveCount(0);
  await ada.page.reload();
  await expect(ada.message('third')).toBeVisible();
  await expect(unread).toHaveCount(0);
});

test('a muted member reads and says nothing until it is lifted', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const ben = await Person.register(browser, gateway.url, 'Ben');
  await ada.createRoom('Tides');
  await ben.joinRoom('Tides');
  const { page } = ada;
  await page.getByRole('button', { name: 'Manage Ben' }).click();
  await page.getByRole('menuitem', { name: 'Mute in room' }).click();
  const dialog = page.getByRole('dialog', { name: 'Mute Ben?' });
  await dialog.getByLabel('Reason').fill('puns');
  await dialog.getByLabel('Ends').selectOption('in an hour');
  await dialog.getByRole('button', { name: 'Mute', exact: true }).click();
  const muted = page.getByRole('region', { name: 'Muted' });
  await expect(muted).toContainText('puns');
  await expect(muted).toContainText('until');
  await expect(ada.member(ben)).toBeVisible();
  await ben.say('sea what I did');
  await expect(ben.message('sea what I did')).toContainText('Not sent');
  await ada.say('can you hear me?');
  await expect(ben.message('can you hear me?')).toBeVisible();

  await muted.getByRole('button', { name: 'Lift the mute on Ben' }).click();
  await expect(muted).toHaveCount(0);
  await ben.say('thank you');
  await expect(ada.message('thank you')).toBeVisible();
});
